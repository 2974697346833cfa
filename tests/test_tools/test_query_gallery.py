"""What query_gallery.py can be asked, and in which forms it answers."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.gallery import Gallery


@pytest.fixture
def gallery(world, trained, tool) -> Path:
    path = world / "asked"
    if not path.exists():
        code, _, err = tool(
            "build_gallery", path, world / "tiny.py", trained, "--data", world / "noon"
        )
        assert code == 0, err
        with Gallery.open(path) as found:
            found.update({row_id: {"time": 100 * row_id} for row_id in found.records})
    return path


@pytest.fixture
def ask(gallery, tool):
    """``ask(*arguments)`` -> the JSON document that the tool answers with."""

    def asking(*arguments: object) -> dict[str, Any]:
        code, out, err = tool("query_gallery", gallery, *arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return asking


def image(world, number: int = 0) -> str:
    return str(sorted((world / "noon" / "query").glob("*.jpg"))[number])


def ids(document: dict[str, Any]) -> list[list[int]]:
    return [[hit["id"] for hit in query["hits"]] for query in document["queries"]]


def test_json_holds_hits_and_protocol(world, gallery, ask) -> None:
    document = ask(image(world), "-k", 3)
    with Gallery.open(gallery) as found:
        assert document["gallery"]["rows"] == len(found)
        assert document["gallery"]["model"] == found.model
        records = dict(found.records)
    assert document["gallery"]["metric"] == "cosine" and document["gallery"]["dim"] == 512
    assert document["search"]["k"] == 3 and document["exact"] is True and document["notes"] == []
    (query,) = document["queries"]
    assert query["image"] == image(world) and query["pid"] == int(Path(image(world)).name[:4])
    assert query["rows_allowed"] == len(records) and query["known"] is None
    scores = [hit["score"] for hit in query["hits"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    for rank, hit in enumerate(query["hits"], 1):
        assert hit["rank"] == rank and hit["record"] == records[hit["id"]]
        assert hit["distance"] == pytest.approx(1 - hit["score"])


def test_csv_has_a_line_a_hit(world, gallery, tool) -> None:
    code, out, err = tool("query_gallery", gallery, image(world), image(world, 1), "-k", 2, "--csv")
    assert code == 0, err
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [line["query"] for line in lines] == [image(world)] * 2 + [image(world, 1)] * 2
    assert [line["rank"] for line in lines] == ["1", "2"] * 2
    assert Path(lines[0]["image"]).is_file() and lines[0]["camera"] in ("1", "2")


def test_filters(gallery, ask) -> None:
    with Gallery.open(gallery) as found:
        records = dict(found.records)
    number = len(records)

    def expected(keep) -> set[int]:
        return {row_id for row_id, record in records.items() if row_id and keep(record)}

    def seen(*arguments: object) -> set[int]:
        document = ask("--id", 0, "-k", number, *arguments)
        (found,) = ids(document)
        assert document["queries"][0]["rows_allowed"] == len(found)
        if arguments:
            assert "fewer rows" in document["notes"][0]
        return set(found)

    assert seen() == expected(lambda r: True)
    assert seen("--cameras", "2") == expected(lambda r: r["camera"] == 2)
    assert seen("--cameras", "1,2") == expected(lambda r: True)
    assert seen("--time", 300, 700) == expected(lambda r: 300 <= r["time"] <= 700)
    assert seen("--time", "-", 700) == expected(lambda r: r["time"] <= 700)
    assert seen("--time", 300, "-") == expected(lambda r: r["time"] >= 300)
    assert seen("--where", "camera!=1", "time<900") == expected(
        lambda r: r["camera"] != 1 and r["time"] < 900
    )
    assert seen("--where", '{"pid": {"$in": [1, 2, 3]}}') == expected(
        lambda r: r["pid"] in (1, 2, 3)
    )
    own = records[0]["camera"]
    assert seen("--exclude-own-camera") == expected(lambda r: r["camera"] != own)
    assert seen("--where", "pid=null") == set()


def test_ways_of_searching(ask) -> None:
    plain = ask("--id", 0, "-k", 40)["queries"][0]["hits"]
    grouped = ask("--id", 0, "-k", 5, "--group")["queries"][0]["hits"]
    best: dict[int, int] = {}
    for hit in plain:
        best.setdefault(hit["record"]["pid"], hit["id"])
    assert [hit["id"] for hit in grouped] == list(best.values())[:5]
    cameras = ask("--id", 0, "--group", "camera")["queries"][0]["hits"]
    assert {hit["record"]["camera"] for hit in cameras} == {1, 2} and len(cameras) == 2

    reranked = ask("--id", 0, "-k", 5, "--rerank", 20)["queries"][0]["hits"]
    order = [hit["reranked"] for hit in reranked]
    assert order == sorted(order) and None not in order
    assert ask("--id", 0, "--expand", 3, "--expand-alpha", 2.0)["search"]["expand"] == 3

    score = plain[4]["score"]
    near = ask("--id", 0, "--range", score - 1e-9)["queries"][0]["hits"]
    assert [hit["id"] for hit in near] == [hit["id"] for hit in plain if hit["score"] >= score]
    assert len(ask("--id", 0, "--range", score - 1e-9, "-k", 2)["queries"][0]["hits"]) == 2


def test_one_person_in_several_images(world, gallery, ask, tmp_path) -> None:
    for person in ("a", "b"):
        (tmp_path / person).mkdir()
    for number in range(4):
        shutil.copy(image(world, number), tmp_path / "ab"[number // 3])
    document = ask(tmp_path / "a", tmp_path / "b", "--tracklet")
    assert [query["images"] for query in document["queries"]] == [3, 1]
    assert document["search"]["pool"] == "mean"
    alone = ask(image(world, 3))
    assert ids(document)[1] == ids(alone)[0]
    loose = ask(*(image(world, number) for number in range(3)), "--tracklet")
    assert ids(loose) == ids(document)[:1]
    best = ask(tmp_path / "a", "--tracklet", "--pool", "best")["queries"][0]["hits"]
    singles = ask(*(image(world, number) for number in range(3)), "-k", 40)["queries"]
    highest = max(query["hits"][0]["score"] for query in singles)
    assert best[0]["score"] == pytest.approx(highest)
    assert len(ask(tmp_path / "a")["queries"]) == 3  # a folder without --tracklet


def test_like_a_row_needs_no_model(gallery, ask, tool, tmp_path) -> None:
    alone = tmp_path / "gallery"
    shutil.copytree(gallery, alone)
    (alone / "extractor.json").unlink()
    code, out, err = tool("query_gallery", alone, "--id", 3, 5, "-k", 4, "--json")
    assert code == 0, err
    with Gallery.open(alone) as found:
        expected = found.search(found.vectors([3, 5]), 4, exclude_ids=[[3], [5]])
        picture = found.records[3]["image"]
    document = json.loads(out)
    assert ids(document) == [[hit.id for hit in hits] for hits in expected]
    assert document["queries"][0]["id"] == [3] and document["queries"][0]["image"] == picture
    code, out, _ = tool("query_gallery", alone, "--id", 3, "-k", 1)
    assert code == 0 and "row 3" in out
    code, _, err = tool("query_gallery", alone, "--id", 99999)
    assert code == 1 and "99999" in err
    code, _, err = tool("query_gallery", alone, picture)
    assert code == 1 and "--config" in err


def test_nobody_that_the_gallery_knows(world, ask, gallery, tool) -> None:
    document = ask(image(world), "--threshold", 0.999999)
    assert document["queries"][0]["known"] is False and document["queries"][0]["hits"]
    assert document["search"]["threshold"] == 0.999999
    document = ask(image(world), "--threshold", -1)
    assert document["queries"][0]["known"] is True
    expanded = ask(image(world), "--threshold", 0.999999, "--expand", 3)
    assert expanded["queries"][0]["hits"] == []  # nobody is taken in, nobody is shown
    code, _, err = tool("query_gallery", gallery, image(world), "--threshold")
    assert code == 1 and "calibrate_threshold.py" in err


def test_pictures_of_a_search_without_hits(world, gallery, tool, tmp_path) -> None:
    picture = tmp_path / "none.png"
    code, out, err = tool(
        "query_gallery", gallery, image(world), "--where", "pid=null", "--picture", picture
    )
    assert code == 0 and "no hits" in out and picture.stat().st_size > 1000, err


def test_an_empty_gallery(world, gallery, trained, tool, tmp_path) -> None:
    with Gallery.open(gallery) as found:
        Gallery.create(tmp_path / "empty", found.dim, model=found.model).close()
    shutil.copy(gallery / "extractor.json", tmp_path / "empty")
    code, out, err = tool("query_gallery", tmp_path / "empty", image(world))
    assert code == 0 and "no hits among 0 rows" in out, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{image}", "--cameras", "9"], "knows no camera 9; it has 1, 2"),
        (["{image}", "--where", "camrea=1"], "camrea"),
        (["{image}", "--where", "camera"], "Examples: camera=1,2"),
        (["{image}", "--where", "{image}"], "is no condition"),
        (["nowhere.jpg"], "nowhere.jpg"),
        (["{image}", "-k", "0"], "k must be"),
        (["{image}", "--threshold", "nowhere.json"], "nowhere.json"),
        (["{image}", "{folder}", "--tracklet"], "not both"),
        (["{image}", "--config", "nowhere.py"], "nowhere.py"),
    ],
)
def test_mistakes(world, gallery, tool, arguments, said) -> None:
    names = {"image": image(world), "folder": str(world / "noon" / "query")}
    code, _, err = tool("query_gallery", gallery, *(a.format(**names) for a in arguments))
    assert code == 1 and said in err and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.jpg", "--id", "3"],
        ["a.jpg", "--range", "0.5", "--rerank", "20"],
        ["a.jpg", "--range", "0.5", "--tracklet"],
        ["a.jpg", "--expand-alpha", "2"],
        ["a.jpg", "--json", "--csv"],
    ],
)
def test_options_that_do_not_go_together(gallery, tool, arguments) -> None:
    code, _, err = tool("query_gallery", gallery, *arguments)
    assert code == 2 and "error:" in err


def test_a_model_that_moved_is_named(world, gallery, trained, tool, tmp_path) -> None:
    moved = tmp_path / "gallery"
    shutil.copytree(gallery, moved)
    about = json.loads((moved / "extractor.json").read_text())
    gone = {**about, "weights": str(tmp_path / "gone.pth")}
    (moved / "extractor.json").write_text(json.dumps(gone))
    code, _, err = tool("query_gallery", moved, image(world))
    assert code == 1 and "gone.pth" in err and "--checkpoint" in err
    code, _, err = tool("query_gallery", moved, image(world), "--checkpoint", trained)
    assert code == 0, err
    (moved / "extractor.json").rename(tmp_path / "model.json")
    (tmp_path / "model.json").write_text(json.dumps(about))
    code, _, err = tool(
        "query_gallery", moved, image(world), "--model-file", tmp_path / "model.json"
    )
    assert code == 0, err
    (tmp_path / "model.json").write_text("[]")
    code, _, err = tool(
        "query_gallery", moved, image(world), "--model-file", tmp_path / "model.json"
    )
    assert code == 1 and "model.json" in err


def test_cameras_are_found_as_the_gallery_writes_them(world, trained, tool, tmp_path) -> None:
    """A camera '1' that is a text is not missed by who types 1."""
    files = sorted((world / "noon" / "query").glob("*.jpg"))[:4]
    table = tmp_path / "list.csv"
    lines = [f"{file},{'1' if i % 2 else 'x'}" for i, file in enumerate(files)]
    table.write_text("\n".join(["path,camera", *lines]))
    code, _, err = tool(
        "build_gallery", tmp_path / "g", world / "tiny.py", trained, "--images", table
    )
    assert code == 0, err
    asked = [image(world, 8), "--json", "--where", "camera=1"]
    code, out, err = tool("query_gallery", tmp_path / "g", *asked)
    assert code == 0, err
    assert sorted(ids(json.loads(out))[0]) == [1, 3]
    assert np.isfinite(json.loads(out)["queries"][0]["hits"][0]["score"])
