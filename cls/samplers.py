"""Epochs of all images in random order; every sample brings its own seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from .registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler[tuple[int, int]]):
    """All images once an epoch. Yields ``(index, seed)``.

    The seed makes a sample's augmentation repeatable. Order and seeds depend on (seed, epoch)
    alone: several processes take the places of one plan in turn, so that a step sees the same
    samples with one process as with several that share its batch. The last places are filled
    again from the front where the images cannot be dealt evenly.

    Args:
        dataset: of which only the length is needed.
        shuffle: False: in the order of the list.
        seed: the run's; drawn and shared by all processes if None.

    Attributes:
        start: sample of this process to begin the next epoch's iteration at, for resuming; back
            to 0 after it.
    """

    def __init__(self, dataset: Any, shuffle: bool = True, seed: int | None = None) -> None:
        self._length = len(dataset)
        self.rank: int
        self.world_size: int
        if not self._length:
            raise ValueError("SeededSampler: the dataset has no images")
        self.shuffle = shuffle
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return math.ceil(self._length / self.world_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self._length) if self.shuffle else np.arange(self._length)
        order = np.resize(order, len(self) * self.world_size)  # repeats from the front
        seeds = rng.integers(2**63, size=len(order))
        mine = slice(start * self.world_size + self.rank, None, self.world_size)
        yield from zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)
