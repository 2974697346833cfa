"""Style randomisation in one config line: for each image one of several style transforms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..registry import TRANSFORMS
from .colour_transfer import ColourTransfer
from .fourier import FourierDomainAdaptation
from .random_convolution import RandomConvolution
from .style import StyleTransform

METHODS = ("colour", "convolution", "fourier")


@TRANSFORMS.register_module()
class StyleRandomization(StyleTransform):
    """One of several label-free changes of style, each image another one.

    Args:
        target: unlabelled images (folder, file or list) whose colours, and low frequencies for
            "fourier", are borrowed; None: random colours.
        methods: some of "colour" (:class:`ColourTransfer` in LAB), "convolution"
            (:class:`RandomConvolution`) and "fourier" (:class:`FourierDomainAdaptation` with beta
            0.01; needs ``target``), equally often.
        p: share of images that are changed.
    """

    def __init__(
        self,
        target: str | Path | Sequence[str | Path] | None = None,
        methods: Sequence[str] = ("colour", "convolution"),
        p: float = 0.5,
    ) -> None:
        super().__init__(p)
        methods = (methods,) if isinstance(methods, str) else tuple(methods)
        if not methods or not set(methods) <= set(METHODS):
            raise ValueError(
                f"StyleRandomization: methods are some of {', '.join(METHODS)}, got {methods}"
            )
        if "fourier" in methods and target is None:
            raise ValueError("StyleRandomization: 'fourier' needs target=<folder of images>")
        self.methods = methods
        self.transforms: list[StyleTransform] = []
        for method in methods:
            if method == "colour":
                self.transforms.append(ColourTransfer(target, p=1.0))
            elif method == "convolution":
                self.transforms.append(RandomConvolution(p=1.0))
            else:
                assert target is not None
                self.transforms.append(FourierDomainAdaptation(target, beta=0.01, p=1.0))

    def restyle(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        chosen = self.transforms[int(generator.integers(len(self.transforms)))]
        return chosen.restyle(image, generator)

    def __repr__(self) -> str:
        return f"StyleRandomization({self.transforms}, p={self.p})"
