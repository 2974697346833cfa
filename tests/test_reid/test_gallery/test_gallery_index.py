"""An approximate index beside the rows: it is right after every change, or search is exact."""

import threading

import numpy as np
import pytest

from reid.gallery import Gallery, merging
from reid.gallery.approximate import ApproximateIndex
from reid.gallery.storage import GalleryStorage

from .gallery_oracle import DIM, make_rows

QUERIES = make_rows(20, 99)[0]


@pytest.fixture
def indexed(path):
    """400 rows, of which 300 are in an index that visits all lists."""
    gallery = Gallery.create(path, DIM, "IVF4,Flat")
    gallery.add(*make_rows(300))
    gallery.build_index(recall=1.0)
    gallery.add(*make_rows(100, 1))
    return gallery


def built(gallery):
    return GalleryStorage(gallery.path).read_manifest().built


def check_like_exact(gallery, **options):
    """The same hits as those of the exact search: all lists are visited."""
    found = gallery.search(QUERIES, 5, **options)
    exact = gallery.search(QUERIES, 5, exact=True, **options)
    assert exact.exact
    assert [[(h.id, h.score) for h in row] for row in found] == [
        [(h.id, h.score) for h in row] for row in exact
    ]
    return found


def test_search_is_exact_until_the_index_is_built(path):
    gallery = Gallery.create(path, DIM, "IVF4,Flat")
    gallery.add(*make_rows(300))
    assert gallery.search(QUERIES, 5).exact
    assert gallery.stats()["index"] == {"factory": "IVF4,Flat", "built": False}
    report = gallery.build_index(recall=0.9, k=5, queries=QUERIES)
    found = gallery.search(QUERIES, 5)
    assert not found.exact
    assert found.recall == report.recall
    stats = gallery.stats()
    assert stats["index"]["rows"] == 300
    assert (stats["index"]["recall"], stats["index"]["k"]) == (report.recall, 5)
    assert stats["bytes"]["index"] > 0
    reopened = Gallery.open(path)
    assert reopened.search(QUERIES, 5) == found
    assert reopened.stats()["index"] == stats["index"]
    reopened.verify()


def test_changes_beside_an_index_are_seen(indexed):
    assert not check_like_exact(indexed).exact
    hits = indexed.search(indexed.vectors([350]), 1)  # a row that the index does not cover
    assert hits[0][0].id == 350
    indexed.remove([0, 350])
    indexed.update({1: {"pid": "changed"}})
    check_like_exact(indexed)
    assert not {0, 350} & {hit.id for row in indexed.search(QUERIES, 400) for hit in row}
    check_like_exact(indexed, where={"camera": [0, 1, 2]}, exclude_ids=[[5]] * 20)
    assert [hit.id for hit in indexed.search(QUERIES[:1], 9, where={"pid": "changed"})[0]] == [1]
    check_like_exact(Gallery.open(indexed.path))


def test_merging_leaves_an_index_right(indexed, monkeypatch):
    monkeypatch.setattr(merging, "_FAN_IN", 2)
    before = built(indexed)
    for seed in range(2, 5):
        indexed.add(*make_rows(200, seed))
    assert indexed.stats()["segments"] < 4
    assert built(indexed) == before
    assert not check_like_exact(indexed).exact


def test_compacting_builds_it_again(indexed):
    indexed.remove(range(0, 300, 3))
    old = built(indexed)
    reader = Gallery.open(indexed.path)
    indexed.compact()
    new = built(indexed)
    assert new.folder != old.folder and new.rows == 300
    assert [folder.name for folder in (indexed.path / "index").iterdir()] == [new.folder]
    assert not check_like_exact(indexed).exact
    check_like_exact(reader)
    reader.refresh()
    check_like_exact(reader)
    indexed.verify()


def test_compacting_to_too_few_rows_leaves_search_exact(indexed, caplog):
    indexed.remove(range(2, 400))
    indexed.compact()
    assert built(indexed) is None
    assert "the index was not built again" in caplog.text
    assert check_like_exact(indexed).exact
    indexed.remove([0, 1])
    indexed.compact()
    assert indexed.search(QUERIES, 5) == [[]] * 20


def test_another_index_and_none(indexed):
    indexed.build_index("HNSW8", recall=0.5)
    assert indexed.index == Gallery.open(indexed.path).index == "HNSW8"
    assert len(list((indexed.path / "index").iterdir())) == 1
    assert indexed.build_index("Flat") is None
    assert indexed.index == "Flat"
    assert indexed.search(QUERIES, 5).exact
    assert not list((indexed.path / "index").iterdir())
    with pytest.raises(ValueError, match="is exact and needs no index"):
        indexed.build_index()


def test_an_index_that_is_not_supported_changes_nothing(indexed):
    before = built(indexed)
    for factory in ("LSH", "IVF999999,Flat"):
        with pytest.raises(ValueError):
            indexed.build_index(factory)
    assert built(indexed) == before
    assert indexed.index == "IVF4,Flat"


def test_a_compaction_meanwhile_makes_the_building_begin_again(indexed, monkeypatch):
    other = Gallery.open(indexed.path)
    build, calls = ApproximateIndex.build.__func__, []

    def compacting(cls, segments, *arguments, **options):
        calls.append(sum(map(len, segments)))
        if len(calls) == 1:
            monkeypatch.setattr(type(other.store), "build_index", lambda *_, **__: None)
            other.remove([0])
            other.compact()
            monkeypatch.undo()
            monkeypatch.setattr(ApproximateIndex, "build", classmethod(compacting))
        return build(cls, segments, *arguments, **options)

    monkeypatch.setattr(ApproximateIndex, "build", classmethod(compacting))
    indexed.build_index(recall=1.0)
    assert calls == [400, 399]
    assert built(indexed).rows == 399
    check_like_exact(indexed)


def test_rows_added_while_it_is_built_are_found(indexed, monkeypatch):
    """Nobody waits for the building: only for the writing of what was built."""
    build, errors = ApproximateIndex.build.__func__, []

    def adding(cls, *arguments, **options):
        def add():
            try:
                indexed.add(*make_rows(50, 7))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=add)
        thread.start()
        thread.join(30)
        return build(cls, *arguments, **options)

    monkeypatch.setattr(ApproximateIndex, "build", classmethod(adding))
    indexed.build_index(recall=1.0)
    assert not errors
    assert (built(indexed).rows, len(indexed)) == (400, 450)
    assert indexed.search(indexed.vectors([449]), 1)[0][0].id == 449
    check_like_exact(indexed)


def test_an_index_that_cannot_be_read_is_told_and_search_is_exact(indexed, caplog):
    folder = indexed.path / "index" / built(indexed).folder
    (folder / "index.json").write_text("{}")
    reopened = Gallery.open(indexed.path)
    assert "is searched exactly, its index cannot be used" in caplog.text
    assert check_like_exact(reopened).exact
    np.testing.assert_array_equal(reopened.vectors([3]), indexed.vectors([3]))
