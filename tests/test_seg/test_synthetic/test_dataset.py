"""The tree on disk: formats, reuse, what is refused, and what goes on after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg.synthetic import contact_sheet, draw_street, make_streets
from seg.synthetic.dataset import VERSION
from seg.synthetic.labels import PALETTE

SMALL = {"images": 3, "size": (128, 64), "workers": 0}


def tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def game(tmp_path_factory):
    return make_streets(tmp_path_factory.mktemp("streets") / "game", "game", **SMALL)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets") / "real"
    return make_streets(root, "real", train_ids=True, **SMALL)


@pytest.fixture
def copy(game, tmp_path):
    return shutil.copytree(game.root, tmp_path / "copy")


# ----------------------------------------------------------------------------------------- formats


def test_gta5_tree(game):
    assert sorted(tree(game.root)) == [
        *(f"images/0000{k}.png" for k in (1, 2, 3)),
        *(f"labels/0000{k}.png" for k in (1, 2, 3)),
        "streets_train.json",
        "train.txt",
    ]
    assert (game.root / "train.txt").read_text() == "00001\n00002\n00003\n"
    for number in (1, 2, 3):
        image, labels = draw_street("game", number, size=(128, 64))
        with Image.open(game.root / f"images/{number:05d}.png") as file:
            assert (file.format, file.mode, file.size) == ("PNG", "RGB", (128, 64))
            np.testing.assert_array_equal(np.asarray(file), image)
        with Image.open(game.root / f"labels/{number:05d}.png") as file:
            assert (file.format, file.mode, file.size) == ("PNG", "P", (128, 64))
            np.testing.assert_array_equal(np.asarray(file), labels)
            colours = np.array(file.getpalette()).reshape(-1, 3)[: len(PALETTE)]
            np.testing.assert_array_equal(colours, PALETTE)


def test_cityscapes_tree(real):
    names = [f"real_00000{k}_000019" for k in (1, 2, 3)]
    assert sorted(tree(real.root)) == sorted(
        [f"leftImg8bit/train/real/{name}_leftImg8bit.png" for name in names]
        + [
            f"gtFine/train/real/{name}_gtFine_{kind}.png"
            for name in names
            for kind in ("labelIds", "labelTrainIds")
        ]
        + ["streets_train.json"]
    )
    # trainIds by Cityscapes' own table
    known = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    for number, name in enumerate(names, 1):
        image, labels = draw_street("real", number, size=(128, 64))
        with Image.open(real.root / f"leftImg8bit/train/real/{name}_leftImg8bit.png") as file:
            assert (file.mode, file.size) == ("RGB", (128, 64))
            np.testing.assert_array_equal(np.asarray(file), image)
        with Image.open(real.root / f"gtFine/train/real/{name}_gtFine_labelIds.png") as file:
            assert (file.mode, file.size) == ("L", (128, 64))
            np.testing.assert_array_equal(np.asarray(file), labels)
        with Image.open(real.root / f"gtFine/train/real/{name}_gtFine_labelTrainIds.png") as file:
            assert file.mode == "L"
            expected = [
                [known.index(v) if v in known else 255 for v in row] for row in labels.tolist()
            ]
            np.testing.assert_array_equal(np.asarray(file), expected)


def test_datasets_of_this_room_read_them(game, real, tmp_path):
    pytest.importorskip("mmseg")
    from seg.datasets import GTA5, Cityscapes, recognise_layout

    assert recognise_layout(game.root) == "gta5"
    assert recognise_layout(real.root) == "cityscapes"
    assert len(GTA5(str(game.root), "train").pairs) == 3
    assert len(Cityscapes(str(real.root), "train").pairs) == 3


@pytest.mark.parametrize("style, layout", [("game", "cityscapes"), ("real", "gta5")])
def test_any_style_in_any_layout(tmp_path, style, layout):
    report = make_streets(tmp_path / "x", style, layout=layout, **{**SMALL, "images": 1})
    assert (report.style, report.layout) == (style, layout)
    image, _ = draw_street(style, 1, size=(128, 64))
    path = "images/00001.png"
    if layout == "cityscapes":
        path = "leftImg8bit/train/game/game_000001_000019_leftImg8bit.png"
    with Image.open(tmp_path / "x" / path) as file:
        np.testing.assert_array_equal(np.asarray(file), image)


def test_splits_share_a_root_and_no_street(copy):
    report = make_streets(copy, "game", split="val", **{**SMALL, "images": 2})
    assert (report.split, report.images, report.drawn, report.first) == ("val", 2, 2, 50001)
    assert (copy / "val.txt").read_text() == "50001\n50002\n"
    assert (copy / "train.txt").read_text() == "00001\n00002\n00003\n"
    assert make_streets(copy, "game", **SMALL).reused
    with pytest.raises(
        ValueError, match=r"3\.\.4 of the split test overlap 1\.\.3 of the split tr"
    ):
        make_streets(copy, "game", split="test", start=3, **{**SMALL, "images": 2})


# ------------------------------------------------------------------------------------- repeatable


def test_an_image_depends_neither_on_their_number_nor_on_where_they_start(game, tmp_path):
    other = {**SMALL, "images": 1}
    make_streets(tmp_path / "one", "game", start=2, **other)
    for folder in ("images", "labels"):
        path = f"{folder}/00002.png"
        assert (tmp_path / "one" / path).read_bytes() == (game.root / path).read_bytes()


def test_another_run_writes_the_same_bytes(game, tmp_path):
    again = make_streets(tmp_path / "again", "game", **SMALL)
    assert again == dataclasses.replace(game, root=again.root)
    assert tree(again.root) == tree(game.root)
    other = make_streets(tmp_path / "other", "game", seed=1, **SMALL)
    assert other.digest != game.digest


def test_workers_write_the_same_bytes(game, tmp_path):
    seen = []
    several = {**SMALL, "workers": 2}
    report = make_streets(
        tmp_path / "w", "game", **several, progress=lambda *done: seen.append(done)
    )
    assert tree(report.root) == tree(game.root)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_script_without_a_main_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from seg.synthetic import make_streets\n"
        f"make_streets({str(tmp_path / 'x')!r}, 'game', images=2, size=(64, 32), workers=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode != 0
    assert "needs if __name__ == '__main__': around the call" in run.stderr


# ------------------------------------------------------------------------------ reuse and refusal


def test_report(game):
    assert (game.images, game.drawn, game.reused, game.first) == (3, 3, False, 1)
    assert (game.style, game.layout, game.split, game.seed) == ("game", "gta5", "train", 0)
    assert game.size == (128, 64)
    record = json.loads((game.root / "streets_train.json").read_text())
    assert record["digest"] == game.digest and record["images"] == 3


def test_the_same_streets_are_reused(game, copy):
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    seen = []
    report = make_streets(copy, "game", **SMALL, progress=lambda *done: seen.append(done))
    assert report == dataclasses.replace(game, root=copy, drawn=0, reused=True)
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == before and seen == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 3}, "seed is 0 there and 3 here"),
        ({"images": 4}, "images is 3 there and 4 here"),
        ({"size": (64, 64)}, r"size is \[128, 64\] there and \[64, 64\] here"),
        ({"start": 2}, "start is 1 there and 2 here"),
        ({"layout": "cityscapes"}, "layout is 'gta5' there and 'cityscapes' here"),
        ({"split": "val", "seed": 3}, "seed is 0 there and 3 here"),
    ],
)
def test_other_streets_are_kept_and_the_difference_named(copy, change, message):
    before = tree(copy)
    with pytest.raises(FileExistsError, match=f"other streets.*{message}.*choose another root"):
        make_streets(copy, "game", **{**SMALL, **change})
    with pytest.raises(FileExistsError, match="style is 'game' there and 'real' here"):
        make_streets(copy, "real", layout="gta5", **SMALL)
    assert tree(copy) == before


def test_another_version_is_refused(copy):
    path = copy / "streets_train.json"
    path.write_text(path.read_text().replace(f'"version": {VERSION}', '"version": 0'))
    with pytest.raises(FileExistsError, match=f"version is 0 there and {VERSION} here"):
        make_streets(copy, "game", **SMALL)


def test_lost_files_are_drawn_again_and_changed_ones_refused(game, copy):
    (copy / "images/00002.png").unlink()
    cut = copy / "labels/00003.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    report = make_streets(copy, "game", **SMALL)
    assert (report.drawn, report.reused, report.digest) == (2, False, game.digest)
    assert tree(copy) == tree(game.root)
    shutil.copy(copy / "images/00001.png", copy / "images/00002.png")
    with pytest.raises(FileExistsError, match="changed since"):
        make_streets(copy, "game", **SMALL)


@pytest.mark.parametrize("record", [None, "", "[]", "{}", '{"maker": 3}'])
def test_something_else_is_refused(tmp_path, record):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    if record is not None:
        (tmp_path / "streets_train.json").write_text(record)
    with pytest.raises(FileExistsError, match=r"something else.*choose another root"):
        make_streets(tmp_path, "game", **SMALL)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"precious"


def test_a_file_as_root_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="not a folder"):
        make_streets(tmp_path / "file", "game", **SMALL)


def test_a_killed_run_goes_on(game, tmp_path):
    def kill(done, total):
        if done == 2:
            raise KeyboardInterrupt

    root = tmp_path / "a" / "b"  # parents are made
    with pytest.raises(KeyboardInterrupt):
        make_streets(root, "game", **SMALL, progress=kill)
    assert not (root / "streets_train.json").exists()
    with pytest.raises(FileExistsError, match="seed is 0 there and 1 here"):
        make_streets(root, "game", seed=1, **SMALL)
    report = make_streets(str(root), "game", **SMALL)
    assert (report.drawn, report.reused, report.digest) == (1, False, game.digest)
    assert tree(root) == tree(game.root)  # no leftovers


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"style": "film"}, "unknown style 'film'; expected game or real"),
        ({"layout": "coco"}, "unknown layout 'coco'; expected gta5 or cityscapes"),
        ({"split": "all"}, "unknown split 'all'; layout 'gta5' has train, val, test"),
        ({"split": "test", "layout": "cityscapes"}, "layout 'cityscapes' has train, val"),
        ({"train_ids": True}, "train_ids=True is for layout 'cityscapes'"),
        ({"images": 0}, r"images must be 1\.\.99999, got 0"),
        ({"images": 2.5}, "images must be a whole number, got 2.5"),
        ({"images": 60000, "start": 50000}, "60000 images from number 50000 on would pass 99999"),
        ({"size": (32, 64)}, r"width of size must be 64\.\.4096, got 32"),
        ({"size": (64, 31)}, r"height of size must be 32\.\.4096, got 31"),
        ({"size": 512}, r"size is \(width, height\), got 512"),
        ({"seed": -1}, "seed must be 0"),
        ({"start": 0}, r"start must be 1\.\.99999, got 0"),
        ({"workers": -1}, "workers must be >= 0, got -1"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_streets(tmp_path / "x", **{"style": "game", **arguments})
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------- contact sheet


def test_contact_sheet_cells(game, real):
    sheet = contact_sheet(game.root, columns=2, width=128, gap=4)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 68 + 4, 2 * 260 + 4, 3)
    image, labels = draw_street("game", 1, size=(128, 64))
    np.testing.assert_array_equal(sheet[4:68, 4:132], image)
    np.testing.assert_array_equal(sheet[4:68, 132:260], np.array(PALETTE, np.uint8)[labels])
    assert (sheet[72:136, 264:520] == 224).all()  # three images: the fourth cell is empty
    pair = (
        real.root / "leftImg8bit/train/real/real_000002_000019_leftImg8bit.png",
        real.root / "gtFine/train/real/real_000002_000019_gtFine_labelIds.png",
    )
    single = contact_sheet([pair], width=64, gap=0)
    assert single.shape == (32, 128, 3)
    spread = contact_sheet(real.root, images=2, columns=1, width=128, gap=0)
    np.testing.assert_array_equal(spread[64:, :128], draw_street("real", 2, size=(128, 64))[0])


def test_contact_sheet_errors(game, tmp_path):
    with pytest.raises(FileNotFoundError, match="no image with a label map"):
        contact_sheet(tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        contact_sheet(game.root, images=0)
    image = game.root / "images/00001.png"
    with pytest.raises(ValueError, match="has no label ids"):
        contact_sheet([(image, image)])
