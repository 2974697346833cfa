"""gallery.py: what stands in a gallery, changing it, moving it, and what damage does to it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid.gallery import Gallery

ROOT = Path(__file__).parents[2]


def vectors(rows: int = 12, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path) -> Path:
    """12 rows of 4 people, 2 cameras, 6 times, in three batches."""
    path = tmp_path / "people"
    records = [
        {
            "image": f"/photos/{i:02}.jpg",
            "pid": i // 3,
            "camera": 1 + i % 2,
            "time": 10.0 * (i // 2),
        }
        for i in range(12)
    ]
    with Gallery.create(path, 8, model="m") as made:
        for start in range(0, 12, 4):
            batch = slice(start, start + 4)
            pictures = [b"\xff\xd8\xff" + bytes([i]) for i in range(start, start + 4)]
            made.add(vectors()[batch], records[batch], thumbnails=pictures)
    return path


def records(path) -> dict[int, dict]:
    with Gallery.open(path) as found:
        return dict(found.records)


def rows(path) -> list[tuple[int, bytes, dict, bytes | None]]:
    found = []
    with Gallery.open(path) as opened:
        for ids, features, held, pictures in opened.blocks():
            parts = zip(ids.tolist(), features, held, pictures, strict=True)
            found += [(i, feature.tobytes(), record, pic) for i, feature, record, pic in parts]
    return found


def test_stats(gallery, tool) -> None:
    code, out, err = tool("gallery", "stats", gallery)
    assert code == 0 and "1 (6 rows), 2 (6 rows)" in out and "0.0 to 50.0" in out, err
    code, out, err = tool("gallery", "stats", gallery, "--json")
    about = json.loads(out)
    assert code == 0, err
    assert (about["rows"], about["dim"], about["identities"], about["model"]) == (12, 8, 4, "m")
    assert about["fields"] == ["camera", "image", "pid", "time"]
    assert about["time"] == {"first": 0.0, "last": 50.0}


def test_an_empty_gallery(tool, tmp_path) -> None:
    Gallery.create(tmp_path / "empty", 8).close()
    code, out, err = tool("gallery", "stats", tmp_path / "empty")
    assert code == 0 and "unknown" in out, err
    code, out, err = tool("gallery", "list", tmp_path / "empty")
    assert code == 0 and "0 in all" in out, err
    for command in ("verify", "compact"):
        code, _, err = tool("gallery", command, tmp_path / "empty")
        assert code == 0, err
    code, out, err = tool("gallery", "remove", tmp_path / "empty", "--where", "pid=1", "--yes")
    assert code == 0 and "nothing to do" in out, err


def test_list_by_pages_and_filters(gallery, tool) -> None:
    code, out, err = tool("gallery", "list", gallery, "--limit", 5, "--offset", 5)
    assert code == 0 and "rows 6 to 10 of 12; the next: --offset 10" in out, err
    assert "05.jpg" in out and "04.jpg" not in out and "images are in /photos/" in out
    code, out, err = tool("gallery", "list", gallery, "--where", "camera=2", "time>=30", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert [row["id"] for row in document["rows"]] == [7, 9, 11] and document["total"] == 3
    assert document["rows"][0]["record"] == records(gallery)[7]
    code, out, err = tool("gallery", "list", gallery, "--ids", 3, 1, 3, "--json")
    assert [row["id"] for row in json.loads(out)["rows"]] == [3, 1], err
    for wrong in (["--offset", -1], ["--limit", 0]):
        assert tool("gallery", "list", gallery, *wrong)[0] == 2


def test_update(gallery, tool) -> None:
    before = records(gallery)
    change = ["--set", "pid=9", 'gate="north, left"', "time=null", "--yes"]
    code, out, err = tool("gallery", "update", gallery, "--ids", 1, 2, *change)
    assert code == 0 and "in 2 rows" in out, err
    after = records(gallery)
    for row_id in (1, 2):
        expected = {**before[row_id], "pid": 9, "gate": "north, left"}
        del expected["time"]
        assert after[row_id] == expected
    assert all(after[i] == before[i] for i in before if i not in (1, 2))


def test_remove_and_compact(gallery, tool) -> None:
    before = rows(gallery)
    code, out, err = tool("gallery", "remove", gallery, "--where", "pid=1,2", "camera=1", "--yes")
    assert code == 0 and "removed 3 rows; 9 are left" in out, err
    left = [row for row in before if row[0] not in (4, 6, 8)]
    assert rows(gallery) == left
    code, out, err = tool("gallery", "compact", gallery)
    assert code == 0 and "9 rows" in out and "freed" in out, err
    assert rows(gallery) == left


def test_a_change_asks_first(gallery, tool) -> None:
    """Here nobody answers: nothing may be changed, and the rows are shown all the same."""
    before = rows(gallery)
    for change in (["remove"], ["update", "--set", "pid=1"]):
        code, out, err = tool("gallery", change[0], gallery, "--ids", 3, *change[1:])
        assert code == 1 and "--yes" in err and "03.jpg" in out
    assert rows(gallery) == before


@pytest.mark.parametrize(("answer", "left"), [("y\n", 11), ("n\n", 12), ("\n", 12), ("", 12)])
def test_the_answer_counts(gallery, tool, monkeypatch, answer, left) -> None:
    import io

    typed = io.StringIO(answer)
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    code, out, err = tool("gallery", "remove", gallery, "--ids", 3)
    assert "[y/N]" in out and len(records(gallery)) == left
    assert code == (0 if left == 11 else 1) and ("nothing was changed" in err) == (left == 12)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["remove"], "which rows?"),
        (["remove", "--ids", "99", "3", "--yes"], "not in the gallery: 99"),
        (["remove", "--where", "gate=1", "--yes"], "gate"),
        (["remove", "--where", "pid", "--yes"], "Examples"),
        (["update", "--ids", "3", "--set", "pid=1.5", "--yes"], "pid"),
        (["update", "--ids", "3", "--set", "pid"], "does not set a field"),
    ],
)
def test_mistakes_change_nothing(gallery, tool, arguments, said) -> None:
    before = rows(gallery)
    code, _, err = tool("gallery", arguments[0], gallery, *arguments[1:])
    assert code == 1 and said in err and "Traceback" not in err
    assert rows(gallery) == before


@pytest.mark.parametrize("command", ["stats", "list", "verify", "compact", "index", "repair"])
def test_no_gallery_there(tool, tmp_path, command) -> None:
    (tmp_path / "file").write_text("no gallery")
    for place in ("nowhere", "file"):
        code, _, err = tool("gallery", command, tmp_path / place)
        assert code == 1 and place in err and "Traceback" not in err
    assert not (tmp_path / "nowhere").exists()


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def test_verify_finds_and_repair_mends(gallery, tool, tmp_path) -> None:
    code, out, err = tool("gallery", "verify", gallery)
    assert code == 0 and "all 12 rows" in out, err
    code, out, err = tool("gallery", "repair", gallery)
    assert code == 0 and "nothing to repair" in out, err

    damaged = sorted((gallery / "segments").glob("*.npy"))[1]
    whole = rows(gallery)
    flip(damaged, -3)  # in the last of four rows: id 7
    code, out, err = tool("gallery", "verify", gallery)
    assert code == 1 and damaged.name in out and f"gallery.py repair {gallery}" in out, err
    code, out, err = tool("gallery", "repair", gallery)  # nobody answers
    assert code == 1 and damaged.name in out and "--yes" in err
    lost = tmp_path / "lost.csv"
    code, out, err = tool("gallery", "repair", gallery, "--yes", "--lost", lost)
    assert code == 0 and "kept: 11 rows; lost: 1 row" in out and str(lost) in out, err
    assert rows(gallery) == [row for row in whole if row[0] != 7]
    with lost.open() as file:
        (row,) = csv.DictReader(file)
    assert row == {"path": "/photos/07.jpg", "pid": "2", "camera": "2", "time": "30.0"}
    code, out, err = tool("gallery", "verify", gallery)
    assert code == 0, err


def test_a_gallery_that_does_not_open_is_repaired_too(gallery, tool) -> None:
    whole = rows(gallery)
    (gallery / "manifest.json").write_bytes(b"{")
    code, out, err = tool("gallery", "verify", gallery)
    assert code == 1 and "manifest.json" in out, err
    code, out, err = tool("gallery", "stats", gallery)
    assert code == 1 and "repair" in err
    code, out, err = tool("gallery", "repair", gallery, "--yes")
    assert code == 0 and "kept: 12 rows; lost: 0 rows" in out, err
    assert rows(gallery) == whole


def test_index(tool, tmp_path) -> None:
    path = tmp_path / "many"
    with Gallery.create(path, 8) as made:
        made.add(vectors(400), [{"camera": i % 2} for i in range(400)])
    code, out, err = tool("gallery", "index", path)
    assert code == 0 and "none, search is exact" in out, err
    code, out, err = tool("gallery", "index", path, "--build", "HNSW8,Flat", "--recall", 0.9)
    assert code == 0 and "recall@10" in out and "<- chosen" in out and "exact scan" in out, err
    with Gallery.open(path) as found:
        found.add(vectors(3), [{}, {}, {}])
        assert not found.search(vectors(1), 5).exact
    code, out, err = tool("gallery", "index", path)
    assert code == 0 and "HNSW8,Flat" in out and "3 rows came later" in out, err
    code, out, err = tool("gallery", "stats", path)
    assert code == 0 and "recall@10" in out, err
    again = ["--build", "--recall", 0.9, "-k", 5, "--json"]
    code, out, err = tool("gallery", "index", path, *again)
    report = json.loads(out)
    assert code == 0 and (report["rows"], report["k"], report["factory"]) == (403, 5, "HNSW8,Flat")
    code, out, err = tool("gallery", "index", path, "--drop")
    assert code == 0 and "exact" in out, err
    with Gallery.open(path) as found:
        assert found.search(vectors(1), 5).exact
    for mistake in ("LSH", "Flat32"):
        code, _, err = tool("gallery", "index", path, "--build", mistake)
        assert code == 1 and mistake in err


def test_an_index_that_is_too_coarse_says_so(tool, tmp_path) -> None:
    path = tmp_path / "many"
    with Gallery.create(path, 8) as made:
        made.add(vectors(2000), [{} for _ in range(2000)])
    code, out, err = tool("gallery", "index", path, "--build", "IVF2,PQ1x4", "--recall", 1.0)
    assert code == 0 and "NOT REACHED" in out, err
    assert "Worth trying: whole vectors, IVF2,SQfp16" in out


@pytest.mark.parametrize("form", ["parquet", "safetensors"])
def test_export_and_import(gallery, tool, tmp_path, form) -> None:
    code, _, err = tool("gallery", "remove", gallery, "--ids", 5, "--yes")
    assert code == 0, err
    written, again = tmp_path / f"out.{form}", tmp_path / "again"
    code, out, err = tool("gallery", "export", gallery, written, "--format", form)
    assert code == 0 and "11 rows" in out, err
    code, out, err = tool("gallery", "import", written, again)
    assert code == 0 and "11 rows" in out, err
    assert rows(again) == rows(gallery)
    with Gallery.open(again) as found:
        assert found.model == "m"
    code, _, err = tool("gallery", "export", gallery, written, "--format", form)
    assert code == 1 and "already" in err
    code, _, err = tool("gallery", "import", written, again)
    assert code == 1 and "already" in err
    code, _, err = tool("gallery", "import", tmp_path / "nowhere", tmp_path / "other")
    assert code == 1 and "nowhere" in err and not (tmp_path / "other").exists()


def test_copy_goes_on(gallery, tool, tmp_path) -> None:
    target = tmp_path / "copy"
    (gallery / "extractor.json").write_text('{"config": "c.py", "weights": "w.pth"}')
    code, out, err = tool("gallery", "copy", gallery, target)
    assert code == 0 and "12 rows copied" in out, err
    assert rows(target) == rows(gallery)
    assert json.loads((target / "extractor.json").read_text())["weights"] == "w.pth"
    with Gallery.open(gallery) as found:
        found.add(vectors(2), [{"pid": 1}, {"pid": 2}], model="m")
    code, out, err = tool("gallery", "copy", gallery, target)
    assert code == 0 and "2 rows copied, 12 were there" in out, err
    assert rows(target) == rows(gallery)
    Gallery.create(tmp_path / "other", 8, model="n").close()
    code, _, err = tool("gallery", "copy", gallery, tmp_path / "other")
    assert code == 1 and "model" in err


def test_help_is_instant_and_names_all_commands() -> None:
    """In a process of its own: what it imports is its own doing."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools/gallery.py", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    names = [
        "stats",
        "list",
        "update",
        "remove",
        "compact",
        "verify",
        "repair",
        "index",
        "export",
        "import",
        "copy",
    ]
    assert all(f"    {name} " in done.stdout for name in names)


def test_a_collection_of_milvus_is_looked_at_as_a_folder_is(gallery, tool, tmp_path) -> None:
    pytest.importorskip("milvus_lite")
    there = f"milvus-lite:{tmp_path / 'm.db'}/people"
    code, out, err = tool("gallery", "copy", gallery, there)
    assert code == 0, err
    code, out, err = tool("gallery", "index", there)  # its own, of which a name is all it tells
    assert code == 0 and "Flat" in out, err
    code, out, err = tool("gallery", "list", there, "--where", "pid=2", "--json")
    assert code == 0, err
    shown = {row["id"]: row["record"] for row in json.loads(out)["rows"]}
    assert shown == {i: record for i, record in records(gallery).items() if record["pid"] == 2}
