"""A trained segmentor as one ONNX file or torch.export program, checked against the original.

The exported network is a function of pixels: input ``image`` (N, 3, H, W) uint8 **RGB** in 0..255,
not normalised; the mean, the standard deviation and the channel order that the model was trained
with are inside. Output ``logits`` (N, C, H, W) float32 at the input's size (the head's logits,
upsampled as in whole-image inference), or with ``labels=True`` ``labels`` (N, H, W) uint8.
Resizing, sliding windows and upsampling to another original size stay with the caller; the file's
metadata say what the model's own test settings were.
"""

from __future__ import annotations

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
    ParityError,
    check_alike,
    check_opset,
    quiet,
    relative_difference,
    require_onnx,
    trace,
    write_onnx,
    written_when_right,
)
from engine.onnx_export import onnx_runner as _onnx_runner
from engine.onnx_export import program_runner as _program_runner

from .inference import network_logits

__all__ = ["ParityError", "ParityReport", "PixelsToLogits", "export_network", "metadata_of"]

_RANDOM_INPUTS = 2


@dataclass(frozen=True)
class ParityReport:
    """How the exported network's outputs compare with the model's.

    max_relative_difference: largest difference of a logit, over the largest logit of that input
    (0 where labels are exported). equal_labels: share of pixels with the same label, of all inputs.
    """

    inputs: int
    max_relative_difference: float
    equal_labels: float
    tolerance: float
    least_equal_labels: float

    @property
    def ok(self) -> bool:
        return (
            self.max_relative_difference <= self.tolerance
            and self.equal_labels >= self.least_equal_labels
        )


class PixelsToLogits(nn.Module):
    """(N, 3, H, W) uint8 RGB -> (N, C, H, W) float32 logits, or (N, H, W) uint8 labels.

    Args:
        model: a segmentor with a data preprocessor (ours or mmseg's), which is put in evaluation
            mode.
        labels: return labels instead of logits.
    """

    def __init__(self, model: Any, *, labels: bool = False) -> None:
        super().__init__()
        self.model: Any = model.eval()
        self.labels = labels
        normalizer = model.data_preprocessor
        # trained on RGB: either files' BGR was turned, or (rarely) images came as RGB
        swapped = bool(getattr(normalizer, "_channel_conversion", False))
        self.reverse = not swapped
        mean = getattr(normalizer, "mean", None)
        std = getattr(normalizer, "std", None)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", _statistics(mean, 0.0), persistent=False)
        self.register_buffer("std", _statistics(std, 1.0), persistent=False)
        self.threshold: float = getattr(model.decode_head, "threshold", None) or 0.3

    def forward(self, image: Tensor) -> Tensor:
        x = image.flip(1) if self.reverse else image
        x = (x.float() - self.mean) / self.std
        logits = F.interpolate(
            network_logits(self.model, x).float(),
            image.shape[2:],
            mode="bilinear",
            align_corners=self.model.align_corners,
        )
        if not self.labels:
            return logits
        if logits.shape[1] == 1:
            return (logits[:, 0].sigmoid() > self.threshold).to(torch.uint8)
        return logits.argmax(1).to(torch.uint8)


def _statistics(values: Tensor | None, default: float) -> Tensor:
    if values is None:
        return torch.full((1, 3, 1, 1), default)
    return values.detach().float().cpu().reshape(1, -1, 1, 1).clone()


def metadata_of(
    config: Any,
    model: Any,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> dict[str, str]:
    """What somebody who has only the file needs to know; values are text or JSON."""
    network = PixelsToLogits(model)
    return {
        "classes": json.dumps(list(classes)),
        "palette": json.dumps([list(map(int, colour)) for colour in palette]),
        "protocol": str(config.get("protocol") or ""),
        "source_domain": str(config.get("source_domain") or ""),
        "input": "image: (N, 3, H, W) uint8 RGB, 0..255, not normalised",
        "mean": _numbers(network.mean),
        "std": _numbers(network.std),
        "normalisation": "inside the network",
        "align_corners": json.dumps(bool(model.align_corners)),
        "test_cfg": json.dumps(dict(model.test_cfg or {}), default=list),
        "test_pipeline": json.dumps(list(config.get("test_pipeline") or []), default=str),
    }


def _numbers(values: Tensor) -> str:
    return json.dumps([float(f"{value:.6g}") for value in values.flatten().tolist()])


def export_network(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = (512, 1024),
    labels: bool = False,
    opset: int = 18,
    metadata: Mapping[str, str] | None = None,
    images: Sequence[np.ndarray] = (),
    tolerance: float = 1e-4,
    least_equal_labels: float = 0.999,
) -> ParityReport:
    """Write the network and check it; the file appears under its name only when it is right.

    Args:
        model: a segmentor, on the CPU. It is put in evaluation mode.
        path: ``.onnx``, or ``.pt2`` for a torch.export program.
        size: height and width of the input; None: any size from 32x32 up, which not every
            network's graph allows.
        labels: export labels instead of logits.
        opset: of ONNX, 18 or later.
        metadata: text by key, stored in the file.
        images: (H, W, 3) uint8 RGB images to compare on, resized to ``size`` where that is fixed,
            besides two of noise, one of them with another batch size.
        tolerance, least_equal_labels: what the comparison must reach.

    Returns:
        The numbers of the comparison.

    Raises:
        ParityError: the comparison failed; no file is left at ``path`` that was not there before.
        ValueError: another suffix, an opset below 18, a network that cannot be exported.
        ImportError: ONNX's packages are missing.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"expected a file name ending in .onnx or .pt2, got {path.name!r}")
    check_opset(opset)
    if size is not None and min(size) < 1:
        raise ValueError(f"size: expected a height and width of 1 or more, got {size}")
    if path.suffix == ".onnx":
        require_onnx()
    network = PixelsToLogits(model, labels=labels).eval()
    inputs = _inputs(size, images)
    with written_when_right(path) as partial, quiet():
        program = _exported_program(network, size)
        if path.suffix == ".onnx":
            names = ("image", "labels" if labels else "logits")
            axes = ("batch", "channels", "height", "width")
            write_onnx(
                program, partial, opset=opset, names=names, axes=axes, metadata=metadata or {}
            )
        else:
            extra = {f"{key}.txt": value for key, value in (metadata or {}).items()}
            torch.export.save(program, partial, extra_files=extra)
        run = _onnx_runner(partial) if path.suffix == ".onnx" else _program_runner(partial)
        report = _compare(network, run, inputs, tolerance, least_equal_labels)
        if not report.ok:
            raise ParityError(
                f"the exported network differs from the model: relative difference "
                f"{report.max_relative_difference:.1e} (allowed {tolerance:.1e}), "
                f"{100 * report.equal_labels:.3f}% equal labels (needed "
                f"{100 * least_equal_labels:.3f}%); nothing was written to {path}",
                report,
            )
    return report


def _exported_program(network: nn.Module, size: tuple[int, int] | None) -> Any:
    # a batch of 2 and two different sides, so that nothing is taken for a constant or for equal
    height, width = size or (96, 160)
    example = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    dims: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=1024)}
    if size is None:
        dims = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    return trace(network, example, dims, remedy="; try a fixed size" if size is None else "")


def _inputs(size: tuple[int, int] | None, images: Sequence[np.ndarray]) -> list[Tensor]:
    """Batches to compare on: noise of one and of three images, and the caller's images."""
    import cv2

    generator = torch.Generator().manual_seed(0)
    shapes = [(1, *(size or (64, 96))), (3, *(size or (101, 75)))][:_RANDOM_INPUTS]
    batches = []
    for n, height, width in shapes:
        # coarse noise: fine noise looks the same everywhere to a deep network
        coarse = torch.rand(n, 3, 9, 9, generator=generator)
        noise = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
        batches.append((noise * 255).to(torch.uint8))
    for image in images:
        if size is not None and image.shape[:2] != tuple(size):
            image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        batches.append(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None])
    return [batch.contiguous() for batch in batches]


def _compare(
    network: PixelsToLogits,
    run: Any,
    inputs: Sequence[Tensor],
    tolerance: float,
    least_equal_labels: float,
) -> ParityReport:
    largest, equal, pixels = 0.0, 0, 0
    for batch in inputs:
        expected, got = network(batch), run(batch)
        check_alike(got, expected)
        if not network.labels:
            largest = max(largest, relative_difference(got, expected))
            expected, got = _labels(network, expected), _labels(network, got)
        equal += int((expected == got).sum())
        pixels += expected.numel()
    return ParityReport(len(inputs), largest, equal / pixels, tolerance, least_equal_labels)


def _labels(network: PixelsToLogits, logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return logits[:, 0].sigmoid() > network.threshold
    return logits.argmax(1)
