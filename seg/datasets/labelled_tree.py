"""Trees whose labels come as files of several kinds: labelIds, labelTrainIds, ..."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from .base import SegmentationDataset, inner_folder, keyed

__all__ = ["LabelledTree", "has_file"]


class LabelledTree(SegmentationDataset):
    """A data set that may have several label files for an image; one kind is read.

    Args:
        labels: one of ``KINDS``, or ``"auto"``: the first of them that is there.
        **options: see :class:`SegmentationDataset`.
    """

    SPLITS = ("train", "val")
    KINDS: ClassVar[dict[str, str]] = {"labelIds": "cityscapes", "labelTrainIds": "trainids"}
    """Kind of label file, best first -> label source."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        labels: str = "auto",
        **options: Any,
    ) -> None:
        if labels not in ("auto", *self.KINDS):
            raise ValueError(f"labels must be one of auto, {', '.join(self.KINDS)}; got {labels!r}")
        self.labels = labels
        super().__init__(root, split, **options)

    def find_labels(
        self, folder: str, withins: Sequence[str], pattern: str
    ) -> tuple[str, dict[str, str]]:
        """Label files of the wanted kind: (kind, {key: path}); sets ``source``.

        Args:
            folder: of the labels, below the root or below one wrapper in it.
            withins: folders below it.
            pattern: of a file's ending, with ``{}`` for the kind.
        """
        kinds = list(self.KINDS) if self.labels == "auto" else [self.labels]
        for kind in kinds:
            if found := self._labels(folder, withins, pattern.format(kind)):
                break
        else:
            kind, found = kinds[0], {}
        self.source = self.KINDS[kind]
        return kind, found

    def _labels(self, folder: str, withins: Sequence[str], ending: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for within in withins:
            if (inner := inner_folder(self.root, folder, *within.split("/"))) is not None:
                base = inner
                for _ in within.split("/"):
                    base = base.parent
                found.update(keyed(base, ending, within=within))
        return found


def has_file(folder: Path, suffix: str, depth: int = 2) -> bool:
    """Whether some file ``depth`` folders below ``folder`` ends in ``suffix``; the first counts."""
    for path, folders, names in os.walk(folder):
        level = len(Path(path).relative_to(folder).parts)
        if any(n.lower().endswith(suffix.lower()) and not n.startswith(".") for n in names):
            return True
        if level >= depth:
            folders.clear()
    return False
