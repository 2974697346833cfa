from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmseg")

ROOT = Path(__file__).parent.parent.parent

CONFIG = """
_base_ = {base!r}

pipeline = [
    dict(type="seg.LoadImage"), dict(type="seg.LoadLabels"),
    dict(type="seg.ClassCrop", crop_size=(32, 48)), dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
precision = dict(_delete_=True)
visualizer = None
train_dataloader = dict(
    batch_size=2, num_workers={workers}, persistent_workers={workers} > 0,
    dataset=dict(pipeline=pipeline),
)
test_dataloader = dict(game=dict(num_workers=0), real=dict(num_workers=0))
val_dataloader = dict(game=dict(num_workers=0))
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny ``game`` and ``real`` streets, and two configs of a few seconds."""
    from seg.synthetic import make_streets

    folder = tmp_path_factory.mktemp("streets")
    for style, split in (("game", "train"), ("game", "val"), ("real", "val")):
        make_streets(folder / style, style, split=split, images=3, size=(64, 32), workers=0)
    base = str(ROOT / "configs/seg/resnet18_small_streets.py")
    for name, workers in (("tiny", 0), ("tiny_workers", 1)):
        (folder / f"{name}.py").write_text(CONFIG.format(base=base, workers=workers))
    return folder


def data(streets: Path) -> list[str]:
    return ["--data", f"game={streets / 'game'}", f"real={streets / 'real'}"]


def weights(path: Path) -> dict[str, torch.Tensor]:
    from backbones.weights import read_checkpoint

    return read_checkpoint(path)["state_dict"]


def assert_same(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture
def trained(streets, tool) -> Path:
    """A checkpoint of four tiny iterations, made once."""
    checkpoint = streets / "run" / "iter_4.pth"
    if not checkpoint.exists():
        code, _, err = tool(
            "train_seg", streets / "tiny.py", *data(streets), "--iterations", 4,
            "--work-dir", streets / "run",
        )  # fmt: skip
        assert code == 0, err
    return checkpoint


def test_a_run_says_how_it_was_made_and_what_comes_next(streets, trained, tool) -> None:
    manifest = json.loads((trained.parent / "manifest_train.json").read_text())
    assert manifest["data"]["train"]["num_images"] == 3
    assert manifest["data"]["game"]["split"] == "val" and manifest["seed"] == 0
    code, out, err = tool(
        "train_seg", streets / "tiny.py", *data(streets), "--iterations", 2, "--no-test",
        "--work-dir", streets / "short",
    )  # fmt: skip
    assert code == 0, err
    command = next(line for line in out.splitlines() if line.startswith("next: ")).split()[3:]
    code, out, err = tool("test_seg", *[c for c in command if c != "--html"])
    assert code == 0, err
    assert "game (source)" in out and "protocol: none" in out
    assert "OneDL" not in out


def test_workers_change_nothing(streets, trained, tool) -> None:
    code, _, err = tool(
        "train_seg", streets / "tiny_workers.py", *data(streets), "--iterations", 4, "--no-test",
        "--work-dir", streets / "workers",
    )  # fmt: skip
    assert code == 0, err
    assert_same(trained, streets / "workers" / "iter_4.pth")


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(streets, tool) -> None:
    """SIGTERM in the middle; --resume ends with the weights of the run that was not stopped."""
    command = [sys.executable, "tools/train_seg.py", streets / "tiny_workers.py", *data(streets)]
    command += ["--iterations", 12, "--no-test", "--resume"]
    command = [str(part) for part in command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, "--work-dir", str(streets / name)],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    assert start("whole").wait(300) == 0
    process = start("parts")
    log = streets / "parts"
    deadline = time.monotonic() + 200
    while not any("Iter(train) [ 3/12]" in p.read_text() for p in log.rglob("*.log")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert list(log.glob("stopped_iter_*.pth"))
    assert start("parts").wait(300) == 0
    assert_same(streets / "whole" / "iter_12.pth", streets / "parts" / "iter_12.pth")


@pytest.mark.slow
def test_two_processes_train(streets) -> None:
    """torchrun on gloo: synchronised norms, shares of the data, one checkpoint."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node=2", "tools/train_seg.py", streets / "tiny.py", *data(streets)),
            *("--iterations", "3", "--work-dir", streets / "two"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(v.isfinite().all() for v in weights(streets / "two" / "iter_3.pth").values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "gta5=/tmp"], "the config has no domain 'gta5'"),
        (["--iterations", "0"], "--iterations: expected 1 or more"),
        (["--weights", "absent.pth"], "absent.pth"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, streets, tool) -> None:
    code, _, err = tool(
        "train_seg", streets / "tiny.py", *data(streets), *arguments, "--work-dir", streets / "no"
    )
    assert code == 1 and message in err and "Traceback" not in err


def test_data_that_is_not_there_is_asked_for(streets, tool) -> None:
    config = ROOT / "configs/seg/resnet18_small_streets.py"
    code, _, err = tool(
        "train_seg", config, "--work-dir", streets / "no",
        "--cfg-options", f"train_dataloader.dataset.root={streets / 'absent'}",
    )  # fmt: skip
    assert code == 1 and "--data NAME=PATH" in err
