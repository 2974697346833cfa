"""Image transforms of re-ID: albumentations pipelines that are a pure function of the seed.

A pipeline is a list of albumentations' transforms by name, and of our ``RandomErasing``::

    [dict(type="Resize", height=256, width=128), dict(type="HorizontalFlip", p=0.5), ...]
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# ImageNet's mean as uint8 RGB: what padding and erasing fill with, so that the filled area is
# zero once the image is normalised.
IMAGENET_MEAN_RGB = (124, 116, 104)


class Transforms:
    """A pipeline from one image to one tensor; made by :func:`build_transforms`.

    Calling it with a seed always gives the same result for the same image, in any process: the
    samplers hand a seed to every sample, so a run does not depend on the number of workers and
    continues exactly after a stop. Without a seed the transforms draw from fresh entropy.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]]) -> None:
        self.config = [dict(entry) for entry in transforms]
        self._compose = _compose(self.config)

    def __call__(self, image: np.ndarray, seed: int | None = None) -> Tensor:
        """``image`` (H, W, 3) uint8 RGB -> (3, H', W') uint8 tensor."""
        # One pair of generators for the whole pipeline: seeding every transform with the same
        # number, as Compose.set_random_seed does, would correlate e.g. the flip and the erasing.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        out = self._compose(image=image)["image"]
        if out.dtype != np.uint8 or out.ndim != 3 or out.shape[2] != 3:
            raise ValueError(
                f"transforms must end in an (H, W, 3) uint8 image, got {out.dtype} {out.shape}; "
                "leave normalisation and conversion to tensors to the model"
            )
        return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1)

    def __repr__(self) -> str:
        return f"Transforms({self.config})"


def build_transforms(transforms: Sequence[Mapping[str, Any]]) -> Transforms:
    """A list of ``dict(type=<transform>, **arguments)`` -> a pipeline.

    Raises:
        ValueError: an unknown type (near names are listed) or an argument that it does not take.
    """
    return Transforms(transforms)


def _compose(config: Sequence[Mapping[str, Any]]) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for news on the network
    import albumentations
    import cv2

    from .random_erasing import RandomErasing

    cv2.setNumThreads(0)  # the workers are the parallelism
    steps = []
    for entry in config:
        arguments = dict(entry)
        name = arguments.pop("type", None)
        own = {"RandomErasing": RandomErasing}
        kind = own.get(str(name)) or getattr(albumentations, str(name), None)
        if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
            import difflib

            close = difflib.get_close_matches(str(name), dir(albumentations), n=3)
            raise ValueError(
                f"unknown transform {name!r}: expected the name of an albumentations transform"
                + (f"; did you mean {' or '.join(close)}?" if close else "")
            )
        allowed = inspect.signature(kind.__init__).parameters  # albumentations would only warn
        if wrong := sorted(set(arguments) - set(allowed)):
            raise ValueError(f"transform {name} takes no argument {', '.join(wrong)}")
        steps.append(kind(**arguments))
    return albumentations.Compose(steps)
