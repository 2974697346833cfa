"""Explain what is wrong with a classification data set before a training run does.

Every image is read once; each check is a small function from what was read to findings. Reading
runs in threads: OpenCV decodes outside Python's lock.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np

from cls.datasets.base import ClassificationDataset
from cls.datasets.class_tree import loosely
from engine.findings import Finding, Findings, by_level
from engine.wording import some
from imaging.files import UnreadableImageError, decode_image, read_bytes

__all__ = ["PartReport", "VerificationReport", "verify"]

_SMALL = 16  # pixels; below this a picture is a handful of pixels
_IMBALANCE = 10.0  # largest to smallest class, above which plain training neglects the small ones
_BATCH = 256  # images between two calls of progress


@dataclass(frozen=True)
class PartReport:
    """A split, or a domain of one.

    Attributes:
        counts: (K,) int64, images by label. sizes: (height, width) -> images.
        grayscale: images without colour. cmyk: JPEG files with four colour channels.
        unreadable: images that cannot be read; they count in ``counts``.
    """

    name: str
    counts: np.ndarray
    sizes: Mapping[tuple[int, int], int]
    grayscale: int
    cmyk: int
    unreadable: int

    @property
    def images(self) -> int:
        return int(self.counts.sum())

    @property
    def imbalance(self) -> float:
        """Images of the largest class for one of the smallest that has any; 1 is balanced."""
        present = self.counts[self.counts > 0]
        return float(present.max() / present.min()) if len(present) else 1.0


@dataclass(frozen=True)
class VerificationReport(Findings):
    """What :func:`verify` found, errors first."""

    name: str
    protocols: tuple[str, ...]
    classes: tuple[str, ...]
    parts: tuple[PartReport, ...]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "protocols": list(self.protocols),
            "parts": {part.name: _part_dict(part, self.classes) for part in self.parts},
            "findings": [asdict(finding) for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class _Content:
    """What reading an image told: a reason when it failed, otherwise the rest."""

    reason: str = ""
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)  # height, width
    gray: bool = False
    blank: bool = False
    cmyk: bool = False


@dataclass(frozen=True)
class _Part:
    """Some images of a data set and what was read."""

    name: str
    dataset: ClassificationDataset
    indices: np.ndarray
    contents: Sequence[_Content]

    def each(self) -> Iterator[tuple[int, _Content]]:
        return zip(self.indices.tolist(), self.contents, strict=True)

    @property
    def counts(self) -> np.ndarray:
        labels = self.dataset.labels[self.indices]
        return np.bincount(labels, minlength=len(self.dataset.classes))


def verify(
    datasets: ClassificationDataset | Sequence[ClassificationDataset],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerificationReport:
    """Read all images of a data set and tell what is wrong with them.

    Args:
        datasets: one split, or several of one root; of data with domains, one set with all of
            them. Build them with ``allow_missing_classes=True`` where there is that argument, so
            that differing class folders become a finding and not an error.
        workers: threads that read; None: the number of processors, at most 16.
        progress: called as ``progress(done, total)``.

    Raises:
        ValueError: no data set, or data sets with different classes.
    """
    given = [datasets] if isinstance(datasets, ClassificationDataset) else list(datasets)
    if not given:
        raise ValueError("verify: give at least one data set")
    for other in given[1:]:
        if other.classes != given[0].classes:
            different = sorted(set(other.classes) ^ set(given[0].classes))
            raise ValueError(
                f"the classes of {given[0].split!r} and {other.split!r} differ: "
                f"{len(given[0].classes):,} and {len(other.classes):,} classes, only in one: "
                f"{some(map(repr, different))}; give both the same list (classes=, num_classes=)"
            )
    total = sum(map(len, given))
    done = 0
    parts: list[_Part] = []
    with ThreadPoolExecutor(workers or min(16, os.cpu_count() or 1)) as pool:
        for dataset in given:
            contents: list[_Content] = []
            for start in range(0, len(dataset), _BATCH):
                batch = range(start, min(start + _BATCH, len(dataset)))
                contents.extend(pool.map(partial(_inspect, dataset), batch))
                done += len(batch)
                if progress:
                    progress(done, total)
            parts += _parts(dataset, contents)
    checks = (_readable, _classes, _balance, _colours, _blank, _sizes, _duplicates, _contradictions)
    notes = dict.fromkeys(note for dataset in given for note in dataset.notes)
    return VerificationReport(
        name=given[0].name,
        protocols=tuple(dict.fromkeys(dataset.protocol for dataset in given)),
        classes=given[0].classes,
        parts=tuple(map(_part_report, parts)),
        findings=by_level(
            chain(
                (finding for check in checks for finding in check(parts)),
                (Finding("note", note) for note in notes),
            )
        ),
    )


# ------------------------------------------------------------------------------- reading


def _inspect(dataset: ClassificationDataset, index: int) -> _Content:
    cmyk = False
    if dataset.images is None:
        try:
            data = read_bytes(dataset.path(index))
            image = decode_image(data)
        except UnreadableImageError as error:
            return _Content(reason=error.reason)
        except ValueError as error:
            return _Content(reason=str(error))
        cmyk = _jpeg_channels(data) == 4
    else:
        image = np.ascontiguousarray(dataset.images[index])
    return _Content(
        digest=hashlib.blake2b(image.data, digest_size=16).digest(),
        size=(image.shape[0], image.shape[1]),
        gray=_is_gray(image),
        # the first row tells nearly always, the whole is slow
        blank=bool((image[0] == image[0, 0]).all() and (image == image[0, 0]).all()),
        cmyk=cmyk,
    )


def _is_gray(image: np.ndarray) -> bool:
    """Whether red, green and blue agree everywhere; most pictures tell in their middle row."""
    middle = image[len(image) // 2]
    return all(
        bool(np.array_equal(part[..., 0], part[..., channel]))
        for part in (middle, image)
        for channel in (1, 2)
    )


def _jpeg_channels(data: bytes) -> int:
    """The number of channels that a JPEG's frame header states; 0 for what is no JPEG."""
    if not data.startswith(b"\xff\xd8"):
        return 0
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            return data[position + 9]
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0


def _parts(dataset: ClassificationDataset, contents: Sequence[_Content]) -> Iterator[_Part]:
    """The domains of a data set that has them, else the split."""
    domains = getattr(dataset, "domains", None)
    if domains is None:
        yield _Part(dataset.split, dataset, np.arange(len(dataset)), contents)
        return
    for number, name in enumerate(getattr(dataset, "domain_names", ())):
        indices = np.flatnonzero(domains == number)
        yield _Part(name, dataset, indices, [contents[i] for i in indices.tolist()])


# ------------------------------------------------------------------------------- findings


def _readable(parts: Sequence[_Part]) -> Iterator[Finding]:
    broken = {
        part.dataset.image_name(i): content.reason
        for part in parts
        for i, content in part.each()
        if content.reason
    }
    if broken:
        yield Finding(
            "error",
            f"{_are(broken, 'image')} unreadable, where a training run would stop: replace or "
            "delete the files",
            tuple(f"{name}: {reason}" for name, reason in broken.items()),
        )


def _classes(parts: Sequence[_Part]) -> Iterator[Finding]:
    """Classes without an image: everywhere, or in some splits or domains."""
    classes = parts[0].dataset.classes
    counts = np.stack([part.counts for part in parts])
    # a list may lack a rare class; a folder that lacks one is a mistake, or to be permitted
    permissible = hasattr(parts[0].dataset, "allow_missing_classes")
    level: Literal["error", "warning"] = "error" if permissible else "warning"
    if len(classes) == 1:
        yield Finding("warning", f"there is a single class, {classes[0]!r}: is the layout right?")
    nowhere = [name for name, n in zip(classes, counts.sum(axis=0), strict=True) if not n]
    if nowhere:
        yield Finding(
            level,
            f"{_have(nowhere, 'class')} no image at all: add images, or remove the class",
            tuple(nowhere),
        )
    there = counts > 0
    rare = 2 * there.sum(axis=0) < len(parts)  # what most lack is told of those that have it
    lacking = [
        f"only {' and '.join(parts[i].name for i in np.flatnonzero(there[:, label]).tolist())} has "
        f"{classes[label]}"
        for label in np.flatnonzero(rare & there.any(axis=0)).tolist()
    ]
    lacking += [
        f"{part.name} has no {classes[label]}{_meant(label, place, classes, counts)}"
        for place, part in enumerate(parts)
        for label in np.flatnonzero(~there[place] & ~rare).tolist()
    ]
    if lacking:
        advice = (
            ": add the images, correct the names of folders or, if it is meant so, give "
            "allow_missing_classes=True"
        )
        yield Finding(
            level,
            f"the {_kind(parts)}s have different classes{advice if permissible else ''}",
            tuple(lacking),
        )


def _meant(label: int, place: int, classes: Sequence[str], counts: np.ndarray) -> str:
    """Whether a folder of nearly the same name, found only at that place, was meant."""
    alone = (counts > 0).sum(axis=0) == 1
    for other in np.flatnonzero(alone & (counts[place] > 0)).tolist():
        if loosely(classes[other]) == loosely(classes[label]):
            return f" (its {classes[other]!r} may be it)"
    return ""


def _balance(parts: Sequence[_Part]) -> Iterator[Finding]:
    for part in parts:
        counts = part.counts
        report = _part_report(part)
        if report.imbalance <= _IMBALANCE:
            continue
        order = np.argsort(counts, kind="stable")
        order = order[counts[order] > 0]
        names = part.dataset.classes
        yield Finding(
            "warning",
            f"{part.name}: the largest class has {report.imbalance:.0f} times the images of the "
            "smallest: look at the accuracy by class, not at top-1 alone",
            (
                f"largest: {some((f'{names[i]} ({counts[i]:,})' for i in order[::-1][:3]), 3)}",
                f"smallest: {some((f'{names[i]} ({counts[i]:,})' for i in order[:3]), 3)}",
            ),
        )


def _colours(parts: Sequence[_Part]) -> Iterator[Finding]:
    if gray := sum(content.gray for part in parts for content in part.contents):
        yield Finding(
            "note", f"{_are(range(gray), 'image')} grayscale, read as RGB with three equal channels"
        )
    cmyk = _where(parts, lambda content: content.cmyk)
    if cmyk:
        yield Finding(
            "note",
            f"{_are(cmyk, 'JPEG file')} in CMYK; they are converted to RGB without a colour "
            "profile, as Pillow does",
            tuple(cmyk),
        )


def _blank(parts: Sequence[_Part]) -> Iterator[Finding]:
    if blank := _where(parts, lambda content: content.blank):
        yield Finding(
            "warning",
            f"{_are(blank, 'image')} of one single colour, which teaches nothing",
            tuple(blank),
        )


def _sizes(parts: Sequence[_Part]) -> Iterator[Finding]:
    small = _where(parts, lambda content: not content.reason and min(content.size) < _SMALL)
    if small:
        yield Finding(
            "warning", f"{_have(small, 'image')} a side of less than {_SMALL} pixels", tuple(small)
        )


def _duplicates(parts: Sequence[_Part]) -> Iterator[Finding]:
    """The same file, or the same picture, in two splits or domains; copies within one."""
    across: list[str] = []
    within: list[str] = []
    for group in _groups(parts):
        listed = " = ".join(f"{place}: {name}" for place, name, _ in group)
        (across if len({place for place, _, _ in group}) > 1 else within).append(listed)
    if across:
        yield Finding(
            "warning",
            f"{_are(across, 'picture')} in several {_kind(parts)}s, the same in every pixel: what "
            "is trained on must not be tested on; remove them from one",
            tuple(across),
        )
    if within:
        yield Finding(
            "note",
            f"{_are(within, 'picture')} in a {_kind(parts)} more than once, the same in every "
            "pixel",
            tuple(within),
        )


def _contradictions(parts: Sequence[_Part]) -> Iterator[Finding]:
    classes = parts[0].dataset.classes
    different = [
        " = ".join(f"{name} ({classes[label]})" for _, name, label in group)
        for group in _groups(parts)
        if len({label for _, _, label in group}) > 1
    ]
    if different:
        yield Finding(
            "warning",
            f"{_have(different, 'picture')} several classes, the same in every pixel: keep the "
            "right one",
            tuple(different),
        )


def _groups(parts: Sequence[_Part]) -> Iterator[list[tuple[str, str, int]]]:
    """(part, name, label) of pictures that agree in every pixel; blank ones are told elsewhere."""
    found: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for number, part in enumerate(parts):
        for index, content in part.each():
            if content.digest and not content.blank:
                # a transposed picture may have the same bytes
                found[content.digest + repr(content.size).encode()].append((number, index))
    for members in found.values():
        if len(members) > 1:
            yield [
                (parts[number].name, parts[number].dataset.image_name(index), label)
                for number, index in members
                for label in [int(parts[number].dataset.labels[index])]
            ]


# ------------------------------------------------------------------------------- the report


def _part_report(part: _Part) -> PartReport:
    return PartReport(
        name=part.name,
        counts=part.counts,
        sizes=dict(Counter(c.size for c in part.contents if not c.reason).most_common()),
        grayscale=sum(content.gray for content in part.contents),
        cmyk=sum(content.cmyk for content in part.contents),
        unreadable=sum(bool(content.reason) for content in part.contents),
    )


def _part_dict(part: PartReport, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "images": part.images,
        "grayscale": part.grayscale,
        "cmyk": part.cmyk,
        "unreadable": part.unreadable,
        "imbalance": part.imbalance,
        "sizes": [
            {"height": height, "width": width, "images": number}
            for (height, width), number in part.sizes.items()
        ],
        "classes": dict(zip(classes, part.counts.tolist(), strict=True)),
    }


def _kind(parts: Sequence[_Part]) -> str:
    return "domain" if hasattr(parts[0].dataset, "domains") else "split"


def _where(parts: Sequence[_Part], test: Callable[[_Content], Any]) -> list[str]:
    """Names of the images whose content passes a test."""
    return [
        part.dataset.image_name(index)
        for part in parts
        for index, content in part.each()
        if test(content)
    ]


def _are(items: Sized, noun: str) -> str:
    """``1 image is``, ``3 images are``."""
    return f"1 {noun} is" if len(items) == 1 else f"{len(items):,} {noun}s are"


def _have(items: Sized, noun: str) -> str:
    if len(items) == 1:
        return f"1 {noun} has"
    return f"{len(items):,} {noun}{'es' if noun.endswith('s') else 's'} have"
