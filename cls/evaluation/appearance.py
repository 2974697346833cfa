"""The appearance-shift test of the IBN-Net paper: the same images in other colours.

Pan et al., ECCV 2018, https://arxiv.org/abs/1807.09441, table 1. A shift acts on what the network
is given, after cropping and before or after normalisation:

- RGB+50, R+50: 50 is added to the pixels (0..255) of all channels, or of the red one.
- std x1.5: the normalised image is multiplied by 1.5, i.e. its contrast grows around the mean
  colour of the normaliser. Zero padding stays zero under it, and an instance norm behind the first
  convolution takes it out: IBN-b loses nothing.
- a style: see ``styles``; the paper's is Monet by a CycleGAN.

Pixels may leave 0..255, as in the paper (a clipped image has lost what no normalisation can bring
back); ``clip=True`` keeps them inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from engine.normalizer import ImageNormalizer

from .styles import Restyle, StyleImages, painting


@dataclass(frozen=True)
class Shift:
    """One change of appearance.

    Attributes:
        name: of its column. words: what it does.
        add: to the pixels, RGB, in 0..255. factor: of the normalised image. restyle: of the
            pixels, before both. clip: keep the pixels in 0..255.
    """

    name: str
    words: str
    add: tuple[float, float, float] = (0.0, 0.0, 0.0)
    factor: float = 1.0
    restyle: Restyle | None = None
    clip: bool = False

    def normalized(self, images: Tensor, index: Tensor, normalizer: ImageNormalizer) -> Tensor:
        """(N, 3, H, W) uint8 -> what the network is given, float32."""
        pixels = images.float()
        if self.restyle is not None:
            pixels = self.restyle(pixels, index)
        if any(self.add):
            pixels = pixels + pixels.new_tensor(self.add).view(1, 3, 1, 1)
        if not self.clip:
            return normalizer.normalize(pixels) * self.factor
        mean = normalizer.mean
        return normalizer.normalize((mean + self.factor * (pixels - mean)).clamp(0, 255))


SHIFTS = {
    shift.name: shift
    for shift in (
        Shift("RGB+50", "50 added to all channels", add=(50.0, 50.0, 50.0)),
        Shift("R+50", "50 added to the red channel", add=(50.0, 0.0, 0.0)),
        Shift("std x1.5", "contrast around the mean colour times 1.5", factor=1.5),
        Shift("painting", "brush strokes and a hazy palette, drawn by a filter", restyle=painting),
    )
}
# what is made of the pictures of a folder
_OF_FOLDER = {
    "colours": "colour statistics of the pictures in {folder} (Reinhard et al. 2001)",
    "fourier": "low frequencies of the pictures in {folder} (FDA, beta 0.01)",
}

# Top-1 and top-5 errors in percent, as the paper has them. Its style is Monet by CycleGAN.
PAPER_ORIGIN = "ImageNet val, 224x224, table 1 of the IBN-Net paper"
PAPER_ERRORS: dict[str, dict[str, tuple[float, float]]] = {
    "ResNet-50": {
        "none": (24.27, 7.08),
        "RGB+50": (28.22, 9.64),
        "R+50": (27.53, 8.78),
        "std x1.5": (40.01, 19.08),
        "Monet": (54.51, 29.32),
    },
    "ResNet-50 IBN-a": {
        "none": (22.54, 6.32),
        "RGB+50": (25.54, 8.03),
        "R+50": (25.20, 7.56),
        "std x1.5": (35.97, 16.22),
        "Monet": (51.57, 27.15),
    },
    "ResNet-50 IBN-b": {
        "none": (23.64, 6.86),
        "RGB+50": (23.82, 6.96),
        "R+50": (25.10, 7.43),
        "std x1.5": (23.64, 6.86),
        "Monet": (50.45, 25.22),
    },
}


def choose_shifts(
    names: Sequence[str] = (), style: str | Path | None = None, *, clip: bool = False
) -> list[Shift]:
    """Shifts by name, in the order of the names; all for none or 'all'.

    Args:
        names: of ``SHIFTS``; with a ``style`` also 'colours' and 'fourier'. Capitals and spaces
            do not matter.
        style: a folder of pictures whose look is to be taken.
        clip: keep pixels in 0..255.

    Raises:
        ValueError: an unknown name, or no images in the folder. FileNotFoundError: no folder.
    """
    known = dict(SHIFTS)
    if style is not None:
        pictures = StyleImages(style)
        folder = Path(style).resolve().name
        for name, words in _OF_FOLDER.items():
            known[name] = Shift(
                name, words.format(folder=folder), restyle=getattr(pictures, name)
            )  # fmt: skip
    plain = {_plain(name): shift for name, shift in known.items()}
    if not names or [_plain(name) for name in names] == ["all"]:
        names = list(known)
    if wrong := [name for name in names if _plain(name) not in plain]:
        needs = " (needs --style FOLDER)" if _plain(wrong[0]) in _OF_FOLDER else ""
        raise ValueError(
            f"unknown appearance {wrong[0]!r}{needs}; expected 'all' or some of "
            f"{', '.join(map(repr, known))}"
        )
    chosen = [plain[name] for name in dict.fromkeys(map(_plain, names))]
    if not clip:
        return chosen
    return [replace(s, clip=True, words=f"{s.words}, clipped to 0..255") for s in chosen]


@contextmanager
def shifted(model: nn.Module, shift: Shift) -> Iterator[None]:
    """Within this context the model sees every image under the shift.

    Raises:
        TypeError: the model's data preprocessor is no ``engine.ImageNormalizer``.
    """
    inner: Any = model.module if is_model_wrapper(model) else model
    normalizer = inner.data_preprocessor
    if not isinstance(normalizer, ImageNormalizer):
        raise TypeError(
            "appearance shifts act on an engine.ImageNormalizer, the model's data preprocessor is "
            f"a {type(normalizer).__name__}"
        )
    inner.data_preprocessor = _Shifted(normalizer, shift)
    try:
        yield
    finally:
        inner.data_preprocessor = normalizer


@contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 on a GPU: its ten bits round an image and its multiple differently."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


class _Shifted(nn.Module):
    """In the place of a normaliser."""

    def __init__(self, normalizer: ImageNormalizer, shift: Shift) -> None:
        super().__init__()
        self.normalizer, self.shift = normalizer, shift

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        data = self.normalizer.cast_data(data)
        images = data["inputs"]
        index = data.get("index")
        if index is None:
            index = torch.arange(len(images))
        return {**data, "inputs": self.shift.normalized(images, index, self.normalizer)}


def _plain(name: str) -> str:
    return "".join(name.lower().replace("×", "x").replace("*", "x").split())
