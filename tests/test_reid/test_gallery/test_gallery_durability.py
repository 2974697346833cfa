"""Kills, full disks, failing system calls, damaged files: what was acknowledged is there."""

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from reid.gallery import DamagedGalleryError, Gallery, GalleryLockedError, UndecidedWriteError
from reid.gallery.lock import writer_lock

from .gallery_oracle import DIM, make_rows

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


WRITE_FOREVER = """
    import sys
    import numpy as np
    from reid.gallery import Gallery

    gallery = Gallery.open(sys.argv[1])
    print("ready", flush=True)
    count = len(gallery.records) and max(gallery.records) + 1
    while True:
        rows = np.arange(count, count + 3)
        count += 3
        features = np.stack([np.sin(rows), np.cos(rows)], axis=1)
        ids = gallery.add(features, [{"pid": int(row)} for row in rows])
        print("added", *ids, flush=True)
        if ids[0] % 4 == 0:
            gallery.remove(ids[:1])
            print("removed", ids[0], flush=True)
        if ids[0] % 30 == 0:
            gallery.compact()
"""


@pytest.mark.parametrize("batches", [1, 4, 12])
def test_kill_while_writing_loses_nothing_acknowledged(path, batches):
    Gallery.create(path, 2)
    added: set[int] = set()
    removed: set[int] = set()
    for _ in range(2):  # the second round starts from what the first kill left
        process = start(WRITE_FOREVER, path)
        assert process.stdout.readline() == "ready\n"
        ledger = [process.stdout.readline() for _ in range(batches)]
        process.send_signal(signal.SIGKILL)
        ledger += process.communicate()[0].splitlines(keepends=True)
        for line in ledger:
            word, *ids = line.split()
            (added if word == "added" else removed).update(map(int, ids))
        under_way = {max(added) - 2}  # its removal may have happened without being acknowledged

        gallery = Gallery.open(path)
        gallery.verify()
        records = gallery.records
        assert added - removed - under_way <= set(records)
        assert not removed & set(records)
        assert set(records) - added <= {max(added) + row for row in (1, 2, 3)}  # whole or not
        assert len(set(records) - added) in (0, 3)
        assert all(record == {"pid": row} for row, record in records.items())
        rows = np.array(list(records))
        hits = gallery.search(np.stack([np.sin(rows), np.cos(rows)], axis=1), 1)
        assert [hit[0].id for hit in hits] == rows.tolist()
        added |= set(records)
        removed |= added - set(records)
        gallery.compact()
        gallery.remove([])
        named = {segment.name for segment in gallery._manifest.segments}
        assert {name.split(".")[0] for name in files(gallery)} == named


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
    "add": lambda gallery: gallery.add(*make_rows(4, seed=7)),
    "remove": lambda gallery: gallery.remove([2, 30]),
    "compact": lambda gallery: gallery.compact(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_failure_at_any_step_leaves_the_old_gallery(filled, monkeypatch, call, action):
    filled.remove([1])
    twin = filled.path.with_name("twin")
    shutil.copytree(filled.path, twin)
    steps = calls_of(monkeypatch, call, lambda: ACTIONS[action](Gallery.open(twin)))
    assert steps >= (1 if action == "remove" else 3)
    before, names = snapshot(filled), files(filled)
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
    assert snapshot(filled) == snapshot(Gallery.open(filled.path)) == snapshot(Gallery.open(twin))
    if action != "compact":
        assert len(files(filled)) == len(names) + (2 if action == "add" else 0)


def test_a_disk_that_stays_broken_after_the_commit_is_told_apart(filled, monkeypatch):
    before, ids = snapshot(filled), list(filled.records)
    steps = calls_of(monkeypatch, "fsync", lambda: filled.add(*make_rows(4, seed=7)))
    filled.remove([60, 61, 62, 63])
    with monkeypatch.context() as patch:
        failing(patch, "fsync", steps - 1, forever=True)
        with pytest.raises(UndecidedWriteError, match="whole, with or without that change"):
            filled.add(*make_rows(4, seed=8))
    assert snapshot(filled) == before
    reopened = Gallery.open(filled.path)
    reopened.verify()
    assert list(reopened.records) in (ids, [*ids, 64, 65, 66, 67])
    assert filled.add(*make_rows(1, seed=9))[0] >= 64


@pytest.mark.parametrize("call", CALLS)
def test_a_failing_create_can_be_repeated(path, monkeypatch, call):
    steps = calls_of(monkeypatch, call, lambda: Gallery.create(path, DIM))
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
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="as it was before: File too large"):
            filled.add(*make_rows(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(filled) == names
    assert snapshot(filled) == snapshot(Gallery.open(filled.path)) == before


def test_leftovers_are_ignored_and_cleaned_by_the_next_writer(filled):
    names = files(filled)
    (filled.path / "manifest.json.tmp").write_text("half a mani")
    for name in ("0000ffff-00000000.npy", "0000ffff-00000000.jsonl.tmp"):
        (filled.path / "segments" / name).write_bytes(b"half")
    gallery = Gallery.open(filled.path)
    assert len(gallery.search(make_rows(1)[0], 100)[0]) == 60
    gallery.remove([0])
    assert files(gallery) == names
    assert not (gallery.path / "manifest.json.tmp").exists()


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


def segment_file(gallery: Gallery, number: int, suffix: str) -> Path:
    return gallery.path / "segments" / (gallery._manifest.segments[number].name + suffix)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_a_truncated_or_missing_segment_is_refused_at_opening(filled, suffix):
    file = segment_file(filled, 1, suffix)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(
        DamagedGalleryError, match=f"{file.name}: {len(data) - 1} bytes, expected {len(data)}.*copy"
    ):
        Gallery.open(filled.path)
    file.unlink()
    with pytest.raises(DamagedGalleryError, match=f"{file.name}: missing"):
        Gallery.open(filled.path)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_verify_names_a_changed_segment(filled, suffix):
    filled.verify()
    file = segment_file(filled, 2, suffix)
    data = bytearray(file.read_bytes())
    data[-10] ^= 1
    file.write_bytes(data)
    gallery = Gallery.open(filled.path)
    with pytest.raises(
        DamagedGalleryError, match=rf"damaged: {file.name}: content changed"
    ) as raised:
        gallery.verify()
    assert str(raised.value).count("sha256") == 1
    with pytest.raises(DamagedGalleryError, match=file.name):
        gallery.compact()  # must not give damaged rows a valid sum
    assert len(Gallery.open(filled.path)) == 60


def test_verify_names_everything_that_is_damaged(filled):
    opened = Gallery.open(filled.path)
    segment_file(filled, 0, ".npy").unlink()
    segment_file(filled, 2, ".jsonl").write_bytes(b"")
    with pytest.raises(DamagedGalleryError, match=r"\.npy: missing; .*\.jsonl: 0 bytes"):
        opened.verify()


def test_damage_met_while_loading_is_named(filled):
    vectors, records = segment_file(filled, 0, ".npy"), segment_file(filled, 0, ".jsonl")
    good_vectors, good_records = vectors.read_bytes(), records.read_bytes()
    query = make_rows(1)[0]
    vectors.write_bytes(b"x" * len(good_vectors))
    with pytest.raises(DamagedGalleryError, match=vectors.name):
        Gallery.open(filled.path).search(query, 1)
    vectors.write_bytes(good_vectors.replace(b"(20, 12)", b"(12, 20)"))
    with pytest.raises(
        DamagedGalleryError, match=r"holds float32 \(12, 20\), not float32 \(20, 12\)"
    ):
        Gallery.open(filled.path).search(query, 1)
    vectors.write_bytes(good_vectors)
    records.write_bytes(b"{" + good_records[1:].replace(b"\n", b"x", 1))
    with pytest.raises(DamagedGalleryError, match=rf"{records.name}: line 1 is no record"):
        Gallery.open(filled.path).search(query, 1)
    first = good_records.index(b"\n") + 1
    records.write_bytes(good_records[first:].ljust(len(good_records), b" "))
    with pytest.raises(DamagedGalleryError, match=f"{records.name}"):
        Gallery.open(filled.path).search(query, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "not a gallery's manifest"),
        (lambda text: "[]", "not a gallery's manifest"),
        (lambda text: "{}", "format is None"),
        (lambda text: text[:-20], "not a gallery's manifest"),
        (lambda text: text.replace('"dim": 12', '"dim": 13'), "does not match its own checksum"),
        (
            lambda text: text.replace('"version": 1', '"version": 2'),
            "version 2, this program reads",
        ),
    ],
)
def test_a_damaged_manifest_is_refused(filled, change, message):
    manifest = filled.path / "manifest.json"
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises(DamagedGalleryError, match=message):
        Gallery.open(filled.path)


def test_names_in_a_manifest_are_no_paths(filled):
    """A valid checksum proves no good will."""
    from dataclasses import replace

    from reid.gallery.manifest import encode

    evil = replace(filled._manifest.segments[0], name="../../secret")
    data = encode(replace(filled._manifest, segments=(evil,)))
    (filled.path / "manifest.json").write_bytes(data)
    with pytest.raises(DamagedGalleryError, match="segment name"):
        Gallery.open(filled.path)


def test_a_gallery_of_a_later_kind_is_not_misread(filled):
    from dataclasses import replace

    from reid.gallery.manifest import encode

    data = encode(replace(filled._manifest, index="SQfp16"))
    (filled.path / "manifest.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"index 'SQfp16'.*this program reads Flat"):
        Gallery.open(filled.path)
