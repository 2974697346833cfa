"""Split data without an official split: train and test identities, then query and gallery.

Every choice is made by the order of sha256(seed, name), never by a random generator or the order
of files: the same names and seed give the same split on every machine and version, and an identity
added later does not reshuffle the others.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from imaging.files import relative_name
from reid.datasets.base import Record, Trial

__all__ = [
    "automatic_split",
    "draw_gallery",
    "draw_one_each",
    "split_identities",
    "split_query_gallery",
]


def automatic_split(
    records: Sequence[Record],
    *,
    identities: Mapping[int, str],
    root: str,
    train_fraction: float = 0.5,
    seed: int = 0,
) -> tuple[tuple[Record, ...], tuple[Record, ...], tuple[Record, ...]]:
    """(train, query, gallery) of records that carry no split; see the two functions below.

    ``identities`` gives the name behind each pid: the split hangs on names, so that it does not
    change with the numbering.
    """
    present = {r.pid for r in records}
    train_pids, _ = split_identities(
        (identities.get(pid, str(pid)) for pid in present), train_fraction=train_fraction, seed=seed
    )
    train = tuple(r for r in records if identities.get(r.pid, str(r.pid)) in train_pids)
    test = [r for r in records if identities.get(r.pid, str(r.pid)) not in train_pids]
    return train, *split_query_gallery(test, root=root, seed=seed)


def split_identities(
    names: Iterable[str], *, train_fraction: float = 0.5, seed: int = 0
) -> tuple[frozenset[str], frozenset[str]]:
    """Part identity names into (train, test); ``train_fraction`` of them, rounded, are trained on.

    A fraction strictly between 0 and 1 leaves at least one identity on either side, given two.
    """
    if not 0 <= train_fraction <= 1:
        raise ValueError(f"train_fraction must be from 0 to 1, got {train_fraction!r}")
    ordered = sorted(set(names), key=lambda name: _rank(seed, name))
    count = int(train_fraction * len(ordered) + 0.5)
    if 0 < train_fraction < 1 and len(ordered) > 1:
        count = min(max(count, 1), len(ordered) - 1)
    return frozenset(ordered[:count]), frozenset(ordered[count:])


def split_query_gallery(
    records: Sequence[Record], *, root: str = "", seed: int = 0
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """One query per identity and camera (per identity, without cameras); the rest is the gallery.

    Every query keeps a positive in the gallery, in another camera where there are cameras. An
    identity that cannot offer one (a single image, or a single camera) goes to the gallery whole,
    as a distractor.
    """
    rank = {r: _rank(seed, relative_name(r.path, root)) for r in records}
    groups: dict[int, dict[int | None, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=rank.__getitem__):
        groups[record.pid][record.camid].append(record)
    queries = {r for by_camera in groups.values() for r in _queries(by_camera)}
    return (
        tuple(r for r in records if r in queries),
        tuple(r for r in records if r not in queries),
    )


def draw_gallery(
    query: Sequence[Record],
    gallery: Sequence[Record],
    *,
    draws: int,
    root: str = "",
    seed: int = 0,
) -> tuple[Trial, ...]:
    """Single-shot trials: all queries against one random gallery image of each identity."""
    queries = np.arange(len(query), dtype=np.int64)
    return tuple(
        (queries, len(query) + np.array(chosen, np.int64))
        for chosen in draw_one_each(gallery, draws=draws, root=root, seed=seed)
    )


def draw_one_each(
    records: Sequence[Record], *, draws: int, root: str = "", seed: int = 0
) -> list[list[int]]:
    """For each draw the positions, in order, of one random record of each identity."""
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, got {draws}")
    names = [relative_name(r.path, root) for r in records]
    positions: dict[int, list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        positions[record.pid].append(position)
    chosen = []
    for draw in range(draws):
        ranks = [_rank(f"{seed}\0{draw}", name) for name in names]
        chosen.append(sorted(min(own, key=ranks.__getitem__) for own in positions.values()))
    return chosen


def _queries(by_camera: Mapping[int | None, Sequence[Record]]) -> list[Record]:
    """The queries of one identity, whose images are given by camera, the preferred one first."""
    if set(by_camera) == {None}:
        (images,) = by_camera.values()
        return list(images[:1]) if len(images) > 1 else []
    if len(by_camera) < 2:
        return []
    # A camera with one image has nothing left once that image is a query. Unless two cameras stay
    # in the gallery, some query lacks a match in another camera; keeping one single image back as
    # a gallery image mends that at the price of one query.
    cameras = list(by_camera)
    singles = [c for c in cameras if len(by_camera[c]) == 1]
    if len(cameras) - len(singles) < 2:
        cameras.remove(singles[-1])
    return [by_camera[c][0] for c in cameras]


def _rank(seed: int | str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
