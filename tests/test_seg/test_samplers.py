from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmseg")

from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader, Dataset

from seg import samplers
from seg.datasets.statistics import ClassStatistics
from seg.samplers import ClassUniformSampler, RareClassSampler, SeededSampler

# 6 images; road everywhere, car in three, train in one (few pixels), sky nowhere
COUNTS = np.array(
    [
        [9000, 0, 0, 0, 10],
        [9000, 500, 0, 0, 10],
        [9000, 5000, 0, 0, 10],
        [9000, 4000, 0, 0, 0],
        [9000, 0, 70, 0, 0],
        [0, 0, 0, 0, 9000],
    ]
)
STATISTICS = ClassStatistics(COUNTS, ("road", "car", "train", "sky"), "streets")
DATASET = range(6)


def build(kind: type, seed: int | None = 0, **options: Any) -> Any:
    if kind is not SeededSampler:
        options.setdefault("statistics", STATISTICS)
    return kind(options.pop("dataset", DATASET), seed=seed, **options)


def take(sampler: Any, number: int) -> list[tuple[int, ...]]:
    return list(islice(sampler, number))


KINDS = [SeededSampler, RareClassSampler, ClassUniformSampler]


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_is_a_function_of_seed_and_position(kind: type) -> None:
    plan = take(build(kind), 40)
    assert take(build(kind), 40) == plan
    assert take(build(kind, seed=1), 40) != plan
    sampler = build(kind)
    assert [sampler.sample(p) for p in reversed(range(40))] == plan[::-1]
    assert len({sample[1] for sample in plan}) == 40  # each sample has a seed of its own
    assert len(sampler) == 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0, 1, 5, 6, 17, 10**9])
def test_it_resumes_at_any_position(kind: type, start: int) -> None:
    sampler = build(kind)
    sampler.start = start
    assert take(sampler, 8) == [build(kind).sample(p) for p in range(start, start + 8)]
    assert sampler.start == 0
    sampler.skip(start)  # mmengine's loop resumes so
    assert take(sampler, 1) == [build(kind).sample(start)]
    assert take(sampler, 3) == take(build(kind), 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_plan(monkeypatch, kind: type, world: int) -> None:
    plan = take(build(kind), 30)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, world))
        parts.append(take(build(kind), 30 // world))
        late = build(kind)
        late.start = 4
        assert take(late, 5) == parts[-1][4:9]
    together = [sample for step in zip(*parts, strict=True) for sample in step]
    assert together == plan[: len(together)]


def test_without_a_seed_one_is_drawn_and_shared(monkeypatch) -> None:
    monkeypatch.setattr(samplers, "sync_random_seed", lambda: 77)
    assert take(build(SeededSampler, seed=None), 9) == take(build(SeededSampler, seed=77), 9)


def test_plain_samples_are_permutations() -> None:
    plan = take(build(SeededSampler), 18)
    epochs = [[index for index, _ in plan[i : i + 6]] for i in (0, 6, 12)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    ordered = take(build(SeededSampler, shuffle=False), 14)
    assert [index for index, _ in ordered] == [*range(6), *range(6), 0, 1]


def naive_probabilities(counts: np.ndarray, temperature: float) -> list[float]:
    total = sum(int(counts[i, c]) for i in range(len(counts)) for c in range(4))
    weights = []
    for c in range(4):
        pixels = sum(int(row[c]) for row in counts)
        weights.append(float(np.exp((1 - pixels / total) / temperature)) if pixels else 0.0)
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("temperature", [0.05, 0.5, 10.0])
def test_rare_classes_are_drawn_by_the_papers_rule(temperature: float) -> None:
    sampler = build(RareClassSampler, temperature=temperature)
    expected = naive_probabilities(COUNTS, temperature)
    np.testing.assert_allclose(sampler.probabilities, expected, rtol=1e-12)
    plan = take(sampler, 3000)
    drawn = np.bincount([c for _, _, c in plan], minlength=4) / 3000
    np.testing.assert_allclose(drawn, expected, atol=0.04)


def test_a_low_temperature_neither_overflows_nor_divides_by_zero() -> None:
    probabilities = build(RareClassSampler, temperature=1e-9).probabilities
    np.testing.assert_allclose(probabilities, [0, 0, 1, 0], atol=1e-12)


def test_the_image_has_enough_of_the_class() -> None:
    plan = take(build(RareClassSampler, temperature=1.0, min_pixels=4000), 600)
    images = {c: {i for i, _, k in plan if k == c} for c in range(4)}
    # car: at least 4000 pixels; train: nobody has 4000, so whoever has any
    assert images == {0: {0, 1, 2, 3, 4}, 1: {2, 3}, 2: {4}, 3: set()}


def test_a_part_of_the_samples_choose_a_class_uniformly() -> None:
    plan = take(build(ClassUniformSampler, fraction=0.25), 8000)
    chosen = [sample for sample in plan if len(sample) == 3]
    assert abs(len(chosen) / 8000 - 0.25) < 0.02
    counts = np.bincount([c for _, _, c in chosen], minlength=4) / len(chosen)
    np.testing.assert_allclose(counts, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.04)
    assert {i for i, _, c in chosen if c == 1} == {1, 2, 3}
    plain = np.bincount([i for i, *rest in plan if len(rest) == 1], minlength=6)
    np.testing.assert_allclose(plain / plain.sum(), 1 / 6, atol=0.02)


def test_all_or_none_choose_a_class() -> None:
    assert all(len(s) == 3 for s in take(build(ClassUniformSampler, fraction=1.0), 50))
    plan = take(build(ClassUniformSampler, fraction=0.0), 12)
    assert sorted(i for i, _ in plan[:6]) == list(range(6))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="SeededSampler: the dataset has no images"):
        build(SeededSampler, dataset=[])
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        build(RareClassSampler, temperature=0)
    with pytest.raises(ValueError, match="min_pixels must be 1 or more"):
        build(RareClassSampler, min_pixels=0)
    with pytest.raises(ValueError, match=r"fraction must be in 0\.\.1, got 2"):
        build(ClassUniformSampler, fraction=2)
    with pytest.raises(ValueError, match="statistics are of 6 images, the dataset has 3"):
        build(RareClassSampler, dataset=range(3))
    nothing = ClassStatistics(np.array([[0, 0, 5]]), ("a", "b"), "mine")
    with pytest.raises(ValueError, match="no image has a pixel of any class of the space 'mine'"):
        build(RareClassSampler, dataset=range(1), statistics=nothing)


def test_the_statistics_are_made_if_not_given(monkeypatch) -> None:
    asked = []

    def statistics(dataset: Any, workers: int | None) -> ClassStatistics:
        asked.append((dataset, workers))
        return STATISTICS

    monkeypatch.setattr(samplers, "class_statistics", statistics)
    dataset = list(DATASET)
    config = dict(type="seg.RareClassSampler", seed=0, workers=3)
    sampler = DATA_SAMPLERS.build(config, default_args={"dataset": dataset})
    assert asked == [(dataset, 3)]
    assert take(sampler, 5) == take(build(RareClassSampler), 5)


class Keys(Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 6

    def __getitem__(self, key: tuple[int, ...]) -> tuple[int, ...]:
        return key


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_passes_the_samples_on_in_order(workers: int) -> None:
    loader = DataLoader(
        Keys(),
        batch_size=4,
        sampler=build(ClassUniformSampler),
        num_workers=workers,
        collate_fn=list,
    )
    batches = list(islice(loader, 5))
    assert [s for batch in batches for s in batch] == take(build(ClassUniformSampler), 20)
