"""Fourier domain adaptation: the low frequencies' amplitudes of a target image.

Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020,
https://arxiv.org/abs/2004.05498. With amplitude A and phase P of the two-dimensional discrete
Fourier transform F of each channel, and the mask M of frequencies from -b to b in both
directions, b = floor(beta * min(H, W)):

    x_st = F^-1( [M * A(x_t) + (1 - M) * A(x_s)] * exp(i P(x_s)) )

Only the masked frequencies change, so only they are computed: two products with thin matrices of
cosines and sines each way instead of whole transforms. Any image size works.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..registry import TRANSFORMS
from .style import StyleTransform, to_uint8
from .style_images import StyleImages

CACHE_BYTES = 64 * 2**20


def low_frequencies(image: np.ndarray, half: int) -> np.ndarray:
    """Fourier coefficients of the lowest frequencies.

    Args:
        image: (H, W, C), real.
        half: highest frequency, 0 <= half < min(H, W) / 2.

    Returns:
        (half + 1, 2 * half + 1, C) complex64: vertical frequencies 0..half, horizontal ones
        -half..half; those of negative vertical frequency are their complex conjugates.
    """
    height, width, channels = image.shape
    rows, columns = _waves(height, 0, half), _waves(width, -half, half)
    flat = np.ascontiguousarray(image, np.float32).reshape(height, width * channels)
    both = np.concatenate([rows.real, -rows.imag]) @ flat  # (2 (half + 1), W C)
    by_row = (both[: half + 1] + 1j * both[half + 1 :]).reshape(half + 1, width, channels)
    # exp(-i...) = conj of the wave; (half + 1, C, W) @ (W, 2 half + 1)
    found: np.ndarray = by_row.transpose(0, 2, 1) @ columns.conj().T
    return found.transpose(0, 2, 1)


def from_low_frequencies(coefficients: np.ndarray, height: int, width: int) -> np.ndarray:
    """The (H, W, C) float32 image that has these coefficients, and zero elsewhere.

    Args:
        coefficients: as from :func:`low_frequencies`.
    """
    half, channels = coefficients.shape[0] - 1, coefficients.shape[2]
    rows, columns = _waves(height, 0, half), _waves(width, -half, half)
    by_row = coefficients.transpose(0, 2, 1) @ columns  # (half + 1, C, W)
    by_row = by_row.transpose(0, 2, 1).reshape(half + 1, width * channels)
    # the conjugate half of the spectrum doubles the real part of all rows but the first
    weight = np.full((half + 1, 1), 2 / (height * width), np.float32)
    weight[0] /= 2
    waves = np.concatenate([rows.real * weight, -rows.imag * weight])  # (2 (half + 1), H)
    flat = waves.T @ np.concatenate([by_row.real, by_row.imag])
    return flat.reshape(height, width, channels)  # type: ignore[no-any-return]


@lru_cache(maxsize=32)
def _waves(length: int, first: int, last: int) -> np.ndarray:
    """exp(2 pi i f x / length), (last - first + 1, length) complex64."""
    turns = np.outer(np.arange(first, last + 1), np.arange(length)) % length  # exact: whole numbers
    return np.asarray(np.exp(2j * np.pi / length * turns), np.complex64)


def exchange_amplitudes(image: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """``image`` with other amplitudes at its lowest frequencies and its own phases.

    Args:
        image: (H, W, C) uint8.
        amplitudes: (half + 1, 2 * half + 1, C), the magnitudes of :func:`low_frequencies` of an
            image of the same size.

    Returns:
        (H, W, C) uint8, clipped to 0..255.
    """
    height, width, _ = image.shape
    own = low_frequencies(image, amplitudes.shape[0] - 1)
    size = np.abs(own)
    # a coefficient of zero has the phase zero
    direction = np.divide(own, size, out=np.ones_like(own), where=size > 0)
    change = from_low_frequencies(direction * amplitudes - own, height, width)
    change += image
    return to_uint8(change)


@TRANSFORMS.register_module()
class FourierDomainAdaptation(StyleTransform):
    """FDA with a random image of the target domain (no labels needed).

    The paper adapts whole images before they are cropped; behind the crop the step costs a
    fraction and sees the same kind of frequencies. albumentations' transform of the same name
    exchanges a block that is not centred on frequency zero; this one is, as in the paper.

    Args:
        target: folder (searched with sub-folders), file or list of files with target images.
        beta: half side of the exchanged block as a share of the shorter side, below 0.5; a pair
            is a range to draw from. The paper uses 0.01, 0.05 and 0.09.
        p: share of images that are changed.

    Target images are scaled to the size of the image at hand; their amplitudes (not their pixels)
    stay in memory, up to 64 MB a process.
    """

    def __init__(
        self,
        target: str | Path | Sequence[str | Path],
        beta: float | Sequence[float] = 0.01,
        p: float = 0.5,
    ) -> None:
        super().__init__(p)
        low, high = (beta, beta) if isinstance(beta, (int, float)) else tuple(beta)
        if not 0 <= low <= high < 0.5:
            raise ValueError(
                f"FourierDomainAdaptation: beta is a share in 0..0.5 (0.5 excluded) or an "
                f"ascending pair of them, got {beta}"
            )
        self.beta = (float(low), float(high))
        self.target = target
        self.images = StyleImages(target)
        self._cache: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self._cached_bytes = 0

    def restyle(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        index = int(generator.integers(len(self.images)))
        beta = generator.uniform(*self.beta)
        height, width = image.shape[:2]
        half = int(beta * min(height, width))
        known = self._amplitudes(index, height, width)
        middle = known.shape[0] - 1
        return exchange_amplitudes(image, known[: half + 1, middle - half : middle + half + 1])

    def _amplitudes(self, index: int, height: int, width: int) -> np.ndarray:
        key = (index, height, width)
        if key not in self._cache:
            import cv2

            picture = self.images.read(index)
            if picture.shape[:2] != (height, width):
                shrinks = height * width < picture.shape[0] * picture.shape[1]
                method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
                picture = cv2.resize(picture, (width, height), interpolation=method)
            half = int(self.beta[1] * min(height, width))
            self._cache[key] = np.abs(low_frequencies(picture, half))
            self._cached_bytes += self._cache[key].nbytes
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        self._cache.move_to_end(key)
        return self._cache[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict(), "_cached_bytes": 0}

    def __repr__(self) -> str:
        return (
            f"FourierDomainAdaptation(target={self.target!r} ({len(self.images):,} images), "
            f"beta={self.beta}, p={self.p})"
        )
