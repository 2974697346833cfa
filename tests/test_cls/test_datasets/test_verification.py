from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cls.datasets import (
    CIFAR10,
    ClassFolder,
    DomainFolder,
    ListFile,
    VerificationReport,
    verify,
)
from cls.datasets.verification_table import class_table, part_table
from tests.test_imaging.conftest import encode, picture


def report(root: Path, *splits: str) -> VerificationReport:
    return verify([ClassFolder(root, s, allow_missing_classes=True) for s in splits])


def findings(found: VerificationReport, level: str) -> list[str]:
    return [finding.message for finding in found.findings if finding.level == level]


def text(table: object) -> str:
    target = io.StringIO()
    Console(file=target, width=200).print(table)
    return target.getvalue()


def test_clean_data_has_no_findings(animals: Path) -> None:
    done = []
    datasets = [ClassFolder(animals, split) for split in ("train", "val")]
    found = verify(datasets, workers=2, progress=lambda *numbers: done.append(numbers))
    assert found.ok and not found.findings
    assert [(p.name, p.counts.tolist()) for p in found.parts] == [
        ("train", [6, 4]),
        ("val", [2, 2]),
    ]
    assert found.parts[0].sizes == {(20, 24): 10} and found.parts[0].imbalance == 1.5
    assert done[-1] == (14, 14)
    assert found.protocols == tuple(d.protocol for d in datasets)


def test_every_kind_of_unreadable_file_is_an_error(animals: Path) -> None:
    place = animals / "train/cat"
    (place / "0.jpg").write_bytes(b"")
    (place / "1.jpg").write_bytes(encode(picture(99, (200, 200)))[:-300])
    (place / "2.jpg").write_bytes(b"<html>")
    found = report(animals, "train", "val")
    (error,) = found.errors
    assert error.message.startswith("3 images are unreadable, where a training run would stop")
    assert error.examples[0] == "train/cat/0.jpg: the file is empty"
    assert "truncated" in error.examples[1] and "web page" in error.examples[2]
    assert found.parts[0].unreadable == 3 and found.parts[0].images == 10


def test_gray_and_cmyk_images_are_counted(animals: Path) -> None:
    (animals / "train/cat/0.jpg").write_bytes(encode(picture(1)[..., 0]))
    (animals / "val/dog/0.png").write_bytes(encode(picture(2)[..., 0], ".png"))
    for name, mode in (("1.jpg", "CMYK"), ("2.jpg", "RGB")):
        image = Image.fromarray(picture(3, (30, 30))).convert(mode)
        image.save(animals / "train/cat" / name, progressive=True, comment=b"\xff\xc0 is no frame")
    found = report(animals, "train", "val")
    assert [part.grayscale for part in found.parts] == [1, 1]
    assert [part.cmyk for part in found.parts] == [1, 0]
    notes = findings(found, "note")
    assert notes[0].startswith("2 images are grayscale, read as RGB")
    assert notes[1].startswith("1 JPEG file is in CMYK")
    assert found.findings[-1].examples == ("train/cat/1.jpg",)
    assert found.ok


def test_splits_with_different_classes_are_an_error(animals: Path) -> None:
    (animals / "val/dog").rename(animals / "val/Dog")
    found = report(animals, "train", "val")
    (error,) = found.errors
    assert error.message.startswith("the splits have different classes: add the images")
    assert error.examples == (
        "train has no Dog (its 'dog' may be it)",
        "val has no dog (its 'Dog' may be it)",
    )


def test_empty_classes_are_an_error(animals: Path) -> None:
    (animals / "train/ant").mkdir()
    (error,) = report(animals, "train", "val").errors
    assert error.message.startswith("1 class has no image at all")
    assert error.examples == ("ant",)


def test_a_list_that_lacks_a_class_is_a_warning(animals: Path) -> None:
    lists = {"train": "train/cat/0.jpg 0\ntrain/dog/0.png 2\n", "val": "val/cat/0.jpg 0\n"}
    for name, content in lists.items():
        (animals / f"{name}.txt").write_text(content)
    found = verify([ListFile(animals, split, num_classes=3) for split in lists])
    assert found.ok
    assert findings(found, "warning") == [
        "1 class has no image at all: add images, or remove the class",
        "the splits have different classes",
    ]


def test_domains_are_the_parts(styles: Path) -> None:
    shutil.rmtree(styles / "photo/pen")
    shutil.copy(styles / "art/cup/0.jpg", styles / "sketch/cup/copy.jpg")
    found = verify(DomainFolder(styles, "all", allow_missing_classes=True))
    assert [p.name for p in found.parts] == ["art", "photo", "sketch"]
    assert found.errors[0].examples == ("photo has no pen",)
    assert "the domains have different classes" in found.errors[0].message
    (warning,) = found.warnings
    assert warning.message.startswith("1 picture is in several domains")
    assert warning.examples == ("art: art/cup/0.jpg = sketch: sketch/cup/copy.jpg",)


def test_a_class_that_most_domains_lack_is_told_once(styles: Path) -> None:
    (styles / "photo/pen").rename(styles / "photo/Pen")
    found = verify(DomainFolder(styles, "all", allow_missing_classes=True))
    assert found.errors[0].examples == (
        "only photo has Pen",
        "photo has no pen (its 'Pen' may be it)",
    )


def test_the_same_picture_in_two_splits_or_classes(animals: Path) -> None:
    shutil.copy(animals / "train/cat/0.jpg", animals / "val/cat/copy.jpg")
    shutil.copy(animals / "train/dog/1.png", animals / "train/cat/copy.png")
    found = report(animals, "train", "val")
    assert [w.examples for w in found.warnings] == [
        ("train: train/cat/0.jpg = val: val/cat/copy.jpg",),
        ("train/cat/copy.png (cat) = train/dog/1.png (dog)",),
    ]
    assert "must not be tested on" in found.warnings[0].message
    assert "1 picture has several classes" in found.warnings[1].message
    assert findings(found, "note") == [
        "1 picture is in a split more than once, the same in every pixel"
    ]


def test_blank_small_and_imbalanced(animals: Path, make_images) -> None:
    make_images(animals / "train/cat", [f"more{i}.jpg" for i in range(50)])
    (animals / "train/cat/0.jpg").write_bytes(encode(np.full((20, 24, 3), 7, np.uint8), ".png"))
    (animals / "train/cat/1.jpg").write_bytes(encode(picture(5, (15, 40))))
    found = report(animals, "train", "val")
    warnings = findings(found, "warning")
    assert warnings[0].startswith("train: the largest class has 14 times the images")
    assert found.warnings[0].examples[0] == "largest: cat (56), dog (4)"
    assert warnings[1].startswith("1 image is of one single colour")
    assert warnings[2] == "1 image has a side of less than 16 pixels"


def test_a_single_class_is_suspicious(animals: Path) -> None:
    shutil.rmtree(animals / "train/dog")
    assert (
        "there is a single class, 'cat'" in findings(report(animals / "train", "all"), "warning")[0]
    )


def test_arrays_are_checked_too(cifar10: Path) -> None:
    train, test = CIFAR10(cifar10), CIFAR10(cifar10, "test")
    assert train.images is not None and test.images is not None
    test.images[3] = train.images[24]
    test.images[4] = test.images[4][..., :1]
    found = verify([train, test])
    assert found.ok
    assert found.warnings[0].examples == ("train: data_batch_2[4] = test: test_batch[3]",)
    assert found.parts[1].grayscale == 1
    assert "the files are not the official ones (md5)" in findings(found, "note")


def test_data_sets_must_belong_together(animals: Path, styles: Path) -> None:
    with pytest.raises(ValueError, match="the classes of 'train' and 'all' differ"):
        verify([ClassFolder(animals), DomainFolder(styles, "all")])
    with pytest.raises(ValueError, match="at least one"):
        verify([])


def test_the_report_as_plain_values(animals: Path) -> None:
    plain = json.loads(json.dumps(report(animals, "train", "val").as_dict()))
    assert plain["ok"] is True
    assert plain["parts"]["train"]["classes"] == {"cat": 6, "dog": 4}
    assert plain["parts"]["val"]["sizes"] == [{"height": 20, "width": 24, "images": 4}]


def test_tables(animals: Path, make_images) -> None:
    found = report(animals, "train", "val")
    lines = [line.split() for line in text(part_table(found)).splitlines()]
    assert lines[1] == ["train", "10", "2", "4", "to", "6", "-", "-", "20x24", "(10)"]
    assert lines[2] == ["val", "4", "2", "2", "-", "-", "20x24", "(4)"]
    rows = [line.split() for line in text(class_table(found)).splitlines()]
    assert rows == [
        ["class", "label", "train", "val"],
        ["cat", "0", "6", "2"],
        ["dog", "1", "4", "2"],
    ]
    for size in ((30, 40), (50, 20)):
        make_images(animals / "train/cat", [f"{size[0]}.jpg"], size)
    assert "20..50 x 20..40 (3 sizes)" in text(part_table(report(animals, "train")))


def test_the_table_of_many_classes_is_cut(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, [f"c{i:02d}/0.jpg" for i in range(41)])
    make_images(tmp_path, [f"c{i:02d}/1.jpg" for i in range(41) if i != 33])
    found = verify(ClassFolder(tmp_path, "all"))
    rows = text(class_table(found)).splitlines()
    assert len(rows) == 12 and rows[1].split() == ["c33", "33", "1"]
    assert rows[-1].strip() == "and 31 classes with as many or more (--all)"
    assert len(text(class_table(found, every_class=True)).splitlines()) == 42
