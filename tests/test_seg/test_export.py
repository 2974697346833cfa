from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("mmseg")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx
import onnxruntime
from mmengine import Config
from mmengine.registry import DefaultScope

import seg.export
from seg.export import ParityError, PixelsToLogits, export_network, metadata_of
from seg.models.prediction import predict_labels
from seg.registry import MODELS

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]


def segmentor(classes: int = 5, *, swap: bool = True, **head):
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(
            dict(
                type="seg.Segmentor",
                data_preprocessor=dict(
                    type="SegDataPreProcessor", mean=MEAN, std=STD, bgr_to_rgb=swap
                ),
                backbone=dict(type="backbones.CifarResNet", depth=8),
                decode_head=dict(
                    type="FCNHead",
                    in_index=2,
                    in_channels=64,
                    channels=8,
                    num_convs=1,
                    num_classes=classes,
                    norm_cfg=dict(type="BN"),
                )
                | head,
            )
        )
    nn.init.normal_(model.decode_head.conv_seg.weight)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return segmentor()


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (33, 47, 3)).astype(np.uint8)]


def run(path, pixels: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": pixels})[0]


def test_fixed_size(model, images, tmp_path) -> None:
    path = tmp_path / "new" / "model.onnx"
    metadata = metadata_of(Config(dict(protocol="robustnet-r50")), model, "abcde", [[1, 2, 3]] * 5)
    report = export_network(model, path, size=(32, 48), images=images, metadata=metadata)
    assert report.ok and report.inputs == 3
    assert report.equal_labels == 1 and report.max_relative_difference < 1e-5
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]

    # independent: RGB pixels normalised by hand, any batch
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 48)).astype(np.uint8)
    logits = run(path, pixels)
    assert logits.shape == (4, 5, 32, 48) and logits.dtype == np.float32
    x = torch.from_numpy(pixels).float()
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for image, result in zip(x, logits, strict=True):
        labels = predict_labels(model.logits, image, align_corners=model.align_corners)
        assert (result.argmax(0) == labels.numpy()).mean() > 0.999

    stored = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
    assert json.loads(stored["classes"]) == list("abcde")
    assert json.loads(stored["palette"]) == [[1, 2, 3]] * 5
    assert stored["protocol"] == "robustnet-r50" and "RGB" in stored["input"]
    assert json.loads(stored["mean"]) == MEAN and json.loads(stored["std"]) == STD
    assert json.loads(stored["test_cfg"]) == {"mode": "whole"}


def test_any_size_and_labels(model, images, tmp_path) -> None:
    path = tmp_path / "model.onnx"
    assert export_network(model, path, size=None, labels=True, images=images).ok
    for height, width in ((64, 64), (37, 90)):
        pixels = np.zeros((2, 3, height, width), np.uint8)
        labels = run(path, pixels)
        assert labels.shape == (2, height, width) and labels.dtype == np.uint8
    dims = [d.dim_param for d in onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", "", "height", "width"]


def test_torch_program(model, images, tmp_path) -> None:
    path = tmp_path / "model.pt2"
    report = export_network(model, path, size=(32, 48), metadata={"classes": "[]"}, images=images)
    assert report.ok
    extra = {"classes.txt": ""}
    program = torch.export.load(path, extra_files=extra)
    assert extra["classes.txt"] in ("[]", b"[]")
    pixels = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    expected = PixelsToLogits(model)(pixels)
    torch.testing.assert_close(program.module()(pixels), expected, atol=1e-4, rtol=1e-4)


def test_channel_order() -> None:
    """A model of BGR images (no conversion in its preprocessor) gets the file's RGB turned."""
    straight, turned = segmentor(swap=True), segmentor(swap=False)
    turned.load_state_dict(straight.state_dict())
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            PixelsToLogits(straight)(pixels), PixelsToLogits(turned)(pixels.flip(1))
        )
        assert not torch.allclose(PixelsToLogits(straight)(pixels), PixelsToLogits(turned)(pixels))


def test_binary_head() -> None:
    model = segmentor(2, out_channels=1, threshold=0.4)
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        logits = PixelsToLogits(model)(pixels)
        labels = PixelsToLogits(model, labels=True)(pixels)
    assert torch.equal(labels, (logits[:, 0].sigmoid() > 0.4).to(torch.uint8))


@pytest.mark.parametrize(
    ("suffix", "before"), [("onnx", None), ("pt2", None), ("pt2", b"an older file")]
)
def test_nothing_is_left_when_parity_fails(model, tmp_path, monkeypatch, suffix, before) -> None:
    path = tmp_path / f"model.{suffix}"
    if before is not None:
        path.write_bytes(before)
    runner = {"onnx": "_onnx_runner", "pt2": "_program_runner"}[suffix]
    honest = getattr(seg.export, runner)
    monkeypatch.setattr(
        seg.export, runner, lambda p: lambda x: honest(p)(x) + 0.2 * torch.randn(())
    )
    with pytest.raises(ParityError, match="nothing was written") as caught:
        export_network(model, path, size=(32, 32))
    assert not caught.value.report.ok and caught.value.report.max_relative_difference > 1e-4
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_nan_is_no_parity(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        seg.export,
        "_program_runner",
        lambda p: lambda x: torch.full((len(x), 5, *x.shape[2:]), float("nan")),
    )
    with pytest.raises(ParityError, match="inf"):
        export_network(model, tmp_path / "m.pt2", size=(32, 32))


def test_logits_that_are_not_finite(tmp_path) -> None:
    model = segmentor()
    nn.init.constant_(model.decode_head.conv_seg.bias, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        export_network(model, tmp_path / "m.pt2", size=(32, 32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(path="model.pth"), "onnx or .pt2"),
        (dict(opset=11), "18 or later"),
        (dict(size=(0, 32)), "size"),
    ],
)
def test_wrong_options(model, tmp_path, options, message) -> None:
    options = {"path": "model.onnx", **options}
    with pytest.raises(ValueError, match=message):
        export_network(model, tmp_path / options.pop("path"), **options)


def test_what_cannot_be_traced(tmp_path) -> None:
    class Untraceable(nn.Module):
        def forward(self, x):
            return x.sum().item() * x if x.sum() > 0 else x

    model = segmentor()
    model.decode_head.conv_seg = nn.Sequential(model.decode_head.conv_seg, Untraceable())
    with pytest.raises(ValueError, match="cannot trace"):
        export_network(model, tmp_path / "m.pt2", size=(32, 32))
