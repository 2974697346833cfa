"""Augmentation of whole batches on their device, for accelerators that processors cannot feed.

Names, arguments and distributions are those of the per-image pipeline, so a config moves steps from
a data set's ``transforms`` to here as they are; what stays there is the Resize::

    model = dict(
        data_preprocessor=dict(
            type="imaging.AugmentingNormalizer",
            augmentations=[
                dict(type="HorizontalFlip", p=0.5),
                dict(type="Pad", padding=10),
                dict(type="RandomCrop", height=256, width=128),
                dict(type="RandomErasing", scale=(0.02, 0.4), p=0.5),
            ],
        )
    )

On a processor these steps cost several times what the per-image ones do (at 128x64, 0.4 ms an image
against 0.1 ms): use those there.

Every image is augmented by its own seed, which the sampler gave it and the batch brings along: the
result is the same in any batch, on any device, and in a resumed run. A batch without seeds draws
them from torch, which ``engine.IterationSeedHook`` makes a function of (seed, process, iteration).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.normalizer import ImageNormalizer

from .registry import MODELS

__all__ = ["AugmentingNormalizer", "BatchAugmentation", "uniform_draws"]


class HorizontalFlip:
    """Mirror an image with probability p."""

    draws = 1

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        flipped = _column(drawn[:, 0] < self.p, images)
        return torch.where(flipped, images.flip(2), images)


class Pad:
    """Add ``padding`` pixels of colour ``fill`` on each side."""

    draws = 0

    def __init__(self, padding: int = 0, fill: float | Sequence[float] = 0) -> None:
        if padding < 0:
            raise ValueError(f"Pad: expected padding >= 0, got {padding}")
        self.padding, self.fill = padding, _colour(fill)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        n, height, width, channels = images.shape
        pad = self.padding
        padded = images.new_empty(n, height + 2 * pad, width + 2 * pad, channels)
        padded[:] = images.new_tensor(self.fill)
        padded[:, pad : pad + height, pad : pad + width] = images
        return padded


class RandomCrop:
    """Cut out a rectangle of fixed size; every place is as likely."""

    draws = 2

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        n, height, width, _ = images.shape
        if height < self.height or width < self.width:
            raise ValueError(
                f"RandomCrop: images of {height}x{width} hold no {self.height}x{self.width}; pad "
                "or resize them before"
            )
        top = _integer(drawn[:, 0], height - self.height + 1)
        left = _integer(drawn[:, 1], width - self.width + 1)
        rows = (top[:, None] + torch.arange(self.height)).to(images.device)  # (N, height)
        columns = (left[:, None] + torch.arange(self.width)).to(images.device)  # (N, width)
        image = torch.arange(n, device=images.device)[:, None, None]
        return images[image, rows[:, :, None], columns[:, None, :]]


class RandomErasing:
    """Fill a rectangle of random area, shape and place; see ``imaging.random_erasing``."""

    # A shape that does not fit is drawn again; one in ten does not, so that all fail one in 1e20.
    tries = 20
    draws = 3 + 2 * tries

    def __init__(
        self,
        scale: tuple[float, float] = (0.02, 0.4),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
        fill: float | Sequence[float] = (124, 116, 104),
        p: float = 0.5,
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                f"RandomErasing: expected 0 < scale <= 1 and 0 < ratio, each as (smallest, "
                f"largest), got scale={scale}, ratio={ratio}"
            )
        self.scale, self.ratio, self.fill, self.p = scale, ratio, _colour(fill), p

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        top, bottom, left, right = (
            side.to(images.device)[:, None] for side in self.boxes(drawn, *images.shape[1:3])
        )
        y = torch.arange(images.shape[1], device=images.device)
        x = torch.arange(images.shape[2], device=images.device)
        rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
        inside = (rows[:, :, None] & columns[:, None, :])[..., None]  # (N, H, W, 1)
        return torch.where(inside, images.new_tensor(self.fill), images)

    def boxes(self, drawn: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
        """Top, bottom, left and right of each image's rectangle, (N,) int64; empty for none."""
        chance, down, across = drawn[:, 0], drawn[:, 1], drawn[:, 2]
        areas, ratios = drawn[:, 3:].chunk(2, dim=1)  # (N, tries)
        area = _between(areas, self.scale) * height * width
        ratio = _between(ratios, self.ratio)
        h, w = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (h > 0) & (h < height) & (w > 0) & (w < width)
        first = fits.int().argmax(1, keepdim=True)
        erased = fits.any(1) & (chance < self.p)
        h, w = (side.gather(1, first)[:, 0] * erased for side in (h, w))
        top, left = _integer(down, height - h + 1), _integer(across, width - w + 1)
        return top, top + h, left, left + w


class ColorJitter:
    """Change brightness, contrast and saturation, in random order, with probability p.

    Each is a factor, from a range or from 1 - x .. 1 + x for a number x. Shifts of the hue, which
    need another colour space, are not offered.
    """

    draws = 7

    def __init__(
        self,
        brightness: float | tuple[float, float] = (0.8, 1.2),
        contrast: float | tuple[float, float] = (0.8, 1.2),
        saturation: float | tuple[float, float] = (0.8, 1.2),
        hue: float | tuple[float, float] = (-0.5, 0.5),
        p: float = 0.5,
    ) -> None:
        if hue not in (0, (0, 0), [0, 0]):
            raise ValueError(f"ColorJitter: batches have no hue shift; set hue=0, got {hue}")
        self.ranges = [_factors(value) for value in (brightness, contrast, saturation)]
        self.p = p

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        factors = torch.stack(
            [_between(drawn[:, 1 + i], limits) for i, limits in enumerate(self.ranges)], dim=1
        )
        factors = torch.where(drawn[:, :1] < self.p, factors, torch.ones_like(factors))
        order = drawn[:, 4:].argsort(1)  # a random permutation an image
        x = images.float()
        for place in range(3):
            kind = order[:, place : place + 1]
            factor = factors.gather(1, kind)[:, 0]
            # x * factor, and what the factor takes away comes back as grey: the mean's, the pixel's
            rest = 1 - factor
            mean_share = _column(rest * (kind[:, 0] == 1), images)
            pixel_share = _column(rest * (kind[:, 0] == 2), images)
            grey = (x * x.new_tensor((0.299, 0.587, 0.114))).sum(3, keepdim=True)
            mean = grey.mean((1, 2), keepdim=True)
            x = x * _column(factor, images) + grey * pixel_share + mean * mean_share
            x = x.clamp_(0, 255)
        return x.round_().to(images.dtype)


STEPS: dict[str, Any] = {
    step.__name__: step for step in (HorizontalFlip, Pad, RandomCrop, RandomErasing, ColorJitter)
}


class BatchAugmentation:
    """A list of ``dict(type=<step>, **arguments)`` as a function of images and seeds.

    Raises:
        ValueError: an unknown step, or an argument that it does not take.
    """

    def __init__(self, augmentations: Sequence[Mapping[str, Any]]) -> None:
        self.config = [dict(entry) for entry in augmentations]
        self.steps = [_build(entry) for entry in self.config]

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Augment a batch.

        Args:
            images: (N, 3, H, W) uint8, in either memory format.
            seeds: (N,) int64, on the CPU.

        Returns:
            (N, 3, H', W') uint8, channels last in memory.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"batches are augmented as (N, 3, H, W) uint8 tensors, got {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        drawn = uniform_draws(seeds, sum(step.draws for step in self.steps))
        x, start = images.permute(0, 2, 3, 1).contiguous(), 0
        for step in self.steps:
            x = step(x, drawn[:, start : start + step.draws])
            start += step.draws
        return x.permute(0, 3, 1, 2)

    def __repr__(self) -> str:
        return f"BatchAugmentation({self.config})"


@MODELS.register_module()
class AugmentingNormalizer(ImageNormalizer):
    """An ``engine.ImageNormalizer`` that augments the batches of training before."""

    def __init__(
        self,
        augmentations: Sequence[Mapping[str, Any]],
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__(mean, std)
        self.augment = BatchAugmentation(augmentations)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        seeds = data.get("seed")  # before it goes to the device
        data = self.cast_data(data)
        images = data["inputs"]
        if training:
            if seeds is None or bool((seeds < 0).any()):
                seeds = torch.randint(2**63 - 1, (len(images),))
            images = self.augment(images, seeds)
        return {**data, "inputs": self.normalize(images)}


_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform_draws(seeds: Tensor, count: int) -> Tensor:
    """(N,) int64 seeds -> (N, count) float64 in [0, 1), each row a function of its seed alone.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, https://doi.org/10.1145/2660193.2660195), whose
    n-th number needs no others: all are made at once.
    """
    start = _mixed(seeds.cpu().numpy().astype(np.uint64))
    numbers = _mixed(start[:, None] + _STEP * np.arange(1, count + 1, dtype=np.uint64))
    return torch.from_numpy((numbers >> np.uint64(11)) * 2.0**-53)


def _mixed(x: np.ndarray) -> np.ndarray:
    """uint64 numbers -> the same numbers in an order that looks random."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def _build(entry: Mapping[str, Any]) -> Any:
    arguments = dict(entry)
    name = str(arguments.pop("type", None))
    if name not in STEPS:
        raise ValueError(
            f"unknown step {name!r} for batches: expected one of {', '.join(STEPS)}; others stay "
            "in the data set's transforms"
        )
    allowed = list(inspect.signature(STEPS[name].__init__).parameters)[1:]
    if wrong := sorted(set(arguments) - set(allowed)):
        raise ValueError(
            f"{name} of batches takes no argument {wrong[0]!r}; it takes {', '.join(allowed)}"
        )
    return STEPS[name](**arguments)


def _column(values: Tensor, images: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1) on the images' device; numbers as float32."""
    values = values if values.dtype == torch.bool else values.float()
    return values.to(images.device)[:, None, None, None]


def _between(drawn: Tensor, limits: tuple[float, float]) -> Tensor:
    return limits[0] + drawn * (limits[1] - limits[0])


def _integer(drawn: Tensor, count: Tensor | int) -> Tensor:
    """Uniform in [0, 1) -> uniform in 0 .. count - 1."""
    return (drawn * count).floor().long()


def _factors(value: float | tuple[float, float]) -> tuple[float, float]:
    if isinstance(value, int | float):
        return max(0.0, 1.0 - value), 1.0 + value
    return float(value[0]), float(value[1])


def _colour(fill: float | Sequence[float]) -> tuple[int, ...]:
    values = [fill] * 3 if isinstance(fill, int | float) else list(fill)
    if len(values) != 3 or not all(0 <= v <= 255 for v in values):
        raise ValueError(f"fill: expected a number or three of 0..255, got {fill!r}")
    return tuple(int(v) for v in values)
