from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reid.inference import FeatureExtractor
from reid.threshold import Threshold, threshold_path


@pytest.fixture
def model(world, tmp_path) -> list[Path]:
    """Config and checkpoint of a network that nobody trained, in a folder of the test's own."""
    network = FeatureExtractor(world / "tiny.py", device="cpu").model
    torch.save({"state_dict": network.state_dict()}, tmp_path / "model.pth")
    return [world / "tiny.py", tmp_path / "model.pth"]


def test_calibrate_compare_and_query(world, model, tool, tmp_path) -> None:
    a, b = sorted((world / "noon" / "query").glob("*.jpg"))[:2]
    code, _, err = tool("compare", *model, a, b)
    assert code == 1 and "calibrate_threshold" in err

    code, out, err = tool(
        "calibrate_threshold", *model, "--data", world / "noon", "--far", 0.1, "--workers", 0
    )
    assert code == 0, err
    path = threshold_path(model[1])
    threshold = Threshold.read(path)
    assert str(path) in out and "EER" in out and "chosen on" in out and "measured on" in out
    assert "…" not in out  # no head and no number is cut, however narrow the terminal
    assert "accepts" in out and "rejects" in out and threshold.protocol["fingerprint"][:12] in out
    assert threshold.target_far == 0.1 and threshold.protocol["data"] == "noon"
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert FeatureExtractor(*model, "cpu").threshold == threshold

    code, out, err = tool("compare", *model, a, a, "--picture", tmp_path / "c.png")
    assert code == 0 and "same identity: score 1.000" in out and "Expected error" in out, err
    assert (tmp_path / "c.png").stat().st_size > 1000
    code, out, err = tool("compare", *model, a, b, "--threshold", 1.5)
    assert code == 0 and "different identities" in out and "unknown" in out, err

    gallery = tmp_path / "g"
    code, _, err = tool("build_gallery", gallery, *model, "--images", a.parent)
    assert code == 0, err
    code, out, err = tool("query_gallery", gallery, a, "-k", 2, "--threshold")
    assert code == 0 and "reach the threshold" in out and "measured on noon" in out, err
    code, out, err = tool("query_gallery", gallery, a, "-k", 2, "--threshold", "1.5")
    assert code == 0 and "nobody that the gallery knows" in out, err
    path.unlink()
    code, out, err = tool("query_gallery", gallery, a, "-k", 2)
    assert code == 0 and "threshold" not in out, err
    code, _, err = tool("query_gallery", gallery, a, "--threshold")
    assert code == 1 and "none is stored beside" in err


def test_all_identities_for_both(world, model, tool, tmp_path) -> None:
    code, out, err = tool(
        "calibrate_threshold", *model, "--data", world / "noon", "--no-hold-out", "--workers", 0,
        "--out", tmp_path / "t.json", "--picture", tmp_path / "p.png", "--far", 0.01,
    )  # fmt: skip
    assert code == 0 and "chosen on" not in out and "warning:" in out, err
    assert Threshold.read(tmp_path / "t.json").protocol["held_out"] is False
    assert (tmp_path / "p.png").exists() and not threshold_path(model[1]).exists()


@pytest.mark.parametrize("far", ["0", "1", "2", "-0.1"])
def test_rates_that_are_none(world, model, tool, far) -> None:
    code, _, err = tool("calibrate_threshold", *model, "--data", world / "noon", "--far", far)
    assert code in (1, 2) and "far" in err
