from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from PIL import Image

from seg.datasets import GTA5, CamVid, Cityscapes, ImageLabelFolder
from seg.datasets.splits import write_splits
from seg.datasets.statistics import class_statistics
from seg.datasets.verification import VerificationReport, verify
from seg.datasets.verification_table import class_table, split_table
from seg.label_spaces import SPACES

SIZE = (40, 48)


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def ids(seed: int, size: tuple[int, int] = SIZE, high: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, size, dtype=np.uint8)


def write(path: Path, content: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), content)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Four images in train, two in val."""
    for number in range(6):
        split = "train" if number < 4 else "val"
        write(tmp_path / f"images/{split}/{number}.png", picture(number))
        write(tmp_path / f"labels/{split}/{number}.png", ids(number))
    return tmp_path


def check(root: Path, **options: Any) -> VerificationReport:
    splits = [s for s in ("train", "val") if (root / "images" / s).is_dir()]
    return verify([CamVid(root, split=s, missing="drop", **options) for s in splits])


def findings(report: VerificationReport, level: str) -> dict[str, tuple[str, ...]]:
    return {f.message: f.examples for f in report.findings if f.level == level}


def only(found: Mapping[str, tuple[str, ...]]) -> tuple[str, tuple[str, ...]]:
    (item,) = found.items()
    return item


def test_good_data_is_good(camvid: Path) -> None:
    report = check(camvid)
    assert report.ok and report.findings == () and report.warnings == ()
    train, val = report.splits
    assert (report.name, train.split, val.split) == ("camvid", "train", "val")
    assert (train.images, val.images) == (4, 2)
    assert train.sizes == {SIZE: 4} and train.complete
    assert train.protocol.startswith("CamVid train")
    counted = class_statistics(CamVid(camvid), cache_dir=camvid / "cache")
    np.testing.assert_array_equal(train.statistics.counts, counted.counts)


def test_progress_and_one_dataset_alone(camvid: Path) -> None:
    told: list[tuple[int, int]] = []
    report = verify(CamVid(camvid), workers=1, progress=lambda *step: told.append(step))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(report.splits) == 1
    with pytest.raises(ValueError, match="at least one dataset"):
        verify([])


def test_missing_partners(camvid: Path) -> None:
    (camvid / "labels/train/1.png").unlink()
    (camvid / "images/val/5.png").unlink()
    errors = findings(check(camvid), "error")
    assert {message.split(":")[0]: cases for message, cases in errors.items()} == {
        "1 image has no label file": ("images/train/1.png",),
        "1 label file has no image": ("labels/val/5.png",),
    }
    assert check(camvid, drop=["1", "5"]).ok


def test_unreadable_files_are_all_named(camvid: Path) -> None:
    (camvid / "images/train/0.png").write_bytes(b"no image at all")
    data = (camvid / "labels/train/2.png").read_bytes()
    (camvid / "labels/train/2.png").write_bytes(data[:-40])
    (camvid / "images/val/4.png").write_bytes(b"")
    report = check(camvid)
    message, cases = only(findings(report, "error"))
    assert message.startswith("3 files are unreadable")
    assert [case.partition(":")[0] for case in cases] == [
        "images/train/0.png",
        "labels/train/2.png",
        "images/val/4.png",
    ]
    assert "the file is empty" in cases[2] and "truncated" in cases[1]
    train, val = report.splits
    assert (train.complete, val.complete) == (False, True)
    assert train.statistics.counts[2].sum() == 0 and train.statistics.counts[0].sum() > 0


def test_colours_and_16_bits_are_no_labels(camvid: Path) -> None:
    write(camvid / "labels/train/0.png", picture(9))
    write(camvid / "labels/train/1.png", ids(1).astype(np.uint16) * 300)
    message, cases = only(findings(check(camvid), "error"))
    assert message.startswith("2 label files are no map of class ids")
    assert cases[0].startswith("labels/train/0.png: these are colours")
    assert cases[1].startswith("labels/train/1.png: is a 16-bit grey PNG")


def test_sizes_that_differ(camvid: Path) -> None:
    write(camvid / "images/train/3.png", picture(3, (41, 48)))
    message, cases = only(findings(check(camvid), "error"))
    assert message.startswith("1 image has another size than the label file")
    assert cases == ("images/train/3.png: image 41x48, label 40x48",)


def test_unknown_ids_are_named_with_their_pixels(camvid: Path) -> None:
    strange = ids(2)
    strange[0, :3] = 77
    strange[1, 0] = 200
    write(camvid / "labels/train/2.png", strange)
    message, cases = only(findings(check(camvid), "error"))
    assert message.startswith("1 label file has ids that the label source 'camvid' does not define")
    assert cases == ("labels/train/2.png: id 77 (3 pixels), id 200 (1 pixel)",)


def test_the_source_that_fits_is_proposed(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"images/{number}.png", picture(number))
        content = ids(number, high=34)
        content[0] = 255
        write(tmp_path / f"labels/{number}.png", content)
    message, _ = only(findings(verify(ImageLabelFolder(tmp_path, source="trainids")), "error"))
    assert "all ids of this data are defined by 'cityscapes': is it that?" in message


def write_gta5(root: Path, number: int, image: np.ndarray, labels: np.ndarray) -> None:
    write(root / f"images/{number:05d}.png", image)
    (root / "labels").mkdir(exist_ok=True)
    palette = Image.fromarray(labels)
    palette = palette.convert("L")
    palette.putpalette([i * 7 % 256 for i in range(768)])
    palette.save(root / f"labels/{number:05d}.png")


def test_train_ids_in_the_place_of_label_ids(tmp_path: Path) -> None:
    for number in range(1, 4):
        write_gta5(tmp_path, number, picture(number), ids(number, high=19))
    message, _ = only(findings(verify(GTA5(tmp_path, split="all")), "error"))
    assert "the ids are 0..18 only, which are trainIds and not the label ids of 'gta5'" in message


def test_blank_images_and_empty_labels(tmp_path: Path) -> None:
    good = np.array([7, 8, 11, 21, 23, 26], np.uint8)[ids(0, high=6)]
    write_gta5(tmp_path, 1, picture(1), good)
    write_gta5(tmp_path, 12160, np.full((*SIZE, 3), 3, np.uint8), good)
    write_gta5(tmp_path, 3, picture(3), np.zeros(SIZE, np.uint8))
    report = verify(GTA5(tmp_path, split="all"))
    assert report.ok
    warnings = {m.split(",")[0]: (m, cases) for m, cases in findings(report, "warning").items()}
    message, cases = warnings["1 image is of one single colour"]
    assert cases == ("images/12160.png",) and 'drop="robustnet"' in message
    _, cases = warnings["1 label file has no pixel of any class"]
    assert cases == ("labels/00003.png",)
    assert set(warnings) == {
        "1 image is of one single colour",
        "1 label file has no pixel of any class",
    }
    assert len(verify(GTA5(tmp_path, split="all", drop="robustnet")).warnings) == 1


def test_mostly_ignored_labels(tmp_path: Path) -> None:
    for number in range(1, 3):
        labels = np.zeros(SIZE, np.uint8)
        labels[:5] = 7
        write_gta5(tmp_path, number, picture(number), labels)
    message, _ = only(findings(verify(GTA5(tmp_path, split="all")), "warning"))
    assert message.startswith("all: 88% of the pixels are ignored")


def test_a_picture_in_two_splits(camvid: Path) -> None:
    write(camvid / "images/val/4.png", picture(2))
    message, cases = only(findings(check(camvid), "warning"))
    assert message.startswith("1 picture is in several splits under different names")
    assert cases == ("images/train/2.png = images/val/4.png",)


def test_a_name_in_two_splits(camvid: Path) -> None:
    for kind in ("images", "labels"):
        (camvid / kind / "val/4.png").rename(camvid / kind / "val/2.png")
    message, cases = only(findings(check(camvid), "warning"))
    assert message.startswith("1 name is used in several splits, for pictures that differ")
    assert cases == ("images/train/2.png and images/val/2.png",)


def test_a_file_in_two_lists(tmp_path: Path) -> None:
    for number in range(1, 5):
        write_gta5(tmp_path, number, picture(number), ids(number, high=34))
    (tmp_path / "train.txt").write_text("00001.png\n00002.png\n00003.png\n")
    (tmp_path / "val.txt").write_text("00003\n00004\n")
    datasets = [GTA5(tmp_path, split=s) for s in ("train", "val")]
    message, cases = only(findings(verify(datasets), "warning"))
    assert message.startswith("1 image is in more than one split")
    assert cases == ("images/00003.png: train, val",)


def test_copies_within_a_split_and_absent_classes(camvid: Path) -> None:
    write(camvid / "images/train/1.png", picture(0))
    for number in (4, 5):
        write(camvid / f"labels/val/{number}.png", ids(number, high=8))  # no car, no pedestrian
    report = check(camvid)
    assert report.ok and not report.warnings
    notes = findings(report, "note")
    assert notes["1 picture is in a split more than once, the same in every pixel"] == (
        "images/train/0.png = images/train/1.png",
    )
    assert any(m.startswith("val: no pixel of living, vehicles") for m in notes)


def test_small_images(camvid: Path) -> None:
    write(camvid / "images/train/0.png", picture(0, (1, 1)))
    write(camvid / "labels/train/0.png", ids(0, (1, 1)))
    warnings = findings(check(camvid), "warning")
    assert warnings["1 image has a side of less than 32 pixels"] == ("images/train/0.png",)


def test_as_json(camvid: Path) -> None:
    content = json.loads(json.dumps(check(camvid).as_dict()))
    assert content["ok"] and content["findings"] == []
    train = content["splits"]["train"]
    assert (train["images"], train["pixels"]) == (4, 4 * 40 * 48)
    assert train["sizes"] == [{"height": 40, "width": 48, "images": 4}]
    assert sum(c["share"] for c in train["classes"]) == pytest.approx(1)
    pixels = sum(c["pixels"] for c in train["classes"])
    assert train["ignored"] == pytest.approx(1 - pixels / train["pixels"])


def cells(table: Any) -> list[list[str]]:
    columns = [[str(c) for c in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_tables(camvid: Path) -> None:
    report = check(camvid, space="cityscapes19")
    rows = cells(split_table(report))
    train = report.splits[0].statistics
    assert rows[0] == ["train", "4", "7,680", f"{100 * train.ignored:.2f}", "40x48 (4)"]
    rows = {row[0]: row[1:] for row in cells(class_table(report))}
    assert list(rows) == list(SPACES["cityscapes19"].classes)
    assert rows["train"] == ["-", "-", "-", "-"]  # CamVid has none
    assert rows["road"] == ["4", f"{100 * train.frequencies[0]:.2f}", "2", *rows["road"][3:]]


def test_cityscapes_from_its_own_tree(tmp_path: Path) -> None:
    for kind, ending, content in (
        ("leftImg8bit", "leftImg8bit", picture(0)),
        ("gtFine", "gtFine_labelIds", ids(0, high=34)),
    ):
        write(tmp_path / kind / "train/aachen" / f"aachen_000000_000019_{ending}.png", content)
    report = verify(Cityscapes(tmp_path))
    assert report.ok and report.splits[0].source == "cityscapes"


def test_split_files(camvid: Path) -> None:
    datasets = [CamVid(camvid, split=s, drop=["1"]) for s in ("train", "val")]
    train, val = write_splits(datasets, camvid / "lists" / "deep")
    assert train.read_text() == "images/train/0.png\nimages/train/2.png\nimages/train/3.png\n"
    assert val.name == "val.txt" and len(val.read_text().splitlines()) == 2
    assert sorted(p.name for p in train.parent.iterdir()) == ["train.txt", "val.txt"]
    with pytest.raises(ValueError, match="expected different splits, got train, train"):
        write_splits([datasets[0], datasets[0]], camvid)


def test_a_written_split_is_read_again(tmp_path: Path) -> None:
    for number in range(1, 5):
        write_gta5(tmp_path, number, picture(number), ids(number, high=34))
    part = GTA5(tmp_path, split="all", drop=["00002"])
    (path,) = write_splits([part], tmp_path)
    path.rename(tmp_path / "train.txt")
    assert [p.image for p in GTA5(tmp_path).pairs] == [p.image for p in part.pairs]
