from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_imaging.conftest import encode, picture
from tools.prepare_data import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the tool."""
    with pytest.raises(SystemExit) as exit_:
        main(["cls", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return int(exit_.value.code or 0), out, err


def configs(out: str) -> dict[str, Any]:
    """The printed config lines, executed."""
    namespace: dict[str, Any] = {}
    exec("\n".join(line.strip() for line in out.splitlines() if "_dataset = " in line), namespace)
    return {name: value for name, value in namespace.items() if name.endswith("_dataset")}


def built(out: str) -> dict[str, int]:
    """The data sets of the printed lines, by size."""
    from mmengine.registry import DATASETS

    return {name: len(DATASETS.build(config)) for name, config in configs(out).items()}


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(picture(seed, (20, 24))))


@pytest.fixture
def styles(tmp_path: Path) -> Path:
    seed = 0
    for domain in ("art", "photo", "sketch"):
        for kind in ("cup", "pen"):
            for number in range(10):
                seed += 1
                write(tmp_path / "styles" / domain / kind / f"{number}.jpg", seed)
    return tmp_path / "styles"


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        data = np.random.default_rng(seed).integers(0, 256, (20, 3072), dtype=np.uint8)
        content = {"labels": [i % 10 for i in range(20)], "data": data}
        (root / name).write_bytes(pickle.dumps(content, 2))
    meta = {"label_names": [f"kind{i}" for i in range(10)]}
    (root / "batches.meta").write_bytes(pickle.dumps(meta, 2))
    return root


def test_domains_are_recognised_and_explained(capsys, styles: Path) -> None:
    code, out, err = run(capsys, styles)
    assert (code, err) == (0, "")
    assert f"styles  (cls.DomainFolder, {styles})" in out
    words = [line.split() for line in out.splitlines()]
    assert ["sketch", "20", "2", "10", "-", "-", "20x24", "(20)"] in words
    assert ["pen", "1", "10", "10", "10"] in words
    assert "60 images read, 0 errors, 0 warnings: the data can be used" in out
    assert configs(out)["train_dataset"]["exclude"] == "sketch"
    assert built(out) == {"train_dataset": 36, "val_dataset": 4, "test_dataset": 20}


def test_errors_end_in_exit_code_1_and_no_config(capsys, styles: Path, tmp_path: Path) -> None:
    (styles / "photo/pen").rename(styles / "photo/Pen")
    (styles / "art/cup/3.jpg").write_bytes(b"")
    code, out, _ = run(capsys, styles, "--json", tmp_path / "report.json")
    assert code == 1
    assert "art/cup/3.jpg: the file is empty" in out
    assert "photo has no pen (its 'Pen' may be it)" in out
    assert "2 errors, 0 warnings: repair the errors first" in out
    assert "in a config" not in out
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["type"] == "cls.DomainFolder" and content["ok"] is False


def test_a_tree_of_one_domain(capsys, styles: Path) -> None:
    code, out, _ = run(capsys, styles / "photo")
    assert code == 0 and "(cls.ClassFolder," in out
    assert built(out) == {"train_dataset": 18, "val_dataset": 2}


def test_cifar(capsys, cifar10: Path) -> None:
    code, out, _ = run(capsys, cifar10)
    assert code == 0
    assert "protocol: 100 of 50,000 training images, not the official files" in out
    assert built(out) == {"train_dataset": 100, "test_dataset": 20}
    code, out, _ = run(capsys, cifar10, "--split", "val", "--options", "holdout=0.2")
    assert code == 0
    assert built(out) == {"val_dataset": 20}


def test_a_batch_with_code_or_cut_short(capsys, cifar10: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'touched'}",)

    (cifar10 / "data_batch_2").write_bytes(pickle.dumps({"data": Bomb()}))
    code, out, err = run(capsys, cifar10)
    assert (code, out) == (1, "")
    assert "data_batch_2'" in err and "refused: it names posix.system" in err
    assert not (tmp_path / "touched").exists()
    (cifar10 / "data_batch_2").write_bytes((cifar10 / "data_batch_1").read_bytes()[:5000])
    code, _, err = run(capsys, cifar10)
    assert code == 1 and "data_batch_2'" in err and "truncated" in err


def test_lists(capsys, styles: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("art/cup/1.jpg 0\nart/pen/1.jpg 1\nart/pen/2.jpg 2\n")
    (tmp_path / "val.txt").write_text("art/cup/0.jpg 0\n")
    code, out, _ = run(capsys, tmp_path, "--layout", "list", "--options", f"source={styles}")
    assert code == 0
    assert "the splits have different classes" in out
    assert built(out) == {"train_dataset": 3, "val_dataset": 1}
    assert configs(out)["val_dataset"]["num_classes"] == 3
    code, _, err = run(capsys, tmp_path / "train.txt")
    assert code == 1 and "names 3 files, of which 3 are not below" in err
    code, _, err = run(capsys, tmp_path / "train.txt", "--options", "num_classes=2")
    assert code == 1 and "line 3: 2" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", "holdout"], "expected KEY=VALUE, got 'holdout'"),
        (["--options", "split=train"], "'split' cannot be given there"),
        (["--options", "coarse=True"], "cls.DomainFolder takes no 'coarse'; it takes domains"),
        (["--split", "test"], "split must be one of train, val, all"),
        (["--json", "no/such/folder/x.json"], "--json: there is no folder"),
        (["--layout", "cifar10"], "no batches of CIFAR10"),
    ],
)
def test_wrong_options_are_explained(capsys, styles: Path, arguments, message: str) -> None:
    code, out, err = run(capsys, styles, *arguments)
    assert (code, out) == (1, "")
    assert message in err


def test_a_folder_that_is_none_of_the_layouts(capsys, styles: Path) -> None:
    code, _, err = run(capsys, styles / "art/cup")
    assert code == 1
    assert "none of the known layouts" in err and "above it can be read (folder)" in err
