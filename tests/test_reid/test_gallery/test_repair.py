"""Repair: of a damaged gallery all that is whole is kept, and what is lost is named."""

import errno
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from reid.gallery import DamagedGalleryError, Gallery, GalleryLockedError
from reid.gallery import inspection as inspection_module
from reid.gallery.embedded import EmbeddedStore
from reid.gallery.lock import writer_lock
from reid.gallery.manifest import encode
from reid.gallery.repair import repair
from reid.gallery.storage import GalleryStorage

from .gallery_oracle import DIM, make_rows, make_thumbnails

ROWS = 20


@pytest.fixture
def world(path):
    """60 rows in three segments, rows 25 and 41 removed: gallery, records, vectors, thumbnails."""
    gallery = Gallery.create(path, DIM)
    records, thumbnails = [], []
    for seed in range(3):
        features, batch = make_rows(ROWS, seed)
        pictures = make_thumbnails(ROWS, seed)
        gallery.add(features, batch, thumbnails=pictures)
        records, thumbnails = records + batch, thumbnails + pictures
    vectors = gallery.vectors(range(60))
    gallery.remove([25, 41])
    return gallery, records, vectors, thumbnails


def file_of(gallery, number, kind):
    entry = GalleryStorage(gallery.path).read_manifest().segments[number]
    return gallery.path / "segments" / getattr(entry, kind).name


def tombstones_of(gallery):
    name = GalleryStorage(gallery.path).read_manifest().tombstones.name
    return gallery.path / "segments" / name


def flip(file, *places):
    data = bytearray(file.read_bytes())
    for place in places:
        data[place] ^= 1
    file.write_bytes(data)


def place_of(file, row, dim=DIM):
    """A byte of a row's vector, counted from the end."""
    return file.stat().st_size - (ROWS - row) * 4 * dim + 7


def check_left(world, left, without_thumbnail=()):
    """The gallery holds just the rows ``left``, as they were, and is whole."""
    gallery, records, vectors, thumbnails = world
    for view in (Gallery.open(gallery.path), gallery):
        view.refresh()
        view.verify()
        assert dict(view.records) == {row: records[row] for row in left}
        np.testing.assert_array_equal(view.vectors(left), vectors[left])
        expected = [None if row in without_thumbnail else thumbnails[row] for row in left]
        assert [view.thumbnail(row) for row in left] == expected
        hits = view.search(vectors[left], 1)
        assert [row[0].id for row in hits] == left
    assert set((gallery.path / "segments").iterdir()) == set(
        GalleryStorage(gallery.path).named(GalleryStorage(gallery.path).read_manifest())
    )
    assert gallery.add(*make_rows(1, 9)) == [60]  # ids are not given again


LIVE = [row for row in range(60) if row not in (25, 41)]


def test_a_whole_gallery_is_left_alone(world):
    before = {file: file.read_bytes() for file in world[0].path.rglob("*") if file.is_file()}
    report = EmbeddedStore.repair(world[0].path)
    assert (report.damaged, report.kept, report.lost) == ((), 58, ())
    assert "is whole: 58 rows. Nothing was done" in str(report)
    assert before == {
        file: file.read_bytes() for file in world[0].path.rglob("*") if file.is_file()
    }


def test_changed_vectors_cost_only_their_rows(world):
    file = file_of(world[0], 1, "vectors")
    data = file.read_bytes()
    flip(file, place_of(file, 3), place_of(file, 5), place_of(file, 19))  # ids 23, 25, 39
    report = repair(world[0].path)
    assert [row.id for row in report.lost] == [23, 39]  # 25 had been removed
    assert [row.record for row in report.lost] == [world[1][23], world[1][39]]
    assert [row.image for row in report.lost] == ["1/3.jpg", "1/19.jpg"]
    assert report.kept == 56
    text = str(report)
    assert f"{file.name}: content changed (sha256 differs): 3 rows (ids 23, 25, 39) lost" in text
    assert "id 23: 1/3.jpg" in text and "Embed the images" in text
    aside = world[0].path / "damaged" / "segments" / file.name
    assert aside.read_bytes() != data and len(aside.read_bytes()) == len(data)
    assert f"segments/{file.name}" in report.set_aside
    [kept] = (world[0].path / "damaged").glob("report-*.json")
    assert [row["id"] for row in json.loads(kept.read_text())["lost"]] == [23, 39]
    check_left(world, [row for row in LIVE if row not in (23, 39)])


@pytest.mark.parametrize("block", [4096, 3])
def test_a_truncated_file_of_vectors_keeps_its_whole_rows(world, monkeypatch, block):
    monkeypatch.setattr(inspection_module, "_BLOCK_ROWS", block)
    file = file_of(world[0], 2, "vectors")
    file.write_bytes(file.read_bytes()[: place_of(file, 12)])
    with pytest.raises(DamagedGalleryError, match=f"{file.name}: .* bytes, expected.*repair"):
        Gallery.open(world[0].path)
    report = repair(world[0].path)
    assert [row.id for row in report.lost] == list(range(52, 60))
    check_left(world, [row for row in LIVE if row < 52])


def test_a_damaged_header_costs_no_row(world):
    file = file_of(world[0], 0, "vectors")
    flip(file, 3)
    with pytest.raises(DamagedGalleryError, match=file.name):
        Gallery.open(world[0].path)
    report = repair(world[0].path)
    assert report.lost == () and "no row lost" in report.damaged[0]
    check_left(world, LIVE)


@pytest.mark.parametrize("kind", ["vectors", "records"])
def test_a_missing_file_costs_its_segment(world, kind):
    file_of(world[0], 1, kind).unlink()
    report = repair(world[0].path)
    assert [row.id for row in report.lost] == [row for row in range(20, 40) if row != 25]
    known = world[1][20] if kind == "vectors" else None
    assert report.lost[0].record == known
    assert ("image unknown" in str(report)) == (kind == "records")
    check_left(world, [row for row in LIVE if not 20 <= row < 40])


def test_damaged_records_set_their_rows_aside(world):
    vectors, records = file_of(world[0], 0, "vectors"), file_of(world[0], 0, "records")
    flip(records, 100)
    report = repair(world[0].path)
    assert [row.id for row in report.lost] == list(range(20))
    assert {f"segments/{vectors.name}", f"segments/{records.name}"} <= set(report.set_aside)
    assert (world[0].path / "damaged" / "segments" / vectors.name).exists()
    check_left(world, [row for row in LIVE if row >= 20])


def test_ids_with_gaps_cannot_all_be_named(path):
    gallery = Gallery.create(path, DIM)
    features, batch = make_rows(3)
    gallery.store.add(features, batch, ids=np.array([0, 1, 9]))
    file_of(gallery, 0, "records").unlink()
    report = repair(path)
    assert report.kept == 0
    assert "Of the ids 0 to 9 only 3 had rows" in str(report)
    Gallery.open(path).verify()


def test_damaged_thumbnails_cost_only_themselves(world):
    file = file_of(world[0], 1, "thumbnails")
    flip(file, 0)  # of the first row that has one
    report = repair(world[0].path)
    assert (report.lost, report.without_thumbnail) == ((), (21,))
    assert "1 row (id 21) without thumbnail" in report.damaged[0]
    assert "Rows without their thumbnails: 1" in str(report)
    check_left(world, LIVE, without_thumbnail=[21])


def test_truncated_thumbnails_cost_only_themselves(world):
    file = file_of(world[0], 1, "thumbnails")
    file.write_bytes(b"")
    report = repair(world[0].path)
    assert report.lost == ()
    check_left(world, LIVE, without_thumbnail=range(20, 40))


@pytest.mark.parametrize("change", ["flip", "truncate", "delete"])
def test_a_damaged_manifest_is_taken_from_its_twin(world, change):
    manifest = world[0].path / "manifest.json"
    if change == "flip":
        flip(manifest, 200)
    elif change == "truncate":
        manifest.write_bytes(manifest.read_bytes()[:100])
    else:
        manifest.unlink()
    with pytest.raises(DamagedGalleryError, match="repair"):
        Gallery.open(world[0].path)
    with pytest.raises(FileExistsError):
        Gallery.create(world[0].path, DIM)
    report = repair(world[0].path)
    assert report.damaged[0].startswith("manifest.json: ")
    assert report.lost == ()
    check_left(world, LIVE)


def test_without_manifest_and_twin_there_is_no_repair(world):
    for name in ("manifest.json", "manifest.backup.json"):
        flip(world[0].path / name, 200)
    with pytest.raises(DamagedGalleryError, match=r"cannot be repaired: .* are both damaged"):
        repair(world[0].path)


def test_an_older_twin_loses_no_file(world):
    """Rows that only the lost manifest named are set aside, not deleted."""
    gallery = world[0]
    twin = (gallery.path / "manifest.backup.json").read_bytes()
    gallery.add(*make_rows(3, 7))
    (gallery.path / "manifest.backup.json").write_bytes(twin)
    name = file_of(gallery, 3, "vectors").name
    (gallery.path / "manifest.json").write_bytes(b"")
    report = repair(gallery.path)
    assert f"segments/{name}" in report.set_aside
    assert len(np.load(gallery.path / "damaged" / "segments" / name)) == 3
    assert dict(Gallery.open(gallery.path).records) == {row: world[1][row] for row in LIVE}


def test_a_damaged_twin_is_made_anew(world):
    flip(world[0].path / "manifest.backup.json", 50)
    assert len(Gallery.open(world[0].path)) == 58
    with pytest.raises(DamagedGalleryError, match=r"manifest\.backup\.json: not a whole"):
        world[0].verify()
    assert repair(world[0].path).lost == ()
    check_left(world, LIVE)


@pytest.mark.parametrize("suffix", ["", ".twin"])
def test_one_list_of_removed_rows_is_enough(world, suffix):
    file = tombstones_of(world[0])
    flip(file.with_name(file.name + suffix), -1)
    with pytest.raises(DamagedGalleryError, match=r"\.tombstones.*: content changed"):
        world[0].verify()
    report = repair(world[0].path)
    assert "are back" not in str(report)
    check_left(world, LIVE)


def test_without_both_lists_removed_rows_are_back_and_it_is_said(world):
    file = tombstones_of(world[0])
    file.unlink()
    file.with_name(file.name + ".twin").unlink()
    report = repair(world[0].path)
    assert "2 rows that had been removed are back. Remove them again" in str(report)
    check_left(world, list(range(60)))


def test_everything_at_once(world):
    gallery = world[0]
    vectors = file_of(gallery, 0, "vectors")
    flip(vectors, place_of(vectors, 0))
    file_of(gallery, 1, "records").write_bytes(b"x")
    flip(file_of(gallery, 2, "thumbnails"), 0, -1)  # of the rows 41, which is removed, and 59
    flip(tombstones_of(gallery), -1)
    flip(gallery.path / "manifest.json", 100)
    report = repair(gallery.path)
    assert len(report.damaged) == 5
    assert report.without_thumbnail == (59,)
    left = [row for row in LIVE if row != 0 and not 20 <= row < 40]
    check_left(world, left, without_thumbnail=[59])


def test_a_repair_may_follow_a_repair(world):
    gallery = world[0]
    for row in (4, 9):
        file = file_of(gallery, 0, "vectors")
        data = bytearray(file.read_bytes())
        data[-4 * DIM * (19 - row) - 1] ^= 1
        file.write_bytes(data)
        repair(gallery.path)
    assert len(list((gallery.path / "damaged").glob("report-*.json"))) == 2
    assert len(Gallery.open(gallery.path)) == 56


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_repair_that_fails_at_any_step_can_be_repeated(world, monkeypatch, call):
    gallery = world[0]
    file = file_of(gallery, 1, "vectors")
    flip(file, place_of(file, 3))
    real, step, left = getattr(os, call), 0, []
    while step < 40:
        calls = []

        def failing(*arguments, calls=calls, step=step):
            calls.append(arguments)
            if len(calls) - 1 == step:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                report = repair(gallery.path)
            except OSError:
                left.append(step)
            else:
                break
        step += 1
    assert len(left) >= 3
    if report.damaged:
        assert [row.id for row in report.lost] == [23]
    assert (gallery.path / "damaged" / "segments" / file.name).exists()
    check_left(world, [row for row in LIVE if row != 23])


def test_repair_refuses(world, tmp_path):
    with pytest.raises(FileNotFoundError, match="No gallery at"):
        repair(tmp_path / "nothing")
    with writer_lock(world[0].path / "lock", 0), pytest.raises(GalleryLockedError):
        repair(world[0].path, lock_timeout=0)
    storage = GalleryStorage(world[0].path)
    data = encode(storage.read_manifest()).replace(b'"version": 2', b'"version": 1')
    for path in (storage.manifest_path, storage.backup_path):
        path.write_bytes(data)
    with pytest.raises(DamagedGalleryError, match="Build the gallery anew"):
        repair(world[0].path)


def test_a_file_system_without_links_is_copied_to(world, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    file = file_of(world[0], 1, "vectors")
    flip(file, place_of(file, 3))
    data = file.read_bytes()
    repair(world[0].path)
    assert (world[0].path / "damaged" / "segments" / file.name).read_bytes() == data


def test_float16_rows_are_saved_as_well(path):
    gallery = Gallery.create(path, DIM, dtype="float16")
    gallery.add(*make_rows(ROWS))
    vectors = gallery.vectors(range(ROWS))
    file = file_of(gallery, 0, "vectors")
    flip(file, -1)
    assert [row.id for row in repair(path).lost] == [19]
    reopened = Gallery.open(path)
    np.testing.assert_array_equal(reopened.vectors(range(19)), vectors[:19])


def test_a_damaged_index_is_dropped_and_can_be_built_again(path):
    gallery = Gallery.create(path, DIM, "IVF4,Flat")
    gallery.add(*make_rows(300))
    gallery.build_index()
    expected = gallery.search(make_rows(5, 1)[0], 3, exact=True)
    built = GalleryStorage(path).read_manifest().built
    flip(path / "index" / built.folder / "index.faiss", -1)
    with pytest.raises(DamagedGalleryError, match=r"index\.faiss: content changed"):
        gallery.verify()
    reopened = Gallery.open(path)  # searches exactly, and says so in the log
    assert reopened.search(make_rows(5, 1)[0], 3) == expected
    assert reopened.search(make_rows(5, 1)[0], 3).exact
    report = repair(path)
    assert report.lost == () and "build it again" in str(report)
    reopened.refresh()
    reopened.verify()
    assert reopened.stats()["index"] == {"factory": "IVF4,Flat", "built": False}
    assert any(name.startswith("index/") for name in report.set_aside)
    reopened.build_index()
    assert reopened.stats()["index"]["built"]


def test_lost_rows_end_an_index_over_them(path):
    gallery = Gallery.create(path, DIM, "IVF4,Flat")
    gallery.add(*make_rows(300))
    gallery.build_index()
    flip(file_of(gallery, 0, "vectors"), -1)
    assert "The approximate index is gone" in str(repair(path))
    reopened = Gallery.open(path)
    assert len(reopened) == 299
    assert not reopened.stats()["index"]["built"]
    shutil.rmtree(path)


def test_manifest_and_segments_must_agree(world):
    """A manifest whose own checksum is right, but that says what is not so."""
    storage = GalleryStorage(world[0].path)
    manifest = storage.read_manifest()
    wrong = replace(manifest.segments[0], rows=19)
    storage.manifest_path.write_bytes(
        encode(replace(manifest, segments=(wrong, *manifest.segments[1:])))
    )
    with pytest.raises(DamagedGalleryError, match="holds 20 records, expected 19"):
        Gallery.open(world[0].path)
