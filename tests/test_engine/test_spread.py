from __future__ import annotations

import statistics

import pytest

from engine.spread import Spread, complete_mean, percent


def test_mean_and_sample_deviation() -> None:
    values = [0.5, 0.6, 0.9]
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(2 / 3) and spread.n == 3
    assert spread.deviation == pytest.approx(statistics.stdev(values))
    assert Spread.of([0.5]) == Spread(0.5, None, 1)


def test_cells() -> None:
    assert percent(0.38249) == "38.2" and percent(None) == "-"
    assert percent(0.38249, 2) == "38.25" and percent(-0.004) == "-0.4"
    assert percent(Spread(0.382, 0.0041, 3)) == "38.2 ± 0.4 (n=3)"
    assert percent(Spread(0.382, 0.0041, 3), 2) == "38.20 ± 0.41 (n=3)"
    assert percent(Spread(0.382, None, 1)) == "38.2"


def test_a_mean_is_of_all_numbers_or_none() -> None:
    assert complete_mean([0.5, 0.0, 1.0]) == 0.5
    assert complete_mean([]) is None
    assert complete_mean([0.5, None]) is None
