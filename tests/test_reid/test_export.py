from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from torch import nn

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import reid.export
from reid.datasets import Market1501
from reid.evaluation import evaluate_ranking
from reid.export import (
    OnnxEmbedder,
    ParityError,
    export_network,
    metadata_of,
    quantize,
    rank_dataset,
)
from reid.inference import FeatureExtractor

ROOT = Path(__file__).resolve().parents[2]
SMALL = dict(type="backbones.CifarResNet", depth=8, norm="bin")


def config_of(backbone: dict[str, object] = SMALL, **model: object) -> Config:
    return Config(
        dict(
            model=dict(type="reid.Embedder", backbone=backbone, **model),
            test_pipeline=[dict(type="Resize", height=32, width=16)],
            protocol="Market1501, step AP",
        )
    )


def scrambled(extractor: FeatureExtractor) -> FeatureExtractor:
    """No parameter or statistic at its start, where much would cancel."""
    for name, tensor in extractor.model.state_dict().items():
        if name.endswith("gate"):
            tensor.uniform_(0.2, 0.9)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.2)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.add_(0.2 * torch.randn_like(tensor))
    return extractor


@dataclass
class Calibrated:
    """What an extractor's threshold is to the export."""

    value: float
    far: float


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    torch.manual_seed(0)
    made = scrambled(FeatureExtractor(config_of(pooling="gem"), device="cpu"))
    made.threshold = Calibrated(0.625, 0.01)
    return made


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(32, 16), (50, 31), (7, 90)] * 2]


@pytest.fixture(scope="module")
def exported(extractor, images, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "new" / "model.onnx"
    metadata = metadata_of(config_of(), extractor)
    report = export_network(extractor, path, metadata=metadata, images=images)
    assert report.ok and report.images == 6 and report.batches == 10
    assert report.max_relative_difference < 1e-4
    assert min(report.least_cosine, report.least_image_cosine) > 0.9999
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    return path


def test_any_images_give_the_extractors_embeddings(extractor, exported, images) -> None:
    embedder = OnnxEmbedder(exported, batch_size=2)
    got = embedder(images * 2)
    assert got.shape == (12, extractor.dim) and got.dtype == np.float32
    np.testing.assert_allclose(got, extractor(images * 2), atol=1e-4)
    assert embedder([]).shape == (0, embedder.dim) == (0, 64)
    assert np.abs(got[0] - got[1]).max() > 0.01  # so that agreement means something


def test_metadata(extractor, exported) -> None:
    stored = OnnxEmbedder(exported).metadata
    assert stored["fingerprint"] == extractor.fingerprint and stored["dim"] == "64"
    assert stored["threshold"] == "0.625" and json.loads(stored["threshold_details"])["far"] == 0.01
    assert stored["protocol"] == "Market1501, step AP" and "32x16" in stored["preparation"]
    assert json.loads(stored["mean"]) == [123.675, 116.28, 103.53]


def test_eight_bits(exported, images, tmp_path) -> None:
    small = quantize(exported, tmp_path / "model.int8.onnx")
    assert small.stat().st_size < 0.8 * exported.stat().st_size
    exact, rounded = OnnxEmbedder(exported), OnnxEmbedder(small)
    cosines = (exact(images) * rounded(images)).sum(1)
    assert 0.9 < cosines.min() < 1 - 1e-6  # another network, and nearly the same
    assert rounded.metadata["fingerprint"] == exact.metadata["fingerprint"] + "-int8"
    assert "threshold" not in rounded.metadata and rounded.dim == exact.dim
    assert [p.name for p in tmp_path.iterdir()] == ["model.int8.onnx"]


def test_ranking(extractor, exported, tmp_path) -> None:
    from reid.synthetic import make_city

    make_city(tmp_path, identities=8, cameras=2, images_per_camera=2, size=(32, 16))
    data = Market1501(tmp_path, "test")
    features = extractor([record.path for record in data.records])
    q = data.num_query
    expected = evaluate_ranking(
        *(features[:q], features[q:]),
        *(data.pids[:q], data.pids[q:]),
        *(data.camids[:q], data.camids[q:]),
    )
    got = rank_dataset(OnnxEmbedder(exported), data, chunk=5)
    assert got["mAP"] == pytest.approx(expected.mAP, abs=1e-3)
    assert got["rank-1"] == pytest.approx(expected.cmc[1], abs=1e-3)


def test_the_example_needs_nothing_of_this_project(exported, images, tmp_path) -> None:
    paths = [tmp_path / f"{i}.ppm" for i in range(3)]
    for path, image in zip(paths, images, strict=False):
        height, width = image.shape[:2]
        path.write_bytes(b"P6\n# drawn\n%d %d\n255\n" % (width, height) + image.tobytes())
    example = ROOT / "docs" / "examples" / "embed_with_onnx.py"
    done = subprocess.run(
        [sys.executable, "-I", example, exported, *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    features = OnnxEmbedder(exported)(images[:3])
    matrix, _, last = done.stdout.rpartition("]]\n")
    numbers = [float(word) for word in matrix.replace("[", " ").replace("]", " ").split()]
    np.testing.assert_allclose(numbers, (features @ features.T).ravel(), atol=1e-4)
    assert last == "the same identity from 0.625 on\n"


BACKBONES = {
    "bn": dict(type="backbones.ResNet", depth=18, last_stride=1),
    "ibn_a": dict(type="backbones.ResNet", depth=18, ibn="a"),
    "ibn_b": dict(type="backbones.ResNet", depth=18, ibn="b"),
    **{
        norm: dict(type="backbones.ResNet", depth=18, norm=norm, last_stride=1)
        for norm in ("in", "bin", "sn", "ilm")
    },
}
HEADS = {
    "ibn_a": dict(pooling="max", test_feature="feature"),
    "ibn_b": dict(pooling="avg"),
    "bn": dict(pooling="gem", embedding_dim=32),
    "sn": dict(pooling="avg", parts=dict(type="reid.Stripes", stripes=(2,))),
}


@pytest.mark.slow  # each norm by itself: tests/test_backbones/test_export.py
@pytest.mark.parametrize("name", BACKBONES)
def test_norms_and_heads(name, images, tmp_path) -> None:
    model = config_of(BACKBONES[name], **HEADS.get(name, {}))
    extractor = scrambled(FeatureExtractor(model, device="cpu"))
    report = export_network(extractor, tmp_path / "model.onnx", images=images)
    assert report.ok and report.max_relative_difference < 1e-4 and report.least_cosine > 0.9999


def stub_runner(change):
    """A runner of what was not traced: the honest answer, changed."""
    return lambda extractor: (
        lambda path: lambda pixels: change(torch.from_numpy(extractor(list(pixels.numpy()))))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.roll(1, dims=1), "smallest cosine 0"),
        (lambda x: x + 0.1 * torch.randn_like(x), "relative difference"),
        (lambda x: torch.full_like(x, float("nan")), "inf"),
    ],
)
def test_nothing_is_left_when_parity_fails(
    extractor, images, tmp_path, monkeypatch, change, message
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an older file")
    monkeypatch.setattr(reid.export, "trace", lambda *_, **__: None)
    monkeypatch.setattr(reid.export, "write_onnx", lambda _, at, **__: at.write_bytes(b"new"))
    monkeypatch.setattr(reid.export, "onnx_runner", stub_runner(change)(extractor))
    with pytest.raises(ParityError, match=message) as caught:
        export_network(extractor, path, images=images)
    assert not caught.value.report.ok
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"an older file"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(path="model.pt2"), "ending in .onnx, got 'model.pt2'"),
        (dict(opset=11), "18 or later"),
    ],
)
def test_wrong_options(extractor, tmp_path, options, message) -> None:
    path = tmp_path / options.pop("path", "model.onnx")
    with pytest.raises(ValueError, match=message):
        export_network(extractor, path, **options)
    assert not list(tmp_path.iterdir())


def test_a_pipeline_that_cannot_be_exported() -> None:
    config = config_of()
    config.test_pipeline = [
        dict(type="Resize", height=40, width=20),
        dict(type="CenterCrop", height=32, width=16),
    ]
    extractor = FeatureExtractor(config, device="cpu")
    with pytest.raises(ValueError, match=r"must be one Resize .*\['Resize', 'CenterCrop'\]"):
        metadata_of(config, extractor)


def test_a_network_that_cannot_be_traced(tmp_path) -> None:
    class Untraceable(nn.Module):
        def forward(self, x):
            return x.sum().item() * x if x.sum() > 0 else x

    extractor = FeatureExtractor(config_of(), device="cpu")
    extractor.model.pooling = nn.Sequential(extractor.model.pooling, Untraceable())
    with pytest.raises(ValueError, match="cannot trace"):
        export_network(extractor, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
