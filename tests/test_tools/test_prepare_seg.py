from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from PIL import Image

from tools.prepare_data import main

ROOT = Path(__file__).resolve().parents[2]
SIZE = (40, 48)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the tool."""
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return int(exit_.value.code or 0), out, err


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REIDSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segmentation"


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def write(path: Path, content: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), content)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    root = tmp_path / "streets"
    rng = np.random.default_rng(0)
    for number in range(6):
        split = "train" if number < 4 else "val"
        write(root / f"images/{split}/{number}.png", picture(number))
        write(root / f"labels/{split}/{number}.png", rng.integers(0, 12, SIZE, dtype=np.uint8))
    return root


@pytest.fixture
def gta5(tmp_path: Path) -> Path:
    root = tmp_path / "gta5"
    (root / "labels").mkdir(parents=True)
    for number in (1, 2, 12160):
        image = np.full((*SIZE, 3), 5, np.uint8) if number == 12160 else picture(number)
        write(root / f"images/{number:05d}.png", image)
        labels = Image.fromarray(
            np.random.default_rng(number).choice([7, 8, 23, 26], SIZE).astype(np.uint8)
        ).convert("L")
        labels.putpalette([i * 7 % 256 for i in range(768)])
        labels.save(root / f"labels/{number:05d}.png")
    return root


def configs(out: str) -> dict[str, Any]:
    """The printed config lines, executed."""
    namespace: dict[str, Any] = {}
    exec("\n".join(line.strip() for line in out.splitlines() if "_dataset = " in line), namespace)
    return {name: value for name, value in namespace.items() if name.endswith("_dataset")}


def test_a_dataset_is_recognised_counted_and_explained(capsys, camvid: Path, cache: Path) -> None:
    from mmengine.registry import DATASETS

    from seg.datasets import statistics

    code, out, err = run(capsys, "seg", camvid)
    assert (code, err) == (0, "")
    words = [line.split() for line in out.splitlines()]
    assert f"camvid  (seg.CamVid, {camvid})" in out
    assert ["train", "4", "7,680"] in [w[:3] for w in words]
    assert ["drivable", "4"] in [w[:2] for w in words]
    assert "no split 'test'" in out
    assert "6 images read, 0 errors, 0 warnings: the data can be used" in out
    datasets = {name: DATASETS.build(config) for name, config in configs(out).items()}
    assert {name: len(d) for name, d in datasets.items()} == {"train_dataset": 4, "val_dataset": 2}
    assert len(list(cache.iterdir())) == 2

    def refuse(*_: Any) -> None:
        raise AssertionError("a label file is read although the counts are kept")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "read_labels", refuse)
        assert statistics.class_statistics(datasets["train_dataset"]).counts.sum() == 7680


def test_errors_end_in_exit_code_1_and_no_config(capsys, camvid: Path, cache: Path) -> None:
    write(camvid / "labels/train/0.png", np.full(SIZE, 77, np.uint8))
    for number in range(1, 4):
        write(camvid / f"images/train/{number}.png", picture(number)[:35])
    write(camvid / "labels/val/4.png", picture(0))
    code, out, _ = run(capsys, "seg", camvid)
    assert code == 1
    assert "1 label file has ids that the label source 'camvid' does not define" in out
    assert "labels/train/0.png: id 77 (1,920 pixels)" in out
    assert "3 images have another size than the label file" in out
    assert "6 images read, 3 errors, 0 warnings: repair the errors first" in out
    assert "in a config" not in out
    assert len(list(cache.iterdir())) == 1  # val is incomplete


def test_all_cases_are_listed_if_asked_for(capsys, camvid: Path) -> None:
    for number in range(20, 35):
        write(camvid / f"images/train/{number}.png", picture(number))
    code, out, _ = run(capsys, "seg", camvid, "--split", "train")
    assert code == 1 and "and 5 more (--all lists them)" in out
    code, out, _ = run(capsys, "seg", camvid, "--split", "train", "--all")
    assert code == 1 and "images/train/34.png" in out and "more (--all" not in out


def test_splits_space_and_json(capsys, camvid: Path, tmp_path: Path) -> None:
    lists, report = tmp_path / "lists", tmp_path / "report.json"
    code, out, _ = run(
        capsys, "seg", camvid, "--layout", "camvid", "--split", "val", "train", "--space",
        "camvid11", "--drop", "0", "1", "--write-splits", lists, "--json", report, "--workers", "2",
    )  # fmt: skip
    assert code == 0
    assert configs(out)["train_dataset"] == {
        "type": "seg.CamVid",
        "root": str(camvid),
        "split": "train",
        "space": "camvid11",
        "drop": ["0", "1"],
    }
    assert (lists / "train.txt").read_text() == "images/train/2.png\nimages/train/3.png\n"
    content = json.loads(report.read_text())
    assert content["type"] == "seg.CamVid" and content["ok"]
    assert content["splits"]["val"]["classes"][8]["name"] == "car"
    assert list(content["splits"]) == ["val", "train"]


def test_gta5_without_split_file_and_robustnets_list(capsys, gta5: Path) -> None:
    code, out, _ = run(capsys, "seg", gta5)
    assert code == 0
    assert "1 image is of one single colour" in out and 'drop="robustnet"' in out
    assert "no split 'train'" in out and "split.mat" in out
    code, out, _ = run(capsys, "seg", gta5, "--drop", "robustnet")
    assert code == 0 and "0 warnings" in out
    assert configs(out) == {
        "all_dataset": {
            "type": "seg.GTA5",
            "root": str(gta5),
            "split": "all",
            "drop": "robustnet",
        }
    }


def test_a_split_whose_labels_are_all_missing_is_an_error(capsys, camvid: Path) -> None:
    for path in (camvid / "labels/val").iterdir():
        path.unlink()
    code, _, err = run(capsys, "seg", camvid)
    assert code == 1 and "split 'val'" in err and len(err.splitlines()) == 1


def test_own_data(capsys, tmp_path: Path) -> None:
    from mmengine.registry import DATASETS

    for number in range(2):
        write(tmp_path / f"mine/photos/{number}.jpg", picture(number))
        labels = np.random.default_rng(number).integers(0, 19, SIZE, dtype=np.uint8)
        write(tmp_path / f"mine/masks/{number}.png", labels)
    code, out, _ = run(
        capsys, "seg", tmp_path / "mine", "--layout", "folder", "--options", "source=trainids",
        "images=photos", "labels=masks",
    )  # fmt: skip
    assert code == 0
    assert len(DATASETS.build(configs(out)["all_dataset"])) == 2


def test_mistakes_end_in_one_line(capsys, camvid: Path, tmp_path: Path) -> None:
    for arguments, message in [
        ([tmp_path / "nowhere"], "does not exist"),
        ([tmp_path], "has none of the known layouts"),
        ([camvid, "--layout", "camvit"], "--layout: expected one of auto, "),
        ([camvid, "--split", "trian"], "CamVid has the splits train, val, test, all"),
        ([camvid, "--space", "street8"], "unknown label space 'street8'"),
        ([camvid, "--drop", "robustnet"], "CamVid knows no list of that name"),
        ([camvid, "--options", "labels"], "--options: expected KEY=VALUE, got 'labels'"),
        ([camvid, "--options", "split=val"], "--options: 'split' cannot be given there"),
        ([camvid, "--options", "labls=x"], "labls"),
        ([camvid, "--workers", "0"], "workers must be 1 or more"),
        ([camvid, "--json", tmp_path / "no" / "report.json"], "--json: there is no folder"),
    ]:
        code, out, err = run(capsys, "seg", *arguments)
        assert code == 1 and message in err, (arguments, err)
        assert err.startswith("error: ") and len(err.splitlines()) == 1
        assert "in a config" not in out


def test_streets_are_drawn_checked_and_shown(capsys, tmp_path: Path, cache: Path) -> None:
    from mmengine.registry import DATASETS

    root, sheet = tmp_path / "game", tmp_path / "pictures" / "sheet.png"
    command = ("streets", root, "--style", "game", "--split", "train", "val", "--images", "3", "2",
               "--size", "96x64", "--workers", "0")  # fmt: skip
    code, out, _ = run(capsys, *command, "--sheet", sheet)
    assert code == 0
    assert "5 images read, 0 errors" in out
    assert "64x96 (3)" in out and "already" not in out
    assert cv2.imread(str(sheet)) is not None
    datasets = {name: DATASETS.build(config) for name, config in configs(out).items()}
    assert {n: len(d) for n, d in datasets.items()} == {"train_dataset": 3, "val_dataset": 2}
    assert len(list(cache.iterdir())) == 2
    code, out, _ = run(capsys, *command)
    assert code == 0 and "holds the streets of val already; nothing was drawn" in out


def test_streets_in_the_real_style(capsys, tmp_path: Path) -> None:
    code, out, _ = run(
        capsys, "streets", tmp_path / "real", "--style", "real", "--split", "val", "--images", "2",
        "--size", "96x64", "--workers", "0", "--train-ids",
    )  # fmt: skip
    assert code == 0
    assert configs(out)["val_dataset"]["type"] == "seg.Cityscapes"


def test_mistakes_in_streets(capsys, tmp_path: Path) -> None:
    command = ("streets", tmp_path / "s", "--style", "game")
    for arguments, message in [
        (("--size", "96"), "--size: expected WxH in pixels, e.g. 512x256, got '96'"),
        (("--size", "0x64"), "--size: expected WxH"),
        (("--sheet", "sheet.gif"), "--sheet: the name must end in .png or .jpg"),
        (("--images", "3", "4"), "--images: expected 1 or 1 numbers, got 2"),
        (("--images", "0"), "images"),
        (("--split", "trian"), "split"),
    ]:
        code, _, err = run(capsys, *command, *arguments)
        assert code == 1 and message in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "s").exists()


def test_without_the_extra_it_says_what_to_install(camvid: Path) -> None:
    program = (
        "import sys; sys.modules['mmseg'] = None; "
        f"from tools.prepare_data import main; main(['seg', {str(camvid)!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "segmentation needs mmseg, which is not installed" in done.stderr
    assert "pip install -c constraints.txt -e '.[seg]'" in done.stderr
