"""CIFAR-10 and CIFAR-100 in the layout in which they are published: pickled arrays.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. The files are read as data (`restricted_pickle`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cls.datasets.base import ClassificationDataset, Listing
from cls.datasets.restricted_pickle import UnreadablePickleError, decode_pickle, read_pickle
from cls.datasets.splitting import first_part
from cls.registry import DATASETS
from engine.wording import counted, some
from imaging.files import existing_folder
from imaging.samples import Transform

__all__ = ["CIFAR10", "CIFAR100"]

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Batch:
    """One file: what it is called and what the published one is."""

    file: str
    md5: str
    images: int


class _CIFAR(ClassificationDataset):
    """Read batches, check them, part them."""

    SPLITS = ("train", "test", "val", "trainval")
    FOLDER: ClassVar[str]
    META: ClassVar[str]
    TRAIN: ClassVar[tuple[_Batch, ...]]
    TEST: ClassVar[tuple[_Batch, ...]]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        holdout: float = 0.0,
        seed: int = 0,
    ) -> None:
        if isinstance(holdout, bool) or not 0 <= holdout < 1:
            raise ValueError(f"holdout must be at least 0 and less than 1, got {holdout!r}")
        if split == "val" and not holdout:
            raise ValueError(
                f"{type(self).__name__} has no official split 'val': give holdout=0.1 to set a "
                "tenth of the training images aside, or take 'test'"
            )
        self.holdout = holdout
        self.seed = seed
        super().__init__(root, split, transforms)

    def parse(self) -> Listing:
        folder = self.folder(self.root)
        classes = self._classes(folder)
        batches = self.TEST if self.split == "test" else self.TRAIN
        images, labels, names = [], [], []
        official = True
        for batch in batches:
            data, label, same = _read_batch(folder / batch.file, batch, self._label_key(), classes)
            images.append(data)
            labels.append(label)
            names += [f"{batch.file}[{i}]" for i in range(len(label))]
            official &= same
        image, label = np.concatenate(images), np.concatenate(labels)
        protocol = self._protocol(len(label), batches, official)
        if self.holdout and self.split in ("train", "val"):
            kept = first_part(names, label.tolist(), 1 - self.holdout, self.seed)
            kept = kept if self.split == "train" else ~kept
            image, label = image[kept], label[kept]
            names = [name for name, inside in zip(names, kept.tolist(), strict=True) if inside]
            protocol += (
                f"; of these the part {self.split!r}: {len(label):,} images "
                f"(holdout {self.holdout:g} of every class, seed {self.seed})"
            )
        return Listing(
            name=self._data_name(),
            protocol=protocol,
            classes=classes,
            labels=label,
            names=names,
            root=str(folder),
            images=image,
            notes=() if official else ("the files are not the official ones (md5)",),
        )

    @classmethod
    def folder(cls, root: str | os.PathLike[str]) -> Path:
        """The folder that holds the batches: ``root`` or one below it.

        Raises:
            FileNotFoundError: neither does; says which archive to unpack.
        """
        folder = existing_folder(root)
        first = cls.TRAIN[0].file
        for place in (folder, folder / cls.FOLDER):
            if any((place / batch.file).is_file() for batch in (*cls.TRAIN, *cls.TEST)):
                return place
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        archives = sorted(p.name for p in folder.glob("cifar*.tar*"))
        hint = f"; unpack {archives[0]}" if archives else f"; expected {cls.FOLDER}/{first}"
        raise FileNotFoundError(
            f"{str(folder)!r} has no batches of {cls.__name__} (it holds {there}){hint}"
        )

    def _data_name(self) -> str:
        return type(self).__name__

    def _label_key(self) -> str:
        return "labels"

    def _names_key(self) -> str:
        return "label_names"

    def _classes(self, folder: Path) -> tuple[str, ...]:
        file = folder / self.META
        content = _dict(file, read_pickle(file))
        names = content.get(self._names_key())
        if not isinstance(names, list) or not names:
            raise UnreadablePickleError(
                f"{str(file)!r} has no list {self._names_key()!r} of class names; its keys are "
                f"{some(map(str, content))}: unpack the archive again"
            )
        return tuple(n.decode("latin-1") if isinstance(n, bytes) else str(n) for n in names)

    def _protocol(self, found: int, batches: Sequence[_Batch], official: bool) -> str:
        part = "test" if self.split == "test" else "training"
        full = sum(batch.images for batch in batches)
        if official:
            return f"{found:,} {part} images, the official files (md5)"
        counts = f"{found:,}" if found == full else f"{found:,} of {full:,}"
        return (
            f"{counts} {part} images, not the official files (md5 differs): not comparable with "
            "published results"
        )


@DATASETS.register_module()
class CIFAR10(_CIFAR):
    """The ten classes of CIFAR-10; for the first arguments see :class:`ClassificationDataset`.

    Args:
        root: ``cifar-10-batches-py`` or the folder above it.
        split: ``'train'``, ``'test'``; with ``holdout`` also ``'val'``, and ``'trainval'``:
            all training images.
        holdout: part of every class of the training images that ``'val'`` has and ``'train'``
            lacks.
        seed: another choice of that part.

    Raises:
        FileNotFoundError, UnreadablePickleError: files that are not there, not whole, of another
            content, or that hold code.
    """

    FOLDER = "cifar-10-batches-py"
    META = "batches.meta"
    TRAIN = (
        _Batch("data_batch_1", "c99cafc152244af753f735de768cd75f", 10_000),
        _Batch("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec", 10_000),
        _Batch("data_batch_3", "54ebc095f3ab1f0389bbae665268c751", 10_000),
        _Batch("data_batch_4", "634d18415352ddfa80567beed471001a", 10_000),
        _Batch("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb", 10_000),
    )
    TEST = (_Batch("test_batch", "40351d587109b95175f43aff81a1287e", 10_000),)


@DATASETS.register_module()
class CIFAR100(_CIFAR):
    """The 100 classes of CIFAR-100, or their 20 super-classes; other arguments as `CIFAR10`.

    Args:
        root: ``cifar-100-python`` or the folder above it.
        coarse: the 20 super-classes.
    """

    FOLDER = "cifar-100-python"
    META = "meta"
    TRAIN = (_Batch("train", "16019d7e3df5f24257cddd939b257f8d", 50_000),)
    TEST = (_Batch("test", "f0ef6b0ae62326f3e7ffdfab6717acfc", 10_000),)

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        coarse: bool = False,
        holdout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.coarse = coarse
        super().__init__(root, split, transforms, holdout=holdout, seed=seed)

    def _data_name(self) -> str:
        return "CIFAR100-coarse" if self.coarse else "CIFAR100"

    def _label_key(self) -> str:
        return "coarse_labels" if self.coarse else "fine_labels"

    def _names_key(self) -> str:
        return "coarse_label_names" if self.coarse else "fine_label_names"


def _read_batch(
    file: Path, batch: _Batch, label_key: str, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """((n, 32, 32, 3) uint8, (n,) int64, whether it is the published file)."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the batch {str(file)!r} is missing; unpack the whole archive"
        ) from None
    try:
        content = decode_pickle(data)
    except ValueError as error:
        raise UnreadablePickleError(f"cannot read {str(file)!r}: {error}") from None
    content = _dict(file, content)
    if missing := [key for key in ("data", label_key) if key not in content]:
        raise UnreadablePickleError(
            f"{str(file)!r} has no {missing[0]!r}; its keys are {some(map(str, content))}: is it a "
            "batch of another data set?"
        )
    pixels = content["data"]
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise UnreadablePickleError(
            f"{str(file)!r}: 'data' should be an array of the shape (N, {_PIXELS:,}), got "
            f"{_kind(pixels)}; unpack the archive again"
        )
    if pixels.dtype != np.uint8:
        raise UnreadablePickleError(
            f"{str(file)!r}: 'data' should be uint8, got {pixels.dtype}; unpack the archive again"
        )
    labels = _labels(file, label_key, content[label_key], len(pixels), classes)
    # stored as a red, a green and a blue plane; held as decoders give images
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    official = hashlib.md5(data, usedforsecurity=False).hexdigest() == batch.md5
    return images, labels, official


def _labels(file: Path, key: str, values: Any, images: int, classes: Sequence[str]) -> np.ndarray:
    integers = (
        values.tolist()
        if isinstance(values, np.ndarray) and values.dtype.kind in "iu" and values.ndim == 1
        else values
    )
    if not isinstance(integers, list) or not all(type(v) is int for v in integers):
        raise UnreadablePickleError(
            f"{str(file)!r}: {key!r} should be a list of integers, got {_kind(values)}; unpack the "
            "archive again"
        )
    if len(integers) != images:
        raise UnreadablePickleError(
            f"{str(file)!r} has {counted(images, 'image')} and {counted(len(integers), 'label')}; "
            "unpack the archive again"
        )
    wrong = [(i, v) for i, v in enumerate(integers) if not 0 <= v < len(classes)]
    if wrong:
        listed = some((f"{v if abs(v) < 1 << 64 else 'huge'} of image {i}" for i, v in wrong), 3)
        raise UnreadablePickleError(
            f"{str(file)!r}: {counted(len(wrong), 'label')} outside 0..{len(classes) - 1} "
            f"({listed}), for there are {len(classes)} class names; unpack the archive again"
        )
    return np.array(integers, np.int64)


def _dict(file: Path, content: Any) -> dict[Any, Any]:
    if isinstance(content, dict):
        return content
    raise UnreadablePickleError(
        f"{str(file)!r} should hold a dict, got {_kind(content)}; is it a file of CIFAR?"
    )


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of the shape {value.shape} and type {value.dtype}"
    return f"a {type(value).__name__}"
