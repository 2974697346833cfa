"""Random numbers of a transform: decided by the sample's seed, different at every step."""

from __future__ import annotations

import random
from typing import Any

import numpy as np


def draw_generators(results: dict[str, Any]) -> tuple[np.random.Generator, random.Random]:
    """A fresh pair of generators for one step of the pipeline.

    With ``results["sample_seed"]`` they follow from the seed and from how many of these steps the
    sample has already passed: equal seeds at every step would tie, say, blur to brightness.
    Without it they come from ``numpy.random``'s global state, as mmcv's own transforms do.
    """
    seed = results.get("sample_seed")
    if seed is None:
        number = int(np.random.randint(0, 2**63 - 1, dtype=np.int64))
    else:
        step = results["random_step"] = results.get("random_step", 0) + 1
        words = np.random.SeedSequence((int(seed) % 2**64, step)).generate_state(2, np.uint64)
        number = int(words[0])
    return np.random.default_rng(number), random.Random(number)
