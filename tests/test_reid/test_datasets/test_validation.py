import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from reid.datasets import (
    Record,
    SplitCounts,
    Splits,
    ValidationReport,
    parse_image_folder,
    parse_market1501,
    validate,
)
from tests.test_imaging.conftest import encode, picture

CAMERA = r"^(\d+)_"


def messages(report: ValidationReport, level: str) -> str:
    return "\n".join(f.message for f in report.findings if f.level == level)


def finding(report: ValidationReport, level: str, text: str):
    found = [f for f in report.findings if text in f.message]
    assert len(found) == 1, (text, [f.message for f in report.findings])
    assert found[0].level == level
    return found[0]


def lists(train: str = "", query: str = "", gallery: str = "") -> Splits:
    """Records written as identity letter and camera digit ('-' for none): ``"a1 b2"``."""

    def records(split: str, text: str) -> tuple[Record, ...]:
        return tuple(
            Record(f"{split}{k}.jpg", ord(w[0]), None if w[1] == "-" else int(w[1]))
            for k, w in enumerate(text.split())
        )

    identities = {ord(letter): letter for letter in "abcdefgh"}
    return Splits(
        "toy",
        "by hand",
        records("t", train),
        records("q", query),
        records("g", gallery),
        identities=identities,
    )


def check_lists(**texts: str) -> ValidationReport:
    """The findings on lists alone; that the files are missing is dropped."""
    report = validate(lists(**texts), read_images=False)
    kept = tuple(f for f in report.findings if "not there" not in f.message)
    return dataclasses.replace(report, findings=kept)


GOOD = dict(train="a1 a2 b1 b2", query="c1 d2", gallery="c2 d1")


# ------------------------------------------------------------------------------- good data


def test_good_data_has_no_errors(market: Path) -> None:
    report = validate(parse_market1501(market))
    assert report.ok and not messages(report, "warning")
    assert report.images_read == 9
    assert report.table == (
        SplitCounts("train", 4, 2, 3, 12_936),
        SplitCounts("query", 2, 2, 2, 3_368),
        SplitCounts("gallery", 3, 3, 2, 15_913),
    )
    finding(report, "note", "train 4 instead of 12,936, query 2 instead of 3,368, gallery 3")
    finding(report, "note", "1 of 3 gallery images are distractors, of 1 identity that no query")
    finding(report, "note", "bounding_box_test: 1 image of identity -1 (junk) left out")
    finding(report, "note", "image sizes (height x width): 48x24 (9)")


def test_good_lists(market: Path) -> None:
    report = check_lists(**GOOD)
    assert [f.message for f in report.findings] == [
        "the images were not opened, so damaged files, duplicates and sizes are unchecked"
    ]
    assert report.images_read == 0


def test_progress_and_workers(people: Path) -> None:
    calls = []
    splits = parse_image_folder(people)
    one = validate(splits, progress=lambda done, total: calls.append((done, total)), workers=1)
    assert calls[-1] == (36, 36)
    assert validate(splits, workers=4) == one


def test_errors_come_first() -> None:
    report = check_lists(train="a1 b1 b2", query="c1", gallery="a2")
    levels = [f.level for f in report.findings]
    assert levels == sorted(levels, key=("error", "warning", "note").index)
    assert {"error", "warning", "note"} == set(levels)
    assert all(f.level == "error" for f in report.errors) and not report.ok


# ------------------------------------------------------------------------------- files


def test_unreadable_images_are_all_listed(people: Path) -> None:
    (people / "anna" / "01_0.jpg").write_bytes(b"")
    cut = people / "bert" / "01_0.jpg"
    cut.write_bytes(cut.read_bytes()[:-9])
    (people / "carl" / "01_0.jpg").write_text("<html>")
    splits = parse_image_folder(people)
    (people / "dora" / "01_0.jpg").unlink()
    found = finding(validate(splits), "error", "4 images are unreadable")
    assert "replace or delete" in found.message
    assert sorted(found.examples) == [
        "anna/01_0.jpg: the file is empty",
        "bert/01_0.jpg: the JPEG data is truncated (its end mark is missing); copy it again",
        "carl/01_0.jpg: it is a web page or XML, perhaps of a failed download; download it again",
        "dora/01_0.jpg: the file does not exist",
    ]


def test_missing_files_are_found_without_reading(people: Path) -> None:
    splits = parse_image_folder(people)
    (people / "dora" / "01_0.jpg").unlink()
    found = finding(validate(splits, read_images=False), "error", "1 image is not there")
    assert found.examples == ("dora/01_0.jpg",)


def test_wrong_bytes_behind_a_name(people: Path) -> None:
    for path in (people / "anna").iterdir():
        path.rename(path.with_suffix(".png"))
    found = finding(validate(parse_image_folder(people)), "note", "6 files are named .png but JPEG")
    assert len(found.examples) == 6


def test_blank_images(people: Path) -> None:
    grey = np.full((48, 24, 3), 128, np.uint8)
    (people / "anna" / "01_0.jpg").write_bytes(encode(grey))
    found = finding(
        validate(parse_image_folder(people)), "warning", "1 image is of one single colour"
    )
    assert found.examples == ("anna/01_0.jpg",)


def test_odd_sizes(people: Path, make_image) -> None:
    make_image(people / "anna" / "01_0.jpg", size=(20, 12))
    make_image(people / "bert" / "01_0.jpg", size=(200, 30))
    report = validate(parse_image_folder(people))
    assert finding(report, "warning", "smaller than 32x16").examples == ("anna/01_0.jpg (20x12)",)
    assert finding(report, "warning", "6 times longer").examples == ("bert/01_0.jpg (200x30)",)
    finding(report, "note", "image sizes (height x width): 48x24 (34), ")


def test_many_sizes_are_summarised(people: Path, make_image) -> None:
    for k, path in enumerate(sorted(people.rglob("*.jpg"))):
        make_image(path, size=(48 + k, 24))
    found = finding(validate(parse_image_folder(people)), "note", "image sizes: height 48 to 83")
    assert "width 24 to 24 pixels" in found.message


def test_wide_images(tmp_path: Path, make_image) -> None:
    for identity in "ab":
        for k in range(2):
            make_image(tmp_path / identity / f"{k}.jpg", size=(40, 60))
    finding(validate(parse_image_folder(tmp_path)), "note", "most images (4 of 4) are wider than")


# ------------------------------------------------------------------------------- duplicates


def duplicate(root: Path, *names: str, seed: int = 999) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(picture(seed)))


def test_duplicates_across_query_and_gallery(people: Path) -> None:
    splits = parse_image_folder(people)
    query = splits.query[0]
    match = next(r for r in splits.gallery if r.pid == query.pid)
    duplicate(people, query.path, match.path)
    found = finding(validate(splits), "warning", "in query and in gallery with the same bytes")
    assert str(Path(query.path).relative_to(people)) in found.examples[0]


def test_a_copy_that_the_camera_filter_removes_is_harmless(people: Path) -> None:
    splits = parse_image_folder(people, camera_pattern=CAMERA)
    query = splits.query[0]
    match = next(r for r in splits.gallery if (r.pid, r.camid) == (query.pid, query.camid))
    duplicate(people, query.path, match.path)
    report = validate(splits)
    assert not messages(report, "warning")
    finding(report, "note", "1 image is stored more than once under the same identity")


def test_duplicates_across_train_and_test_and_identities(people: Path) -> None:
    splits = parse_image_folder(people)
    duplicate(people, splits.train[0].path, splits.gallery[0].path)
    report = validate(splits)
    finding(report, "warning", "1 image is both trained on and tested with")
    found = finding(report, "warning", "1 image is stored under several identities")
    assert found.examples[0].startswith("train: ") and " = gallery: " in found.examples[0]


# ------------------------------------------------------------------------------- train


def test_no_training_images() -> None:
    report = check_lists(query="c1", gallery="c2")
    assert report.ok
    finding(report, "note", "there are no training images")


def test_one_training_identity() -> None:
    report = check_lists(**GOOD | {"train": "a1 a2"})
    finding(report, "error", "all 2 training images are of one identity (a)")


def test_training_identities_with_one_image() -> None:
    found = finding(check_lists(**GOOD | {"train": "a1 b1 b2 e1"}), "warning", "2 of 3 training")
    assert found.examples == ("a", "e")


# ------------------------------------------------------------------------------- test


def test_nothing_to_test_with() -> None:
    finding(check_lists(train="a1 a2 b1 b2"), "warning", "there are no query and gallery images")


@pytest.mark.parametrize(
    ("query", "gallery", "text"),
    [
        ("c1", "", "the gallery is empty"),
        ("", "c1 d1", "no test identity was seen by two cameras"),
        ("", "c- d-", "no test identity has two images"),
    ],
)
def test_an_empty_side(query: str, gallery: str, text: str) -> None:
    report = check_lists(train="a1 a2 b1 b2", query=query, gallery=gallery)
    assert text in messages(report, "error")


def test_no_query_identity_in_the_gallery() -> None:
    found = finding(
        check_lists(**GOOD | {"gallery": "e1 f2"}), "error", "not in the gallery at all"
    )
    assert found.examples == ("c", "d")


def test_all_matches_in_the_same_camera() -> None:
    found = finding(check_lists(**GOOD | {"gallery": "c1 d2"}), "error", "no query has a match")
    assert "camera=None" in found.message


def test_without_cameras_all_matches_count() -> None:
    report = check_lists(train="a- a- b- b-", query="c- d-", gallery="c- d-")
    assert report.ok
    finding(report, "note", "there are no camera labels")


def test_some_queries_without_a_match() -> None:
    report = check_lists(**GOOD | {"query": "c1 d2 e1 f1 f2"} | {"gallery": "c2 d1 f1"})
    assert report.ok
    absent = finding(report, "warning", "1 of 5 queries are of identities that are not in")
    assert absent.examples == ("e",)
    same = finding(report, "warning", "1 of 5 queries have matches only from their own camera")
    assert same.examples == ("f",)


def test_overlap() -> None:
    found = finding(check_lists(**GOOD | {"gallery": "c2 d1 a1"}), "error", "in train and in test")
    assert found.message.startswith("1 identity is in train") and found.examples == ("a",)


# ------------------------------------------------------------------------------- cameras


def test_one_camera() -> None:
    report = check_lists(train="a1 a1 b1 b1", query="c1", gallery="c1")
    finding(report, "error", "all images are of one camera (1)")
    report = check_lists(train="a1 a1 b1 b1")
    finding(report, "warning", "all images are of one camera (1)")


def test_incomplete_camera_labels() -> None:
    report = check_lists(**GOOD | {"train": "a1 a- b1 b2"})
    finding(report, "error", "1 of 8 images have no camera label")
    finding(check_lists(query="c- c1", gallery="c2 c-"), "error", "2 of 4 images have no camera")


def test_a_test_without_cameras_is_said() -> None:
    report = check_lists(train="a1 a2 b1 b2", query="c-", gallery="c-")
    assert report.ok
    finding(report, "note", "query and gallery have no camera labels, while train has")


# ------------------------------------------------------------------------------- published data


def test_official_numbers_are_compared() -> None:
    splits = dataclasses.replace(lists(**GOOD), official=(4, 2, 2))
    assert splits.counts == (4, 2, 2)
    assert "published" not in messages(validate(splits, read_images=False), "note")
    more = dataclasses.replace(splits, official=(4, 3, 2))
    report = validate(more, read_images=False)
    found = finding(report, "note", "the numbers of images are not the published ones")
    assert "(query 2 instead of 3)" in found.message


def test_a_file_listed_twice() -> None:
    splits = lists(**GOOD)
    twice = dataclasses.replace(splits, gallery=(*splits.gallery, splits.gallery[0]))
    found = finding(validate(twice, read_images=False), "error", "1 file is listed more than once")
    assert found.examples == ("g0.jpg",)
    leaked = dataclasses.replace(splits, gallery=(*splits.gallery, splits.query[0]))
    finding(validate(leaked, read_images=False), "error", "1 file is listed more than once")


def test_as_dict_is_json(market: Path) -> None:
    content = json.loads(json.dumps(validate(parse_market1501(market)).as_dict()))
    assert content["ok"] is True and content["images_read"] == 9
    assert content["table"][1] == {
        "split": "query",
        "images": 2,
        "identities": 2,
        "cameras": 2,
        "official": 3368,
    }
    assert {f["level"] for f in content["findings"]} == {"note"}
