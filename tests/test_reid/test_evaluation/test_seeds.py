from __future__ import annotations

import json

import numpy as np
import pytest

from reid.evaluation.seeds import aggregate, by_recipe, verification_numbers

STEP = "re-ranking toy (k1 20)"


def test_mean_and_sample_deviation(make_result) -> None:
    results = [make_result(seed) for seed in range(3)]
    found = aggregate(results)
    values = [r.value("dusk", "mAP") for r in results]
    spread = found.metrics["dusk"]["mAP"]
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.deviation == pytest.approx(np.std(values, ddof=1))
    assert spread.n == found.n == 3 and found.seeds == (0, 1, 2) and found.name == "bin"
    refined = [r.value("dusk", "rank-1", STEP) for r in results]
    assert found.refined["dusk"][STEP]["rank-1"].mean == pytest.approx(np.mean(refined))
    assert found.gap["mAP"].mean == pytest.approx(0.25)
    assert found.mean_over_targets["mAP"].mean == pytest.approx(np.mean(values))
    assert found.mean_over_sources["mAP"].mean == pytest.approx(0.51)
    assert found.verification["noon"]["tar at 0.01"].mean == pytest.approx(0.52)
    pairs = found.camera_pairs["dusk"]
    assert [p["mAP"] for p in pairs] == pytest.approx([np.mean(values)] * 2)
    json.dumps(found.plain())


def test_a_number_that_one_run_lacks_has_no_mean(make_result) -> None:
    results = [make_result(0), make_result(1)]
    results[1].domains["dusk"].metrics["mAP"] = float("nan")
    del results[1].domains["dusk"].camera_pairs[0]
    results[1].domains["dusk"].verification = {}
    found = aggregate(results)
    assert "mAP" not in found.metrics["dusk"] and "rank-1" in found.metrics["dusk"]
    assert "mAP" not in found.mean_over_targets and "mAP" not in found.gap
    assert len(found.camera_pairs["dusk"]) == 1 and found.verification["dusk"] == {}


def test_what_was_not_verified_has_no_numbers(make_result) -> None:
    result = make_result(0)
    assert verification_numbers(result, "dusk")["tar at 0.1"] == pytest.approx(0.35)
    result.domains["dusk"].verification = {}
    assert verification_numbers(result, "dusk") == verification_numbers(result, "snow") == {}


def changed(result, what: str):
    dusk = result.domains["dusk"]
    if what == "recipe":
        result.recipe = "other"
    elif what == "epochs":
        result.epoch = 29
    elif what == "training data":
        result.trained_on = "other"
    elif what == "source domains":
        result.sources = ["dusk"]
    elif what == "domains":
        del result.domains["dusk"]
    elif what == "data":
        dusk.data["fingerprint"] = "other"
    elif what == "evaluation rules":
        dusk.rules["ap"] = "trapezoid"
    elif what == "metrics":
        dusk.metrics["rank-20"] = 1.0
    elif what == "refinements":
        dusk.refined[STEP].rules["k1"] = 30
    return result


DIFFERENCES = [
    *("recipe", "epochs", "training data", "source domains", "domains", "data"),
    *("evaluation rules", "metrics", "refinements"),
]


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_differs_in_more_than_the_seed_is_not_averaged(make_result, what: str) -> None:
    results = [make_result(0), changed(make_result(1), what)]
    with pytest.raises(ValueError, match=f"cannot average.*their {what} differ"):
        aggregate(results)
    assert by_recipe(results) == []


def test_groups_are_runs_of_one_recipe_with_known_and_different_seeds(make_result) -> None:
    runs = [make_result(seed) for seed in range(3)]
    assert by_recipe(runs) == [runs]
    assert by_recipe([*runs, make_result(5, recipe="other"), make_result(6, recipe="")]) == [runs]
    assert by_recipe([make_result(0), make_result(1, seed=0)]) == []  # two of one training
    assert by_recipe([make_result(0), make_result(1, seed=None)]) == []
    with pytest.raises(ValueError, match="same checkpoint"):
        aggregate([make_result(0), make_result(0)])
