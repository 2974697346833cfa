"""Samplers that hand every sample a seed and can start in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from .registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PKSampler(Sampler[tuple[int, int]]):
    """Batches of P identities with K images each (Hermans et al. 2017), for triplet losses.

    An epoch is ``iterations`` batches. The identities come in random permutations, one after the
    other, so that all are seen equally often; the P (times the processes) identities of a step are
    distinct as long as there are that many. An identity with fewer than K images repeats them.
    With several processes each gets its own P identities: none stands on two processes in a step.

    Yields ``(index, seed)``: the seed makes the sample's augmentation repeatable. The order
    depends on (seed, epoch, number of processes) alone.

    Args:
        dataset: with an int array ``labels``.
        identities: P, per process. instances: K.
        iterations: batches in an epoch; by default as many as show about every image once.
        seed: the run's; drawn and shared by all processes if None.

    Attributes:
        start: sample to begin the next epoch's iteration at, for resuming; back to 0 after it.
    """

    def __init__(
        self,
        dataset: Any,
        identities: int = 16,
        instances: int = 4,
        iterations: int | None = None,
        seed: int | None = None,
    ) -> None:
        if identities < 1 or instances < 1:
            raise ValueError(
                f"PKSampler: identities and instances must be at least 1, got {identities} and "
                f"{instances}"
            )
        labels = np.asarray(dataset.labels)
        if not len(labels):
            raise ValueError("PKSampler: the dataset has no images")
        order = np.argsort(labels, kind="stable")
        self._images = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self.identities, self.instances = identities, instances
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        batch = identities * instances * self.world_size
        self.iterations = -(-len(labels) // batch) if iterations is None else iterations
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.iterations * self.identities * self.instances

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        indices, seeds = self._plan()
        yield from zip(indices[start:].tolist(), seeds[start:].tolist(), strict=True)

    def _plan(self) -> tuple[np.ndarray, np.ndarray]:
        """This process's indices and seeds of the epoch, cut from one plan for all processes."""
        rng = np.random.default_rng([self.seed, self.epoch])
        per_step = self.identities * self.world_size
        mine = slice(self.rank * self.identities, (self.rank + 1) * self.identities)
        queue: list[int] = []
        indices = []
        for _ in range(self.iterations):
            if len(queue) < per_step:
                queue = self._extend(queue, per_step, rng)
            step, queue = queue[:per_step], queue[per_step:]
            # every process draws for all of them, so that the plan stays one
            drawn = [self._draw(self._images[identity], rng) for identity in step]
            indices.append(np.concatenate(drawn[mine]))
        seeds = rng.integers(2**63, size=(self.world_size, len(self)))[self.rank]
        return np.concatenate(indices) if indices else np.empty(0, np.int64), seeds

    def _extend(self, queue: list[int], needed: int, rng: np.random.Generator) -> list[int]:
        """Append permutations of all identities; what the step already holds goes to the end."""
        while len(queue) < needed:
            fresh = rng.permutation(len(self._images)).tolist()
            held = set(queue)
            queue = [*queue, *(i for i in fresh if i not in held), *(i for i in fresh if i in held)]
        return queue

    def _draw(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """K images, all different if there are K, else each as often as the others (+-1)."""
        if len(images) >= self.instances:
            return rng.choice(images, self.instances, replace=False)
        return np.resize(rng.permutation(images), self.instances)
