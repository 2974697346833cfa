"""Samplers that make batches of P identities with K images each, and can start within an epoch.

They differ in which identities meet in a step and which images stand for an identity; all else is
:class:`IdentitySampler`'s. An epoch is planned with arrays, its identities at once and its images a
block of steps at a time, so that half a million images cost no second before the first batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from .registry import DATA_SAMPLERS

# Images that one block of steps chooses from: some milliseconds and megabytes.
_BLOCK = 2**18


class IdentitySampler(Sampler[tuple[int, int]]):
    """Base of the samplers; a subclass overrides one of the methods that draw.

    An epoch is ``iterations`` batches. With several processes each gets its own P identities: the
    P (times the processes) identities of a step are distinct as long as there are that many.

    Yields ``(index, seed)``: the seed makes the sample's augmentation repeatable. The order
    depends on (seed, epoch, number of processes) alone.

    Args:
        dataset: with an int array ``labels`` (N,).
        identities: P, per process. instances: K.
        iterations: batches in an epoch; by default as many as show about every image once.
        seed: the run's; drawn and shared by all processes if None.

    Attributes:
        start: sample to begin the next epoch's iteration at, for resuming; back to 0 after it.

    Raises:
        ValueError: no images, an argument below 1, arrays of the dataset that do not fit together.
    """

    def __init__(
        self,
        dataset: Any,
        identities: int = 16,
        instances: int = 4,
        iterations: int | None = None,
        seed: int | None = None,
    ) -> None:
        kind = type(self).__name__
        if identities < 1 or instances < 1 or (iterations is not None and iterations < 1):
            raise ValueError(
                f"{kind}: identities, instances and iterations must be at least 1, got "
                f"{identities}, {instances} and {iterations}"
            )
        self._labels = np.asarray(dataset.labels)
        if not len(self._labels):
            raise ValueError(f"{kind}: the dataset has no images")
        self._order = np.argsort(self._labels, kind="stable")  # images, by identity
        _, self._first, self._count = np.unique(
            self._labels[self._order], return_index=True, return_counts=True
        )  # of each identity its place and its number in that order
        self.identities, self.instances = identities, instances
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.iterations = self._default_iterations() if iterations is None else iterations
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.iterations * self.identities * self.instances

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        # One plan for all processes; of it this process draws the images of its own part.
        mine = self._schedule(np.random.default_rng([self.seed, self.epoch]))[:, self.rank]
        steps = max(1, _BLOCK // (self.identities * int(self._count.max())))
        samples = steps * self.identities * self.instances
        for block in range(start // samples, -(-len(self) // samples)):
            # A stream of its own, so that a resumed run need not draw the blocks before.
            rng = np.random.default_rng([self.seed, self.epoch, 1 + block, self.rank])
            images = self._draw(mine[block * steps : (block + 1) * steps], rng).ravel()
            seeds = rng.integers(2**63, size=len(images))
            skip = max(0, start - block * samples)
            yield from zip(images[skip:].tolist(), seeds[skip:].tolist(), strict=True)

    def _default_iterations(self) -> int:
        batch = self.identities * self.instances * self.world_size
        return int(-(-len(self._labels) // batch))

    def _schedule(self, rng: np.random.Generator) -> np.ndarray:
        """(iterations, processes, P) identities: all of them in random order, then again."""
        shape = (self.iterations, self.world_size, self.identities)
        sizes = np.full(self.iterations, self.world_size * self.identities)
        everyone = np.arange(len(self._count))
        return steps_of_distinct(_permutations(everyone, rng), sizes, len(everyone)).reshape(shape)

    def _draw(self, identities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(..., K) images for (...) identities: different ones, or all of them equally often."""
        chosen = identities.ravel()  # (T,)
        counts = self._count[chosen]
        ends = counts.cumsum()
        begins = ends - counts
        slots = np.repeat(np.arange(len(chosen)), counts)  # the images of all T side by side
        offsets = np.repeat(self._first[chosen] - begins, counts)
        pool = self._order[np.arange(len(slots)) + offsets]
        pool = pool[self._ranking(slots, pool, rng)]
        taken = begins[:, None] + np.arange(self.instances) % counts[:, None]  # (T, K)
        return pool[taken].reshape(*identities.shape, self.instances)

    def _ranking(self, slots: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Order in which each slot takes the images of its part of the pool: at random."""
        return (slots + rng.random(len(slots))).argsort()


@DATA_SAMPLERS.register_module()
class PKSampler(IdentitySampler):
    """Batches of P identities with K images each (Hermans et al. 2017), for triplet losses.

    The identities come in random permutations, one after the other, so that all are seen equally
    often; the images of an identity are drawn anew each time. An identity with fewer than K images
    repeats them. Arguments are those of :class:`IdentitySampler`.
    """


@DATA_SAMPLERS.register_module()
class CameraBalancedSampler(IdentitySampler):
    """As :class:`PKSampler`, but the K images come from as many cameras as the identity has.

    An image of each camera, the cameras in random order, then a second of each, until there are K;
    what fast-reid's BalancedIdentitySampler is after, which asks of each positive only that its
    camera is not the anchor's. Images of unknown camera (-1) count as those of one more camera.

    Args:
        dataset: with int arrays ``labels`` and ``camids`` (N,). The others are those of
            :class:`IdentitySampler`.
    """

    def __init__(self, dataset: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        self._cameras = _array_of(dataset, "camids", self)
        self._order = np.lexsort((self._cameras, self._labels))

    def _ranking(self, slots: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        cameras = self._cameras[pool]  # ascending in each slot
        begins = np.append(True, (slots[1:] != slots[:-1]) | (cameras[1:] != cameras[:-1]))
        groups = begins.cumsum() - 1  # one camera of one slot
        shuffled = np.argsort(groups + rng.random(len(groups)))  # within each group
        turns = np.arange(len(groups)) - np.flatnonzero(begins)[groups]  # 0 for its first image
        order = rng.random(groups[-1] + 1)[groups]  # of the cameras in a turn
        return shuffled[np.argsort(slots * (turns.max() + 1) + turns + order)]


@DATA_SAMPLERS.register_module()
class DomainBalancedSampler(IdentitySampler):
    """As :class:`PKSampler`, but the P identities come from the data sets in equal numbers.

    For training on several sets of different sizes: within each set all identities are seen
    equally often, those of a small set more often than those of a large one. Where P is no
    multiple of the number of sets, a batch has one identity more of some, in turn. A single set is
    sampled as by PKSampler, image by image.

    Args:
        dataset: with int arrays ``labels`` and ``domains`` (N,), which set an image is of. The
            others are those of :class:`IdentitySampler`.
    """

    def __init__(self, dataset: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        domains = _array_of(dataset, "domains", self)[self._order]
        if (domains != np.repeat(domains[self._first], self._count)).any():
            raise ValueError(
                "DomainBalancedSampler: an identity has images in several sets; identities of "
                "different sets need labels of their own, as reid.JointTraining gives them"
            )
        _, self._domains = np.unique(domains[self._first], return_inverse=True)  # by identity

    def _schedule(self, rng: np.random.Generator) -> np.ndarray:
        shape = (self.iterations, self.world_size, self.identities)
        sets = int(self._domains.max()) + 1
        places = np.arange(self.iterations * self.identities) % sets  # dealt in turn
        places = np.broadcast_to(places.reshape(self.iterations, 1, self.identities), shape)
        schedule = np.empty(shape, np.int64)
        for domain in range(sets):
            members = np.flatnonzero(self._domains == domain)
            here = places == domain
            schedule[here] = steps_of_distinct(
                _permutations(members, rng), here.sum(axis=(1, 2)), len(members)
            )
        return schedule


@DATA_SAMPLERS.register_module()
class NaiveSampler(IdentitySampler):
    """Every identity as often as its images need, K at a time: an epoch shows them all about once.

    The images of each identity are shuffled and cut into chunks of K, and the chunks of all
    identities are shuffled; one whose identity is already in the step waits for the next. Unlike
    PKSampler this follows the data: an identity with many images comes more often. Where
    ``iterations`` asks for more, images are shuffled and cut anew.

    After the samplers of that name (RandomIdentitySampler in torchreid) of fast-reid. Deviations:
    they leave out what does not fill a chunk, here it is filled up with images already shown; and
    they end with the identities of most images, here these are spread over the epoch.

    Arguments are those of :class:`IdentitySampler`.
    """

    @property
    def _chunks(self) -> np.ndarray:
        return -(-self._count // self.instances)  # of each identity

    def _default_iterations(self) -> int:
        return int(-(-self._chunks.sum() // (self.identities * self.world_size)))

    def _schedule(self, rng: np.random.Generator) -> np.ndarray:
        """(iterations, processes, P, K) images."""
        chunks = self._chunks
        sizes = np.full(self.iterations, self.world_size * self.identities)
        stream = _permutations(np.repeat(np.arange(len(chunks)), chunks), rng)
        chosen = steps_of_distinct(stream, sizes, len(chunks))  # (T,)
        passes, chunk = np.divmod(_occurrences(chosen), chunks[chosen])
        places = chunk[:, None] * self.instances + np.arange(self.instances)
        places = places % self._count[chosen, None] + self._first[chosen, None]  # (T, K)
        images = np.empty_like(places)
        slots = np.repeat(np.arange(len(self._count)), self._count)
        for number in range(passes.max() + 1):
            shuffled = self._order[self._ranking(slots, self._order, rng)]
            images[passes == number] = shuffled[places[passes == number]]
        return images.reshape(self.iterations, self.world_size, self.identities, self.instances)

    def _draw(self, identities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return identities  # images already


def steps_of_distinct(passes: Iterator[np.ndarray], sizes: np.ndarray, number: int) -> np.ndarray:
    """Cut an endless stream of identities into steps that hold none of them twice.

    A repeated one waits and comes first in the next step. If a step is larger than the number of
    identities, each comes as often as the others, up to one.

    Args:
        passes: arrays of identities that are read one after the other, each with all of them.
        sizes: (S,) identities in each step.
        number: how many different identities there are.

    Returns:
        (sum of sizes,) int64, the steps one after the other.
    """
    stream = chain.from_iterable(array.tolist() for array in passes)
    waiting: dict[int, int] = {}  # how often, those that waited longest first
    steps: list[int] = []
    for size in sizes.tolist():
        limit, end = -(-size // number), len(steps) + size
        held: dict[int, int] = {}
        for identity in list(waiting)[:size]:
            held[identity] = 1
            steps.append(identity)
            left = waiting.pop(identity) - 1
            if left:
                waiting[identity] = left
        while len(steps) < end:
            identity = next(stream)
            if held.get(identity, 0) < limit:
                held[identity] = held.get(identity, 0) + 1
                steps.append(identity)
            else:
                waiting[identity] = waiting.get(identity, 0) + 1
    return np.array(steps, np.int64)


def _permutations(items: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield rng.permutation(items)


def _occurrences(items: np.ndarray) -> np.ndarray:
    """For each item how many equal ones stand before it."""
    order = np.argsort(items, kind="stable")
    begins = np.append(True, items[order][1:] != items[order][:-1])
    numbers = np.arange(len(items))
    result = np.empty_like(numbers)
    result[order] = numbers - np.flatnonzero(begins)[begins.cumsum() - 1]
    return result


def _array_of(dataset: Any, name: str, sampler: IdentitySampler) -> np.ndarray:
    """The dataset's array of that name, as long as its labels."""
    values = getattr(dataset, name, None)
    if values is None or np.shape(values) != np.shape(dataset.labels):
        got = "none" if values is None else f"one of shape {np.shape(values)}"
        raise ValueError(
            f"{type(sampler).__name__}: expected the dataset to have an int array {name!r} of "
            f"shape {np.shape(dataset.labels)}, one for each image, got {got}; PKSampler needs none"
        )
    return np.asarray(values)
