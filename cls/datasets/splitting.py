"""Part images into training and validation where the data does not say.

Every choice is made by the order of sha256(seed, name), never by a random generator or the order
of files: the same names and seed give the same split on every machine and version, and a file that
is added later does not reshuffle the others.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

__all__ = ["first_part"]


def first_part(
    names: Sequence[str], groups: Iterable[Hashable], fraction: float, seed: int
) -> np.ndarray:
    """(N,) bool: the names that belong to the first part, ``fraction`` of every group, rounded.

    A fraction strictly between 0 and 1 leaves at least one name of a group on either side, given
    two; a group with a single name goes to the first part.
    """
    if isinstance(fraction, bool) or not 0 < fraction < 1:
        raise ValueError(
            f"fraction must lie between 0 and 1, got {fraction!r}: it is the part of every class "
            "for training; split='all' takes everything"
        )
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        places[group].append(place)
    chosen = np.zeros(len(names), bool)
    for members in places.values():
        members.sort(key=lambda place: _rank(seed, names[place]))
        count = int(fraction * len(members) + 0.5)
        count = min(max(count, 1), max(len(members) - 1, 1))
        chosen[members[:count]] = True
    return chosen


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
