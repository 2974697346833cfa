"""Own data of any layout: a folder of images and a folder of labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg.registry import DATASETS

from .base import IMAGE_SUFFIXES, SegmentationDataset, keyed, resolve_source


@DATASETS.register_module()
class ImageLabelFolder(SegmentationDataset):
    """Images and labels that have the same name but for their endings, in two folders.

    Example::

        dict(type="seg.ImageLabelFolder", root="data/mine", images="photos/{split}",
             labels="masks/{split}", label_suffix="_mask.png",
             source={0: "road", 1: "car", 255: None}, space="cityscapes19")

    Args:
        root: folder that ``images`` and ``labels`` are relative to.
        split: any name; it takes the place of ``{split}`` in the two folders.
        images, labels: folders, searched with all folders in them. ``labels=None``: images alone.
        image_suffix, label_suffix: endings to be cut off before names are compared; None: that of
            any image format.
        source: a key of ``seg.label_spaces.SOURCES`` (``register_source`` adds one), or a dict
            {id: class name, or None to ignore it}.
        **options: see :class:`SegmentationDataset`.
    """

    NAME = "folder"
    EXPECTED = "a folder of images and a folder of labels"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "all",
        *,
        source: str | Mapping[Any, str | None],
        images: str = "images",
        labels: str | None = "labels",
        image_suffix: str | None = None,
        label_suffix: str | None = None,
        **options: Any,
    ) -> None:
        self._source = resolve_source(source)
        self.images, self.labels = images, labels
        self.image_suffix, self.label_suffix = image_suffix, label_suffix
        self.SPLITS = (split,)  # type: ignore[misc]
        super().__init__(root, split, **options)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return root.is_dir()

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        self.source = self._source
        self.protocol = f"{self.split}: all files of the folders {self.images} and {self.labels}"
        image_folder = self._folder(self.images)
        found = keyed(image_folder, self.image_suffix or IMAGE_SUFFIXES)
        if self.labels is None:
            return found, {}
        return found, keyed(self._folder(self.labels), self.label_suffix or IMAGE_SUFFIXES)

    def _folder(self, name: str) -> Path:
        folder = Path(self.root) / name.replace("{split}", self.split)
        if not folder.is_dir():
            there = sorted(p.name for p in Path(self.root).iterdir() if p.is_dir())
            raise FileNotFoundError(
                f"{self}: there is no folder {str(folder)!r}; the root has "
                f"{', '.join(there[:10]) or 'no folders'}. Say which with images=... and labels=..."
            )
        return folder

    def _matched(self, images: dict[str, str], labels: dict[str, str]) -> list[str]:
        return list(images) if self.labels is None else super()._matched(images, labels)
