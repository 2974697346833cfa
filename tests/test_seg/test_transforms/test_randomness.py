from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

from seg.transforms.randomness import draw_generators


def _numbers(results: dict) -> tuple[float, float]:
    arrays, python = draw_generators(results)
    return arrays.random(), python.random()


def test_the_sample_seed_decides() -> None:
    np.random.seed(0)
    first = _numbers({"sample_seed": 5})
    np.random.seed(1)
    assert _numbers({"sample_seed": 5}) == first
    assert _numbers({"sample_seed": 6}) != first
    assert _numbers({"sample_seed": -1}) and _numbers({"sample_seed": 2**70})


def test_steps_of_one_sample_differ() -> None:
    results = {"sample_seed": 5}
    draws = [_numbers(results) for _ in range(4)]
    assert len(set(draws)) == 4
    again = {"sample_seed": 5}
    assert [_numbers(again) for _ in range(4)] == draws


def test_without_a_seed_numpy_decides() -> None:
    np.random.seed(3)
    first = [_numbers({}), _numbers({})]
    np.random.seed(3)
    assert [_numbers({}), _numbers({})] == first
    assert first[0] != first[1]
