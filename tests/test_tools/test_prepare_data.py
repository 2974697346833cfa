import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.datasets import LAYOUTS
from tests.test_reid.test_datasets.made_trees import MAKERS, OPTIONS, make_flat, write_lines
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
        (["--layout", "veri776"], "is not a VeRi-776 folder"),
        (["--layout", "flat"], "which part of a file's name is the identity"),
        (["--options", "size=large"], "reid.ImageFolder takes no 'size'; it takes camera, "),
        (["--options", "seed"], "expected KEY=VALUE"),
        (["--options", "root=elsewhere"], "'root' cannot be given there"),
        (["--json", "/no/such/folder/a.json"], "--json: there is no folder /no/such/folder"),
        (["--write-csv", "/no/such/folder/a.csv"], "--write-csv: there is no folder"),
    ],
)
def test_mistakes_are_one_message(capsys, people: Path, arguments: list, message: str) -> None:
    code, out, err = run(capsys, "reid", people, *arguments)
    assert code == 1 and not out
    assert err.startswith("error: ") and message in err


def test_a_path_that_does_not_exist(capsys, tmp_path: Path) -> None:
    code, _, err = run(capsys, "reid", tmp_path / "none")
    assert code == 1 and f"of that path only '{tmp_path}' is there" in err


@pytest.mark.parametrize("arguments", [[], ["reid"], ["reid", "x", "--layout", "duke"], ["seg"]])
def test_wrong_usage_exits_with_2(capsys, arguments: list[str]) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "usage:" in err


# ------------------------------------------------------------------------------- published sets


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(capsys, tmp_path: Path, layout: str) -> None:
    from mmengine.registry import DATASETS

    root = MAKERS[layout](tmp_path / "data")
    more = [f"--{k.replace('_', '-')}={v}" for k, v in OPTIONS.get(layout, {}).items()]
    report, table = tmp_path / "report.json", tmp_path / "list.csv"
    code, out, err = run(
        capsys, "reid", f"{layout}:{root}", *more, "--json", report, "--write-csv", table
    )
    assert (code, err) == (0, ""), out
    assert f"({LAYOUTS[layout]}, {root})" in out
    content = json.loads(report.read_text())
    assert content["type"] == LAYOUTS[layout] and content["ok"] and content["images_read"] > 4
    published = content["table"][0]["official"] is not None
    assert ("published images" in out) == published
    assert ("not the official" in content["protocol"]) == published
    assert ("are not the published ones" in out) == published
    for config in config_of(out).values():
        assert DATASETS.build(config).metainfo["protocol"] == content["protocol"]
    code, again, _ = run(capsys, "reid", table, "--skip-images")
    assert code == 0
    rows = [line.split() for line in again.splitlines()]
    assert [row["images"] for row in content["table"]] == [
        int(row[1]) for row in rows if row[:1] in LISTS and len(row) == 4
    ]
    assert ("it holds the first of 10 draws" in out) == (layout == "vehicleid")
    code, out, _ = run(capsys, "reid", root, "--layout", layout, *more, "--skip-images")
    assert code == 0 and content["protocol"] in " ".join(out.split())


LISTS = (["train"], ["query"], ["gallery"])


def test_the_layouts_offered_are_all(capsys) -> None:
    _, out, _ = run(capsys, "reid", "--help")
    assert f"{{auto,{','.join(LAYOUTS)}}}" in "".join(out.split())


def test_options_of_a_published_set(capsys, tmp_path: Path) -> None:
    root = MAKERS["msmt17"](tmp_path)
    for arguments in ([f"msmt17[train=all]:{root}"], [root, "--options", "train=all"]):
        code, out, _ = run(capsys, "reid", *arguments)
        assert code == 0 and "trained on all four lists" in out
        assert list(config_of(out)) == ["train_dataset"]
        assert config_of(out)["train_dataset"]["train"] == "all"
    root = MAKERS["vehicleid"](tmp_path / "vehicles")
    code, out, _ = run(capsys, "reid", root, "--seed", "3", "--options", "draws=2")
    assert code == 0 and "mean of 2 draws (seed 3)" in " ".join(out.split())


def test_flat_images_and_lists(capsys, tmp_path: Path) -> None:
    make_flat(tmp_path / "images")
    code, _, err = run(capsys, "reid", tmp_path / "images")
    assert code == 1 and "--identity-pattern" in err
    code, out, _ = run(capsys, "reid", tmp_path)  # which holds a single folder
    assert code == 1 and "give an identity_pattern" in " ".join(out.split())
    for name, numbers in (("train", (0, 1)), ("val", (2, 3))):
        lines = (f"car_{n:04d}_cam{c}.jpg" for n in numbers for c in (1, 2))
        write_lines(tmp_path / f"{name}.txt", lines, "\r\n")
    code, out, err = run(
        capsys, "reid", tmp_path, "--identity-pattern", "^(.+)_cam", "--camera-pattern",
        r"_cam(\d)", "--options", "train_list=train.txt", "test_list=val.txt",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert ["train", "4", "2", "2"] in [line.split() for line in out.splitlines()]
    assert config_of(out)["test_dataset"]["camera_pattern"] == r"_cam(\d)"
    code, out, _ = run(
        capsys, "reid", tmp_path / "images", "--identity-pattern", "^(.+)_cam", "--skip-images"
    )
    assert code == 0 and "hint: the file names seem to hold camera numbers" in out


# ------------------------------------------------------------------------------- bad data


def market_of(root: Path, **names: str) -> Path:
    """Images by split, in the layout of Market1501, no two of the same bytes."""
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for split, text in names.items():
        for name in text.split():
            path = root / folders[split] / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(zlib.crc32(f"{split} {name}".encode()))
            picture = rng.integers(0, 256, (48, 24, 3), dtype=np.uint8)
            path.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    return root


GOOD = dict(train="0001_c1 0001_c2 0002_c1 0002_c2", query="0003_c1", gallery="0003_c2")


@pytest.mark.parametrize(
    ("changed", "level", "message"),
    [
        ({}, None, "0 errors, 0 warnings: the data can be used"),
        ({"train": "0001_c1 0001_c2 0002_c1"}, "warning", "1 of 2 training identities have a"),
        ({"train": "0001_c1 0001_c2"}, "error", "all 2 training images are of one identity"),
        ({"gallery": "0003_c1"}, "error", "no query has a match that counts in the gallery"),
        ({"gallery": "0004_c2"}, "error", "their identities are not in the gallery at all"),
        ({"query": "0003_c1 0004_c1"}, "warning", "1 of 2 queries are of identities that are not"),
        ({"query": "0002_c1"}, "error", "1 identity is in train and in test"),
    ],
)
def test_bad_lists(capsys, tmp_path: Path, changed: dict, level: str | None, message: str) -> None:
    code, out, _ = run(capsys, "reid", market_of(tmp_path, **{**GOOD, **changed}))
    assert code == (level == "error")
    told = " ".join(out.split())
    assert message in told and (level is None or level in told)


def test_cameras_missing_in_half_of_a_table(capsys, people: Path) -> None:
    rows = [
        f"{path.relative_to(people)},{path.parent.name},{path.name[:2] if k % 2 else ''}"
        for k, path in enumerate(sorted(people.rglob("*.png")))
    ]
    write_lines(people / "list.csv", ["path,pid,camera", *rows])
    code, _, err = run(capsys, "reid", people)
    assert code == 1 and "has 8 problems" in err
    assert "line 2: the camera is empty, though other rows have one" in err
    code, out, _ = run(capsys, "reid", people, "--no-cameras")
    assert code == 0 and "no cameras" in out


def test_a_path_listed_twice(capsys, people: Path) -> None:
    write_lines(people / "list.csv", ["path,pid", "a/01_0.png,a", "a/01_1.png,a", "a/01_0.png,b"])
    code, _, err = run(capsys, "reid", people)
    assert code == 1 and "line 4: 'a/01_0.png' is already listed on line 2" in err
    rows = ["a/01_0.png,a,train", "b/01_0.png,b,query", "b/01_0.png,b,gallery"]
    write_lines(people / "list.csv", ["path,pid,split", *rows])
    code, out, _ = run(capsys, "reid", people, "--skip-images")
    assert code == 1 and "1 file is listed more than once" in out


def test_synthetic(capsys, tmp_path: Path) -> None:
    arguments = [
        "synthetic", tmp_path / "city", "--identities", "4", "--cameras", "2",
        "--images-per-camera", "2", "--city", "dusk", "--seed", "3", "--sheet",
    ]  # fmt: skip
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert ["train", "8", "2", "2"] in [line.split() for line in out.splitlines()]
    assert "nothing was drawn" not in out and "published" not in out
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
