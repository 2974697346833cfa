import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.prepare_data import main

ROOT = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the tool."""
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return int(exit_.value.code or 0), out, err


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Four identities x 2 cameras x 2 images, JPEG bytes behind names in .png."""
    rng = np.random.default_rng(0)
    for identity in "abcd":
        for name in ("01_0.png", "01_1.png", "02_0.png", "02_1.png"):
            coarse = rng.integers(0, 256, (4, 3, 3), dtype=np.uint8)
            data = cv2.imencode(".jpg", cv2.resize(coarse, (24, 48)))[1].tobytes()
            path = tmp_path / "people" / identity / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return tmp_path / "people"


def config_of(out: str) -> dict:
    """The printed config lines, executed."""
    namespace: dict = {}
    lines = [line.strip() for line in out.splitlines() if "_dataset = " in line]
    exec("\n".join(lines), namespace)
    return {name: value for name, value in namespace.items() if name.endswith("_dataset")}


def test_a_folder_is_recognised_and_explained(capsys, people: Path) -> None:
    code, out, err = run(capsys, "reid", people, "--camera-pattern", r"^(\d+)_")
    assert (code, err) == (0, "")
    table = [line.split() for line in out.splitlines()]
    assert ["train", "8", "2", "2"] in table
    assert ["query", "4", "2", "2"] in table
    assert ["gallery", "4", "2", "2"] in table
    assert r"protocol: image folder, identities split automatically" in out
    assert "16 files are named .png but JPEG inside" in out
    assert "and 14 more (--all lists them)" in out
    assert "16 images read, 0 errors, 0 warnings: the data can be used" in out
    assert "hint:" not in out


def test_the_config_lines_build_the_datasets(capsys, people: Path) -> None:
    from mmengine.registry import DATASETS

    _, out, _ = run(
        capsys, "reid", people, "--camera-pattern", r"^(\d+)_", "--train-fraction", "0.75",
        "--seed", "2", "--skip-images",
    )  # fmt: skip
    datasets = {name: DATASETS.build(config) for name, config in config_of(out).items()}
    assert len(datasets["train_dataset"]) == 12
    assert len(datasets["test_dataset"]) == 4
    assert datasets["train_dataset"].metainfo["protocol"] in " ".join(out.split())


def test_options_that_shape_the_split(capsys, people: Path) -> None:
    code, out, _ = run(capsys, "reid", people, "--train-fraction", "0", "--no-cameras")
    assert code == 0
    assert "there are no training images" in out and "no cameras" in out
    assert config_of(out) == {
        "test_dataset": {
            "type": "reid.ImageFolder",
            "root": str(people),
            "split": "test",
            "train_fraction": 0.0,
            "camera": None,
        }
    }


def test_a_camera_pattern_is_suggested(capsys, people: Path) -> None:
    code, out, _ = run(capsys, "reid", people, "--skip-images")
    assert code == 0
    assert r"add --camera-pattern '^(\d+)_'" in out
    assert "the images were not opened" in out


def test_broken_data_exits_with_1(capsys, people: Path) -> None:
    for k, path in enumerate(sorted(people.rglob("*.png"))[:12]):
        path.write_bytes(path.read_bytes()[:-20] if k else b"")
    code, out, _ = run(capsys, "reid", people)
    assert code == 1
    assert "12 images are unreadable" in out
    assert "a/01_0.png: the file is empty" in out
    assert "and 2 more (--all lists them)" in out
    assert "1 error, 0 warnings: repair the errors first" in out
    assert "in a config" not in out
    _, out, _ = run(capsys, "reid", people, "--all")
    assert out.count("the JPEG data is truncated") == 11 and "--all lists" not in out


def test_csv(capsys, people: Path) -> None:
    lines = [f"{p.relative_to(people)},{p.parent.name}" for p in sorted(people.rglob("*.png"))]
    (people / "list.csv").write_text("\n".join(["path,pid", *lines]))
    for root in (people, people / "list.csv"):
        code, out, _ = run(capsys, "reid", root, "--skip-images")
        assert code == 0 and "(reid.CSVList, " in out
    code, out, _ = run(capsys, "reid", people, "--layout", "folder", "--skip-images")
    assert code == 0 and "(reid.ImageFolder, " in out
    (people / "list.csv").write_text("path,pid\nnone.jpg,1\n")
    code, _, err = run(capsys, "reid", people)
    assert code == 1 and "line 2:" in err and "does not exist" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera-pattern", "("], "is not a regular expression"),
        (["--camera-pattern", r"(\d)x"], "finds no camera in 16 of 16 files"),
        (["--train-fraction", "3"], "train_fraction must be from 0 to 1"),
        (["--layout", "market1501"], "is not a Market-1501 folder"),
        (["--layout", "csv"], "holds no CSV file"),
        (["--layout", "market1501", "--seed", "1"], "--seed does not apply to the layout"),
    ],
)
def test_mistakes_are_one_message(capsys, people: Path, arguments: list, message: str) -> None:
    code, out, err = run(capsys, "reid", people, *arguments)
    assert code == 1 and not out
    assert err.startswith("error: ") and message in err


def test_a_path_that_does_not_exist(capsys, tmp_path: Path) -> None:
    code, _, err = run(capsys, "reid", tmp_path / "none")
    assert code == 1 and "does not exist" in err


@pytest.mark.parametrize("arguments", [[], ["reid"], ["reid", "x", "--layout", "duke"], ["seg"]])
def test_wrong_usage_exits_with_2(capsys, arguments: list[str]) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "usage:" in err


def test_synthetic(capsys, tmp_path: Path) -> None:
    arguments = [
        "synthetic", tmp_path / "city", "--identities", "4", "--cameras", "2",
        "--images-per-camera", "2", "--city", "dusk", "--seed", "3", "--sheet",
    ]  # fmt: skip
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert ["train", "8", "2", "2"] in [line.split() for line in out.splitlines()]
    assert "nothing was drawn" not in out
    sheet = tmp_path / "city" / "contact_sheet.png"
    assert cv2.imread(str(sheet)) is not None
    assert config_of(out)["test_dataset"]["type"] == "reid.Market1501"
    code, out, _ = run(capsys, *arguments, tmp_path / "sheet.jpg")
    assert code == 0 and "nothing was drawn" in out
    assert (tmp_path / "sheet.jpg").read_bytes().startswith(b"\xff\xd8")
    assert not list(tmp_path.rglob("*.partial"))
    code, out, _ = run(capsys, "reid", tmp_path / "city")
    assert code == 0 and "(reid.Market1501, " in out


def test_synthetic_mistakes(capsys, tmp_path: Path) -> None:
    root = tmp_path / "city"
    code, _, err = run(capsys, "synthetic", root, "--identities", "4", "--sheet", "sheet.txt")
    assert code == 1 and "must end in .png or .jpg" in err and not root.exists()
    code, _, err = run(capsys, "synthetic", root, "--city", "atlantis")
    assert code == 1 and "atlantis" in err and "noon" in err


def test_help_needs_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['prepare_data.py', '{command}', '--help']\n"
        "from tools.prepare_data import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {{'torch', 'cv2', 'numpy', 'mmengine', 'rich'}} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for command in ("reid", "synthetic"):
        done = subprocess.run(
            [sys.executable, "-c", script.format(command=command)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "ROOT" in done.stdout
