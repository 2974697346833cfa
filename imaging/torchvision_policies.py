"""AutoAugment, RandAugment, TrivialAugment and AugMix, as torchvision does them.

Cubuk et al., "AutoAugment", CVPR 2019, https://arxiv.org/abs/1805.09501;
Cubuk et al., "RandAugment", NeurIPS 2020, https://arxiv.org/abs/1909.13719;
Müller and Hutter, "TrivialAugment", ICCV 2021, https://arxiv.org/abs/2103.10158;
Hendrycks et al., "AugMix", ICLR 2020, https://arxiv.org/abs/1912.02781 (the images; its
consistency loss is no business of an image).

torchvision draws from torch's global generator. Here that generator is set from the step's own
for the time of one image and then put back, so the pixels follow from the sample's seed and the
rest of the program sees none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from albumentations import ImageOnlyTransform

Fill = tuple[int, int, int] | int | None
Interpolation = Literal["nearest", "bilinear"]


class _Policy(ImageOnlyTransform):
    """An image through the transform of torchvision.transforms.v2 that has the class's name."""

    def __init__(
        self, interpolation: Interpolation, fill: Fill, p: float, **arguments: Any
    ) -> None:
        from torchvision.transforms import InterpolationMode, v2

        super().__init__(p=p)
        self.interpolation, self.fill = interpolation, fill
        self.to_pillow = v2.functional.to_pil_image
        self.module = getattr(v2, type(self).__name__)(
            **arguments, interpolation=InterpolationMode(interpolation), fill=_rgb(fill)
        )

    def get_params(self) -> dict[str, Any]:
        return {"torch_seed": self.py_random.getrandbits(63)}

    def apply(self, img: np.ndarray, torch_seed: int, **_: Any) -> np.ndarray:
        # Pillow's operations are those of the papers, and three times as fast as torch's
        with _torch_seed(torch_seed):
            return np.array(self.module(self.to_pillow(img)))


class AutoAugment(_Policy):
    """One of 25 learned pairs of operations.

    Args:
        policy: the data set for which the pairs were learned: 'imagenet', 'cifar10' or 'svhn'.
        interpolation: of rotation, shear and translation: 'nearest' (as published) or 'bilinear'.
        fill: RGB of what these leave empty; None is black.
        p: probability to do it at all.
    """

    class InitSchema(ImageOnlyTransform.InitSchema):
        policy: Literal["imagenet", "cifar10", "svhn"]
        interpolation: Interpolation
        fill: Fill

    def __init__(
        self,
        policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet",
        interpolation: Interpolation = "nearest",
        fill: Fill = None,
        p: float = 1.0,
    ) -> None:
        from torchvision.transforms import AutoAugmentPolicy

        super().__init__(interpolation, fill, p, policy=AutoAugmentPolicy(policy))
        self.policy = policy


class RandAugment(_Policy):
    """``num_ops`` random operations of one strength.

    Args:
        num_ops: operations an image.
        magnitude: strength, 0 to 30.
        interpolation, fill, p: as :class:`AutoAugment`.
    """

    class InitSchema(ImageOnlyTransform.InitSchema):
        num_ops: int
        magnitude: int
        interpolation: Interpolation
        fill: Fill

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        interpolation: Interpolation = "nearest",
        fill: Fill = None,
        p: float = 1.0,
    ) -> None:
        if num_ops < 1 or not 0 <= magnitude <= 30:
            raise ValueError(
                f"RandAugment: expected num_ops >= 1 and magnitude from 0 to 30, got "
                f"num_ops={num_ops}, magnitude={magnitude}"
            )
        super().__init__(interpolation, fill, p, num_ops=num_ops, magnitude=magnitude)
        self.num_ops, self.magnitude = num_ops, magnitude


class TrivialAugmentWide(_Policy):
    """One random operation of random strength, from the paper's wide ranges.

    Args:
        interpolation, fill, p: as :class:`AutoAugment`.
    """

    class InitSchema(ImageOnlyTransform.InitSchema):
        interpolation: Interpolation
        fill: Fill

    def __init__(
        self, interpolation: Interpolation = "nearest", fill: Fill = None, p: float = 1.0
    ) -> None:
        super().__init__(interpolation, fill, p)


class AugMix(_Policy):
    """A random mixture of the image and of chains of operations on it.

    Args:
        severity: strength of the operations, 1 to 10.
        mixture_width: number of chains.
        chain_depth: operations of a chain; -1 draws 1 to 3 for each.
        alpha: of the Dirichlet and Beta distributions from which the shares are drawn.
        all_ops: brightness, contrast, colour and sharpness, too, which the paper leaves out
            because its test images are corrupted by them.
        interpolation, fill, p: as :class:`AutoAugment`.
    """

    class InitSchema(ImageOnlyTransform.InitSchema):
        severity: int
        mixture_width: int
        chain_depth: int
        alpha: float
        all_ops: bool
        interpolation: Interpolation
        fill: Fill

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: Interpolation = "bilinear",
        fill: Fill = None,
        p: float = 1.0,
    ) -> None:
        if not (1 <= severity <= 10 and mixture_width >= 1 and alpha > 0) or (
            chain_depth != -1 and chain_depth < 1
        ):
            raise ValueError(
                "AugMix: expected severity from 1 to 10, mixture_width >= 1, chain_depth >= 1 or "
                f"-1, and alpha > 0, got severity={severity}, mixture_width={mixture_width}, "
                f"chain_depth={chain_depth}, alpha={alpha}"
            )
        super().__init__(
            interpolation,
            fill,
            p,
            severity=severity,
            mixture_width=mixture_width,
            chain_depth=chain_depth,
            alpha=alpha,
            all_ops=all_ops,
        )
        self.severity, self.mixture_width, self.chain_depth = severity, mixture_width, chain_depth
        self.alpha, self.all_ops = alpha, all_ops


@contextmanager
def _torch_seed(seed: int) -> Iterator[None]:
    """torch's CPU generator at ``seed`` inside, and afterwards where it was before."""
    generator = torch.default_generator  # torch.manual_seed would also reset the accelerators'
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def _rgb(fill: Fill) -> list[float] | None:
    if fill is None:
        return None
    return [float(value) for value in ((fill,) * 3 if isinstance(fill, int) else fill)]
