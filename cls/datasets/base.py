"""What every classification data set has in common: names, labels, and how an image is read."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import index as as_index
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch.utils.data import Dataset

from cls.registry import FUNCTIONS
from imaging.files import read_image
from imaging.samples import Transform, as_transform, collate_samples, file_size

__all__ = ["ClassificationDataset", "Listing", "collate"]


@dataclass(frozen=True)
class Listing:
    """One split as a parser found it.

    Attributes:
        name: of the data set, for tables. protocol: in words, which files these are and how the
            split came about, for it decides which numbers may be compared.
        classes: names by label; (N,) int64 ``labels`` index them.
        names: N files, relative to ``root`` or absolute; of ``images``, what to call each.
        images: (N, H, W, 3) uint8 RGB, for data that comes as one array.
        notes: what was left out or is odd. more: further plain values for ``metainfo``.
    """

    name: str
    protocol: str
    classes: tuple[str, ...]
    labels: np.ndarray
    names: Sequence[str]
    root: str = ""
    images: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


class ClassificationDataset(Dataset[dict[str, Any]], ABC):
    """Images of one split, each of one class; a subclass says in :meth:`parse` which.

    Args:
        root: the folder (or file) to parse.
        split: one of ``SPLITS``.
        transforms: a list of config dicts for ``imaging.transforms.build_transforms``, or a
            callable ``(image: (H, W, 3) uint8 RGB array, seed: int | None) -> (3, H', W') uint8
            tensor``, or None: the image as it is.

    Attributes:
        classes: names by label. labels: (N,) int64.
        notes: what the parser left out or found odd.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
    ) -> None:
        if split not in self.SPLITS:
            raise ValueError(
                f"{type(self).__name__}: split must be one of {', '.join(self.SPLITS)}, "
                f"got {split!r}"
            )
        self.root = Path(root).expanduser()
        self.split = split
        self.transforms = as_transform(transforms)
        listing = self.parse()
        if not len(listing.labels):
            raise ValueError(
                f"the split {split!r} of {listing.name} has no image ({listing.protocol}); "
                f"`python tools/prepare_data.py cls {root}` explains what the data holds"
            )
        self.name = listing.name
        self.protocol = listing.protocol
        self.classes = listing.classes
        self.labels = np.ascontiguousarray(listing.labels, np.int64)
        self.notes = listing.notes
        self.images = listing.images
        # One array and not a million strings: a forked worker that only looks at a string writes
        # its reference count, and so copies the whole list page by page.
        self._names = np.array([os.fsencode(name) for name in listing.names])
        self._folder = listing.root
        self._more = dict(listing.more)
        assert len(self._names) == len(self.labels), (len(self._names), len(self.labels))
        assert self.images is None or len(self.images) == len(self.labels)
        assert self.labels.min() >= 0 and self.labels.max() < len(self.classes)

    @abstractmethod
    def parse(self) -> Listing:
        """The listing of ``self.split``, from ``self.root`` and the options."""

    @property
    def names(self) -> list[str]:
        """N files relative to the data's folder, or what the images of an array are called."""
        return [os.fsdecode(name) for name in self._names]

    def image_name(self, index: int) -> str:
        """One of :attr:`names`."""
        return os.fsdecode(self._names[index])

    def path(self, index: int) -> str:
        """The file of an image; of an array's image its name, such as ``data_batch_1[17]``."""
        name = os.fsdecode(self._names[index])
        return name if self.images is not None else os.path.join(self._folder, name)  # noqa: PTH118

    @cached_property
    def metainfo(self) -> dict[str, Any]:
        """What a metric and a run manifest need to know, in plain values."""
        return {
            "name": self.name,
            "split": self.split,
            "protocol": self.protocol,
            "fingerprint": self.fingerprint(),
            "num_images": len(self),
            "num_classes": len(self.classes),
            "classes": list(self.classes),
            **self._more,
        }

    def fingerprint(self) -> str:
        """A sha256 over class, name and size of every image, in any order; of an array, its pixels.

        Files cost one ``stat`` each and are not read; one that is not there counts as size -1.
        """
        label_names = [f"{label}\0{name}" for label, name in enumerate(self.classes)]
        if self.images is not None:
            digest = hashlib.sha256("\n".join(label_names).encode())
            digest.update(self.labels.data)
            digest.update(np.ascontiguousarray(self.images).data)
            return digest.hexdigest()
        lines = sorted(
            f"{name.replace(os.sep, '/')}\0{file_size(self.path(i))}\0{label_names[label]}\n"
            for i, (name, label) in enumerate(zip(self.names, self.labels.tolist(), strict=True))
        )
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """One sample. ``key`` is an index, or (index, seed): the seed then fixes the augmentation.

        Returns:
            dict: inputs ((3, H, W) uint8 RGB tensor), label, index, path.
        """
        position, seed = key if isinstance(key, tuple) else (key, None)
        position = as_index(position)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {position} of a data set with {len(self)} images")
        position %= len(self)
        path = self.path(position)
        image = read_image(path) if self.images is None else self.images[position]
        return {
            "inputs": self.transforms(image, None if seed is None else as_index(seed)),
            "label": int(self.labels[position]),
            "index": position,
            "path": path,
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.root)!r}, split={self.split!r}: {len(self):,} images "
            f"of {len(self.classes):,} classes)"
        )


@FUNCTIONS.register_module()
def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Samples of a :class:`ClassificationDataset` -> one batch of B images.

    Returns:
        dict: inputs (B, 3, H, W) uint8, in the memory format (channels first or last) of the
        samples; label, index (B,) int64; path, B strings.
    """
    return collate_samples(samples, ("label", "index"))
