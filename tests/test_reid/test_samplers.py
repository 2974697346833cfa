"""Samplers of identities, over everything registered: batches, coverage, resuming, processes."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

import reid.samplers
from reid.registry import DATA_SAMPLERS
from reid.samplers import (
    CameraBalancedSampler,
    DomainBalancedSampler,
    IdentitySampler,
    NaiveSampler,
    PKSampler,
    steps_of_distinct,
)

SAMPLERS = sorted(
    (c for c in vars(reid.samplers).values() if isinstance(c, type)
     and issubclass(c, IdentitySampler) and c is not IdentitySampler),
    key=lambda c: c.__name__,
)  # fmt: skip
DRAWING = [
    c for c in SAMPLERS if c is not NaiveSampler
]  # as often as the others, whatever they have


def data(*counts: int, cameras: int = 3, sets: int = 2) -> SimpleNamespace:
    """Identity i has counts[i] images, in shuffled order; some cameras are unknown."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    camids = rng.integers(-1, cameras - 1, size=len(labels))
    return SimpleNamespace(labels=labels, camids=camids, domains=labels % sets)


def batches(sampler: IdentitySampler) -> list[list[tuple[int, int]]]:
    items, size = list(sampler), sampler.identities * sampler.instances
    return [items[i : i + size] for i in range(0, len(items), size)]


def identities_of(dataset: SimpleNamespace, batch: list[tuple[int, int]]) -> Counter[int]:
    return Counter(int(dataset.labels[index]) for index, _ in batch)


@pytest.fixture(params=SAMPLERS, ids=lambda c: c.__name__)
def kind(request: pytest.FixtureRequest) -> type[IdentitySampler]:
    return request.param


def test_all_are_registered(kind) -> None:
    sampler = DATA_SAMPLERS.build(
        dict(type=f"reid.{kind.__name__}", dataset=data(3, 4), identities=2, instances=2, seed=0)
    )
    assert type(sampler) is kind


@pytest.mark.parametrize("counts", [[3, 4, 9, 1, 6] * 4, [4] * 9, [1] * 12, [40, *[2] * 11]])
def test_every_batch_is_p_by_k_of_distinct_identities(kind, counts) -> None:
    dataset = data(*counts)
    sampler = kind(dataset, identities=4, instances=4, iterations=15, seed=0)
    assert len(sampler) == 15 * 16 and len(batches(sampler)) == 15
    for batch in batches(sampler):
        assert list(identities_of(dataset, batch).values()) == [4] * 4
        blocks = [{int(dataset.labels[i]) for i, _ in batch[k : k + 4]} for k in range(0, 16, 4)]
        assert all(len(block) == 1 for block in blocks)  # images of an identity stand together


def test_images_of_a_rich_identity_are_different_those_of_a_poor_one_all_used(kind) -> None:
    dataset = data(*[10] * 6, 2, 3)
    for batch in batches(kind(dataset, 8, 4, iterations=3, seed=1)):
        by_label: dict[int, list[int]] = {}
        for index, _ in batch:
            by_label.setdefault(int(dataset.labels[index]), []).append(index)
        for label, indices in by_label.items():
            available = int((dataset.labels == label).sum())
            assert len(set(indices)) == min(4, available)
            uses = Counter(indices).values()
            assert max(uses) - min(uses) <= 1


@pytest.mark.parametrize("sampler", [PKSampler, CameraBalancedSampler])
@pytest.mark.parametrize("identities", [4, 5, 7, 10, 11])
@pytest.mark.parametrize("iterations", [1, 3, 10, 25])
def test_identities_are_seen_equally_often(sampler, identities, iterations) -> None:
    dataset = data(*range(1, identities + 1))
    for p in (1, 3, 4):
        counts = identities_of(dataset, list(sampler(dataset, p, 2, iterations, seed=2)))
        seen = [counts[i] // 2 for i in range(identities)]
        assert max(seen) - min(seen) <= (1 if iterations * p % identities else 0)


@pytest.mark.parametrize("identities", [1, 2, 5])
def test_fewer_identities_than_p_come_equally_often(kind, identities) -> None:
    dataset = data(*[3] * identities, sets=1)
    for batch in batches(kind(dataset, identities=8, instances=2, iterations=3, seed=0)):
        assert len(batch) == 16
        counts = identities_of(dataset, batch)
        assert len(counts) == identities
        assert max(counts.values()) - min(counts.values()) <= 2  # one identity's K


def test_images_are_drawn_evenly_and_in_every_order() -> None:
    """Of 4 images 2 are drawn: each of the 12 ordered pairs about equally often."""
    dataset = data(4, 4)
    drawn = [i for i, _ in PKSampler(dataset, 2, 2, iterations=1200, seed=0)]
    pairs = Counter(zip(drawn[::2], drawn[1::2], strict=True))
    assert len(pairs) == 24
    assert all(60 < n < 140 for n in pairs.values())  # 100 expected, deviation 10


@pytest.mark.parametrize("cls", DRAWING)
def test_default_length_shows_about_every_image_once(cls) -> None:
    assert cls(data(*[5] * 20), 4, 4, seed=0).iterations == 7  # 100 / 16, rounded up


# ------------------------------------------------------------------ resuming, seeds, processes


def test_epochs_and_seeds(kind) -> None:
    dataset = data(*[4] * 12)
    plans = {}
    for seed, epoch in [(0, 0), (0, 1), (1, 0)]:
        sampler = kind(dataset, 4, 2, 5, seed=seed)
        sampler.set_epoch(epoch)
        plans[seed, epoch] = list(sampler)
        assert list(sampler) == plans[seed, epoch]
    assert len({tuple(p) for p in plans.values()}) == 3
    seeds = [s for _, s in plans[0, 0]]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("start", [0, 8, 13, 24, 40])
@pytest.mark.parametrize("block", [1, 100, 2**18])
def test_begin_in_the_middle(kind, start, block, monkeypatch) -> None:
    monkeypatch.setattr("reid.samplers._BLOCK", block)  # so that resuming skips whole blocks
    dataset = data(*[4, 7] * 6)
    whole = list(kind(dataset, 4, 2, 5, seed=0))
    sampler = kind(dataset, 4, 2, 5, seed=0)
    sampler.start = start
    assert list(sampler) == whole[start:]
    assert list(sampler) == whole  # only the one epoch


@pytest.mark.parametrize("counts", [[4] * 13, [30, 9, *[2] * 11]])
def test_processes_share_one_plan_and_no_identity(kind, counts, monkeypatch) -> None:
    dataset = data(*counts)
    shares = []
    for rank in range(3):
        monkeypatch.setattr("reid.samplers.get_dist_info", lambda r=rank: (r, 3))
        shares.append(batches(kind(dataset, 4, 2, 9, seed=5)))
    for step in zip(*shares, strict=True):
        labels = [set(identities_of(dataset, part)) for part in step]
        assert [len(part) for part in labels] == [4, 4, 4]
        assert len(set.union(*labels)) == 12
    seeds = [s for share in shares for batch in share for _, s in batch]
    assert len(set(seeds)) == len(seeds)


# ----------------------------------------------------------------------------- cameras


def naive_cameras(cameras: list[int], k: int) -> list[int]:
    """How many of K images come from each camera, in descending order, dealt one by one."""
    left, taken = Counter(cameras), Counter()
    while sum(taken.values()) < min(k, len(cameras)):
        for camera in sorted(left):
            if left[camera] and sum(taken.values()) < min(k, len(cameras)):
                left[camera] -= 1
                taken[camera] += 1
    return sorted(taken.values(), reverse=True)


@pytest.mark.parametrize("instances", [1, 2, 4, 7])
@pytest.mark.parametrize("cameras", [1, 2, 5])
def test_images_come_from_as_many_cameras_as_there_are(instances, cameras) -> None:
    dataset = data(1, 2, 3, 5, 8, 13, 21, cameras=cameras)
    sampler = CameraBalancedSampler(dataset, 4, instances, iterations=30, seed=0)
    for batch in batches(sampler):
        for first in range(0, len(batch), instances):
            indices = list(dict.fromkeys(i for i, _ in batch[first : first + instances]))
            own = dataset.camids[dataset.labels == dataset.labels[indices[0]]].tolist()
            taken = sorted(Counter(dataset.camids[indices].tolist()).values(), reverse=True)
            # The cameras of a turn are drawn, so a short one may or may not be in the last turn.
            assert len(taken) == len(naive_cameras(own, instances))
            assert taken == naive_cameras(own, instances)


def test_all_images_and_cameras_come_up() -> None:
    labels = np.zeros(20, np.int64)
    camids = np.repeat([0, 1, 2, -1], [14, 3, 2, 1])
    dataset = SimpleNamespace(labels=labels, camids=camids)
    drawn = Counter(i for i, _ in CameraBalancedSampler(dataset, 1, 2, iterations=600, seed=0))
    assert len(drawn) == 20
    by_camera = Counter()
    for index, n in drawn.items():
        by_camera[int(camids[index])] += n
    assert all(250 < n < 350 for n in by_camera.values())  # 2 of 4 cameras: 300 expected


# ----------------------------------------------------------------------------- several sets


@pytest.mark.parametrize(("p", "sets"), [(4, 2), (6, 3), (5, 2), (7, 3), (2, 3)])
@pytest.mark.parametrize("world_size", [1, 2])
def test_sets_share_a_batch_equally(p, sets, world_size, monkeypatch) -> None:
    labels = np.repeat(np.arange(66), 3)
    sizes = {2: [14, 52], 3: [14, 16, 36]}[sets]  # identities of each set
    dataset = SimpleNamespace(labels=labels, domains=np.repeat(np.arange(sets) * 7, sizes)[labels])
    for rank in range(world_size):
        monkeypatch.setattr("reid.samplers.get_dist_info", lambda r=rank: (r, world_size))
        total: Counter[int] = Counter()
        for batch in batches(DomainBalancedSampler(dataset, p, 2, iterations=12, seed=3)):
            identities = identities_of(dataset, batch)
            assert len(identities) == p
            domains = Counter(int(dataset.domains[labels == i][0]) for i in identities)
            counts = [domains[7 * d] for d in range(sets)]
            assert max(counts) - min(counts) <= 1
            total.update(domains)
        assert max(total.values()) - min(total.values()) <= 1  # whoever has more takes turns


def test_within_a_set_identities_are_seen_equally_often() -> None:
    labels = np.repeat(np.arange(12), 2)
    dataset = SimpleNamespace(labels=labels, domains=np.where(labels < 3, 0, 1))
    counts = identities_of(dataset, list(DomainBalancedSampler(dataset, 4, 1, 18, seed=0)))
    assert [counts[i] for i in range(3)] == [12] * 3  # 2 of 3 in each of 18 batches
    assert [counts[i] for i in range(3, 12)] == [4] * 9


def test_one_set_is_sampled_as_by_pk() -> None:
    dataset = data(*[5, 2] * 8, sets=1)
    assert list(DomainBalancedSampler(dataset, 4, 3, 9, seed=4)) == list(
        PKSampler(dataset, 4, 3, 9, seed=4)
    )


# ----------------------------------------------------------------------------- naive


def test_an_epoch_shows_every_image_about_once() -> None:
    dataset = data(*range(1, 40))
    sampler = NaiveSampler(dataset, 4, 4, seed=0)
    chunks = sum(-(-n // 4) for n in range(1, 40))
    assert sampler.iterations == -(-chunks // 4)
    uses = Counter(i for i, _ in sampler)
    fresh = [n for i, n in uses.items() if (dataset.labels == dataset.labels[i]).sum() >= 4]
    assert max(fresh) <= 3  # the first images of an identity fill up its last chunk
    assert len(uses) >= 0.99 * len(dataset.labels)


def test_an_identity_comes_as_often_as_its_images_need() -> None:
    dataset = data(8, 4, 5, 1, 12, 4, 4, 2)  # 2, 1, 2, 1, 3, 1, 1, 1 chunks of 4
    counts = identities_of(dataset, list(NaiveSampler(dataset, 3, 4, iterations=4 * 10, seed=0)))
    for identity, chunks in enumerate([2, 1, 2, 1, 3, 1, 1, 1]):
        assert abs(counts[identity] / 4 - 10 * chunks) <= 2 * chunks  # ten passes of 12 chunks


def test_images_are_used_up_before_they_come_again() -> None:
    dataset = data(8, 8, 8, 8)
    for start in range(0, 8 * 8, 8 * 4):  # passes of 32 images
        sampler = NaiveSampler(dataset, 1, 4, iterations=16, seed=0)
        uses = Counter(i for i, _ in list(sampler)[start : start + 32])
        assert set(uses.values()) == {1} and len(uses) == 32


def test_rich_identities_are_spread_over_the_epoch() -> None:
    dataset = data(80, *[4] * 60)  # 20 and 60 chunks
    steps = [
        number
        for number, batch in enumerate(batches(NaiveSampler(dataset, 2, 4, seed=1)))
        if 0 in identities_of(dataset, batch)
    ]
    assert len(steps) >= 18
    thirds = Counter(min(step * 3 // 40, 2) for step in steps)
    assert all(3 <= thirds[third] <= 11 for third in range(3))


# ----------------------------------------------------------------------------- its parts


def naive_steps(stream, sizes, number):
    """The same rule, one place at a time on a list of what waits."""
    stream, waiting, steps = iter(stream), [], []
    for size in sizes:
        step: list[int] = []
        limit = -(-size // number)
        for identity in list(dict.fromkeys(waiting)):
            if len(step) < size:
                step.append(identity)
                waiting.remove(identity)
                if identity in waiting:  # the rest of it queues again
                    rest = waiting.count(identity)
                    waiting = [i for i in waiting if i != identity] + [identity] * rest
        while len(step) < size:
            identity = next(stream)
            (step if step.count(identity) < limit else waiting).append(identity)
        steps += step
    return steps


@pytest.mark.parametrize("seed", range(6))
def test_steps_equal_the_naive_rule(seed) -> None:
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, 9))
    one_pass = np.repeat(np.arange(number), rng.integers(1, 6, size=number))
    passes = [rng.permutation(one_pass) for _ in range(200)]
    sizes = rng.integers(0, 7, size=20)
    ours = steps_of_distinct(iter(passes), sizes, number)
    assert ours.tolist() == naive_steps(np.concatenate(passes), sizes.tolist(), number)


def test_planning_a_large_set_is_lazy(monkeypatch) -> None:
    """The images of the first batches are drawn without those of the others."""
    drawn = []
    draw = PKSampler._draw
    monkeypatch.setattr(
        PKSampler, "_draw", lambda self, ids, rng: drawn.append(len(ids)) or draw(self, ids, rng)
    )
    sampler = PKSampler(data(*[100] * 300), 16, 4, iterations=2000, seed=0)
    list(islice(sampler, 64))
    assert drawn == [2**18 // 1600]


# ----------------------------------------------------------------------------- errors


@pytest.mark.parametrize("argument", ["identities", "instances", "iterations"])
def test_wrong_arguments(kind, argument) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: .* must be at least 1"):
        kind(data(4), **{argument: 0})
    with pytest.raises(ValueError, match=f"{kind.__name__}: the dataset has no images"):
        kind(data())


@pytest.mark.parametrize(
    ("cls", "name"), [(CameraBalancedSampler, "camids"), (DomainBalancedSampler, "domains")]
)
def test_missing_arrays(cls, name) -> None:
    dataset = data(4, 4)
    delattr(dataset, name)
    with pytest.raises(ValueError, match=rf"an int array '{name}' of shape \(8,\).* got none"):
        cls(dataset)
    setattr(dataset, name, np.zeros(3))
    with pytest.raises(ValueError, match=r"got one of shape \(3,\)"):
        cls(dataset)


def test_an_identity_in_two_sets() -> None:
    dataset = SimpleNamespace(labels=np.array([0, 0, 1]), domains=np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="an identity has images in several sets"):
        DomainBalancedSampler(dataset)
