"""What every segmentation data set has in common: pairs of files, splits, and seeded samples."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import random
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index as as_index
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from seg.label_spaces import (
    IGNORE,
    SOURCES,
    SPACES,
    UNKNOWN,
    LabelSource,
    LabelSpace,
    evaluated_classes,
    label_table,
    register_source,
    register_space,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "Pair",
    "SegmentationDataset",
    "files",
    "inner_folder",
    "keyed",
    "relative_name",
    "resolve_source",
    "subfolders",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""What a parser takes for an image (compared in lower case)."""

_MISSING = ("error", "drop")
_LOOKED_AT = 300  # folders, at most, in the search for the right root

Key = int | tuple[int, int | None] | tuple[int, int | None, int | None]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its label file; None where there is no label."""

    image: str
    label: str | None


class SegmentationDataset(BaseSegDataset):
    """Images and labels of one split; a subclass says in :meth:`find` which files these are.

    It is an mmseg dataset: ``dict(type="seg.GTA5", root=..., pipeline=[...])`` stands in any
    mmseg config. With ``seg.LoadLabels`` in the pipeline ids are looked up and checked; with
    mmseg's own LoadAnnotations they are mapped through ``label_map`` (8-bit label files only, and
    an undefined id is not reported: it stays a number outside the classes).

    Args:
        root: the folder of the data set.
        split: one of ``SPLITS`` of the type, or ``"all"``.
        space: a key of ``seg.label_spaces.SPACES``; None: the type's ``default_space``.
        pipeline: transforms, as in mmseg.
        drop: names of images to leave out: a file name with or without its suffix, or a path
            relative to ``root``. Names that are not there do no harm.
        missing: what to do with an image without label, or a label without image: ``"error"``, or
            ``"drop"``: leave it out, and say so in the log and in ``protocol``.
        limit: use the first ``limit`` pairs only.
        indices: mmengine's: an integer, or a list of indices, to use a part of the pairs.
        test_mode, lazy_init, max_refetch: mmengine's.

    Attributes:
        root, split, source, space: strings; ``source`` is known once the files are listed.
        pairs: list of :class:`Pair`, in sorted order.
        protocol: one line on how the split was made.
        metainfo: dict of plain values: classes, palette, name, split, source, space,
            evaluated_classes, num_images, fingerprint, protocol.

    Raises:
        FileNotFoundError: no such folder, or not this data set's (with a hint at the right one), or
            images without labels or the reverse.
        ValueError: an unknown split, space or source; an empty split.
    """

    METAINFO: ClassVar[dict[str, Any]] = {}
    NAME: ClassVar[str] = ""
    SPLITS: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    EXPECTED: ClassVar[str] = ""
    """The tree, in words, for error messages."""
    default_space: ClassVar[str] = "cityscapes19"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        space: str | None = None,
        pipeline: Sequence[Any] = (),
        drop: Iterable[str | int] | str = (),
        missing: str = "error",
        limit: int | None = None,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        if split not in (*self.SPLITS, "all"):
            raise ValueError(
                f"{type(self).__name__} has the splits {', '.join((*self.SPLITS, 'all'))}; "
                f"got {split!r}"
            )
        if missing not in _MISSING:
            raise ValueError(f"missing must be one of {', '.join(_MISSING)}, got {missing!r}")
        if limit is not None and (indices is not None or limit < 1):
            raise ValueError(
                f"limit must be at least 1 and cannot be combined with indices; got limit={limit}, "
                f"indices={indices}"
            )
        self.root = os.fspath(Path(root).expanduser())
        self.split = split
        self.space = space or self.default_space
        if self.space not in SPACES:
            raise ValueError(f"unknown label space {self.space!r}: there are {', '.join(SPACES)}")
        self.source = ""
        self.protocol = ""
        self.missing = missing
        self.drop = self.names_to_drop(drop)
        self._pairs: list[Pair] = []
        self._pairs_of: list[dict[str, Any]] | None = None
        self._fingerprints: tuple[list[Pair], str] | None = None
        self._definitions: tuple[LabelSource, LabelSpace] | None = None
        space_ = SPACES[self.space]
        super().__init__(
            metainfo={
                "classes": list(space_.classes),
                "palette": [list(c) for c in space_.palette],
            },
            data_root=None,
            indices=limit if indices is None else indices,
            serialize_data=False,  # two strings a sample: nothing that would be worth it
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=True,
            max_refetch=max_refetch,
            ignore_index=IGNORE,
        )
        if not lazy_init:
            self.full_init()

    # ---- what a subclass says

    @classmethod
    @abstractmethod
    def matches(cls, root: Path) -> bool:
        """Whether ``root`` looks like this data set. Cheap: a few folders are looked at."""

    @abstractmethod
    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        """The split's files: {key: image path} and {key: label path}, joined by equal keys.

        Sets ``source`` and ``protocol``.
        """

    def names_to_drop(self, drop: Iterable[str | int] | str) -> frozenset[str]:
        """``drop`` as names; a subclass may know named lists."""
        if isinstance(drop, str):
            raise ValueError(
                f"drop={drop!r}: {type(self).__name__} knows no list of that name; give a list of "
                "image names"
            )
        return frozenset(str(name) for name in drop)

    def is_dropped(self, path: str) -> bool:
        """Whether the file at ``path`` is left out through ``drop``."""
        if not self.drop:
            return False
        name = path.replace(os.sep, "/").rpartition("/")[2]  # strings: 25,000 of them
        return (
            name in self.drop
            or name.rpartition(".")[0] in self.drop
            or relative_name(path, self.root) in self.drop
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits to read: this one, or every one for ``"all"``."""
        return self.SPLITS if self.split == "all" else (self.split,)

    # ---- listing

    def load_data_list(self) -> list[dict[str, Any]]:
        """The split's pairs as mmengine's list of dicts; called by ``full_init``."""
        self._check_root()
        images, labels = self.find()
        dropped = [key for key, path in images.items() if self.is_dropped(path)]
        dropped_labels = [key for key, path in labels.items() if self.is_dropped(path)]
        for key in {*dropped, *dropped_labels}:
            images.pop(key, None)
            labels.pop(key, None)
        if dropped:
            self.protocol += f"; without {len(dropped):,} dropped images"
        if not images and not labels:
            raise ValueError(self._empty())
        keys = self._matched(images, labels)
        if not keys:
            raise ValueError(self._empty())
        label_table(self.source, self.space)  # source and space must fit: say so before training
        self._definitions = (SOURCES[self.source], SPACES[self.space])
        self.label_map = _stock_label_map(self.source, self.space)
        return [{"img_path": images[key], "seg_map_path": labels.get(key)} for key in sorted(keys)]

    def full_init(self) -> None:
        """List the files, once."""
        super().full_init()
        if not self.data_list:
            raise ValueError(f"{self}: indices select no image")

    @property
    def pairs(self) -> list[Pair]:
        self.full_init()
        if self._pairs_of is not self.data_list:
            self._pairs = [Pair(d["img_path"], d["seg_map_path"]) for d in self.data_list]
            self._pairs_of = self.data_list
        return self._pairs

    @property
    def metainfo(self) -> dict[str, Any]:
        """Plain values that metrics, manifests and logs need; lists the files if need be."""
        pairs = self.pairs
        return {
            **super().metainfo,
            "label_map": dict(self.label_map or {}),
            "name": self.NAME,
            "split": self.split,
            "source": self.source,
            "space": self.space,
            "evaluated_classes": list(evaluated_classes(self.source, self.space)),
            "num_images": len(pairs),
            "fingerprint": self.fingerprint(),
            "protocol": self.protocol,
        }

    def fingerprint(self) -> str:
        """A sha256 over the split and the names and sizes of all files: one ``stat`` per file."""
        pairs = self.pairs
        if self._fingerprints is None or self._fingerprints[0] is not pairs:
            digest = hashlib.sha256(f"{self.split}\n".encode())
            for pair in pairs:
                for path in (pair.image, pair.label):
                    if path is not None:
                        name = relative_name(path, self.root)
                        line = f"{name}\0{_size(path)}\n"
                        digest.update(line.encode("utf-8", "surrogateescape"))
            self._fingerprints = (pairs, digest.hexdigest())
        return self._fingerprints[1]

    # ---- samples

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What a pipeline begins with; mmseg's keys, and source and space for seg.LoadLabels."""
        self.full_init()
        entry = self.data_list[idx]
        info = {
            "img_path": entry["img_path"],
            "source": self.source,
            "space": self.space,
            "label_map": self.label_map,
            "reduce_zero_label": False,
            "seg_fields": [],
            "sample_idx": idx % len(self.data_list),
        }
        if entry["seg_map_path"] is not None:
            info["seg_map_path"] = entry["seg_map_path"]
        return info

    def __getitem__(self, key: Key) -> Any:
        """One sample after the pipeline.

        Args:
            key: an index, or (index, seed), or (index, seed, class index). With a seed, ``random``
                and ``numpy.random`` are seeded for the length of this sample (and restored), and
                the pipeline finds it as results["sample_seed"]; the class index arrives as
                results["crop_class"]. Both may be None.
        """
        self.full_init()
        parts = key if isinstance(key, tuple) else (key,)
        if not 1 <= len(parts) <= 3:
            raise TypeError(f"expected index, (index, seed) or (index, seed, class); got {key!r}")
        index, seed, crop_class = (*parts, None, None)[:3]
        position = as_index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {position} of a dataset with {len(self)} images")
        extra: dict[str, int] = {}
        if seed is not None:
            extra["sample_seed"] = as_index(seed)
        if crop_class is not None:
            extra["crop_class"] = as_index(crop_class)
        with _seeded(extra.get("sample_seed")):
            for _ in range(1 if self.test_mode else self.max_refetch + 1):
                sample = self.pipeline({**self.get_data_info(position), **extra})
                if sample is not None:
                    return sample
                position = self._rand_another()
                extra.pop("crop_class", None)  # another image need not have the class
        raise ValueError(
            f"{self}: the pipeline returned None for {self.pairs[as_index(index)].image!r}"
            + ("" if self.test_mode else f" and for {self.max_refetch} others in its place")
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pairs": [], "_pairs_of": None, "_fingerprints": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._definitions is not None:
            # own sources and spaces are unknown to a worker that was spawned, not forked
            source, space = self._definitions
            register_source(source.name, source.ids, bits=source.bits)
            register_space(space)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r}, split={self.split!r})"

    # ---- checks

    def _check_root(self) -> None:
        root = Path(self.root)
        if root.is_dir() and type(self).matches(root):
            return
        if not root.exists():
            there = next((p for p in root.absolute().parents if p.is_dir()), None)
            problem = f"{self.root!r} does not exist; of that path only {str(there)!r} is there"
        elif not root.is_dir():
            raise NotADirectoryError(
                f"{type(self).__name__}: expected a folder, but {self.root!r} is a file"
            )
        else:
            problem = f"{self.root!r} does not look like it"
        raise FileNotFoundError(
            f"{type(self).__name__}: expected {self.EXPECTED}, but {problem}.{self._hint(root)}"
        )

    def _hint(self, root: Path) -> str:
        """Where the right root may be: two levels up or down, or another data set's type here."""
        from .layout import types_that_match  # it knows all types, and they know this module

        cls = type(self)
        near = [p for p in _surroundings(root) if cls.matches(p)]
        if near:
            return f" Did you mean {' or '.join(repr(str(p)) for p in near[:3])}?"
        if others := [t for t in types_that_match(root) if t != f"seg.{cls.__name__}"]:
            return f" It looks like the data of type {' or '.join(others)}."
        return ""

    def _matched(self, images: dict[str, str], labels: dict[str, str]) -> list[str]:
        alone = sorted(images.keys() - labels.keys())
        orphans = sorted(labels.keys() - images.keys())
        if not alone and not orphans:
            return list(images)
        found = []
        if alone:
            found.append(f"{_counted(alone, 'image')} without label: {_some(alone)}")
        if orphans:
            found.append(f"{_counted(orphans, 'label')} without image: {_some(orphans)}")
        text = f"{self}: {'; '.join(found)}"
        if self.missing == "error":
            raise FileNotFoundError(
                f"{text}. Of {len(images):,} images and {len(labels):,} labels, "
                f"{len(images.keys() & labels.keys()):,} form pairs. Unpack all archives of the "
                "data set, or leave these out with missing='drop'"
            )
        print_log(f"{text}; left out", logger="current", level=30)
        self.protocol += f"; without {len(alone) + len(orphans):,} files that lack their partner"
        return sorted(images.keys() & labels.keys())

    def _empty(self) -> str:
        protocol = self.protocol
        counts = {name: self._count(name) for name in self.SPLITS if name != self.split}
        others = ", ".join(f"{name} has {count:,}" for name, count in counts.items() if count)
        return (
            f"{self}: the split {self.split!r} has no images ({protocol})"
            + (f"; {others}" if others else "")
            + f". Expected {self.EXPECTED}"
        )

    def _count(self, split: str) -> int:
        """Images of another split; 0 where it cannot be listed."""
        mine, self.split = self.split, split
        try:
            return len(self.find()[0])
        except (ValueError, OSError):
            return 0
        finally:
            self.split = mine


def files(folder: str | os.PathLike[str], *, recursive: bool = True) -> list[str]:
    """Paths of the files in a folder, relative to it, with forward slashes, sorted.

    Hidden files are left out: macOS writes a ``._name.png`` beside every file it copies to a
    foreign disk, which has an image's name and no image inside. A folder that is not there is
    an empty one.
    """
    return sorted(_files(os.fspath(folder), "", recursive))


def keyed(
    folder: str | os.PathLike[str],
    suffixes: str | Sequence[str],
    *,
    within: str = "",
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """{relative path without its suffix: path} of the files below ``folder`` / ``within``.

    Args:
        suffixes: endings that count, e.g. ``"_gtFine_labelIds.png"``; compared in lower case.
        within: a folder below ``folder`` to look into; it stays a part of the keys.
        skip: endings that do not count although they end in one of ``suffixes``.
    """
    suffixes = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    endings = tuple(s.lower() for s in suffixes)
    unwanted = tuple(s.lower() for s in skip)
    base = os.fspath(folder)
    found: dict[str, str] = {}
    for name in files(f"{base}/{within}" if within else base):
        low = name.lower()
        if not low.endswith(endings) or (unwanted and low.endswith(unwanted)):
            continue
        ending = max((e for e in endings if low.endswith(e)), key=len)
        name = f"{within}/{name}" if within else name
        key = name[: -len(ending)]
        path = f"{base}{os.sep}{name}"
        if key in found:
            raise ValueError(
                f"{found[key]!r} and {path!r} are two files for one sample; remove one of them"
            )
        found[key] = path
    return found


def inner_folder(
    root: str | os.PathLike[str], *parts: str, wrapper: str | None = None
) -> Path | None:
    """``root/parts``, or ``root/<wrapper>/parts`` with one folder in between; None if neither is.

    Archives such as ``leftImg8bit_trainvaltest.zip`` may have been unpacked into a folder of their
    own name. Folders of other names are not looked into: they may be other data sets.

    Args:
        wrapper: pattern of the folder's name; None: the first part, ``_`` and anything. Among
            several, the first in sorted order that has ``parts`` is taken.
    """
    root = Path(root)
    direct = root.joinpath(*parts)
    if direct.is_dir():
        return direct
    pattern = f"{parts[0]}_*" if wrapper is None else wrapper
    for folder in subfolders(root):
        if fnmatch.fnmatchcase(folder.name, pattern) and folder.joinpath(*parts).is_dir():
            return folder.joinpath(*parts)
    return None


def relative_name(path: str, root: str) -> str:
    """``path`` below ``root`` with forward slashes; a path elsewhere is kept as it is."""
    return path.removeprefix(root.rstrip(os.sep) + os.sep).replace(os.sep, "/")


def _files(folder: str, prefix: str, recursive: bool) -> Iterator[str]:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if recursive:
                    yield from _files(entry.path, f"{prefix}{entry.name}/", recursive)
            else:
                yield prefix + entry.name


def subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _surroundings(root: Path) -> list[Path]:
    """Folders up to two levels below and above ``root``, and those beside it."""
    below = subfolders(root)[:_LOOKED_AT]
    for child in list(below):
        below += subfolders(child)[: max(0, _LOOKED_AT - len(below))]
    absolute = root.absolute()
    above = [p for p in absolute.parents[:2] if p != Path(absolute.anchor)]
    beside = subfolders(absolute.parent)[:50] if above else []
    return [p for p in [*below, *above, *beside] if p != absolute and p.is_dir()]


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seed the global generators that transforms draw from; afterwards they are as before."""
    if seed is None:
        yield
        return
    plain, array = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(seed % 2**64).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(array)


def _stock_label_map(source: str, space: str) -> dict[int, int]:
    """For mmseg's LoadAnnotations: the ids that change.

    Undefined ids keep their number, for each entry costs a pass over the image; only those that
    would become a class by it are moved away.
    """
    table = label_table(source, space)[:256]
    classes = len(SPACES[space].classes)
    return {
        number: int(new)
        for number, new in enumerate(table)
        if new != number and (new != UNKNOWN or number < classes)
    }


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - called for every file
    except OSError:
        return -1


def _counted(items: Sequence[Any], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def _some(items: Sequence[str], limit: int = 5) -> str:
    more = f", and {len(items) - limit:,} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def resolve_source(source: str | Mapping[Any, str | None], *, bits: int = 8) -> str:
    """The name of a source; a mapping {id: class or None} is registered under a name of its own."""
    if isinstance(source, str):
        return source
    ids = {int(number): name for number, name in source.items()}
    text = repr((sorted(ids.items()), bits)).encode()
    return register_source(f"ids_{hashlib.sha256(text).hexdigest()[:12]}", ids, bits=bits).name
