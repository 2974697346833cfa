"""What every re-ID dataset has in common: records, splits, and how one image becomes a sample."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import index as as_index
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from torch.utils.data import Dataset

from imaging.cache import CacheOption, image_reader
from imaging.files import relative_name
from imaging.samples import Transform, as_transform, collate_samples, file_size
from reid.registry import FUNCTIONS

__all__ = [
    "SPLITS",
    "CameraOption",
    "ReIDDataset",
    "Record",
    "Splits",
    "Trial",
    "check_camera_option",
    "collate",
]

SPLITS = ("train", "query", "gallery", "test")

CameraOption: TypeAlias = Literal["auto"] | None

Trial: TypeAlias = tuple[np.ndarray, np.ndarray]
"""(query, gallery): two int64 arrays of positions among the records of the split 'test'."""


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled image: its path, the person (or vehicle) and the camera, None when unknown."""

    path: str
    pid: int
    camid: int | None


@dataclass(frozen=True)
class Splits:
    """A parsed dataset: who is trained on, who is searched for, and where.

    ``protocol`` says in words how the lists came about, for it decides which numbers may be
    compared. ``root`` is the folder that names in the fingerprint are relative to. ``identities``
    and ``cameras`` give the names behind the numbers where the data had names, and ``notes`` say
    what the parser left out. ``official`` are the numbers of images of train, query and gallery of
    the published split, where there is one. ``trials`` are the draws of a protocol whose result is
    the mean over several; ``query`` and ``gallery`` then hold all images of all draws, each once.
    """

    name: str
    protocol: str
    train: tuple[Record, ...]
    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    root: str = ""
    identities: Mapping[int, str] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    official: tuple[int, int, int] | None = None
    trials: tuple[Trial, ...] = field(default=(), compare=False)

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of images of train, query and gallery."""
        return len(self.train), len(self.query), len(self.gallery)

    def records(self, split: str) -> tuple[Record, ...]:
        """The records of train, query, gallery, or test: query followed by gallery."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return self.query + self.gallery if split == "test" else getattr(self, split)

    def fingerprint(self) -> str:
        """A sha256 over split, name, size, pid and camera of every image, in any order.

        It needs one ``stat`` per file and reads none; a file that is not there counts as size -1.
        """
        lines = sorted(
            f"{split}\0{relative_name(r.path, self.root)}\0{file_size(r.path)}"
            f"\0{r.pid}\0{r.camid}\n"
            for split in ("train", "query", "gallery")
            for r in self.records(split)
        )
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


class ReIDDataset(Dataset[dict[str, Any]], ABC):
    """Images of one split; a subclass says in :meth:`parse` what the splits are.

    Args:
        root: the folder (or list file) to parse.
        split: ``'train'``, ``'query'``, ``'gallery'``, or ``'test'``: query followed by gallery.
        transforms: a list of config dicts for ``imaging.transforms.build_transforms``, or a
            callable ``(image: (H, W, 3) uint8 RGB array, seed: int | None) -> (3, H', W') uint8
            tensor``, or None: the image as it is.
        camera: ``'auto'`` uses the camera labels that the data has; None ignores them, which also
            switches off the filter that drops same-camera matches in the evaluation.
        cache: keep images in memory: None, ``'resized'``, ``'bytes'``, or a dict; see
            ``imaging.cache``.

    Attributes:
        splits: all lists of the parser; ``records`` is the tuple of this split.
        labels: (N,) int64, the place of each record's identity among the sorted training
            identities, 0 .. number of training identities - 1; -1 for an identity that is not
            trained on, so that a classification loss on it fails instead of learning nonsense.
        pids, camids: (N,) int64; camid -1 means that there is no camera label.
        domains: (N,) int64, which of several data sets an image is of; 0 where there is one.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.root = Path(root).expanduser()
        self.split = split
        self.camera = check_camera_option(camera)
        self.transforms = as_transform(transforms)
        self.splits = self.parse()
        self.records = self.splits.records(split)
        if not self.records:
            raise ValueError(
                f"the split {split!r} of {self.splits.name} has no image ({self._counts()}; "
                f"{self.splits.protocol}); `python tools/prepare_data.py reid {root}` explains "
                "what the data holds"
            )
        self.read = image_reader(cache, [r.path for r in self.records], transforms)
        self.pids = np.array([r.pid for r in self.records], np.int64)
        self.camids = np.array([-1 if r.camid is None else r.camid for r in self.records], np.int64)
        self.labels = _labels(self.pids, [r.pid for r in self.splits.train])
        self.domains = np.zeros(len(self.records), np.int64)

    @abstractmethod
    def parse(self) -> Splits:
        """Turn ``self.root`` and the options into lists of records."""

    @property
    def num_identities(self) -> int:
        """Distinct pids among the records of this split (distractors count as one)."""
        return len(np.unique(self.pids))

    @property
    def num_query(self) -> int:
        """How many of the records, counted from the first, are queries."""
        return len(self.splits.query) if self.split in ("query", "test") else 0

    @cached_property
    def metainfo(self) -> dict[str, Any]:
        """What a metric and a run manifest need to know, in plain strings and integers.

        ``trials`` alone is none of these: of the split 'test' of a protocol with several draws, a
        tuple of :data:`Trial`; otherwise empty.
        """
        trials = self.splits.trials if self.split == "test" else ()
        return {
            "name": self.splits.name,
            "split": self.split,
            "protocol": self.splits.protocol,
            "fingerprint": self.splits.fingerprint(),
            "num_images": len(self.records),
            "num_identities": self.num_identities,
            "num_cameras": len(set(self.camids.tolist()) - {-1}),
            "num_query": self.num_query,
            "num_train_images": len(self.splits.train),
            "num_query_images": len(self.splits.query),
            "num_gallery_images": len(self.splits.gallery),
            "num_trials": len(trials),
            "trials": trials,
        }

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """One sample. ``key`` is an index, or (index, seed): the seed then fixes the augmentation.

        Returns:
            dict: inputs ((3, H, W) uint8 RGB tensor), label, pid, camid, path, index, seed (-1 for
            none, see ``imaging.batch_augmentation``).
        """
        position, seed = key if isinstance(key, tuple) else (key, None)
        position = as_index(position)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {position} of a dataset with {len(self)} images")
        position %= len(self)
        record = self.records[position]
        inputs = self.transforms(self.read(position), None if seed is None else as_index(seed))
        return {
            "inputs": inputs,
            "label": int(self.labels[position]),
            "pid": record.pid,
            "camid": int(self.camids[position]),
            "path": record.path,
            "index": position,
            "seed": -1 if seed is None else as_index(seed),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, split={self.split!r}: {self._counts()})"

    def _counts(self) -> str:
        sizes = (f"{len(self.splits.records(s)):,} {s}" for s in ("train", "query", "gallery"))
        return ", ".join(sizes) + " images"


@FUNCTIONS.register_module()
def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Samples of a :class:`ReIDDataset` -> one batch of B images.

    Returns:
        dict: inputs (B, 3, H, W) uint8; label, pid, camid, index, seed (B,) int64; path, B strings.
    """
    return collate_samples(samples, ("label", "pid", "camid", "index", "seed"))


def check_camera_option(camera: CameraOption) -> CameraOption:
    if camera not in ("auto", None):
        raise ValueError(
            f"camera must be 'auto' (use the camera labels that the data has) or None (ignore "
            f"them), got {camera!r}; where a file name holds the camera, give camera_pattern"
        )
    return camera


def _labels(pids: np.ndarray, train_pids: list[int]) -> np.ndarray:
    identities = np.unique(np.array(train_pids, np.int64))
    place = np.searchsorted(identities, pids)
    known = np.isin(pids, identities)
    return np.where(known, place, -1).astype(np.int64)
