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

from tests.test_imaging.conftest import encode, picture

ROOT = Path(__file__).parent.parent.parent
CLASSES = ("circle", "square", "star")

CONFIG = """
_base_ = {base!r}
_data = dict(_delete_=True, type="cls.DomainFolder", root={root!r})
train_dataloader = dict(
    batch_size=8, num_workers={workers}, persistent_workers={workers} > 0,
    dataset=dict(
        **_data, exclude="sketch", split="train",
        transforms=[dict(type="HorizontalFlip"), dict(type="ColorJitter", p=0.5)],
    ),
)
_test = dict(
    batch_size=7, num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="cls.collate"),
)
test_dataloader = dict(
    _delete_=True,
    photo=dict(**_test, dataset=dict(type="cls.DomainFolder", root={root!r}, domains="photo",
                                     split="val")),
    sketch=dict(**_test, dataset=dict(type="cls.DomainFolder", root={root!r}, domains="sketch",
                                      split="all")),
)
val_dataloader = test_dataloader
model = dict(backbone=dict(depth=8, norm="bin", num_classes=3), mixing=[dict(type="MixUp")])
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = [dict(type="ConstantLR", factor=1.0)]
precision = dict(_delete_=True)
optim_wrapper = dict(type="engine.AutocastOptimWrapper", dtype="float32")
default_hooks = dict(logger=dict(interval=1))
visualizer = None
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """A folder with ``data/<domain>/<class>/``, ``tiny.py`` and ``workers.py``."""
    folder = tmp_path_factory.mktemp("shapes")
    for d, domain in enumerate(("photo", "sketch")):
        for c, name in enumerate(CLASSES):
            for n in range(10):
                path = folder / "data" / domain / name / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(picture(100 * d + 10 * c + n, (16, 16)), ".png"))
    base = str(ROOT / "configs/cls/cifar_resnet20_short_cifar10.py")
    for name, workers in (("tiny", 0), ("workers", 2)):
        text = CONFIG.format(base=base, root=str(folder / "data"), workers=workers)
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def trained(shapes, tool) -> Path:
    """A checkpoint of two tiny epochs, made once."""
    checkpoint = shapes / "run" / "epoch_2.pth"
    if not checkpoint.exists():
        code, _, err = tool("train_cls", shapes / "tiny.py", "--work-dir", shapes / "run")
        assert code == 0, err
    return checkpoint


def weights(path: Path) -> dict[str, torch.Tensor]:
    from backbones.weights import read_checkpoint

    return read_checkpoint(path)["state_dict"]


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_output_names_protocol_and_next_step(shapes, tool) -> None:
    code, out, err = tool(
        "train_cls", shapes / "tiny.py", "--epochs", 1, "--seed", 7, "--work-dir", shapes / "one"
    )
    assert code == 0, err
    assert "seed 7" in out and "top-1" in out and "sketch" in out and "percent" in out
    assert "test_cls.py" in out and "epoch_1.pth" in out
    manifest = json.loads((shapes / "one" / "manifest_train.json").read_text())
    assert manifest["seed"] == 7 and len(manifest["data"]["train"]["fingerprint"]) == 64
    gates = [v for k, v in weights(shapes / "one" / "epoch_1.pth").items() if k.endswith("gate")]
    assert gates and all(((gate >= 0) & (gate <= 1)).all() for gate in gates)


def test_resumed_equals_uninterrupted(shapes, trained, tool) -> None:
    folder = shapes / "resumed"
    code, _, err = tool("train_cls", shapes / "tiny.py", "--epochs", 1, "--work-dir", folder)
    assert code == 0, err
    code, _, err = tool("train_cls", shapes / "tiny.py", "--work-dir", folder, "--resume")
    assert code == 0, err
    assert_same_weights(folder / "epoch_2.pth", trained)


def test_stopped_within_an_epoch_and_resumed_equals_uninterrupted(shapes, trained, tool) -> None:
    folder, log = shapes / "stopped", shapes / "stopped.log"
    command = [sys.executable, "tools/train_cls.py", shapes / "workers.py", "--work-dir", folder]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while "Epoch(train)" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == 128 + signal.SIGINT, log.read_text()
    assert len(list(folder.glob("stopped_iter_*.pth"))) == 1
    code, _, err = tool("train_cls", shapes / "tiny.py", "--work-dir", folder, "--resume")
    assert code == 0, err
    assert_same_weights(folder / "epoch_2.pth", trained)


def test_own_images_set_the_number_of_classes(shapes, tool, tmp_path) -> None:
    code, out, err = tool(
        "train_cls", shapes / "tiny.py", "--own", f"mine={shapes / 'data' / 'photo'}",
        "--epochs", 1, "--work-dir", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    assert "mine" in out
    assert weights(tmp_path / "epoch_1.pth")["backbone.fc.weight"].shape[0] == 3


def test_pretrained_weights_for_other_classes(shapes, trained, tool, tmp_path) -> None:
    from backbones import create_model

    other = create_model("cifar_resnet8_bin", num_classes=9)
    torch.save(other.state_dict(), tmp_path / "nine.pth")
    code, _, err = tool(
        "train_cls", shapes / "tiny.py", "--weights", tmp_path / "nine.pth", "--epochs", 1,
        "--work-dir", tmp_path / "run", "--cfg-options", "optim_wrapper.optimizer.lr=0",
    )  # fmt: skip
    assert code == 0, err
    after = weights(tmp_path / "run" / "epoch_1.pth")
    assert torch.equal(after["backbone.conv1.weight"], other.conv1.weight)
    assert after["backbone.fc.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg-options", "model.backbone.num_classes=5"], "have 3 classes"),
        (["--data", "/no/such/data"], "/no/such/data"),
        (["--data", "nothing={shapes}/data"], "no data 'nothing'"),
        (["--data", "{shapes}/data", "--own", "{shapes}/data"], "not both"),
        (["--own", "/no/such/data"], "--own: no data at /no/such/data"),
        (["--cfg-options", "train_dataloader.batch_size=64"], "do not fill a batch of 64"),
        (
            [
                "--own",
                "{shapes}/data/photo",
                "--cfg-options",
                "train_dataloader.dataset.transforms="
                "[{{'type':'RandomCrop','height':8,'width':8}}]",
            ],
            "tests on images as they are",
        ),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--resume", "nowhere.pth"], "no checkpoint at nowhere.pth"),
        (["--epochs", "0"], "expected 1 or more"),
        (["--cfg-options", "model.mixing=[{{'type':'Mixup'}}]"], "choose of MixUp, CutMix"),
        (["--cfg-options", "model.backbone.norm=bnn"], "bnn"),
        (["--cfg-options", "train_dataloader.dataset.exclude=sketsh"], "sketsh"),
    ],
)
def test_mistakes_end_in_one_clear_message(shapes, tool, tmp_path, arguments, message) -> None:
    filled = [argument.format(shapes=shapes) for argument in arguments]
    code, _, err = tool("train_cls", shapes / "tiny.py", "--work-dir", tmp_path, *filled)
    assert code == 1
    error = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0], err
    assert "Traceback" not in err


def test_a_broken_image_is_named(shapes, tool, tmp_path) -> None:
    import shutil

    shutil.copytree(shapes / "data", tmp_path / "data")
    for path in (tmp_path / "data" / "photo").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    code, _, err = tool(
        "train_cls", shapes / "tiny.py", "--data", tmp_path / "data", "--work-dir", tmp_path / "run"
    )
    assert code == 1 and "truncated" in err and "photo" in err and "Traceback" not in err
