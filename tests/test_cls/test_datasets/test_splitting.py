from __future__ import annotations

import numpy as np
import pytest

from cls.datasets.splitting import first_part

NAMES = [f"{c}/{i}.jpg" for c in "ab" for i in range(10)]
GROUPS = [0] * 10 + [1] * 10


def test_every_group_gives_its_part() -> None:
    part = first_part(NAMES, GROUPS, 0.8, 0)
    assert part[:10].sum() == part[10:].sum() == 8
    assert first_part(NAMES, GROUPS, 0.75, 0)[:10].sum() == 8  # halves are rounded up


def test_the_choice_hangs_on_names_and_seed_alone() -> None:
    part = dict(zip(NAMES, first_part(NAMES, GROUPS, 0.8, 0).tolist(), strict=True))
    order = np.random.default_rng(0).permutation(20)
    names = [NAMES[i] for i in order]
    again = first_part(names, [GROUPS[i] for i in order], 0.8, 0)
    assert dict(zip(names, again.tolist(), strict=True)) == part
    assert first_part(NAMES, GROUPS, 0.8, 1).tolist() != list(part.values())
    # and is the same on every machine and version
    assert [n for n, inside in part.items() if not inside] == [
        "a/2.jpg", "a/5.jpg", "b/5.jpg", "b/9.jpg",
    ]  # fmt: skip


def test_both_sides_get_something() -> None:
    assert first_part(["a", "b"], [0, 0], 0.99, 0).sum() == 1
    assert first_part(["a", "b"], [0, 0], 0.01, 0).sum() == 1
    assert first_part(["a"], [0], 0.01, 0).sum() == 1
    assert first_part([], [], 0.5, 0).shape == (0,)


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1, True])
def test_a_fraction_lies_between(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        first_part(NAMES, GROUPS, fraction, 0)
