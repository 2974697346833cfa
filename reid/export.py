"""A trained re-ID model as one ONNX file, checked against the original.

The file is a function of pixels, so that nobody can prepare images differently from the training:
input ``images`` (N, H, W, 3) uint8 **RGB** in 0..255, as decoders give them, of any size H x W;
output ``embeddings`` (N, D) float32 of unit length. Resizing to the size of the test pipeline,
normalisation, backbone, pooling, BNNeck and the L2 norm are inside. The cosine of two images is the
product of their rows.

Two things are compared at export: the file in onnxruntime with the same graph in torch, and the
whole way from a decoded image to its embedding with the FeatureExtractor, OpenCV's resizing
included.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.onnx_export import (
    OLDEST_OPSET,
    ParityError,
    check_opset,
    onnx_runner,
    onnx_session,
    quiet,
    relative_difference,
    require_onnx,
    trace,
    write_onnx,
    written_when_right,
)
from imaging.graph_resize import Resizing, resizing_of

__all__ = [
    "ImagesToEmbeddings",
    "OnnxEmbedder",
    "ParityError",
    "ParityReport",
    "export_network",
    "metadata_of",
    "quantize",
    "rank_dataset",
]


@dataclass(frozen=True)
class ParityReport:
    """How the exported network's embeddings compare with the model's.

    max_relative_difference: largest difference of one number of an embedding from what the same
    graph gives in torch, over the largest number of that batch. least_cosine: smallest cosine to
    what the FeatureExtractor gives for the same image, OpenCV's resizing included, over noise;
    least_image_cosine: the same over ``images`` real images, None without any.
    """

    batches: int
    images: int
    max_relative_difference: float
    least_cosine: float
    least_image_cosine: float | None
    tolerance: float
    least_allowed: float

    @property
    def ok(self) -> bool:
        # so written that NaN is no parity
        cosines = [c for c in (self.least_cosine, self.least_image_cosine) if c is not None]
        alike = all(cosine >= self.least_allowed for cosine in cosines)
        return self.max_relative_difference <= self.tolerance and alike


class ImagesToEmbeddings(nn.Module):
    """(N, H, W, 3) uint8 RGB of any size -> (N, D) float32 of unit length.

    Args:
        model: an Embedder, which is put in evaluation mode.
        resizing: what precedes it.
    """

    def __init__(self, model: Any, resizing: Resizing) -> None:
        super().__init__()
        self.model: Any = model.eval()
        self.resizing = resizing
        normalizer = model.data_preprocessor
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            values = getattr(normalizer, name).detach().float().clone()
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = (self.resizing(images) - self.mean) / self.std
        embeddings: Tensor = self.model(x, mode="predict")
        return embeddings


def metadata_of(config: Any, extractor: Any) -> dict[str, str]:
    """What somebody who has only the file needs to know; values are text or JSON.

    Args:
        config: that the extractor was made of.
        extractor: a ``reid.inference.FeatureExtractor``.
    """
    network = ImagesToEmbeddings(extractor.model, resizing_of(extractor.transforms.config))
    size = network.resizing
    filename = getattr(config, "filename", None)
    metadata = {
        "input": "images: (N, H, W, 3) uint8 RGB, 0..255, any H x W, neither resized nor "
        "normalised",
        "output": f"embeddings: (N, {extractor.dim}) float32 of unit length",
        "score": "cosine: the product of two embeddings, -1..1, higher is more alike",
        "dim": str(extractor.dim),
        "fingerprint": extractor.fingerprint,
        "config": Path(filename).stem if filename else "",
        "protocol": str(config.get("protocol") or ""),
        "preparation": f"inside the network: resize to {size.height}x{size.width} (height x "
        f"width), {size.filter}; normalisation",
        "mean": json.dumps([float(f"{v:.6g}") for v in network.mean.flatten().tolist()]),
        "std": json.dumps([float(f"{v:.6g}") for v in network.std.flatten().tolist()]),
    }
    threshold = getattr(extractor, "threshold", None)
    if threshold is not None:
        metadata["threshold"] = repr(float(threshold.value))
        details = dataclasses.asdict(threshold) if dataclasses.is_dataclass(threshold) else {}
        metadata["threshold_details"] = json.dumps(details, default=str)
    return metadata


def export_network(
    extractor: Any,
    path: str | os.PathLike[str],
    *,
    opset: int = OLDEST_OPSET,
    metadata: Mapping[str, str] | None = None,
    images: Sequence[np.ndarray] = (),
    tolerance: float = 1e-3,
    least_cosine: float = 0.999,
) -> ParityReport:
    """Write the network and check it; the file appears under its name only when it is right.

    Args:
        extractor: a ``reid.inference.FeatureExtractor`` on the CPU, in float32.
        path: ends in ``.onnx``.
        opset: of ONNX, 18 or later.
        metadata: text by key, stored in the file.
        images: (H, W, 3) uint8 RGB images to compare on, besides noise of several sizes.
        tolerance: of the graph in onnxruntime against the same in torch.
        least_cosine: of the exported network to the extractor, for every image.

    Returns:
        The numbers of the comparison.

    Raises:
        ParityError: the comparison failed; no file is left at ``path`` that was not there before.
        ValueError: another suffix, an opset below 18, a pipeline or network that ONNX cannot
            express.
        ImportError: ONNX's packages are missing.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"expected a file name ending in .onnx, got {path.name!r}")
    check_opset(opset)
    require_onnx()
    resizing = resizing_of(extractor.transforms.config)
    network = ImagesToEmbeddings(extractor.model, resizing).eval()
    with written_when_right(path) as partial, quiet():
        example = torch.randint(0, 256, (2, 70, 50, 3), dtype=torch.uint8)
        dims = {axis: torch.export.Dim(name, min=1, max=2**16) for axis, name in _FREE.items()}
        program = trace(network, example, dims)
        names, axes = ("images", "embeddings"), ("batch", "height", "width", "channels")
        write_onnx(program, partial, opset=opset, names=names, axes=axes, metadata=metadata or {})
        noise, real = _noise(resizing), [np.ascontiguousarray(image)[None] for image in images]
        report = _compare(network, extractor, partial, noise, real, tolerance, least_cosine)
        if not report.ok:
            lowest = report.least_image_cosine
            raise ParityError(
                f"the exported network differs from the model: relative difference "
                f"{report.max_relative_difference:.1e} (allowed {tolerance:.1e}), smallest cosine "
                f"{report.least_cosine:.5f} on noise"
                + (f", {lowest:.5f} on images" if lowest is not None else "")
                + f" (needed {least_cosine}); nothing was written to {path}",
                report,
            )
    return report


_FREE = {0: "batch", 1: "height", 2: "width"}


def _noise(resizing: Resizing) -> list[np.ndarray]:
    """(N, H, W, 3) uint8 batches: as large as the network's input, larger, smaller, odd."""
    height, width = resizing.height, resizing.width
    sizes = [(height, width), (2 * height, 2 * width), (height // 3 + 1, width // 2 + 3)]
    sizes.append((height + 37, width + 11))
    generator = torch.Generator().manual_seed(0)
    batches = []
    for n, size in zip((1, 3, 2, 1), sizes, strict=True):
        # coarse noise: fine noise looks the same everywhere to a deep network
        coarse = torch.rand(n, 3, 9, 9, generator=generator)
        pixels = F.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255
        batches.append(pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy())
    return batches


def _compare(
    network: ImagesToEmbeddings,
    extractor: Any,
    path: Path,
    noise: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    tolerance: float,
    least_allowed: float,
) -> ParityReport:
    run = onnx_runner(path)
    largest = 0.0
    least = {"noise": 1.0, "real": 1.0}
    for kind, batches in (("noise", noise), ("real", real)):
        for batch in batches:
            pixels = torch.from_numpy(batch)
            got = run(pixels)
            largest = max(largest, relative_difference(got, network(pixels)))
            whole_way = torch.from_numpy(extractor(list(batch)))
            cosines = (got * whole_way).sum(1).nan_to_num(-1.0)
            least[kind] = min(least[kind], float(cosines.min()))
    return ParityReport(
        batches=len(noise) + len(real),
        images=len(real),
        max_relative_difference=largest,
        least_cosine=least["noise"],
        least_image_cosine=least["real"] if real else None,
        tolerance=tolerance,
        least_allowed=least_allowed,
    )


class OnnxEmbedder:
    """An exported file as a function of images, with onnxruntime on the CPU.

    Attributes:
        metadata: text by key, as stored in the file. dim: length of an embedding.
    """

    def __init__(self, path: str | os.PathLike[str], *, batch_size: int = 64) -> None:
        require_onnx()
        self._session = onnx_session(Path(path))
        self.batch_size = batch_size
        self.metadata: dict[str, str] = dict(
            self._session.get_modelmeta().custom_metadata_map  # typed as Any
        )
        self.dim = int(self.metadata["dim"])

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(H, W, 3) uint8 RGB arrays, whose sizes may differ, -> (N, D) float32 of unit length."""
        embeddings = np.empty((len(images), self.dim), np.float32)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for position, image in enumerate(images):
            by_size.setdefault(image.shape, []).append(position)
        for positions in by_size.values():
            for start in range(0, len(positions), self.batch_size):
                chosen = positions[start : start + self.batch_size]
                batch = np.stack([images[position] for position in chosen])
                (embeddings[chosen],) = self._session.run(None, {"images": batch})
        return embeddings


def quantize(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """An exported file with 8-bit weights, whose activations are quantised as they come.

    onnxruntime's dynamic quantisation: it needs no images, and gives a quarter of the size. Whether
    it is faster depends on the processor. The stored threshold is left out, for scores change; the
    fingerprint gets ``-int8``, for a gallery must not mix the two.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path, out = Path(path), Path(out)
    with written_when_right(out) as partial, quiet():
        quantize_dynamic(path, partial, weight_type=QuantType.QUInt8)
        proto = onnx.load(str(partial))
        metadata = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
        for key in ("threshold", "threshold_details"):
            metadata.pop(key, None)
        metadata["fingerprint"] = f"{metadata.get('fingerprint', '')}-int8"
        metadata["quantisation"] = "8-bit weights, 8-bit activations (dynamic)"
        onnx.helper.set_model_props(proto, metadata)
        onnx.save_model(proto, str(partial))
        onnx.checker.check_model(str(partial))
    return out


def rank_dataset(embedder: Any, dataset: Any, *, chunk: int = 512) -> dict[str, float]:
    """mAP, rank-1 and the like, in 0..1, of an embedder on the split 'test' of a data set.

    Args:
        embedder: from a list of (H, W, 3) uint8 RGB arrays to (N, D) features.
        dataset: a ``reid.datasets.ReIDDataset`` whose first ``num_query`` images are the queries.
        chunk: images in memory at a time.
    """
    from imaging.files import read_image

    from .evaluation.metric import RankingMetric

    paths = [record.path for record in dataset.records]
    features = np.concatenate(
        [
            embedder([read_image(path) for path in paths[start : start + chunk]])
            for start in range(0, len(paths), chunk)
        ]
    )
    metric = RankingMetric()
    metric.dataset_meta = dataset.metainfo
    index, names = np.arange(len(paths)), np.array(paths, object)
    return metric.compute_metrics([(features, index, dataset.pids, dataset.camids, names)])
