"""BDD100K, its 10k images with segmentation: Yu et al., CVPR 2020,
https://arxiv.org/abs/1805.04687.
"""

from __future__ import annotations

from pathlib import Path

from seg.registry import DATASETS

from .base import IMAGE_SUFFIXES, SegmentationDataset, inner_folder, keyed


@DATASETS.register_module()
class BDD100K(SegmentationDataset):
    """``images/10k/{train,val}/*.jpg`` and ``labels/sem_seg/masks/{train,val}/*.png`` (trainIds).

    7,000 and 1,000 images; a folder ``bdd100k/`` may be in between. Test labels are withheld.
    """

    NAME = "bdd100k"
    SPLITS = ("train", "val")
    EXPECTED = "BDD100K's folders images/10k/{train,val} and labels/sem_seg/masks/{train,val}"

    @classmethod
    def matches(cls, root: Path) -> bool:
        return (
            inner_folder(root, "images", "10k", wrapper="bdd100k") is not None
            and inner_folder(root, "labels", "sem_seg", "masks", wrapper="bdd100k") is not None
        )

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        self.source = "trainids"
        self.protocol = f"BDD100K {self.split}: the official folders (10k images)"
        image_root = inner_folder(self.root, "images", "10k", wrapper="bdd100k")
        label_root = inner_folder(self.root, "labels", "sem_seg", "masks", wrapper="bdd100k")
        assert image_root is not None and label_root is not None  # matches() has looked
        images: dict[str, str] = {}
        labels: dict[str, str] = {}
        for split in self.splits:
            images |= keyed(image_root, IMAGE_SUFFIXES, within=split)
            # the first release called its masks <name>_train_id.png
            labels |= keyed(label_root, ("_train_id.png", ".png"), within=split)
        return images, labels
