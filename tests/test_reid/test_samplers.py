from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from reid.samplers import PKSampler


def data(*counts: int) -> SimpleNamespace:
    """Identity i has counts[i] images, in shuffled order."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return SimpleNamespace(labels=np.random.default_rng(0).permutation(labels))


def batches(sampler: PKSampler) -> list[list[tuple[int, int]]]:
    items, size = list(sampler), sampler.identities * sampler.instances
    return [items[i : i + size] for i in range(0, len(items), size)]


def test_every_batch_is_p_by_k() -> None:
    dataset = data(*[3, 4, 9, 1, 6] * 4)
    sampler = PKSampler(dataset, identities=8, instances=4, iterations=15, seed=0)
    assert len(sampler) == 15 * 32 and len(batches(sampler)) == 15
    for batch in batches(sampler):
        counts = Counter(int(dataset.labels[i]) for i, _ in batch)
        assert len(counts) == 8 and set(counts.values()) == {4}


def test_images_of_a_rich_identity_are_different_those_of_a_poor_one_all_used() -> None:
    dataset = data(*[10] * 6, 2, 3)
    for batch in batches(PKSampler(dataset, 8, 4, iterations=3, seed=1)):
        by_label: dict[int, list[int]] = {}
        for index, _ in batch:
            by_label.setdefault(int(dataset.labels[index]), []).append(index)
        for label, indices in by_label.items():
            available = int((dataset.labels == label).sum())
            assert len(set(indices)) == min(4, available)


def test_identities_are_seen_equally_often() -> None:
    dataset = data(*[4] * 10)
    counts = Counter(int(dataset.labels[i]) for i, _ in PKSampler(dataset, 4, 2, 25, seed=2))
    assert set(counts.values()) == {20}


@pytest.mark.parametrize("identities", [1, 2, 5])
def test_fewer_identities_than_p(identities) -> None:
    sampler = PKSampler(data(*[3] * identities), identities=4, instances=2, iterations=3, seed=0)
    assert [len(b) for b in batches(sampler)] == [8, 8, 8]


def test_default_length_shows_about_every_image_once() -> None:
    assert PKSampler(data(*[5] * 20), 4, 4, seed=0).iterations == 7  # 100 / 16, rounded up


def test_epochs_and_seeds() -> None:
    dataset = data(*[4] * 12)
    plans = {}
    for seed, epoch in [(0, 0), (0, 1), (1, 0)]:
        sampler = PKSampler(dataset, 4, 2, 5, seed=seed)
        sampler.set_epoch(epoch)
        plans[seed, epoch] = list(sampler)
        assert list(sampler) == plans[seed, epoch]
    assert len({tuple(p) for p in plans.values()}) == 3
    seeds = [s for _, s in plans[0, 0]]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("start", [0, 8, 24, 40])
def test_begin_in_the_middle(start) -> None:
    dataset = data(*[4] * 12)
    whole = list(PKSampler(dataset, 4, 2, 5, seed=0))
    sampler = PKSampler(dataset, 4, 2, 5, seed=0)
    sampler.start = start
    assert list(sampler) == whole[start:]
    assert list(sampler) == whole  # only the one epoch


def test_processes_share_one_plan_and_no_identity(monkeypatch) -> None:
    dataset = data(*[4] * 13)
    shares = []
    for rank in range(3):
        monkeypatch.setattr("reid.samplers.get_dist_info", lambda r=rank: (r, 3))
        shares.append(batches(PKSampler(dataset, 4, 2, 9, seed=5)))
    for step in zip(*shares, strict=True):
        labels = [{int(dataset.labels[i]) for i, _ in part} for part in step]
        assert [len(part) for part in labels] == [4, 4, 4]
        assert len(set.union(*labels)) == 12
    seeds = [s for share in shares for batch in share for _, s in batch]
    assert len(set(seeds)) == len(seeds)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PKSampler(data(4), identities=0)
    with pytest.raises(ValueError, match="no images"):
        PKSampler(data())
