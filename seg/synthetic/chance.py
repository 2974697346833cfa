"""Random draws of the street maker, each keyed by what it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


def generator(*key: object) -> np.random.Generator:
    """An independent generator for every key, whatever was drawn before and in whichever order."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def pick(
    rng: np.random.Generator, options: Sequence[Choice], weights: Sequence[float] = ()
) -> Choice:
    """One of the options, with probabilities proportional to the weights (default: equal)."""
    if not len(weights):
        return options[int(rng.integers(len(options)))]
    mark = float(rng.random()) * sum(weights)
    for option, weight in zip(options, weights, strict=True):
        mark -= weight
        if mark < 0:
            return option
    return options[-1]


def tone(rng: np.random.Generator) -> tuple[float, float]:
    """Which colour of a material's palette, and how bright: both in 0..1."""
    return float(rng.random()), float(rng.random())
