import itertools
import random

import numpy as np
import pytest

from reid.datasets import Record, automatic_split, split_identities, split_query_gallery
from reid.datasets.splitting import draw_gallery, draw_one_each


def records(*cameras_of: str | None) -> list[Record]:
    """One identity per argument; each character is an image by that camera, '-' is none."""
    return [
        Record(f"{pid}/{k}.jpg", pid, None if camera == "-" else int(camera))
        for pid, cameras in enumerate(cameras_of)
        for k, camera in enumerate(cameras)
    ]


def has_positive(query: Record, gallery) -> bool:
    return any(
        g.pid == query.pid and (query.camid is None or g.camid != query.camid) for g in gallery
    )


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(10, 0.5, 5), (11, 0.5, 6), (10, 0, 0), (10, 1, 10), (2, 0.01, 1), (2, 0.99, 1), (1, 0.5, 1)],
)
def test_train_fraction(count: int, fraction: float, expected: int) -> None:
    names = [f"p{i}" for i in range(count)]
    train, test = split_identities(names, train_fraction=fraction)
    assert len(train) == expected
    assert train | test == set(names) and not train & test


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="train_fraction must be from 0 to 1"):
        split_identities(["a"], train_fraction=fraction)


def test_identities_depend_on_names_and_seed_only() -> None:
    names = [f"person {i}" for i in range(40)]
    reference = split_identities(names, seed=3)
    assert split_identities(reversed(names), seed=3) == reference
    assert split_identities(names, seed=4) != reference
    # Written down once: the split must never change with a version or a platform.
    assert split_identities("abcdef", seed=0)[0] == frozenset("cdf")


def test_a_new_identity_moves_at_most_one_other() -> None:
    names = [f"person {i}" for i in range(40)]
    before, _ = split_identities(names)
    after, _ = split_identities([*names, "newcomer"])
    assert len(before - after) <= 1


def test_one_query_per_identity_and_camera() -> None:
    data = records("1112223", "112", "11122")
    query, gallery = split_query_gallery(data)
    assert sorted((q.pid, q.camid) for q in query) == [
        (0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2),
    ]  # fmt: skip
    assert set(query) | set(gallery) == set(data) and not set(query) & set(gallery)


def test_one_query_per_identity_without_cameras() -> None:
    query, gallery = split_query_gallery(records("---", "--", "-"))
    assert sorted(q.pid for q in query) == [0, 1]
    assert sorted(g.pid for g in gallery) == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("cameras", "queries"),
    [("1", 0), ("111", 0), ("12", 1), ("123", 2), ("112", 1), ("1123", 2), ("1122", 2)],
)
def test_as_many_queries_as_have_a_positive(cameras: str, queries: int) -> None:
    query, gallery = split_query_gallery(records(cameras))
    assert len(query) == queries
    assert all(has_positive(q, gallery) for q in query)
    # No choice of at most one image per camera allows more: try them all.
    data = records(cameras)
    best = max(
        len(chosen)
        for n in range(len(data) + 1)
        for chosen in itertools.combinations(data, n)
        if len({r.camid for r in chosen}) == n
        and all(has_positive(q, [r for r in data if r not in chosen]) for q in chosen)
    )
    assert len(query) == best


def test_order_of_files_does_not_matter() -> None:
    data = records("1112223", "112", "11122", "12", "33")
    shuffled = random.Random(1).sample(data, len(data))
    for one, other in zip(split_query_gallery(data), split_query_gallery(shuffled), strict=True):
        assert set(one) == set(other)


def test_root_does_not_matter_and_seed_does() -> None:
    data = records(*["111222"] * 20)
    moved = [Record(f"/disk/{r.path}", r.pid, r.camid) for r in data]
    query, _ = split_query_gallery(data)
    elsewhere, _ = split_query_gallery(moved, root="/disk")
    assert [f"/disk/{q.path}" for q in query] == [q.path for q in elsewhere]
    assert split_query_gallery(data, seed=1)[0] != query


def test_automatic_split() -> None:
    data = records(*["1122"] * 10)
    names = {pid: f"name {pid}" for pid in range(10)}
    train, query, gallery = automatic_split(data, identities=names, root="")
    assert len(train) + len(query) + len(gallery) == len(data)
    assert len({r.pid for r in train}) == 5
    assert not {r.pid for r in train} & {r.pid for r in (*query, *gallery)}
    # Renumbering the identities changes nothing.
    renumbered = [Record(r.path, 9 - r.pid, r.camid) for r in data]
    again = automatic_split(renumbered, identities={9 - p: n for p, n in names.items()}, root="")
    for one, other in zip((train, query, gallery), again, strict=True):
        assert [r.path for r in one] == [r.path for r in other]


def test_train_fraction_zero_is_test_only() -> None:
    train, query, gallery = automatic_split(
        records("1122", "1122"), identities={}, root="", train_fraction=0
    )
    assert (len(train), len(query), len(gallery)) == (0, 4, 4)


# ------------------------------------------------------------------------------- draws


def test_one_of_each_identity_is_drawn() -> None:
    people = records("111", "1", "2222", "12")
    draws = draw_one_each(people, draws=50, seed=3)
    for chosen in draws:
        assert [people[k].pid for k in chosen] == [0, 1, 2, 3]
        assert chosen == sorted(chosen)
    seen = {k for chosen in draws for k in chosen}
    assert seen == set(range(len(people)))  # over many draws, every image
    assert draw_one_each(people, draws=2, seed=3) == draws[:2]
    assert draw_one_each(people, draws=50, seed=4) != draws
    assert draw_one_each([], draws=2) == [[], []]
    with pytest.raises(ValueError, match="draws must be 1 or more, got 0"):
        draw_one_each(people, draws=0)


def test_a_draw_hangs_on_names_and_not_on_order() -> None:
    people = records("111", "1111")
    mixed = random.Random(0).sample(people, len(people))

    def paths(of: list[Record]) -> list[set[str]]:
        return [{of[k].path for k in chosen} for chosen in draw_one_each(of, draws=5)]

    assert paths(people) == paths(mixed)


def test_single_shot_trials() -> None:
    query, gallery = records("11", "1"), records("22", "222")
    trials = draw_gallery(query, gallery, draws=4)
    assert len(trials) == 4
    for queries, chosen in trials:
        np.testing.assert_array_equal(queries, [0, 1, 2])
        assert [gallery[k - 3].pid for k in chosen] == [0, 1]
        assert queries.dtype == chosen.dtype == np.int64
