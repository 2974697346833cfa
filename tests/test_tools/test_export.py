from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx
import onnxruntime

from reid.export import OnnxEmbedder
from reid.inference import FeatureExtractor

CONFIG = """
default_scope = "mmseg"
protocol = "rein-512"
model = dict(
    type="seg.Segmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[120, 110, 100], std=[60, 60, 60], bgr_to_rgb=True
    ),
    backbone=dict(type="backbones.CifarResNet", depth=8),
    decode_head=dict(
        type="FCNHead", in_index=2, in_channels=64, channels=16, num_convs=1,
        num_classes=7, norm_cfg=dict(type="BN"),
    ),
)
test_pipeline = [
    dict(type="seg.LoadImage"), dict(type="seg.LoadLabels"), dict(type="PackSegInputs")
]
"""


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    pytest.importorskip("mmseg")
    from engine.cli import load_config
    from seg.inference import build_model

    config, checkpoint = tmp_path / "tiny.py", tmp_path / "tiny.pth"
    config.write_text(CONFIG)
    network, _ = build_model(load_config(config))
    torch.nn.init.normal_(network.decode_head.conv_seg.weight)
    torch.save({"state_dict": network.state_dict(), "meta": {}}, checkpoint)
    return config, checkpoint


@pytest.fixture
def image(tmp_path: Path) -> Path:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC))
    return path


def test_segmentation(tool, model, image, tmp_path) -> None:
    from seg.inference import Segmenter

    out = tmp_path / "new" / "model.onnx"
    run = ("export", "segmentation", *model, "--out", out, "--size", "48x64", "--check", image)
    code, text, err = tool(*run)
    assert code == 0, err
    assert "7 classes" in text and "3 inputs (1 images)" in text and "equal labels: 100" in text
    stored = {p.key: p.value for p in onnx.load(str(out)).metadata_props}
    assert stored["protocol"] == "rein-512" and json.loads(stored["classes"])[0] == "drivable"

    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    pixels = cv2.imread(str(image))[..., ::-1].transpose(2, 0, 1)[None].copy()
    (logits,) = session.run(None, {"image": pixels})
    assert (logits[0].argmax(0) == Segmenter(*model, "cpu")(image)).mean() > 0.999


@pytest.mark.slow
def test_torch_program_of_any_size(tool, model, tmp_path) -> None:
    out = tmp_path / "model.pt2"
    options = ("--out", out, "--size", "dynamic", "--labels")
    code, text, err = tool("export", "segmentation", *model, *options)
    assert code == 0, err
    assert "any size" in text and "largest difference" not in text
    labels = torch.export.load(out).module()(torch.zeros(1, 3, 40, 56, dtype=torch.uint8))
    assert labels.shape == (1, 40, 56)


def test_failed_parity(tool, model, tmp_path) -> None:
    out = tmp_path / "model.onnx"
    code, _, err = tool(
        *("export", "segmentation", *model, "--out", out, "--size", "32x32"),
        *("--tolerance", "1e-12"),
    )
    assert code == 1 and "nothing was written" in err and err.count("\n") == 1
    assert not out.exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--out", "m.txt"), 1, ".onnx or .pt2"),
        (("--out", "m.onnx", "--size", "512"), 2, "HEIGHTxWIDTH"),
        (("--out", "m.onnx", "--opset", "9"), 1, "18 or later"),
        (("--out", "m.onnx", "--check", "absent.png"), 1, "absent.png"),
    ],
)
def test_mistakes(tool, model, monkeypatch, tmp_path, options, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    got, _, err = tool("export", "segmentation", *model, *options)
    assert got == code and message in err
    assert not Path("m.onnx").exists()


def test_reid(tool, world, trained, tmp_path) -> None:
    """Images of the config's first data set are found, and both files are ranked on another."""
    out = tmp_path / "new" / "model.onnx"
    options = ("--out", out, "--int8", "--data", f"market1501:{world / 'dusk'}")
    code, text, err = tool("export", "reid", world / "tiny.py", trained, *options)
    assert code == 0, err
    assert "compared with the model on 12 batches (8 images)" in text
    assert "smallest cosine to the model's embedding: 1.000000 on noise, 1.000000" in text
    assert "CPU time" in text and "mAP: " in text and "rank-1: " in text
    assert sorted(p.name for p in out.parent.iterdir()) == ["model.int8.onnx", "model.onnx"]

    images = [cv2.imread(str(p))[..., ::-1] for p in sorted((world / "noon/query").iterdir())]
    expected = FeatureExtractor(world / "tiny.py", trained, "cpu")(images)
    np.testing.assert_allclose(OnnxEmbedder(out)(images), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--out", "m.pt2"), 1, "ending in .onnx"),
        (("--out", "m.onnx", "--data", "x"), 1, "--int8"),
        (("--out", "m.onnx", "--check", "absent.png"), 1, "absent.png"),
        pytest.param(
            *(("--out", "m.onnx", "--tolerance", "1e-12"), 1, "nothing was written"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_reid_mistakes(tool, world, trained, monkeypatch, tmp_path, options, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    got, _, err = tool("export", "reid", world / "tiny.py", trained, *options)
    assert got == code and message in err
    assert not list(tmp_path.iterdir())
