"""Pipelines of albumentations' transforms that are a pure function of image and seed.

A pipeline is a list of transforms by name, albumentations' and our own (:func:`own_transforms`)::

    [dict(type="Resize", height=256, width=128), dict(type="HorizontalFlip", p=0.5), ...]
"""

from __future__ import annotations

import difflib
import inspect
import os
import random
from collections.abc import Iterable, Mapping, Sequence
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
        compose = build_compose(self.config)
        self._steps: list[Any] = compose.transforms
        # One pair of generators for the whole pipeline: seeding every transform with the same
        # number, as Compose.set_random_seed does, would correlate e.g. the flip and the erasing.
        self._numpy, self._python = np.random.default_rng(), random.Random()
        compose.set_random_state(self._numpy, self._python)

    def __call__(self, image: np.ndarray, seed: int | None = None) -> Tensor:
        """``image`` (H, W, 3) uint8 RGB -> (3, H', W') uint8 tensor."""
        self._set_seed(seed)
        out = image
        for step in self._steps:  # as Compose does, but its checks take longer than a small crop
            out = step(image=out)["image"]
        if out.dtype != np.uint8 or out.ndim != 3 or out.shape[2] != 3:
            raise ValueError(
                f"transforms must end in an (H, W, 3) uint8 image, got {out.dtype} {out.shape}; "
                "leave normalisation and conversion to tensors to the model"
            )
        if not out.flags.c_contiguous or np.may_share_memory(out, image):
            out = np.array(out, order="C")  # the tensor owns its pixels: the image stays as it was
        return torch.from_numpy(out).permute(2, 0, 1)

    def _set_seed(self, seed: int | None) -> None:
        """Set both generators; making new ones takes three times as long."""
        self._python.seed(seed)
        self._numpy.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {
                "state": self._python.getrandbits(128),
                "inc": self._python.getrandbits(128) | 1,  # PCG's increments are odd
            },
            "has_uint32": 0,
            "uinteger": 0,
        }

    def __repr__(self) -> str:
        return f"Transforms({self.config})"


def build_transforms(transforms: Sequence[Mapping[str, Any]]) -> Transforms:
    """A list of ``dict(type=<transform>, **arguments)`` -> a pipeline.

    Raises:
        ValueError: an unknown type (near names are listed) or an argument that it does not take.
    """
    return Transforms(transforms)


def build_compose(
    transforms: Iterable[Mapping[str, Any]], *, fill_mask: int | None = None, instead: str = ""
) -> Any:
    """A list of ``dict(type=<transform>, **arguments)`` -> ``albumentations.Compose``.

    OneOf, SomeOf, RandomOrder, Sequential and OneOrOther take such a list as their ``transforms``.

    Args:
        fill_mask: what a transform adds to label maps (padding, rotation), where it does not say.
        instead: what to use for a transform that needs more than an image.

    Raises:
        ValueError: an unknown type or argument (near names are listed), or a value that
            albumentations refuses.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for news on the network
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # the loading processes are the parallelism
    return albumentations.Compose([_build(entry, fill_mask, instead) for entry in transforms])


def describe_transforms(transforms: Any) -> str:
    """``SmallestMaxSize 256, CenterCrop 224x224``: what a test does to images, in words."""
    if transforms is None:
        return "images as they are"
    if not isinstance(transforms, list | tuple):
        return f"images by {getattr(transforms, '__name__', type(transforms).__name__)}"
    return ", ".join(_in_words(dict(step)) for step in transforms) or "images as they are"


def own_transforms() -> dict[str, type]:
    """The transforms of this package, by name."""
    from . import antialiased as smooth
    from . import torchvision_policies as policies
    from .pca_lighting import PCALighting
    from .random_erasing import RandomErasing
    from .random_patch import RandomPatch

    kinds: tuple[type, ...] = (
        smooth.AntialiasedRandomResizedCrop,
        smooth.AntialiasedResize,
        smooth.AntialiasedSmallestMaxSize,
        policies.AugMix,
        policies.AutoAugment,
        policies.RandAugment,
        policies.TrivialAugmentWide,
        PCALighting,
        RandomErasing,
        RandomPatch,
    )
    return {kind.__name__: kind for kind in kinds}


def _build(entry: Mapping[str, Any], fill_mask: int | None, instead: str) -> Any:
    import albumentations

    if not isinstance(entry, Mapping):
        raise ValueError(f"transforms: expected dict(type=...), got {entry!r}")
    arguments = dict(entry)
    name = str(arguments.pop("type", None))
    own = own_transforms()
    kind: Any = own.get(name) or getattr(albumentations, name, None)
    if not _usable(kind):
        known = [n for n in dir(albumentations) if _usable(getattr(albumentations, n))]
        raise ValueError(
            f"unknown transform {name!r}: expected the name of an albumentations transform or one "
            f"of {', '.join(own)}{_near(name, [*known, *own])}"
        )
    # albumentations would only warn about unknown ones and go on with its defaults
    parameters = inspect.signature(kind.__init__).parameters
    allowed = [n for n in parameters if n != "self"]
    if wrong := sorted(set(arguments) - set(allowed)):
        raise ValueError(
            f"transform {name} takes no argument {wrong[0]!r}{_near(wrong[0], allowed)}; "
            f"it takes {', '.join(allowed)}"
        )
    if "transforms" in arguments:
        arguments["transforms"] = [
            _build(inner, fill_mask, instead) for inner in arguments["transforms"]
        ]
    # None: the transform leaves the labels alone; a number would be a class
    masked = "fill_mask" in parameters and parameters["fill_mask"].default is not None
    if masked and fill_mask is not None:
        arguments.setdefault("fill_mask", fill_mask)
    try:
        step = kind(**arguments)
    except (ValueError, TypeError) as error:
        raise ValueError(f"transform {name}: {error}") from error
    if more := sorted(set(getattr(step, "targets_as_params", ())) - {"image"}):
        raise ValueError(
            f"transform {name} needs {', '.join(more)} with every image, which a pipeline does not "
            f"give it{instead}"
        )
    return step


def _usable(kind: Any) -> bool:
    import albumentations

    if not isinstance(kind, type):
        return False
    whole = (albumentations.Compose, albumentations.ReplayCompose)
    bases = (albumentations.BaseCompose, albumentations.BasicTransform)
    return issubclass(kind, bases) and not issubclass(kind, whole) and kind not in bases


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _in_words(step: dict[str, Any]) -> str:
    name = str(step.pop("type"))
    if "height" in step and "width" in step:
        return f"{name} {step['height']}x{step['width']}"
    sizes = [step[key] for key in ("size", "max_size", "padding") if key in step]
    shown = ["x".join(map(str, s)) if isinstance(s, list | tuple) else str(s) for s in sizes]
    return " ".join([name, *shown])
