"""Kills, full disks, failing system calls, damaged files: what was acknowledged is there."""

import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from reid.gallery import DamagedGalleryError, Gallery, GalleryLockedError, UndecidedWriteError
from reid.gallery.lock import writer_lock
from reid.gallery.manifest import encode
from reid.gallery.storage import GalleryStorage

from .gallery_oracle import DIM, make_rows, make_thumbnails

ROOT = Path(__file__).parents[3]


def start(script: str, *arguments: object) -> subprocess.Popen:
    """A fresh process (never a fork: this one has searched with FAISS)."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def snapshot(gallery: Gallery):
    """All that a gallery says."""
    return dict(gallery.records), gallery.search(make_rows(3, seed=50)[0], 1000)


def files(gallery: Gallery) -> set[str]:
    return {file.name for file in (gallery.path / "segments").iterdir()}


def named(gallery: Gallery) -> set[str]:
    """The files that there should be."""
    storage = GalleryStorage(gallery.path)
    return {path.name for path in storage.named(storage.read_manifest())}


CALLS = ["replace", "fsync"]


def failing(monkeypatch, call: str, number: int, code: int = errno.EIO, forever: bool = False):
    """Let the ``number``-th (from 0) call of os.replace or os.fsync, and maybe all later, fail."""
    real, seen = getattr(os, call), []

    def stand_in(*arguments):
        seen.append(arguments)
        if len(seen) - 1 == number or (forever and len(seen) > number):
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    monkeypatch.setattr(os, call, stand_in)
    return seen


def calls_of(monkeypatch, call: str, action) -> int:
    with monkeypatch.context() as patch:
        seen = failing(patch, call, -1)
        action()
    return len(seen)


ACTIONS = {
    "add": lambda gallery: gallery.add(*make_rows(4, seed=7), thumbnails=make_thumbnails(4)),
    "remove": lambda gallery: gallery.remove([2, 30]),
    "update": lambda gallery: gallery.update({2: {"pid": 77}, 30: {"camera": None}}),
    "compact": lambda gallery: gallery.compact(),
}


def twin_of(gallery: Gallery) -> Gallery:
    path = gallery.path.with_name("twin")
    shutil.copytree(gallery.path, path, dirs_exist_ok=True)
    return Gallery.open(path)


def steps_before_the_twin(monkeypatch, call: str, gallery: Gallery, action) -> int:
    """Calls up to the one that makes a change final; the manifest's twin is written after it."""
    steps = calls_of(monkeypatch, call, lambda: action(gallery))
    return steps - 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_failure_at_any_step_leaves_the_old_gallery(filled, monkeypatch, call, action):
    filled.remove([1])
    twin = twin_of(filled)
    steps = steps_before_the_twin(monkeypatch, call, twin, ACTIONS[action])
    assert steps >= 2
    before = snapshot(filled)
    for step in range(steps):
        with monkeypatch.context() as patch:
            failing(patch, call, step)
            with pytest.raises(OSError, match="is as it was before: Input/output error"):
                ACTIONS[action](filled)
        assert snapshot(filled) == before
        assert snapshot(Gallery.open(filled.path)) == before
        Gallery.open(filled.path).verify()
    assert not list(filled.path.rglob("*.tmp"))
    ACTIONS[action](filled)
    assert snapshot(filled) == snapshot(Gallery.open(filled.path)) == snapshot(twin)
    assert files(filled) == named(filled)


@pytest.mark.parametrize("call", CALLS)
def test_a_failure_while_segments_are_merged_leaves_the_old_gallery(path, monkeypatch, call):
    gallery = Gallery.create(path, DIM)
    for seed in range(15):
        gallery.add(*make_rows(2, seed), thumbnails=make_thumbnails(2, seed))
    steps = steps_before_the_twin(monkeypatch, call, twin_of(gallery), ACTIONS["add"])
    before = snapshot(gallery)
    for step in range(steps):
        with monkeypatch.context() as patch:
            failing(patch, call, step)
            with pytest.raises(OSError, match="is as it was before"):
                ACTIONS["add"](gallery)
        assert snapshot(gallery) == before == snapshot(Gallery.open(path))
    ACTIONS["add"](gallery)
    assert gallery.stats()["segments"] == 1
    assert snapshot(gallery) == snapshot(Gallery.open(path))


@pytest.mark.parametrize("call", CALLS)
def test_a_twin_that_cannot_be_written_is_told_and_made_good(filled, monkeypatch, call, caplog):
    steps = calls_of(monkeypatch, call, lambda: ACTIONS["add"](twin_of(filled)))
    with monkeypatch.context() as patch:
        failing(patch, call, steps - 1)
        assert len(ACTIONS["add"](filled)) == 4  # done all the same
    assert "the twin of" in caplog.text and "Input/output error" in caplog.text
    backup = filled.path / "manifest.backup.json"
    assert backup.read_bytes() != (filled.path / "manifest.json").read_bytes()
    filled.verify()
    filled.remove([0])
    assert backup.read_bytes() == (filled.path / "manifest.json").read_bytes()


def test_a_disk_that_stays_broken_after_the_commit_is_told_apart(filled, monkeypatch):
    before, ids = snapshot(filled), list(filled.records)
    steps = steps_before_the_twin(monkeypatch, "fsync", twin_of(filled), ACTIONS["add"])
    with monkeypatch.context() as patch:
        failing(patch, "fsync", steps - 1, forever=True)
        with pytest.raises(UndecidedWriteError, match="whole, with or without that change"):
            ACTIONS["add"](filled)
    assert snapshot(filled) == before
    reopened = Gallery.open(filled.path)
    reopened.verify()
    assert list(reopened.records) in (ids, [*ids, 60, 61, 62, 63])
    assert filled.add(*make_rows(1, seed=9))[0] in (60, 64)


@pytest.mark.parametrize("call", CALLS)
def test_a_failing_create_can_be_repeated(path, monkeypatch, call):
    steps = calls_of(monkeypatch, call, lambda: Gallery.create(path, DIM)) - 1
    for step in range(steps):
        shutil.rmtree(path)
        with monkeypatch.context() as patch:
            failing(patch, call, step)
            with pytest.raises(OSError, match=r"No gallery could be made.*Input/output error"):
                Gallery.create(path, DIM)
        with pytest.raises(FileNotFoundError, match="No gallery"):
            Gallery.open(path)
        assert len(Gallery.create(path, DIM)) == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(filled, monkeypatch, code):
    before, names = snapshot(filled), files(filled)
    with monkeypatch.context() as patch:
        failing(patch, "fsync", 0, code)
        with pytest.raises(OSError, match=r"as it was before: .*\. Free some space") as raised:
            filled.add(*make_rows(4))
    assert raised.value.errno == code
    assert files(filled) == names
    assert snapshot(Gallery.open(filled.path)) == before
    assert filled.add(*make_rows(4)) == [60, 61, 62, 63]


def test_a_file_that_cannot_grow_leaves_the_gallery_intact(filled):
    """The kernel itself refuses in the middle of the write, as a full disk does."""
    before, names = snapshot(filled), files(filled)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(OSError, match="as it was before: File too large"):
            filled.add(*make_rows(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(filled) == names
    assert snapshot(filled) == snapshot(Gallery.open(filled.path)) == before


def test_leftovers_are_ignored_and_cleaned_by_the_next_writer(filled):
    (filled.path / "manifest.json.tmp").write_text("half a mani")
    for name in ("0000ffff-00000000.npy", "0000ffff-00000000.parquet.tmp"):
        (filled.path / "segments" / name).write_bytes(b"half")
    (filled.path / "index" / "0000ffff-00000000").mkdir(parents=True)
    gallery = Gallery.open(filled.path)
    assert len(gallery.search(make_rows(1)[0], 100)[0]) == 60
    gallery.update({0: {}})
    assert files(gallery) == named(gallery)
    assert not list((gallery.path / "index").iterdir())
    assert not (gallery.path / "manifest.json.tmp").exists()


def test_readers_open_follow_and_verify_while_another_process_writes(filled):
    """Files that a change takes away while they are opened are no damage."""
    writer = start(
        """
        import os
        import sys
        from reid.gallery import Gallery, merging
        from tests.test_reid.test_gallery.gallery_oracle import make_rows

        os.fsync = lambda descriptor: None  # as busy as can be
        merging._FAN_IN = 2
        gallery = Gallery.open(sys.argv[1])
        print("ready", flush=True)
        for seed in range(10**6):
            ids = gallery.add(*make_rows(4, seed))
            gallery.remove(ids[:1])
            gallery.update({ids[1]: {"pid": seed}})
            if seed % 5 == 0:
                gallery.compact()
        """,
        filled.path,
    )
    try:
        assert writer.stdout.readline() == "ready\n"
        follower = Gallery.open(filled.path)
        seen = set()
        for _ in range(25):
            for reader in (follower, Gallery.open(filled.path)):
                reader.refresh()
                records = dict(reader.records)
                hits = reader.search(make_rows(1)[0], 10**6)[0]
                assert sorted(hit.id for hit in hits) == list(records)
                seen.add(len(records))
            reader.verify()
        assert len(seen) > 5
    finally:
        writer.kill()
        writer.communicate()


def test_one_writer_at_a_time(filled):
    holder = start(
        """
        import sys
        from pathlib import Path
        from reid.gallery.lock import writer_lock

        with writer_lock(Path(sys.argv[1]), 1):
            print("held", flush=True)
            sys.stdin.read()
        """,
        filled.path / "lock",
    )
    assert holder.stdout.readline() == "held\n"
    try:
        gallery = Gallery.open(filled.path, lock_timeout=0)
        for action in ACTIONS.values():
            with pytest.raises(GalleryLockedError, match=f"by process {holder.pid} on .* one writ"):
                action(gallery)
        assert len(gallery.search(make_rows(1)[0], 100)[0]) == 60  # readers do not wait
    finally:
        holder.kill()
        holder.communicate()
    assert gallery.add(*make_rows(1)) == [60]  # the system frees a dead holder's lock


def test_the_lock_keeps_apart_galleries_of_one_process_and_is_waited_for(filled, monkeypatch):
    lock = filled.path / "lock"
    with writer_lock(lock, 0), pytest.raises(GalleryLockedError, match="longer lock_timeout"):
        Gallery.open(filled.path, lock_timeout=0.05).remove([0])
    with monkeypatch.context() as patch:  # a full disk must not keep the holder from its work
        patch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "")))
        assert filled.remove([0]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_gallery_can_be_searched(filled):
    for folder in (filled.path, filled.path / "segments"):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    (filled.path / "lock").chmod(stat.S_IRUSR)
    try:
        gallery = Gallery.open(filled.path)
        assert len(gallery.search(make_rows(1)[0], 100)[0]) == 60
        with pytest.raises(PermissionError, match="could not be changed"):
            gallery.remove([0])
    finally:
        for folder in (filled.path, filled.path / "segments"):
            folder.chmod(stat.S_IRWXU)


def segment_file(gallery: Gallery, number: int, kind: str) -> Path:
    entry = GalleryStorage(gallery.path).read_manifest().segments[number]
    return gallery.path / "segments" / getattr(entry, kind).name


@pytest.mark.parametrize("kind", ["vectors", "records"])
def test_a_truncated_or_missing_segment_is_refused_at_opening(filled, kind):
    file = segment_file(filled, 1, kind)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(
        DamagedGalleryError,
        match=f"{file.name}: {len(data) - 1} bytes, expected {len(data)}.*repair.*copy",
    ):
        Gallery.open(filled.path)
    file.unlink()
    with pytest.raises(DamagedGalleryError, match=f"{file.name}: missing.*repair"):
        Gallery.open(filled.path)


def test_verify_names_changed_vectors_by_row(filled):
    filled.verify()
    file = segment_file(filled, 2, "vectors")
    data = bytearray(file.read_bytes())
    for row in (3, 19):
        data[len(data) - (20 - row) * DIM * 4 + 5] ^= 1
    file.write_bytes(data)
    gallery = Gallery.open(filled.path)
    with pytest.raises(
        DamagedGalleryError, match=rf"damaged: {file.name}: content .*2 rows \(ids 43, 59\) lost"
    ):
        gallery.verify()
    gallery.remove([0])
    with pytest.raises(DamagedGalleryError, match=f"{file.name}: content changed in 2 rows"):
        gallery.compact()  # must not give damaged rows a valid sum
    assert len(Gallery.open(filled.path)) == 59


def test_changed_records_are_refused_at_opening_and_by_verify(filled):
    file = segment_file(filled, 2, "records")
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    for use in (Gallery.verify, lambda gallery: Gallery.open(gallery.path)):
        with pytest.raises(DamagedGalleryError, match=f"damaged: {file.name}: content changed"):
            use(filled)


def test_verify_names_everything_that_is_damaged(filled):
    filled.remove([1])
    segment_file(filled, 0, "vectors").unlink()
    segment_file(filled, 2, "records").write_bytes(b"")
    (filled.path / "manifest.backup.json").write_text("{")
    for file in (filled.path / "segments").glob("*.tombstones"):
        file.write_bytes(file.read_bytes()[:-1])
    message = (
        r"\.npy: missing: 20 rows .*lost; .*\.parquet: 0 bytes, .*; "
        r".*\.tombstones: content changed.*; manifest\.backup\.json: not a whole manifest"
    )
    with pytest.raises(DamagedGalleryError, match=message):
        filled.verify()


def test_damage_met_while_loading_is_named(filled):
    vectors = segment_file(filled, 0, "vectors")
    good = vectors.read_bytes()
    vectors.write_bytes(b"x" * len(good))
    with pytest.raises(DamagedGalleryError, match=vectors.name):
        Gallery.open(filled.path)
    vectors.write_bytes(good.replace(b"(20, 12)", b"(12, 20)"))
    with pytest.raises(
        DamagedGalleryError, match=r"holds float32 \(12, 20\), not float32 \(20, 12\)"
    ):
        Gallery.open(filled.path)
    vectors.write_bytes(good)
    records = [segment_file(filled, number, "records") for number in (0, 1)]
    shutil.copyfile(records[1], records[0])
    with pytest.raises(DamagedGalleryError, match=f"{records[0].name}"):
        Gallery.open(filled.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "not a gallery's manifest"),
        (lambda text: "[]", "not a gallery's manifest"),
        (lambda text: "{}", "format is None"),
        (lambda text: text[:-20], "not a gallery's manifest"),
        (lambda text: text.replace('"dim": 12', '"dim": 13'), "does not match its own checksum"),
        (
            lambda text: text.replace('"version": 2', '"version": 1'),
            "version 1, this program reads version 2. Build the gallery anew",
        ),
        (lambda text: text.replace('"version": 2', '"version": 3'), "version 3"),
    ],
)
def test_a_damaged_manifest_is_refused(filled, change, message):
    manifest = filled.path / "manifest.json"
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises(DamagedGalleryError, match=message):
        Gallery.open(filled.path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("vectors", "../../secret"),
        ("records", "00000001-00000000.npy/../x.parquet"),
        ("thumbnails", "x.thumbnails"),
    ],
)
def test_names_in_a_manifest_are_no_paths(filled, kind, name):
    """A valid checksum proves no good will."""
    manifest = GalleryStorage(filled.path).read_manifest()
    segment = manifest.segments[0]
    evil = replace(segment, **{kind: replace(segment.vectors, name=name)})
    data = encode(replace(manifest, segments=(evil,)))
    (filled.path / "manifest.json").write_bytes(data)
    with pytest.raises(DamagedGalleryError, match="file name"):
        Gallery.open(filled.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: replace(manifest, segments=manifest.segments[::-1]),
        lambda manifest: replace(manifest, next_id=59),
        lambda manifest: replace(
            manifest, segments=(replace(manifest.segments[0], rows=0), *manifest.segments[1:])
        ),
    ],
    ids=["out of order", "ids not given", "no rows"],
)
def test_a_manifest_that_cannot_be_is_refused(filled, change):
    manifest = GalleryStorage(filled.path).read_manifest()
    (filled.path / "manifest.json").write_bytes(encode(change(manifest)))
    with pytest.raises(DamagedGalleryError, match="is not a valid manifest"):
        Gallery.open(filled.path)


def test_a_gallery_of_a_later_kind_is_not_misread(filled):
    manifest = GalleryStorage(filled.path).read_manifest()
    (filled.path / "manifest.json").write_bytes(encode(replace(manifest, dtype="bfloat16")))
    with pytest.raises(ValueError, match=r"dtype 'bfloat16'.*reads .* float32 or float16"):
        Gallery.open(filled.path)
