"""SYNTHIA-RAND-CITYSCAPES: Ros et al., CVPR 2016."""

from __future__ import annotations

from pathlib import Path

from seg.registry import DATASETS

from .base import IMAGE_SUFFIXES, SegmentationDataset, inner_folder, keyed

_WRAPPER = "RAND_CITYSCAPES"  # the folder in the archive


@DATASETS.register_module()
class Synthia(SegmentationDataset):
    """``RGB/*.png`` and ``GT/LABELS/*.png``, 16-bit PNGs whose first (red) channel is the class.

    9,400 images. There is no official split: train and all are every image. 16 of Cityscapes' 19
    classes occur (no terrain, truck, train), and a mean over this domain is one over 16.
    """

    NAME = "synthia"
    SPLITS = ("train",)
    EXPECTED = "SYNTHIA-RAND-CITYSCAPES' folders RGB/ and GT/LABELS/"

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (
            inner_folder(root, "RGB", wrapper=_WRAPPER) is not None
            and inner_folder(root, "GT", "LABELS", wrapper=_WRAPPER) is not None
        )

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        self.source = "synthia"
        self.protocol = (
            f"SYNTHIA-RAND-CITYSCAPES {self.split}: every image (there is no official split)"
        )
        images, labels = (
            inner_folder(self.root, "RGB", wrapper=_WRAPPER),
            inner_folder(self.root, "GT", "LABELS", wrapper=_WRAPPER),
        )
        assert images is not None and labels is not None  # matches() has looked
        return keyed(images, IMAGE_SUFFIXES), keyed(labels, ".png")
