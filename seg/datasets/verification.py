"""Explain what is wrong with a segmentation data set before a training run does.

Every image and every label file is read once; each check is a small function from what was read to
findings. The pixels by class that fall out of it are those of ``class_statistics``.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from engine.findings import Finding, Findings, by_level
from seg.label_spaces import IGNORE, SOURCES, SPACES, UNKNOWN, label_table
from seg.transforms.loading import UnreadableFileError, read_image, read_labels

from .base import Pair, SegmentationDataset, relative_name
from .statistics import ClassStatistics, class_counts, id_histogram, map_in_threads, unknown_ids

__all__ = ["SplitReport", "VerificationReport", "verify"]

_MOSTLY_IGNORED = 0.5  # share of pixels; the public sets ignore up to about 0.15
_SMALL = 32  # pixels; below this an image has no place in a network of stride 32


@dataclass(frozen=True)
class SplitReport:
    """What a split holds.

    Attributes:
        images: pairs in the list. protocol: how the list was made.
        statistics: pixels by image and class; zeros for label files that could not be read.
        complete: whether all label files could be read, so that the statistics may be kept.
        sizes: (height, width) of images -> how many.
        evaluated: class indices that the label source can contain.
        fingerprint: of the list.
    """

    split: str
    images: int
    protocol: str
    source: str
    space: str
    statistics: ClassStatistics
    complete: bool
    sizes: Mapping[tuple[int, int], int]
    evaluated: tuple[int, ...]
    fingerprint: str


@dataclass(frozen=True)
class VerificationReport(Findings):
    """What :func:`verify` found, errors first."""

    name: str
    splits: tuple[SplitReport, ...]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; shares in 0..1."""
        return {
            "name": self.name,
            "ok": self.ok,
            "splits": {s.split: _split_dict(s) for s in self.splits},
            "findings": [asdict(finding) for finding in self.findings],
        }


@dataclass(slots=True)
class _Content:
    """What reading a pair of files told."""

    image_reason: str = ""  # why it cannot be read
    label_reason: str = ""
    label_unreadable: bool = False  # rather than read and refused
    size: tuple[int, int] | None = None  # height, width
    label_size: tuple[int, int] | None = None
    blank: bool = False
    digest: bytes = b""
    ids: dict[int, int] = field(default_factory=dict)  # id -> pixels
    unknown: dict[int, int] = field(default_factory=dict)
    counts: np.ndarray | None = None  # (C + 1,)


@dataclass
class _Read:
    """A split and the contents of its files."""

    dataset: SegmentationDataset
    contents: list[_Content]

    @property
    def root(self) -> str:
        return self.dataset.root

    def images(self, test: Callable[[_Content], Any]) -> list[str]:
        """Relative names of the images whose content passes a test."""
        return [self.image(pair) for pair, content in self.each() if test(content)]

    def each(self) -> Iterator[tuple[Pair, _Content]]:
        return zip(self.dataset.pairs, self.contents, strict=True)

    def image(self, pair: Pair) -> str:
        return relative_name(pair.image, self.root)

    def label(self, pair: Pair) -> str:
        return relative_name(pair.label or "", self.root)


def verify(
    datasets: SegmentationDataset | Sequence[SegmentationDataset],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerificationReport:
    """Read all files of a data set and tell what is wrong with them.

    Args:
        datasets: one split, or several of one root. Build them with ``missing="drop"``, so that
            images without labels become a finding and not an error of the list.
        workers: threads that read; None: the number of processors, at most 16.
        progress: called as ``progress(done, total)``.
    """
    given = [datasets] if isinstance(datasets, SegmentationDataset) else list(datasets)
    if not given:
        raise ValueError("verify: give at least one dataset")
    total = sum(len(dataset) for dataset in given)
    done = 0
    reads = []
    for dataset in given:
        inspect = partial(
            _inspect,
            source=dataset.source,
            table=label_table(dataset.source, dataset.space),
            num_classes=len(SPACES[dataset.space].classes),
        )
        contents = []
        for content in map_in_threads(inspect, dataset.pairs, workers):
            contents.append(content)
            done += 1
            if progress:
                progress(done, total)
        reads.append(_Read(dataset, contents))
    checks = (_pairs, _readable, _same_size, _known_ids, _right_source, _blank, _ignored, _sizes)
    findings = chain(
        (finding for check in checks for finding in check(reads)),
        _duplicates(reads),
        _absent_classes(reads),
    )
    return VerificationReport(
        name=str(given[0].NAME),
        splits=tuple(map(_split_report, reads)),
        findings=by_level(findings),
    )


# ------------------------------------------------------------------------------- reading


def _inspect(pair: Pair, source: str, table: np.ndarray, num_classes: int) -> _Content:
    content = _Content()
    try:
        image = read_image(pair.image)
    except ValueError as error:
        content.image_reason = _reason(error, pair.image)
    else:
        content.size = image.shape[0], image.shape[1]
        first = image[0, 0]  # the first row tells nearly always, the whole is slow
        content.blank = bool((image[0] == first).all() and (image == first).all())
        content.digest = hashlib.blake2b(image.data, digest_size=16).digest()
    if pair.label is None:
        return content
    try:
        labels = read_labels(pair.label, source)
    except ValueError as error:
        content.label_reason = _reason(error, pair.label)
        content.label_unreadable = isinstance(error, UnreadableFileError)
        return content
    content.label_size = labels.shape[0], labels.shape[1]
    histogram = id_histogram(labels)
    content.ids = {int(i): int(histogram[i]) for i in np.flatnonzero(histogram)}
    content.unknown = unknown_ids(histogram, table)
    content.counts = class_counts(histogram, table, num_classes)
    return content


def _reason(error: ValueError, path: str) -> str:
    """The error's message without the path, which the finding says itself."""
    text = str(error)
    for start in (f"cannot read {path!r}: ", f"{path!r}: ", f"{path!r} "):
        text = text.removeprefix(start)
    return text


# ------------------------------------------------------------------------------- findings


def _pairs(reads: Sequence[_Read]) -> Iterator[Finding]:
    alone: dict[str, None] = {}  # in order, each once
    orphans: dict[str, None] = {}
    for read in reads:
        images, labels = copy.copy(read.dataset).find()  # a copy: it notes things on itself
        for key in sorted(images.keys() ^ labels.keys()):
            path = images.get(key) or labels[key]
            if not _dropped(read.dataset, path):
                (alone if key in images else orphans)[relative_name(path, read.root)] = None
        alone |= {read.image(pair): None for pair in read.dataset.pairs if pair.label is None}
    if alone:
        yield Finding(
            "error",
            f"{_have(alone, 'image')} no label file: unpack all archives, or leave these out with "
            'missing="drop"',
            tuple(alone),
        )
    if orphans:
        yield Finding(
            "error",
            f"{_have(orphans, 'label file')} no image: unpack all archives, or leave these out "
            'with missing="drop"',
            tuple(orphans),
        )


def _dropped(dataset: SegmentationDataset, path: str) -> bool:
    name = relative_name(path, dataset.root)
    last = name.rpartition("/")[2]
    return bool(dataset.drop & {name, last, last.rpartition(".")[0]})


def _readable(reads: Sequence[_Read]) -> Iterator[Finding]:
    broken = [
        f"{name}: {reason}"
        for read in reads
        for pair, content in read.each()
        for name, reason in (
            (read.image(pair), content.image_reason),
            (read.label(pair), content.label_reason if content.label_unreadable else ""),
        )
        if reason
    ]
    if broken:
        yield Finding(
            "error",
            f"{_are(broken, 'file')} unreadable, where a training run would stop: replace the "
            "files, or leave the images out with drop=[...]",
            tuple(broken),
        )
    refused = [
        f"{read.label(pair)}: {content.label_reason}"
        for read in reads
        for pair, content in read.each()
        if content.label_reason and not content.label_unreadable
    ]
    if refused:
        yield Finding(
            "error",
            f"{_are(refused, 'label file')} no map of class ids of this kind: take the original "
            "label files",
            tuple(refused),
        )


def _same_size(reads: Sequence[_Read]) -> Iterator[Finding]:
    different = [
        f"{read.image(pair)}: image {_size(content.size)}, label {_size(content.label_size)}"
        for read in reads
        for pair, content in read.each()
        if content.size and content.label_size and content.size != content.label_size
    ]
    if different:
        yield Finding(
            "error",
            f"{_have(different, 'image')} another size than the label file (height x width): "
            "leave these out with drop=[...]",
            tuple(different),
        )


def _known_ids(reads: Sequence[_Read]) -> Iterator[Finding]:
    examples = [
        f"{read.label(pair)}: {_id_list(content.unknown)}"
        for read in reads
        for pair, content in read.each()
        if content.unknown
    ]
    if not examples:
        return
    sources = sorted({read.dataset.source for read in reads})
    found = {i for read in reads for content in read.contents for i in content.ids}
    fitting = [s.name for s in SOURCES.values() if found <= set(s.ids) and s.name not in sources]
    hint = (
        f"all ids of this data are defined by {' and by '.join(map(repr, fitting))}: is it that?"
        if fitting and len(fitting) <= 4
        else "is the data of another kind, or damaged?"
    )
    yield Finding(
        "error",
        f"{_have(examples, 'label file')} ids that the label source "
        f"{' or '.join(map(repr, sources))} does not define; {hint}",
        tuple(examples),
    )


def _right_source(reads: Sequence[_Read]) -> Iterator[Finding]:
    """Label files whose ids are all defined, and yet say that they are something else."""
    train_ids = set(SOURCES["trainids"].ids)
    for read in reads:
        found: Counter[int] = Counter()
        for content in read.contents:
            found.update(content.ids)
        if not found:
            continue
        split, source = read.dataset.split, read.dataset.source
        ignored, pixels = _ignored_pixels(read), sum(found.values())
        label_ids = source in ("cityscapes", "gta5")
        # trainIds know nothing above 18, and road (0) is much of every street; of label ids, sky,
        # vegetation and cars lie above, and 0 is unlabelled
        several = len(found) >= 5
        if label_ids and several and set(found) <= train_ids and found[0] > 0.05 * pixels:
            yield Finding(
                "error",
                f"{split}: the ids are 0..18{' and 255' if 255 in found else ''} only, which are "
                f"trainIds and not the label ids of {source!r}: take the ..._labelIds files, or "
                "a dataset that reads trainIds (Cityscapes(labels='labelTrainIds'), "
                "ImageLabelFolder(source='trainids'))",
            )
        elif ignored > _MOSTLY_IGNORED * pixels:
            yield Finding(
                "warning",
                f"{split}: {100 * ignored / pixels:.0f}% of the pixels are ignored: check that the "
                f"label files are of the kind {source!r}, and that the space "
                f"{read.dataset.space!r} has its classes",
            )


def _ignored_pixels(read: _Read) -> int:
    return sum(int(c.counts[-1]) for c in read.contents if c.counts is not None)


def _blank(reads: Sequence[_Read]) -> Iterator[Finding]:
    blank = [name for read in reads for name in read.images(lambda c: c.blank)]
    if blank:
        robustnet = any(read.dataset.source == "gta5" and not read.dataset.drop for read in reads)
        known = '; drop="robustnet" leaves out those that are known of GTA5' if robustnet else ""
        yield Finding(
            "warning",
            f"{_are(blank, 'image')} of one single colour, which teaches nonsense and spoils "
            f"results: leave them out with drop=[...]{known}",
            tuple(blank),
        )


def _ignored(reads: Sequence[_Read]) -> Iterator[Finding]:
    empty = [
        read.label(pair)
        for read in reads
        for pair, content in read.each()
        if content.counts is not None and not content.counts[:-1].any() and not content.unknown
    ]
    if empty:
        yield Finding(
            "warning",
            f"{_have(empty, 'label file')} no pixel of any class, all is ignored: such images "
            "cost time and teach nothing",
            tuple(empty),
        )


def _sizes(reads: Sequence[_Read]) -> Iterator[Finding]:
    small = [
        f"{name}"
        for read in reads
        for name in read.images(lambda c: c.size is not None and min(c.size) < _SMALL)
    ]
    if small:
        yield Finding(
            "warning",
            f"{_have(small, 'image')} a side of less than {_SMALL} pixels",
            tuple(small),
        )


def _duplicates(reads: Sequence[_Read]) -> Iterator[Finding]:
    """The same file, the same name and the same picture in two splits; copies within one."""
    files: dict[str, list[str]] = defaultdict(list)
    names: dict[str, dict[str, str]] = defaultdict(dict)
    pixels: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for read in reads:
        split = read.dataset.split
        for pair, content in read.each():
            name = read.image(pair)
            files[name].append(split)
            names[_without_split(name, split)].setdefault(split, name)
            if content.digest and not content.blank:
                pixels[content.digest].append((split, name))
    shared = {name: splits for name, splits in files.items() if len(set(splits)) > 1}
    if shared:
        yield Finding(
            "warning",
            f"{_are(shared, 'image')} in more than one split: what is trained on must not be "
            "tested on",
            tuple(f"{name}: {', '.join(splits)}" for name, splits in shared.items()),
        )
    groups = [group for group in pixels.values() if len(group) > 1]
    across = [g for g in groups if len({s for s, _ in g}) > 1 and len({n for _, n in g}) > 1]
    if across:
        yield Finding(
            "warning",
            f"{_are(across, 'picture')} in several splits under different names, the same in "
            "every pixel: remove them from one",
            tuple(" = ".join(name for _, name in group) for group in across),
        )
    told = {name for group in across for _, name in group} | set(shared)
    namesakes = [
        g.values() for g in names.values() if len(g) > 1 and not told.intersection(g.values())
    ]
    if namesakes:
        yield Finding(
            "warning",
            f"{_are(namesakes, 'name')} used in several splits, for pictures that differ: check "
            "that the splits hold different scenes",
            tuple(" and ".join(group) for group in namesakes),
        )
    copies = [g for g in groups if len({s for s, _ in g}) == 1]
    if copies:
        yield Finding(
            "note",
            f"{_are(copies, 'picture')} in a split more than once, the same in every pixel",
            tuple(" = ".join(name for _, name in group) for group in copies),
        )


def _without_split(name: str, split: str) -> str:
    return "/".join(part for part in name.split("/") if part != split)


def _absent_classes(reads: Sequence[_Read]) -> Iterator[Finding]:
    for read in reads:
        report = _split_report(read)
        pixels = report.statistics.pixels
        absent = [report.statistics.classes[i] for i in report.evaluated if not pixels[i]]
        if absent and pixels.any():
            yield Finding(
                "note",
                f"{report.split}: no pixel of {', '.join(absent)}, so that the split says nothing "
                "about it",
            )


# ------------------------------------------------------------------------------- the report


def _split_report(read: _Read) -> SplitReport:
    dataset = read.dataset
    classes = SPACES[dataset.space].classes
    counts = np.zeros((len(read.contents), len(classes) + 1), np.int64)
    for row, content in enumerate(read.contents):
        if content.counts is not None:
            counts[row] = content.counts
    table = label_table(dataset.source, dataset.space)
    return SplitReport(
        split=dataset.split,
        images=len(read.contents),
        protocol=dataset.protocol,
        source=dataset.source,
        space=dataset.space,
        statistics=ClassStatistics(counts, classes, dataset.space),
        complete=all(content.counts is not None for content in read.contents),
        sizes=dict(Counter(c.size for c in read.contents if c.size).most_common()),
        evaluated=tuple(sorted({int(i) for i in np.unique(table)} - {IGNORE, UNKNOWN})),
        fingerprint=dataset.fingerprint(),
    )


def _split_dict(split: SplitReport) -> dict[str, Any]:
    statistics = split.statistics
    return {
        "images": split.images,
        "protocol": split.protocol,
        "source": split.source,
        "space": split.space,
        "fingerprint": split.fingerprint,
        "sizes": [
            {"height": h, "width": w, "images": number} for (h, w), number in split.sizes.items()
        ],
        "pixels": int(statistics.counts.sum()),
        "ignored": statistics.ignored,
        "classes": [
            {
                "name": name,
                "images": len(statistics.images_with(index)),
                "pixels": int(statistics.pixels[index]),
                "share": float(statistics.frequencies[index]),
                "in_source": index in split.evaluated,
            }
            for index, name in enumerate(statistics.classes)
        ],
    }


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "?"


def _id_list(ids: Mapping[int, int]) -> str:
    """``id 77 (1,024 pixels), id 78 (3 pixels) and 2 more``."""
    listed = [f"id {i} ({n:,} pixel{'' if n == 1 else 's'})" for i, n in list(ids.items())[:4]]
    more = f" and {len(ids) - 4} more" if len(ids) > 4 else ""
    return ", ".join(listed) + more


def _are(items: Sized, noun: str) -> str:
    """``1 image is``, ``3 images are``."""
    return f"1 {noun} is" if len(items) == 1 else f"{len(items):,} {noun}s are"


def _have(items: Sized, noun: str) -> str:
    return f"1 {noun} has" if len(items) == 1 else f"{len(items):,} {noun}s have"
