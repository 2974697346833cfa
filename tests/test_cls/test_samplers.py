from __future__ import annotations

import pytest

from cls import samplers
from cls.samplers import SeededSampler


def test_every_image_once_an_epoch() -> None:
    sampler = SeededSampler(range(10), seed=0)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert sorted(index for index, _ in epochs[-1]) == list(range(10)) and len(sampler) == 10
    assert epochs[0] != epochs[1]
    assert len({seed for epoch in epochs for _, seed in epoch}) == 20


def test_seed_and_epoch_decide() -> None:
    def epoch(seed: int) -> list[tuple[int, int]]:
        return list(SeededSampler(range(10), seed=seed))

    assert epoch(3) == epoch(3) != epoch(4)
    assert [index for index, _ in SeededSampler(range(4), shuffle=False, seed=0)] == [0, 1, 2, 3]


def test_start_skips_and_is_used_once() -> None:
    sampler = SeededSampler(range(10), seed=0)
    whole = list(sampler)
    sampler.start = 4
    assert list(sampler) == whole[4:] and list(sampler) == whole


@pytest.mark.parametrize("length", [10, 11])
def test_processes_deal_one_plan(monkeypatch, length) -> None:
    alone = list(SeededSampler(range(length), seed=0))
    shares = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, 2))
        shares.append(list(SeededSampler(range(length), seed=0)))
    assert len(shares[0]) == len(shares[1]) == (length + 1) // 2
    dealt = [sample for pair in zip(*shares, strict=True) for sample in pair]
    assert [index for index, _ in dealt[:length]] == [index for index, _ in alone]
    assert {index for index, _ in dealt} == set(range(length))


def test_no_images() -> None:
    with pytest.raises(ValueError, match="no images"):
        SeededSampler([], seed=0)
