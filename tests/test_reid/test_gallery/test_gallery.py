"""Creating, opening, adding, removing, compacting: what is refused, and what stays the same."""

import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest

from reid.gallery import Gallery

from .gallery_oracle import DIM, make_rows


def test_attributes_and_repr(path):
    gallery = Gallery.create(path, np.int64(DIM), "Flat", "euclidean", model="r50@ab12")
    assert (gallery.dim, gallery.index, gallery.metric) == (DIM, "Flat", "euclidean")
    assert (gallery.model, gallery.path, len(gallery)) == ("r50@ab12", path, 0)
    assert "0 rows, dim=12, index='Flat', metric='euclidean', model='r50@ab12'" in repr(gallery)
    assert repr(Gallery.open(str(path))) == repr(gallery)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be an int of at least 1"),
        ({"dim": 2.5}, "dim must be"),
        ({"dim": True}, "dim must be"),
        ({"index": "HNSW32"}, "index 'HNSW32' is not supported; supported today: 'Flat'"),
        ({"metric": "l1"}, "metric 'l1' is not supported; supported today: 'cosine', 'euclidean'"),
        ({"model": 3}, "model must be a text"),
    ],
)
def test_create_refuses(path, arguments, message):
    with pytest.raises(ValueError, match=message):
        Gallery.create(path, **{"dim": DIM, **arguments})
    assert not path.exists()


def test_create_makes_parents_and_takes_an_empty_folder(tmp_path):
    Gallery.create(tmp_path / "a" / "b", DIM)
    (tmp_path / "c").mkdir()
    Gallery.create(tmp_path / "c", DIM)


def test_create_touches_nobody_elses_files(filled):
    with pytest.raises(FileExistsError, match=r"a gallery at .* already.*Gallery\.open"):
        Gallery.create(filled.path, DIM)
    assert len(Gallery.open(filled.path)) == 60
    with pytest.raises(FileExistsError, match="holds other files"):
        Gallery.create(filled.path.parent, DIM)
    with pytest.raises(FileExistsError, match="holds other files"):
        Gallery.create(Path(__file__), DIM)


def test_open_refuses(tmp_path, path):
    with pytest.raises(FileNotFoundError, match=r"No gallery at .*Gallery\.create"):
        Gallery.open(path)
    with pytest.raises(FileNotFoundError, match="No gallery at"):
        Gallery.open(Path(__file__))
    Gallery.create(path, DIM, model="a")
    with pytest.raises(ValueError, match=r"holds dimension 12, not 13.*create another"):
        Gallery.open(path, dim=13)
    with pytest.raises(ValueError, match="model 'a'; these are of model 'b'"):
        Gallery.open(path, model="b")
    Gallery.open(path, dim=DIM, model="a")


@pytest.mark.parametrize(
    ("features", "records", "message"),
    [
        (np.ones((2, DIM)), [{}], "one record per feature; got 2 features and 1 records"),
        (np.ones((1, 3)), [{}], "dimension 3, this gallery holds dimension 12"),
        (np.ones((3, DIM)) * [[1], [math.inf], [1]], [{}] * 3, r"not finite .* 1 row \(1\)"),
        (np.eye(3, DIM) * [[1], [1], [0]], [{}] * 3, r"all zeros in 1 row \(2\)"),
        (np.zeros((30, DIM)), [{}] * 30, r"30 rows \(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\)"),
        (np.ones((1, DIM), np.uint8), [{}], "floating point.*uint8"),
        (np.ones((1, DIM)), {"pid": 1}, "list of dicts"),
        (np.ones((1, DIM)), ["a"], "record 0 must be a dict; got str"),
        (np.ones((1, DIM)), [{1: 2}], "record 0: field names must be str; got 1"),
        (np.ones((1, DIM)), [{"a": {"b": [{2: 3}]}}], "record 0, field 'a': field names"),
        (np.ones((2, DIM)), [{}, {"image": Path("a")}], r"record 1, field 'image'.*str\(path\)"),
        (np.ones((1, DIM)), [{"a": {1, 2}}], "field 'a': not a JSON value"),
        (np.ones((1, DIM)), [{"a": math.nan}], "field 'a': not a JSON value"),
        (np.ones((1, DIM)), [{"pid": 1.5}], "field 'pid': expected int or str .*got 1.5"),
        (np.ones((1, DIM)), [{"camera": True}], "field 'camera': expected int or str"),
        (np.ones((1, DIM)), [{"image": 3}], "field 'image': expected str"),
        (np.ones((1, DIM)), [{"time": [1]}], "field 'time': expected int or float or str"),
    ],
)
def test_add_refuses_and_writes_nothing(gallery, features, records, message):
    before = sorted(gallery.path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        gallery.add(features, records)
    assert sorted(gallery.path.rglob("*")) == before
    assert len(gallery) == 0


def test_add_refuses_circular_records(gallery):
    circle: list = []
    circle.append(circle)
    with pytest.raises(ValueError, match="not a JSON value"):
        gallery.add(np.ones((1, DIM)), [{"a": circle}])


def test_add_refuses_another_model(path):
    gallery = Gallery.create(path, DIM, model="a")
    gallery.add(*make_rows(2), model="a")
    with pytest.raises(ValueError, match="another gallery"):
        gallery.add(*make_rows(2), model="b")
    assert len(gallery) == 2


def test_zero_vectors_are_fine_under_euclidean(path):
    gallery = Gallery.create(path, DIM, metric="euclidean")
    gallery.add(np.zeros((1, DIM)), [{}])
    assert gallery.search(np.zeros((1, DIM)), 1)[0][0].distance == 0


def test_records_read_back_as_they_were(gallery):
    record = {
        "image": "中庭/a\nb \udcff.jpg",
        "pid": np.int64(7),
        "camera": "north",
        "time": np.float32(0.5),
        "tags": ("a", {"b": None}),
        "flag": np.True_,
        "big": 2**70,
    }
    expected = {
        **record,
        "pid": 7,
        "time": 0.5,
        "tags": ["a", {"b": None}],
        "flag": True,
    }
    [row] = gallery.add(np.ones((1, DIM)), [record])
    for view in (gallery, Gallery.open(gallery.path)):
        assert view.records[row] == expected
        assert type(view.records[row]["pid"]) is int
        assert view.search(np.ones((1, DIM)), 1)[0][0].record == expected


def test_records_view(filled):
    filled.remove([1, 59])
    records = filled.records
    assert len(records) == len(filled) == 58
    assert list(records) == [row for row in range(60) if row not in (1, 59)]
    assert records[0] == make_rows(20, 0)[1][0]
    assert records[58] == make_rows(20, 2)[1][18]
    for absent in (1, 59, 60, -1):
        assert absent not in records
    with pytest.raises(KeyError):
        records[1]
    with pytest.raises(TypeError):
        records[0] = {}


def test_empty_batches_write_nothing(gallery):
    before = (gallery.path / "manifest.json").read_bytes()
    assert gallery.add(np.empty((0, DIM), np.float32), []) == []
    assert gallery.remove([]) == 0
    gallery.compact()
    assert (gallery.path / "manifest.json").read_bytes() == before


def test_ids_are_stable_and_never_reused(gallery):
    assert gallery.add(*make_rows(5)) == [0, 1, 2, 3, 4]
    assert gallery.remove(np.array([4, 3, 3, 0])) == 3
    gallery.compact()
    assert list(gallery.records) == [1, 2]
    gallery = Gallery.open(gallery.path)
    assert gallery.add(*make_rows(2, seed=1)) == [5, 6]
    gallery.remove([1, 6])
    gallery.compact()
    gallery = Gallery.open(gallery.path)
    assert list(gallery.records) == [2, 5]
    assert gallery.records[2] == make_rows(5)[1][2]
    assert gallery.search(make_rows(5)[0][2:3], 1)[0][0].id == 2
    gallery.remove([2, 5])
    gallery.compact()
    assert len(gallery) == 0
    assert not list((gallery.path / "segments").iterdir())
    assert gallery.add(*make_rows(1, seed=2)) == [7]


def test_compact_leaves_one_segment_and_the_same_bytes(filled):
    vectors = [np.load(file) for file in sorted((filled.path / "segments").glob("*.npy"))]
    filled.remove([3])
    filled.compact()
    files = list((filled.path / "segments").glob("*.npy"))
    assert len(files) == 1
    np.testing.assert_array_equal(np.load(files[0]), np.delete(np.concatenate(vectors), 3, axis=0))
    filled.verify()


def test_compact_copies_block_by_block(filled, monkeypatch):
    live_blocks = type(filled._storage).live_blocks
    monkeypatch.setattr(
        type(filled._storage),
        "live_blocks",
        lambda self, manifest, live: live_blocks(self, manifest, live, block_rows=3),
    )
    filled.remove(range(0, 60, 7))
    expected = filled.search(make_rows(5, 9)[0], 60)
    filled.compact()
    assert Gallery.open(filled.path).search(make_rows(5, 9)[0], 60) == expected


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 60], r"1 of 2 ids are not in the gallery.*: 60\. Nothing was removed"),
        ([-1], "not in the gallery"),
        ([5], "removed before"),
        ([1.0], "ids must be ints"),
        ([True], "ids must be ints"),
        (["1"], "ids must be ints"),
    ],
)
def test_remove_refuses_and_removes_nothing(filled, ids, message):
    filled.remove([5])
    with pytest.raises(ValueError, match=message):
        filled.remove(ids)
    assert len(filled) == 59


def test_segments_are_what_the_documentation_says(filled):
    """Anyone can read a gallery with numpy and json alone."""
    manifest = json.loads((filled.path / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"], manifest["next_id"]) == ("reid-gallery", 1, 60)
    segment = manifest["segments"][1]
    vectors = np.load(filled.path / "segments" / f"{segment['name']}.npy", allow_pickle=False)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    features, records = make_rows(20, 1)
    np.testing.assert_allclose(
        vectors, features / np.linalg.norm(features, axis=1, keepdims=True), rtol=1e-6
    )
    lines = (filled.path / "segments" / f"{segment['name']}.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(20, 40))
    assert [json.loads(line)["record"] for line in lines] == records


def test_two_writers_and_a_reader_follow_each_other(gallery):
    other, reader = Gallery.open(gallery.path), Gallery.open(gallery.path)
    query = make_rows(1, 5)[0]
    assert gallery.add(*make_rows(3, 0)) == [0, 1, 2]
    assert other.add(*make_rows(2, 1)) == [3, 4]
    assert gallery.add(*make_rows(1, 2)) == [5]
    assert len(reader) == 0 and reader.search(query, 9) == [[]]
    assert reader.refresh() and not reader.refresh()
    assert reader.search(query, 9) == gallery.search(query, 9)
    other.remove([0])
    other.compact()
    # The reader still holds the rows it has loaded; a fresh one follows the compaction.
    assert len(reader.search(query, 9)[0]) == 6
    assert reader.refresh()
    assert len(reader.search(query, 9)[0]) == 5


def test_a_reader_that_loads_late_follows_a_compaction(filled):
    late, verifier = Gallery.open(filled.path), Gallery.open(filled.path)
    filled.remove([0])
    filled.compact()
    assert len(late.search(make_rows(1)[0], 100)[0]) == 59
    verifier.verify()


def test_an_empty_gallery_may_lose_its_empty_folder(gallery):
    (gallery.path / "segments").rmdir()
    gallery = Gallery.open(gallery.path)
    assert gallery.search(make_rows(1)[0], 1) == [[]]
    assert gallery.add(*make_rows(1)) == [0]


def test_a_gallery_replaced_by_another_is_noticed(gallery):
    import shutil

    shutil.rmtree(gallery.path)
    Gallery.create(gallery.path, DIM)
    with pytest.raises(ValueError, match="replaced by another one"):
        gallery.add(*make_rows(1))


def test_threads_may_share_a_gallery(gallery):
    query = make_rows(1)[0]
    errors = []

    def write(seed):
        try:
            for _ in range(5):
                gallery.add(*make_rows(4, seed))
                gallery.search(query, 3)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(gallery) == 80
    assert list(Gallery.open(gallery.path).records) == list(range(80))
