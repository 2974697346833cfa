"""Common corruptions of street images at five severities, for robustness reports.

In the spirit of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261: the kinds are theirs,
the pixels are made by albumentations (fog and snow by our own few lines), so that numbers compare
between models of this toolkit, not with tables on their data sets.

A report from a tool (:mod:`seg.robustness`)::

    from seg.corruptions import insert_steps, robustness_report

    def evaluate(steps):          # steps: [] for the clean images, or one seg.Corrupt
        # for every test dataset: dataset.pipeline = insert_steps(dataset.pipeline, steps),
        # build the runner, load the checkpoint, test
        return {"cityscapes": {"mIoU": 0.42, ...}, ...}      # domain -> metric -> value in 0..1

    report = robustness_report({"ibn_b": evaluate}, metric="mIoU")      # several models: one each
    Console(highlight=False).print(report.table("protocol, config, checkpoint"), soft_wrap=True)
    report.write(work_dir, protocol=..., seed=...)    # robustness.json, robustness_<domain>.png

A dataset's step ``dict(type="seg.Corrupt", name="fog", severity=3)`` gives every model the same
corrupted image: its seed is a hash of the corruption's and the file's name.

``report.rows`` are plain dicts; ``known=rows`` continues a report that was interrupted, and
``on_rows=`` is called with the rows so far after each of the 1 + 16 x 5 evaluations a model.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .robustness import RobustnessReport, Row, insert_steps, robustness_report

__all__ = [
    "CORRUPTIONS",
    "Corruption",
    "RobustnessReport",
    "Row",
    "corrupt",
    "find_corruption",
    "image_seed",
    "insert_steps",
    "robustness_report",
]

# Lengths (radii, kernels, drops) are written for an image whose shorter side has this many pixels
# or fewer, and grow with larger ones: the same scene is blurred equally far at any resolution.
REFERENCE_SIDE = 512
SMALLEST_SIDE = 32

# (H, W, 3) uint8 RGB, severity 1..5, seed -> the same shape and type
Apply = Callable[[np.ndarray, int, int], np.ndarray]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption; ``kind`` is noise, blur, weather or digital."""

    name: str
    kind: str
    description: str
    apply: Apply


def corrupt(image: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """``image`` (H, W, 3) uint8 RGB under a corruption: a pure function of its arguments.

    Args:
        name: one of :data:`CORRUPTIONS`.
        severity: 1 (mild) to 5 (strong).
        seed: 0 or more; decides noise, drops, flakes and directions, alike at every severity.

    Returns:
        A new (H, W, 3) uint8 image, contiguous.

    Raises:
        ValueError: an unknown name, a severity outside 1..5, another kind of image, or one with
            a side of less than 32 pixels.
    """
    corruption = find_corruption(name)
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity: expected 1, 2, 3, 4 or 5, got {severity!r}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"corruptions take (H, W, 3) uint8 RGB images, got {image.dtype} {image.shape}"
        )
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(
            f"corruptions take images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got "
            f"{image.shape[1]}x{image.shape[0]}; blur and drops mean nothing on smaller ones"
        )
    out = corruption.apply(np.ascontiguousarray(image), int(severity), int(seed))
    return np.ascontiguousarray(out)


def find_corruption(name: str) -> Corruption:
    """The corruption of that name.

    Raises:
        ValueError: unknown; near names are listed.
    """
    if name in CORRUPTIONS:
        return CORRUPTIONS[name]
    close = difflib.get_close_matches(str(name), CORRUPTIONS, n=3)
    raise ValueError(
        f"unknown corruption {name!r}; "
        + (f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(CORRUPTIONS)}")
    )


def image_seed(file_name: str, corruption: str) -> int:
    """A seed in 0..2**63-1 from the last part of a path: alike for every model and machine."""
    base = file_name.replace("\\", "/").rpartition("/")[2]
    digest = hashlib.sha256(f"{corruption}\n{base}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _size_factor(image: np.ndarray) -> float:
    return max(1.0, float(min(image.shape[:2])) / REFERENCE_SIDE)


def _by_albumentations(
    kind: str, arguments: Callable[[int, np.ndarray], Mapping[str, Any]]
) -> Apply:
    """``arguments(severity - 1, image)`` -> arguments of the albumentations transform ``kind``."""

    def apply(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for news on the network
        import albumentations

        transform = getattr(albumentations, kind)(**arguments(severity - 1, image), p=1.0)
        transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        out: np.ndarray = transform(image=image)["image"]
        return out

    return apply


def _jitter(**factors: tuple[float, ...]) -> Apply:
    """ColorJitter with fixed factors by severity; 1 (and hue 0) changes nothing."""

    def arguments(level: int, _: np.ndarray) -> dict[str, Any]:
        fixed = dict.fromkeys(("brightness", "contrast", "saturation"), (1.0, 1.0))
        chosen = {key: (values[level],) * 2 for key, values in factors.items()}
        return {**fixed, "hue": (0.0, 0.0), **chosen}

    return _by_albumentations("ColorJitter", arguments)


def _pair(value: Any) -> tuple[Any, Any]:
    return value, value


def _gaussian_noise(level: int, _: np.ndarray) -> dict[str, Any]:
    return dict(std_range=_pair((0.04, 0.08, 0.12, 0.18, 0.26)[level]))


def _shot_noise(level: int, _: np.ndarray) -> dict[str, Any]:
    return dict(scale_range=_pair((0.006, 0.015, 0.035, 0.08, 0.16)[level]))


def _impulse_noise(level: int, _: np.ndarray) -> dict[str, Any]:
    amount = (0.01, 0.03, 0.06, 0.11, 0.18)[level]
    return dict(amount=_pair(amount), salt_vs_pepper=(0.5, 0.5))


def _defocus_blur(level: int, image: np.ndarray) -> dict[str, Any]:
    radius = round((1, 2, 4, 6, 8)[level] * _size_factor(image))
    return dict(radius=_pair(radius), alias_blur=(0.5, 0.5))


def _motion_blur(level: int, image: np.ndarray) -> dict[str, Any]:
    half = round((2, 4, 7, 10, 14)[level] * _size_factor(image))
    # symmetric and not shifted: the labels stay where they are
    return dict(blur_limit=_pair(2 * half + 1), allow_shifted=False, direction_range=(0.0, 0.0))


def _zoom_blur(level: int, image: np.ndarray) -> dict[str, Any]:
    largest = (1.03, 1.06, 1.10, 1.15, 1.22)[level]
    return dict(max_factor=_pair(largest), step_factor=_pair(0.01 / _size_factor(image)))


def _glass_blur(level: int, image: np.ndarray) -> dict[str, Any]:
    factor = _size_factor(image)
    sigma, delta, iterations = ((0.4, 1, 1), (0.6, 1, 2), (0.7, 2, 2), (0.9, 3, 2), (1.2, 4, 3))[
        level
    ]
    return dict(sigma=sigma * factor, max_delta=round(delta * factor), iterations=iterations)


def _rain(level: int, image: np.ndarray) -> dict[str, Any]:
    kind = ("drizzle", "default", "heavy", "torrential", "torrential")[level]
    length = round((8, 14, 16, 18, 32)[level] * _size_factor(image))
    return dict(
        rain_type=kind,
        drop_length=min(length, image.shape[0] // 2),
        brightness_coefficient=(0.95, 0.88, 0.82, 0.75, 0.65)[level],
        blur_value=3,
    )


def _brightness(level: int, _: np.ndarray) -> dict[str, Any]:
    added = (0.1, 0.2, 0.3, 0.4, 0.5)[level]
    return dict(brightness_limit=_pair(added), contrast_limit=(0.0, 0.0))


def _jpeg(level: int, _: np.ndarray) -> dict[str, Any]:
    return dict(quality_range=_pair((25, 18, 13, 9, 6)[level]))


def _pixelate(level: int, image: np.ndarray) -> dict[str, Any]:
    import cv2

    return dict(
        scale_range=_pair(1 / round((2, 3, 4, 6, 8)[level] * _size_factor(image))),
        interpolation_pair=dict(downscale=cv2.INTER_AREA, upscale=cv2.INTER_NEAREST),
    )


def _fog(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """Airlight in drifting patches, thinner near the camera (the image's lower half).

    ``image * (1 - t) + airlight * t``, with t from five octaves of smooth noise.
    """
    import cv2

    strength = (0.30, 0.45, 0.60, 0.74, 0.87)[severity - 1]
    height, width = image.shape[:2]
    generator = np.random.default_rng(seed)
    noise = np.zeros((height, width), np.float32)
    for octave in range(5):
        rows = 2 ** (octave + 1) + 1
        columns = max(2, round(rows * width / height))
        grid = generator.random((rows, columns), np.float32) / 2**octave
        noise += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    distance = np.interp(np.arange(height), [0.5 * height, height], [1.0, 0.7])
    t = strength * distance[:, None].astype(np.float32) * (0.65 + 0.35 * noise)  # (H, W)
    airlight = np.array([224, 226, 230], np.float32)
    out: np.ndarray = image + t[..., None] * (airlight - image)
    return out.round().astype(np.uint8)


def _snow(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """Flakes of three distances falling in one direction, in front of a paler scene.

    The flakes of a severity are among those of the next one.
    """
    import cv2

    density = (0.15, 0.3, 0.5, 0.75, 1.0)[severity - 1]
    haze = (0.08, 0.15, 0.22, 0.30, 0.38)[severity - 1]
    height, width = image.shape[:2]
    factor = _size_factor(image)
    generator = np.random.default_rng(seed)
    angle = np.deg2rad(generator.uniform(60, 120))
    fall = np.array([np.cos(angle), np.sin(angle)])  # x to the right, y down

    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    pale = 0.5 * gray + 0.5 * 235
    out: np.ndarray = image + haze * (pale - image)
    # far to near: thickness and length of a flake's trace, flakes a 1,000 pixels, opacity
    for thickness, length, count, opacity in ((1, 2, 14, 0.6), (2, 4, 3.5, 0.8), (4, 9, 0.6, 0.9)):
        flakes = round(count * height * width / 1000 / factor**2)
        starts = generator.random((flakes, 2)) * [width, height]
        starts = starts[: max(1, round(density * flakes))]
        ends = starts + fall * length * factor
        traces = np.stack([starts, ends], 1).round().astype(np.int32)  # (n, 2, 2) x, y
        layer = np.zeros((height, width), np.uint8)
        width_px = max(1, round(thickness * factor))
        cv2.polylines(layer, list(traces), False, 255, width_px, cv2.LINE_AA)
        soft = cv2.GaussianBlur(layer, (0, 0), 0.35 * width_px)
        out += (opacity / 255 * soft[..., None]) * (245 - out)
    return out.clip(0, 255).round().astype(np.uint8)


def _all() -> dict[str, Corruption]:
    album = _by_albumentations
    levels = (0.7, 0.5, 0.36, 0.25, 0.16)
    entries = [
        ("gaussian_noise", "noise", "normal noise a channel", album("GaussNoise", _gaussian_noise)),
        ("shot_noise", "noise", "Poisson noise of few photons", album("ShotNoise", _shot_noise)),
        ("impulse_noise", "noise", "salt and pepper", album("SaltAndPepper", _impulse_noise)),
        ("defocus_blur", "blur", "a disc as kernel", album("Defocus", _defocus_blur)),
        ("motion_blur", "blur", "a line in any direction", album("MotionBlur", _motion_blur)),
        ("zoom_blur", "blur", "driving towards the scene", album("ZoomBlur", _zoom_blur)),
        ("glass_blur", "blur", "neighbours change places", album("GlassBlur", _glass_blur)),
        ("fog", "weather", "airlight in patches", _fog),
        ("rain", "weather", "drops and a darker scene", album("RandomRain", _rain)),
        ("snow", "weather", "flakes and a paler scene", _snow),
        ("brightness", "digital", "over-exposed", album("RandomBrightnessContrast", _brightness)),
        ("darkness", "digital", "under-exposed", _jitter(brightness=levels)),
        ("contrast", "digital", "towards the mean grey", _jitter(contrast=levels)),
        ("saturation", "digital", "towards grey", _jitter(saturation=(0.75, 0.5, 0.3, 0.15, 0.0))),
        ("jpeg", "digital", "compressed", album("ImageCompression", _jpeg)),
        ("pixelate", "digital", "fewer, larger pixels", album("Downscale", _pixelate)),
    ]
    return {entry[0]: Corruption(*entry) for entry in entries}


CORRUPTIONS: dict[str, Corruption] = _all()
