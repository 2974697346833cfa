"""Kill a process that writes to a gallery, again and again, and look whether anything was lost.

    python tests/test_reid/test_gallery/crash.py --rounds 100

A child adds, removes, updates and compacts at random and tells of each change that was
acknowledged; the parent kills it with SIGKILL at a random moment and opens the gallery. Everything
that was acknowledged must be there, and of the one change that was under way all or nothing.
What a row holds follows from its id, so that one row cannot pass for another.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
DIM = 16


def vectors_of(ids):
    """(N, DIM) float32 of unit length."""
    angles = np.outer(np.asarray(ids, np.float64) + 1, np.arange(1, DIM // 2 + 1))
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def record_of(row_id, version=0):
    return {"pid": row_id, "image": f"{row_id}.jpg", "version": version}


def thumbnail_of(row_id):
    return None if row_id % 3 == 0 else b"\xff\xd8\xff" + bytes([row_id % 251]) * (row_id % 97)


def write_forever(path, seed):
    """The child: announces a change, makes it, and says that it is done."""
    from reid.gallery import Gallery

    rng = random.Random(seed)
    gallery = Gallery.open(path)
    next_id = json.loads((Path(path) / "manifest.json").read_text())["next_id"]
    say = lambda *words: print(json.dumps(words), flush=True)  # noqa: E731
    say("ready")
    while True:
        live = list(gallery.records)
        action = rng.choices(["add", "remove", "update", "compact"], [10, 4, 4, 1])[0]
        if action == "add" or not live:
            ids = list(range(next_id, next_id + rng.choice([1, 1, 1, 2, 7, 40])))
            next_id += len(ids)
            say("will", "add", ids)
            pictures = [thumbnail_of(row_id) for row_id in ids]
            found = gallery.add(vectors_of(ids), map(record_of, ids), thumbnails=pictures)
            assert found == ids, (found, ids)
        elif action == "compact":
            say("will", "compact", [])
            gallery.compact()
        else:
            ids = sorted(rng.sample(live, min(len(live), rng.choice([1, 1, 5]))))
            if action == "remove":
                say("will", "remove", ids)
                gallery.remove(ids)
            else:
                version = rng.randrange(1, 10**9)
                say("will", "update", ids, version)
                gallery.update({row_id: {"version": version} for row_id in ids})
        say("done")


@dataclass
class Ledger:
    """What the gallery must hold: versions of records by id, and the change under way."""

    rows: dict[int, int] = field(default_factory=dict)
    under_way: list | None = None
    changes: int = 0

    def read(self, line):
        word, *change = json.loads(line)
        if word == "will":
            self.under_way = change
        elif word == "done":
            self.rows = self.after()
            self.under_way = None
            self.changes += 1

    def after(self):
        """The rows with the change under way."""
        rows = dict(self.rows)
        if self.under_way is not None:
            action, ids, *version = self.under_way
            for row_id in ids:
                if action == "remove":
                    del rows[row_id]
                else:
                    rows[row_id] = version[0] if version else 0
        return rows


def check(path, ledger):
    """Open the gallery and compare it with the ledger; AssertionError says what is wrong."""
    from reid.gallery import Gallery
    from reid.gallery.storage import GalleryStorage

    gallery = Gallery.open(path)
    gallery.verify()
    records = dict(gallery.records)
    found = {row_id: record["version"] for row_id, record in records.items()}
    before, after = ledger.rows, ledger.after()
    lost = sorted(before.keys() & after.keys() - found.keys())
    assert not lost, f"acknowledged rows are lost: {lost}"
    assert found in (before, after), f"a half-written change: {ledger.under_way}"
    ids = list(found)
    assert all(records[row_id] == record_of(row_id, found[row_id]) for row_id in ids)
    np.testing.assert_array_equal(gallery.vectors(ids), vectors_of(ids))
    assert [gallery.thumbnail(row_id) for row_id in ids] == list(map(thumbnail_of, ids))
    if ids:
        sample = ids[:: max(1, len(ids) // 50)]
        hits = gallery.search(vectors_of(sample), 1)
        assert [row[0].id for row in hits] == sample
    done = found == after
    ledger.rows, ledger.under_way = found, None
    next_id = json.loads((path / "manifest.json").read_text())["next_id"]
    gallery.add(vectors_of([next_id]), [record_of(next_id)], thumbnails=[thumbnail_of(next_id)])
    ledger.rows[next_id] = 0
    storage = GalleryStorage(path)
    named = set(storage.named(storage.read_manifest()))
    assert set(storage.segments_path.iterdir()) == named, "files are left over"
    assert not list(path.glob("*.tmp"))
    gallery.close()
    return done


def run(path, rounds, seed, say=lambda line: None):
    """``rounds`` kills; returns the acknowledged changes, and the kills that met a change."""
    from reid.gallery import Gallery

    rng = random.Random(seed)
    ledger = Ledger()
    Gallery.create(path, DIM).close()
    interrupted = completed = 0
    for number in range(rounds):
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", str(path), "--seed", str(rng.randrange(10**9))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == '["ready"]\n'
        time.sleep(rng.uniform(0, 0.6))
        child.send_signal(signal.SIGKILL)
        for line in child.communicate()[0].splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be half a line
                ledger.read(line)
        under_way = ledger.under_way
        done = check(path, ledger)
        interrupted += under_way is not None
        completed += under_way is not None and done
        say(
            f"round {number + 1}: {len(ledger.rows)} rows, {ledger.changes} changes acknowledged; "
            f"killed in {under_way[0] if under_way else 'nothing'}"
        )
    return ledger.changes, interrupted, completed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        write_forever(arguments.child, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery"
        changes, interrupted, completed = run(path, arguments.rounds, arguments.seed, print)
    print(
        f"{arguments.rounds} kills, {interrupted} of them within a change ({completed} after its "
        f"commit); {changes} acknowledged changes, none lost; no half change seen."
    )


if __name__ == "__main__":
    main()
