from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("mmseg")

from seg.evaluation.results import read_results, write_results


def test_a_file_gives_back_what_was_written(make_result, tmp_path) -> None:
    first, second = make_result(0), make_result(1, warnings=["beware"], seed=None)
    second.domains["city"].metrics["class_accuracy"] = math.nan
    path = write_results(tmp_path / "deep" / "results.json", [first, second], test_seed=3)
    again = read_results(path)
    assert again[0] == first
    assert math.isnan(again[1].domains["city"].metrics.pop("class_accuracy"))
    second.domains["city"].metrics.pop("class_accuracy")
    assert again[1] == second
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert content["test_seed"] == 3
    assert content["results"][0]["summary"]["gap"]["city"] == pytest.approx(first.gap("city"))
    assert content["results"][0]["domains"]["city"]["iou"][2] is None  # no train


def test_targets_means_and_gaps(make_result) -> None:
    result = make_result(0)
    game, city = result.value("game", "mIoU"), result.value("city", "mIoU")
    assert result.targets == ["city"] and result.mean_over_targets() == city
    assert result.gap("city") == result.gap() == pytest.approx(game - city)
    result.domains["town"] = make_result(5).domains["city"]
    town = result.value("town", "mIoU")
    assert result.mean_over_targets() == pytest.approx((city + town) / 2)
    assert result.gap() == pytest.approx(game - (city + town) / 2)
    assert result.value("village", "mIoU") is None and result.gap("village") is None
    result.source = None  # then all are targets, and there is no gap
    assert result.targets == ["city", "game", "town"] and result.gap() is None
    del result.domains["town"].metrics["mIoU"]
    assert result.mean_over_targets() is None
    only_source = make_result(0)
    del only_source.domains["city"]
    assert only_source.mean_over_targets() is None and only_source.gap() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x", "results": []}', "\x00"])
def test_other_files_are_refused(text: str, tmp_path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"does not hold segmentation results.*test_seg.py"):
        read_results(path)
    with pytest.raises(FileNotFoundError, match="no results at"):
        read_results(tmp_path / "absent.json")
