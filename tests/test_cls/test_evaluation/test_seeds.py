from __future__ import annotations

import json

import numpy as np
import pytest

from cls.evaluation.seeds import aggregate, by_recipe


def test_mean_and_sample_deviation(make_result) -> None:
    results = [make_result(seed) for seed in range(3)]
    found = aggregate(results)
    values = [r.value("art", "top-1") for r in results]
    spread = found.metrics["art"]["top-1"]
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.deviation == pytest.approx(np.std(values, ddof=1))
    assert spread.n == found.n == 3 and found.seeds == (0, 1, 2) and found.name == "bin"
    assert found.mean["top-1"].mean == pytest.approx(np.mean([r.mean() for r in results]))
    targets = [r.mean_over_targets() for r in results]
    assert found.mean_over_targets["top-1"].mean == pytest.approx(np.mean(targets))
    dogs = [r.domains["art"].accuracy[1] for r in results]
    assert found.accuracy["art"]["dog <b>&"].mean == pytest.approx(np.mean(dogs))
    assert "emu" not in found.accuracy["photo"]  # occurs in no run
    assert found.drops["art"]["RGB+50"].mean == pytest.approx(0.1)
    assert found.drops["art"]["std x1.5"].mean == 0
    under = [r.domains["art"].shifts["RGB+50"]["top-1"] for r in results]
    assert found.shifts["art"]["RGB+50"]["top-1"].mean == pytest.approx(np.mean(under))
    json.dumps(found.plain())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bin_s0/epoch_3", "bin_s1/epoch_3"], "bin"),
        (["net_seed1/a", "net_seed10/a"], "net"),
        (["net-0/a", "net-1/a"], "net"),
        (["one/a", "two/a"], "toy"),
    ],
)
def test_the_row_is_called_as_the_folders_agree(make_result, names, expected: str) -> None:
    assert aggregate([make_result(i, name=name) for i, name in enumerate(names)]).name == expected


def changed(result, what: str):
    art = result.domains["art"]
    if what == "recipe":
        result.recipe = "other"
    elif what == "epochs":
        result.epoch = 29
    elif what == "source domain":
        result.source = "photo"
    elif what == "domains":
        del result.domains["art"]
    elif what == "data":
        art.data["fingerprint"] = "other"
    elif what == "evaluation rules":
        art.rules["inference"] = "flipped"
    elif what == "classes":
        art.classes = ["cat", "cow", "emu"]
    elif what == "metrics":
        art.metrics["top-5"] = 1.0
    elif what == "appearance shifts":
        art.shift_words["RGB+50"] = "clipped"
    return result


@pytest.mark.parametrize(
    "what",
    [
        *("recipe", "epochs", "source domain", "domains", "data", "evaluation rules", "classes"),
        *("metrics", "appearance shifts"),
    ],
)
def test_what_differs_in_more_than_the_seed_is_not_averaged(make_result, what: str) -> None:
    with pytest.raises(ValueError, match=f"cannot average.*their {what} differ"):
        aggregate([make_result(0), changed(make_result(1), what)])


@pytest.mark.parametrize("what", ["recipe", "epochs", "data", "evaluation rules", "domains"])
def test_nor_put_into_one_group(make_result, what: str) -> None:
    assert by_recipe([make_result(0), changed(make_result(1), what)]) == []


def test_one_run_twice_and_none_at_all(make_result) -> None:
    with pytest.raises(ValueError, match="same checkpoint"):
        aggregate([make_result(0), make_result(0)])
    with pytest.raises(ValueError, match="at least one"):
        aggregate([])


def test_groups_are_runs_of_one_recipe_with_known_and_different_seeds(make_result) -> None:
    runs = [make_result(seed) for seed in range(3)]
    assert by_recipe(runs) == [runs]
    assert by_recipe([*runs, make_result(5, recipe="other"), make_result(6, recipe="")]) == [runs]
    assert by_recipe([make_result(0), make_result(1, seed=0)]) == []  # two of one training
    assert by_recipe([make_result(0), make_result(1, seed=None)]) == []
    assert by_recipe([make_result(0, recipe=""), make_result(1, recipe="")]) == []
