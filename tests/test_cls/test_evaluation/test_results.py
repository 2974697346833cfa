from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cls.evaluation.results import DomainResult, ModelResult, finite, read_results, write_results


def test_from_what_the_metric_keeps() -> None:
    confusion = np.array([[2, 1], [0, 0]])
    details = {
        "classes": ("a", "b"),
        "counts": np.array([4, 0]),
        "accuracy": np.array([0.5, math.nan]),
        "confusion": confusion,
        "worst": [{"path": "x", "index": 1}],
        "not_finite": 1,
        "extras": {"log_loss": 1.5, "calibration_error": math.nan},
        "rules": {"ties": "against"},
        "data": {"name": "toy"},
    }
    found = DomainResult.from_details({"top-1": np.float64(0.5)}, details, "as they are")
    assert found.accuracy == [0.5, None] and found.num_images == 4 and found.not_finite == 1
    assert found.confusion == [[0, 0, 2], [0, 1, 1]] and (found.matrix() == confusion).all()
    assert found.rules == {"ties": "against", "inference": "as they are"}
    assert found.extras == {"log_loss": 1.5, "calibration_error": None}
    json.dumps(found.__dict__)


def test_means_over_domains_and_targets(make_result) -> None:
    result = make_result(0)
    art, photo = (result.value(d, "top-1") for d in ("art", "photo"))
    assert art == pytest.approx(15 / 20) and photo == pytest.approx(15 / 17)
    assert result.mean() == pytest.approx((art + photo) / 2)
    assert result.targets == ["photo"] and result.mean_over_targets() == photo
    assert result.value("sketch", "top-1") is None and result.value("art", "top-5") is None
    assert result.mean("top-5") is None and result.summary()["mean_over_domains"]["top-1"]
    alone = make_result(0, source=None)
    assert alone.targets == [] and alone.mean_over_targets() is None and alone.mean() is not None


def test_drops(make_result) -> None:
    art = make_result(0).domains["art"]
    assert art.drop("RGB+50") == pytest.approx(0.1) and art.drop("std x1.5") == 0
    assert art.drop("R+50") is None and art.drop("std x1.5", "top-5") is None


def test_written_and_read_again(make_result, tmp_path) -> None:
    results = [make_result(0), make_result(1, warnings=["careful"])]
    path = write_results(tmp_path / "new" / "results.json", results, command=["x"], test_seed=3)
    content = json.loads(path.read_text())
    assert content["test_seed"] == 3 and content["results"][0]["summary"]
    assert content["results"][0]["domains"]["photo"]["accuracy"][2] is None
    assert read_results(path) == results


def test_nan_is_null(make_result, tmp_path) -> None:
    result = make_result(0)
    result.domains["art"].metrics["top-1"] = math.nan
    result.domains["art"].shifts["RGB+50"]["top-1"] = math.nan
    path = write_results(tmp_path / "results.json", [result])
    json.loads(path.read_text(), parse_constant=pytest.fail)
    again = read_results(path)[0]
    assert again.value("art", "top-1") is None and again.domains["art"].drop("RGB+50") is None
    assert again.mean() is None


def test_files_of_something_else(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no results at"):
        read_results(tmp_path / "absent.json")
    for text in ("{", "[]", '{"format": "segmentation results 1", "results": []}', '{"a": 1}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match="does not hold classification results"):
            read_results(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"format": "classification results 1", "results": [{}]}')
    with pytest.raises(ValueError, match="does not hold"):
        read_results(tmp_path / "x.json")


def test_finite() -> None:
    assert finite(1) == 1.0 and finite(None) is finite(math.inf) is finite(math.nan) is None
    assert ModelResult("x", {}).mean() is None
