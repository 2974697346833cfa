"""albumentations' transforms as one step of an mmcv pipeline, on the image and all label maps.

The lines of published recipes (torchvision's ColorJitter draws from the same ranges)::

    # RobustNet: colour jitter on half of the images, Gaussian blur of sigma 0.15..1.3 on all
    dict(type="seg.Albumentations", transforms=[
        dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.5),
        dict(type="GaussianBlur", sigma_limit=(0.15, 1.3), blur_limit=0, p=1.0),
    ])

Transforms that borrow from other images (FDA, HistogramMatching, ...) stand beside this one as
steps of their own: seg.FourierDomainAdaptation, seg.HistogramMatching, seg.ColourTransfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from imaging.transforms import build_compose

from ..label_spaces import IGNORE
from ..registry import TRANSFORMS
from .randomness import draw_generators
from .style import image_of


@TRANSFORMS.register_module()
class Albumentations(BaseTransform):
    """A list of albumentations transforms.

    ``results["img"]`` (H, W, 3) uint8 BGR is handed over as RGB and comes back as BGR. The maps
    named in ``results["seg_fields"]`` are transformed with it as masks (nearest neighbour); what a
    transform adds around them (padding, rotation) is 255, the ignored label, unless its
    ``fill_mask`` says otherwise. ``img_shape`` is updated.

    One pair of generators serves the whole list: they follow from ``results["sample_seed"]``, or
    from ``numpy.random`` where there is none.

    Args:
        transforms: ``dict(type=<albumentations name>, **arguments)`` each; OneOf, SomeOf,
            RandomOrder, Sequential and OneOrOther take such a list as their ``transforms``.

    Raises:
        ValueError: an unknown type or argument (near names are listed), a value that
            albumentations refuses; at use, a result that is no (H, W, 3) uint8 image.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]]) -> None:
        if isinstance(transforms, (str, Mapping)) or not isinstance(transforms, Sequence):
            raise ValueError(
                f"Albumentations: transforms is a list of dict(type=...), got {transforms!r}"
            )
        self._compose = _compose(transforms)
        self.transforms = [dict(entry) for entry in transforms]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        import cv2

        image = image_of(results, "Albumentations")
        fields = [name for name in results.get("seg_fields", ()) if name in results]
        self._compose.set_random_state(*draw_generators(results))
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        data: dict[str, Any] = {"image": rgb}
        if fields:
            data["masks"] = [results[name] for name in fields]
        try:
            out = self._compose(**data)
        except Exception as error:
            where = results.get("img_path", "an unnamed file")
            raise ValueError(
                f"Albumentations failed on {where}, {image.shape[1]}x{image.shape[0]} pixels: "
                f"{error}"
            ) from error
        changed = out["image"]
        if changed is not rgb:
            kind = f"{getattr(changed, 'dtype', type(changed).__name__)}"
            shape: tuple[int, ...] = tuple(getattr(changed, "shape", ()))
            if kind != "uint8" or len(shape) != 3 or shape[2] != 3:
                raise ValueError(
                    "Albumentations: transforms must end in an (H, W, 3) uint8 image, got "
                    f"{kind} {shape}; leave normalisation and tensors to the model"
                )
            results["img"] = cv2.cvtColor(changed, cv2.COLOR_RGB2BGR)
        for name, mask in zip(fields, out.get("masks", ()), strict=True):
            results[name] = np.ascontiguousarray(mask)
        results["img_shape"] = results["img"].shape[:2]
        if "pad_shape" in results:
            results["pad_shape"] = results["img"].shape[:2]
        return results

    def __getstate__(self) -> dict[str, Any]:
        return {"transforms": self.transforms}  # albumentations' own objects are made anew

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.transforms = state["transforms"]
        self._compose = _compose(self.transforms)

    def __repr__(self) -> str:
        return f"Albumentations({', '.join(_describe(entry) for entry in self.transforms)})"


def _describe(entry: Mapping[str, Any]) -> str:
    texts = [
        f"{key}=[{', '.join(_describe(e) for e in value)}]"
        if key == "transforms"
        else f"{key}={value!r}"
        for key, value in entry.items()
        if key != "type"
    ]
    return f"{entry['type']}({', '.join(texts)})"


def _compose(config: Iterable[Mapping[str, Any]]) -> Any:
    borrow = (
        "; to borrow style from other images use seg.FourierDomainAdaptation, "
        "seg.HistogramMatching or seg.ColourTransfer"
    )
    return build_compose(config, fill_mask=IGNORE, instead=borrow)
