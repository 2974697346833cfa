from __future__ import annotations

import json
import math

import pytest

from reid.evaluation.results import DomainResult, ModelResult, read_results, write_results


def test_means_over_targets_and_the_gap(make_result) -> None:
    result = make_result(0)
    result.domains["rain"] = make_result(3).domains["dusk"]
    assert result.targets == ["dusk", "rain"]
    mean = (result.value("dusk", "mAP") + result.value("rain", "mAP")) / 2
    assert result.mean_over_targets() == pytest.approx(mean)
    assert result.mean_over_sources() == result.value("noon", "mAP") == 0.5
    assert result.gap() == pytest.approx(0.5 - mean)
    assert result.summary()["gap_to_source"]["rank-1"] == pytest.approx(result.gap("rank-1"))
    assert result.value("rain", "mAP", "re-ranking toy (k1 20)") == pytest.approx(0.33)
    assert result.value("rain", "mAP", "another") is result.value("snow", "mAP") is None
    assert result.value("rain", "top-1") is None


def test_several_sources(make_result) -> None:
    result = make_result(0, sources=["noon", "dusk"])
    assert result.mean_over_sources() == pytest.approx(0.375)
    assert result.targets == [] and result.mean_over_targets() is result.gap() is None


@pytest.mark.parametrize("sources", [[], ["elsewhere"]])
def test_where_the_source_is_not_known_or_not_tested(make_result, sources: list[str]) -> None:
    result = make_result(0, sources=sources)
    assert result.gap() is None and result.mean_over_sources() is None
    assert (result.mean_over_targets() is None) == (not sources)


def test_written_and_read_again(make_result, tmp_path) -> None:
    results = [make_result(0), make_result(1, warnings=["careful"])]
    results[1].domains["dusk"].deviations = {"mAP": 0.01}
    path = write_results(tmp_path / "new" / "results.json", results, command=["x"], test_seed=3)
    content = json.loads(path.read_text())
    assert content["test_seed"] == 3 and content["results"][0]["summary"]["mean_over_targets"]
    assert read_results(path) == results


def test_what_does_not_exist_is_null(make_result, tmp_path) -> None:
    result = make_result(0)
    result.domains["dusk"].metrics["mAP"] = math.nan
    result.domains["dusk"].problem = "dusk: no query has a positive"
    result.domains["noon"].refined["re-ranking toy (k1 20)"].metrics["mAP"] = math.inf
    path = write_results(tmp_path / "results.json", [result])
    json.loads(path.read_text(), parse_constant=pytest.fail)
    (again,) = read_results(path)
    assert again.value("dusk", "mAP") is again.mean_over_targets() is again.gap() is None
    assert again.value("noon", "mAP", "re-ranking toy (k1 20)") is None
    assert again.domains["dusk"].problem == result.domains["dusk"].problem


def test_files_of_something_else(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no results at .*tools/test_reid.py writes"):
        read_results(tmp_path / "absent.json")
    for text in ("{", "[]", '{"format": "segmentation results 1", "results": []}', '{"a": 1}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match="does not hold re-identification results"):
            read_results(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"format": "re-identification results 1", "results": [{}]}')
    with pytest.raises(ValueError, match="does not hold"):
        read_results(tmp_path / "x.json")


def test_from_what_the_metric_keeps(evaluate) -> None:
    import numpy as np

    features = np.eye(8, dtype=np.float32)[[0, 1, 0, 1, 2]]
    pids, camids = np.array([1, 2, 1, 2, 3]), np.array([0, 0, 1, 0, 1])
    metrics, details = evaluate(features, pids, camids, 2)
    found = DomainResult.from_details(metrics, details, "as they are")
    assert (found.num_queries, found.num_valid_queries, found.num_gallery) == (2, 1, 3)
    assert found.metrics["mAP"] == 1.0 and found.deviations == {} and found.problem is None
    assert found.rules == {"metric": "cosine", "ap": "step", "inference": "as they are"}
    json.dumps(found.__dict__)
    assert ModelResult("x", {}).mean_over_targets() is None
