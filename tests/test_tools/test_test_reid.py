from __future__ import annotations

import json
import os
import pickle

import torch


def test_several_targets_with_the_same_weights(world, trained, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--untrained", "--work-dir", tmp_path / "a",
        "--target", world / "noon", f"evening=market1501:{world / 'dusk'}",
    )  # fmt: skip
    assert code == 0, err
    for word in ("untrained", "epoch_2", "noon", "evening", "rank-10", "mINP", "percent"):
        assert word in out
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["metrics"]["epoch_2"].keys() == {"noon", "evening"}
    assert results["metrics"]["untrained"]["noon"] != results["metrics"]["epoch_2"]["noon"]
    assert "AP rule 'step'" in results["protocols"]["evening"] and results["seed"] == 0
    assert len(results["data"]["evening"]["fingerprint"]) == 64
    manifest = json.loads((tmp_path / "a" / "manifest_test.json").read_text())
    assert manifest["data"]["evening"]["num_query"] > 0
    # the config's own domains give the same numbers
    code, _, err = tool("test_reid", world / "tiny.py", trained, "--work-dir", tmp_path / "b")
    assert code == 0, err
    again = json.loads((tmp_path / "b" / "results.json").read_text())
    assert again["metrics"]["epoch_2"]["dusk"] == results["metrics"]["epoch_2"]["evening"]


def test_the_rule_of_the_average_precision(world, trained, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--ap", "trapezoid", "--work-dir", tmp_path
    )
    assert code == 0 and "AP rule 'trapezoid'" in out, err
    option = "test_evaluator.ap=trapezoid"
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--work-dir", tmp_path, "--cfg-options", option
    )
    assert code == 0 and "AP rule 'trapezoid'" in out, err


def test_checkpoints_that_cannot_be_used(world, trained, tool, tmp_path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "cut.pth").write_bytes(trained.read_bytes()[:5000])
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.pth")
    for name in ("bomb.pth", "cut.pth", "other.pth", "absent.pth"):
        code, _, err = tool("test_reid", world / "tiny.py", tmp_path / name)
        error = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 1 and error and "Traceback" not in err, err
        assert name in "".join(err.splitlines()) or name == "other.pth"
    assert not (tmp_path / "executed").exists()
