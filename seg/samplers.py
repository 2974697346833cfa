"""Endless samplers for training by iterations: plain, and two that favour rare classes.

Every sample brings its own seed, and the one at position p of the plan is a function of (seed, p)
alone. Several processes take the positions of one plan in turn, so that a step sees the same
samples with one process as with eight that have an eighth of its batch size each, and a run that
is resumed at a position goes on as the uninterrupted one would have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from torch.utils.data import Sampler

from .datasets.statistics import ClassStatistics, class_statistics
from .registry import DATA_SAMPLERS

__all__ = ["ClassUniformSampler", "RareClassSampler", "SeededSampler"]

Sample = tuple[int, int] | tuple[int, int, int]  # index, seed, and a class to crop at


class _EndlessSampler(Sampler[Sample], ABC):
    """Positions of one endless plan, dealt to the processes in turn.

    Attributes:
        start: sample of this process to begin the next iteration at, for resuming; back to 0 once
            used.
        seed: of the plan.
    """

    def __init__(self, dataset: Any, seed: int | None) -> None:
        self._length = len(dataset)
        if not self._length:
            raise ValueError(f"{type(self).__name__}: the dataset has no images")
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.start = 0
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __len__(self) -> int:
        """Images in the dataset; the samples never end."""
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        start, self.start = self.start, 0
        return map(self.sample, count(start * self.world_size + self.rank, self.world_size))

    def skip(self, samples: int) -> None:
        """Begin at this process's sample of that number: what mmengine's loop calls to resume."""
        self.start = samples

    @abstractmethod
    def sample(self, position: int) -> Sample:
        """The sample at a position of the plan."""

    def _random(self, position: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 0, position])

    def _in_turn(self, position: int) -> int:
        """Random permutations of all images, one after the other."""
        epoch, place = divmod(position, self._length)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._order, self._epoch = rng.permutation(self._length), epoch
        return int(self._order[place])


@DATA_SAMPLERS.register_module()
class SeededSampler(_EndlessSampler):
    """All images in random permutations, one after the other. Yields ``(index, seed)``.

    The seed makes a sample's augmentation repeatable.

    Args:
        dataset: of which only the length is needed.
        shuffle: False: in the order of the list, over and over.
        seed: the run's; drawn and shared by all processes if None.

    Attributes:
        start: sample of this process to begin the next iteration at, for resuming.
    """

    def __init__(self, dataset: Any, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(dataset, seed)
        self.shuffle = shuffle

    def sample(self, position: int) -> Sample:
        index = self._in_turn(position) if self.shuffle else position % self._length
        return index, _seed(self._random(position))


@DATA_SAMPLERS.register_module()
class RareClassSampler(_EndlessSampler):
    """Rare-class sampling: first a class, the rarer the likelier, then an image that has it.

    From DAFormer (Hoyer et al., CVPR 2022, https://arxiv.org/abs/2111.14887): a class c of which
    a share f_c of the labelled pixels is has the probability P(c) ~ exp((1 - f_c) / T); the image
    is drawn from those with enough pixels of c. Yields ``(index, seed, class)``; the class arrives
    in the pipeline as ``results["crop_class"]``, where ``seg.ClassCrop(rule="contains")`` looks
    for a crop that shows it.

    Differences: a class that no image has is left out, and of a class that no image has enough
    pixels of every image that has it at all is taken (the authors' code stops there).

    Args:
        dataset: a seg dataset with labels. Its histogram of classes is read from the cache, or
            made, with a progress bar (:func:`seg.datasets.statistics.class_statistics`).
        temperature: T > 0; the larger, the more alike the classes' probabilities become.
        min_pixels: of the class in the image, at its size on disk.
        seed: the run's; drawn and shared by all processes if None.
        statistics: of the dataset, where they are at hand.
        workers: threads that read labels, if they must be read.

    Attributes:
        probabilities: (C,) float64, of the classes.
        start: sample of this process to begin the next iteration at, for resuming.
    """

    def __init__(
        self,
        dataset: Any,
        temperature: float = 0.01,
        min_pixels: int = 3000,
        seed: int | None = None,
        statistics: ClassStatistics | None = None,
        workers: int | None = None,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"RareClassSampler: temperature must be above 0, got {temperature}")
        super().__init__(dataset, seed)
        statistics = _statistics(self, dataset, statistics, workers)
        self._images = _images_by_class(self, statistics, min_pixels)
        present = np.array([len(images) > 0 for images in self._images])
        scaled = np.where(present, (1.0 - statistics.frequencies) / temperature, -np.inf)
        weights = np.exp(scaled - scaled.max())
        self.probabilities: np.ndarray = weights / weights.sum()

    def sample(self, position: int) -> Sample:
        rng = self._random(position)
        chosen = int(rng.choice(len(self.probabilities), p=self.probabilities))
        return int(rng.choice(self._images[chosen])), _seed(rng), chosen


@DATA_SAMPLERS.register_module()
class ClassUniformSampler(_EndlessSampler):
    """Class-uniform sampling: a part of the samples are crops around a class, drawn uniformly.

    As RobustNet (Choi et al., CVPR 2021, https://arxiv.org/abs/2103.15597) trains, after Zhu et
    al. (CVPR 2019, https://arxiv.org/abs/1812.01593). Such a sample takes a class, all alike, and
    an image that has it, and is ``(index, seed, class)``: ``seg.ClassCrop(rule="centroid")`` crops
    there. The others are ``(index, seed)``, from random permutations of all images: plain crops.

    Differences: the authors draw tiles of images, we draw an image and then a tile of it, which
    needs no list of centroids beforehand; and each sample decides by itself which kind it is,
    where they fix the numbers of an epoch.

    Args:
        dataset: a seg dataset with labels, as for :class:`RareClassSampler`.
        fraction: 0..1, part of the samples that choose a class.
        min_pixels: of the class in the image, at its size on disk.
        seed: the run's; drawn and shared by all processes if None.
        statistics: of the dataset, where they are at hand.
        workers: threads that read labels, if they must be read.

    Attributes:
        start: sample of this process to begin the next iteration at, for resuming.
    """

    def __init__(
        self,
        dataset: Any,
        fraction: float = 0.5,
        min_pixels: int = 1,
        seed: int | None = None,
        statistics: ClassStatistics | None = None,
        workers: int | None = None,
    ) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"ClassUniformSampler: fraction must be in 0..1, got {fraction}")
        super().__init__(dataset, seed)
        self.fraction = fraction
        statistics = _statistics(self, dataset, statistics, workers)
        self._images = _images_by_class(self, statistics, min_pixels)
        self._present = [c for c, images in enumerate(self._images) if len(images)]

    def sample(self, position: int) -> Sample:
        rng = self._random(position)
        if rng.random() >= self.fraction:
            return self._in_turn(position), _seed(rng)
        chosen = int(rng.choice(self._present))
        return int(rng.choice(self._images[chosen])), _seed(rng), chosen


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))


def _statistics(
    sampler: _EndlessSampler, dataset: Any, given: ClassStatistics | None, workers: int | None
) -> ClassStatistics:
    statistics = class_statistics(dataset, workers=workers) if given is None else given
    if len(statistics.counts) != len(dataset):
        raise ValueError(
            f"{type(sampler).__name__}: the statistics are of {len(statistics.counts)} images, "
            f"the dataset has {len(dataset)}"
        )
    if not statistics.pixels.any():
        raise ValueError(
            f"{type(sampler).__name__}: no image has a pixel of any class of the space "
            f"{statistics.space!r}; check `source` and `space` of the dataset"
        )
    return statistics


def _images_by_class(
    sampler: _EndlessSampler, statistics: ClassStatistics, min_pixels: int
) -> list[np.ndarray]:
    """For each class the indices of the images that it may be shown by; of an absent one none."""
    if min_pixels < 1:
        raise ValueError(f"{type(sampler).__name__}: min_pixels must be 1 or more")
    images, scarce = [], []
    for index, name in enumerate(statistics.classes):
        found = statistics.images_with(index, min_pixels)
        if not len(found):
            found = statistics.images_with(index)
            if len(found):
                scarce.append(f"{name} ({len(found)})")
        images.append(found)
    if scarce:
        print_log(
            f"{type(sampler).__name__}: no image has {min_pixels} pixels of {', '.join(scarce)}; "
            "all images (their number in brackets) with any pixel of the class are taken",
            "current",
        )
    return images
