from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("mmseg")

from engine.spread import Spread
from seg.evaluation.seeds import aggregate, by_recipe


def test_mean_and_sample_deviation(make_result) -> None:
    results = [make_result(seed) for seed in range(3)]
    found = aggregate(results)
    values = [r.value("city", "mIoU") for r in results]
    spread = found.metrics["city"]["mIoU"]
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.deviation == pytest.approx(np.std(values, ddof=1))
    assert spread.n == found.n == 3 and found.seeds == (0, 1, 2) and found.name == "toy"
    gaps = [r.gap() for r in results]
    assert found.gap.mean == pytest.approx(np.mean(gaps))
    assert found.gap.deviation == pytest.approx(np.std(gaps, ddof=1))
    roads = [r.domains["game"].iou[0] for r in results]
    assert found.iou["game"]["road"].mean == pytest.approx(np.mean(roads))
    assert "train" not in found.iou["game"]  # occurs in no run
    assert found.mean_over_targets["pixel_accuracy"].n == 3
    json.dumps(found.plain())


def test_one_run_has_no_deviation(make_result) -> None:
    assert aggregate([make_result(0)]).metrics["city"]["mIoU"].deviation is None
    assert Spread.of([0.5]) == Spread(0.5, None, 1)


def test_the_order_of_runs_does_not_matter(make_result) -> None:
    results = [make_result(seed) for seed in range(3)]
    one, other = aggregate(results), aggregate(results[::-1])
    assert one.metrics["city"]["mIoU"].mean == pytest.approx(other.metrics["city"]["mIoU"].mean)


def changed(result, what: str):
    city = result.domains["city"]
    if what == "protocol":
        result.protocol = {"name": "rein-512", "deviations": [], "text": "rein-512"}
    elif what == "data":
        city.data["fingerprint"] = "other"
    elif what == "evaluation rules":
        city.rules["boundary"] = "0.01"
    elif what == "evaluated classes":
        city.evaluated_classes = [0]
    elif what == "source domain":
        result.source = "city"
    elif what == "domains":
        del result.domains["city"]
    elif what == "classes":
        city.classes = [*city.classes[:2], "tram"]
    elif what == "metrics":
        city.metrics["boundary_mIoU"] = 0.5
    return result


@pytest.mark.parametrize(
    "what",
    [
        *("protocol", "data", "evaluation rules", "evaluated classes", "source domain", "domains"),
        *("classes", "metrics"),
    ],
)
def test_what_differs_in_more_than_the_seed_is_not_averaged(make_result, what: str) -> None:
    with pytest.raises(ValueError, match=f"cannot average.*their {what} differ"):
        aggregate([make_result(0), changed(make_result(1), what)])


def test_one_run_twice_and_none_at_all(make_result) -> None:
    with pytest.raises(ValueError, match="same checkpoint"):
        aggregate([make_result(0), make_result(0)])
    with pytest.raises(ValueError, match="at least one"):
        aggregate([])


def test_groups_are_runs_of_one_config_with_known_and_different_seeds(make_result) -> None:
    runs = [make_result(seed) for seed in range(3)]
    assert by_recipe(runs) == [runs]
    other = make_result(5, config="other.py")
    assert by_recipe([*runs, other]) == [runs]
    assert by_recipe([make_result(0), make_result(1, seed=0)]) == []  # two of one training
    assert by_recipe([make_result(0), make_result(1, seed=None)]) == []
    changed(runs[2], "protocol")
    assert by_recipe(runs) == [runs[:2]]
