from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from backbones.checkpoint import read_checkpoint


@pytest.fixture(autouse=True)
def a_wide_terminal(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def results(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "results.json").read_text())["results"]


def test_several_targets_with_the_same_weights(world, trained, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--untrained", "--work-dir", tmp_path / "a",
        "--target", world / "noon", f"evening=market1501:{world / 'dusk'}",
    )  # fmt: skip
    assert code == 0, err
    for word in (
        *("untrained", "run/epoch_2", "noon (source)", "evening (target)", "rank-10", "mINP"),
        *(
            "percent",
            "AP rule 'step'",
            "valid of",
            "Resize 64x32, float32",
            "from the source to the targets",
        ),
    ):
        assert word in " ".join(out.replace("┃", " ").split()), (word, out)
    untrained, found = results(tmp_path / "a")
    assert untrained["name"] == "untrained" and untrained["sources"] == []
    assert found["domains"].keys() == {"noon", "evening"} and found["sources"] == ["noon"]
    assert untrained["domains"]["noon"]["metrics"] != found["domains"]["noon"]["metrics"]
    own, other = (found["domains"][name]["metrics"]["mAP"] for name in ("noon", "evening"))
    assert found["summary"]["gap_to_source"]["mAP"] == pytest.approx(own - other)
    evening = found["domains"]["evening"]
    assert evening["rules"]["ap"] == "step" and found["seed"] == 0 and found["epoch"] == 2
    assert len(evening["data"]["fingerprint"]) == len(found["weights"]) == 64
    manifest = json.loads((tmp_path / "a" / "manifest_test.json").read_text())
    assert manifest["data"]["evening"]["num_query"] > 0
    # the config's own domains give the same numbers
    code, _, err = tool("test_reid", world / "tiny.py", trained, "--work-dir", tmp_path / "b")
    assert code == 0, err
    (again,) = results(tmp_path / "b")
    assert again["domains"]["dusk"]["metrics"] == evening["metrics"]


def test_the_rule_of_the_average_precision(world, trained, tool, tmp_path) -> None:
    for options in (("--ap", "trapezoid"), ("--cfg-options", "test_evaluator.ap=trapezoid")):
        code, out, err = tool(
            "test_reid", world / "tiny.py", trained, "--domains", "noon", "--work-dir", tmp_path,
            *options,
        )  # fmt: skip
        assert code == 0 and "AP rule 'trapezoid'" in out, err
        assert list(results(tmp_path)[0]["domains"]) == ["noon"]


def test_everything_in_one_report(world, trained, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--html", "--pictures", 2, "--map", "pca",
        "--rerank", "zhong", "torchreid", "--k1", 5, "--k2", 2, "--expand", "aqe", "dba",
        "--expand-k", 2, "--work-dir", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    flat = " ".join(out.replace("┃", " ").split())
    for word in ("plain", "zhong", "torchreid", "verification: are two", "from a query's camera"):
        assert word in flat, (word, out)
    (found,) = results(tmp_path)
    for domain in found["domains"].values():
        names = list(domain["refined"])
        assert names == [
            "re-ranking zhong (k1 5, k2 2, lambda 0.3)",
            "re-ranking torchreid (k1 5, k2 2, lambda 0.3)",
            "query expansion (k 2)",
            "gallery augmentation (k 2, alpha 3)",
        ]
        assert domain["refined"][names[0]]["rules"]["k1"] == 5
        assert domain["refined"][names[0]]["metrics"] != domain["metrics"]
        assert {e["why"] for e in domain["examples"]} == {"worst", "random"}
        assert len(domain["camera_pairs"]) == 2 and 0 <= domain["verification"]["eer"] <= 1
    names = [path.name for path in (tmp_path / "pictures").iterdir()]
    kinds = {re.split("_(?:run|noon|dusk)", name)[0] for name in names}
    assert kinds == {
        *("camera_pairs", "scores", "roc", "worst", "random", "activations", "identities"),
        "domains",
    }
    for path in (tmp_path / "pictures").iterdir():
        assert cv2.imread(str(path)).std() > 3, path
    text = (tmp_path / "report.html").read_text()
    assert text.count("data:image/jpeg") == 6 and "re-ranking zhong" in text
    # the same tables again, without a model
    more = tmp_path / "results.json"
    code, again, err = tool(
        "test_reid", "--results", more, "--camera-pairs", "--work-dir", tmp_path / "c"
    )
    assert code == 0, err
    assert results(tmp_path / "c") == [found]
    tables = [text.partition("(percent)\n")[2].partition("written")[0] for text in (out, again)]
    assert tables[0] == tables[1] and "plain" in tables[0]


def test_runs_of_one_recipe_are_averaged(world, trained, tool, tmp_path) -> None:
    other = tmp_path / "run_s1" / "epoch_2.pth"
    other.parent.mkdir()
    content = read_checkpoint(trained)
    content["meta"]["seed"] = 1
    weights = content["state_dict"]
    first = next(key for key in weights if key.endswith("conv1.weight"))
    weights[first] = weights[first] + 0.05 * torch.randn(weights[first].shape)
    torch.save(content, other)
    again = tmp_path / "run_s0" / "epoch_2.pth"
    again.parent.mkdir()
    shutil.copy(trained, again)
    code, out, err = tool(
        "test_reid", world / "tiny.py", again, other, "--work-dir", tmp_path / "out"
    )
    assert code == 0, err
    assert "run (mean of 2)" in out and " ± " in out and "not comparable" not in out
    both = [r["domains"]["dusk"]["metrics"]["mAP"] for r in results(tmp_path / "out")]
    (average,) = json.loads((tmp_path / "out" / "results.json").read_text())["averages"]
    assert average["metrics"]["dusk"]["mAP"]["mean"] == pytest.approx(np.mean(both))
    # earlier results join in, and are not averaged twice
    more = tmp_path / "out" / "results.json"
    code, out, err = tool("test_reid", "--results", more, more, "--work-dir", tmp_path / "c")
    assert code == 0, err
    assert "run_s0/epoch_2 (2)" in out and "(mean of" not in out


def test_a_domain_that_cannot_be_evaluated(world, trained, tool, tmp_path) -> None:
    """The others are reported all the same; the exit code says that something is missing."""
    for number in range(3):
        for name in ("query", "gallery"):
            path = tmp_path / "own" / name / f"{name}{number}" / "x.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), np.full((64, 32, 3), 60 * number, np.uint8))
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--work-dir", tmp_path / "out", "--html",
        "--pictures", 1, "--map", "pca",
        "--target", f"own=folder:{tmp_path / 'own'}", world / "noon",
    )  # fmt: skip
    assert code == 1 and "error: own" in err and "no query identity occurs in the gallery" in err
    assert "Traceback" not in err
    assert "warning: no numbers of run/epoch_2 on own" in out and "noon (source)" in out
    (found,) = results(tmp_path / "out")
    assert found["domains"]["own"]["metrics"]["mAP"] is None and found["domains"]["own"]["problem"]
    assert found["domains"]["noon"]["metrics"]["mAP"] > 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_features_that_are_not_finite(world, trained, tool, tmp_path) -> None:
    content = read_checkpoint(trained)
    key = next(key for key in content["state_dict"] if key.endswith("conv1.weight"))
    content["state_dict"][key][0] = float("nan")
    torch.save(content, tmp_path / "nan.pth")
    code, out, err = tool(
        "test_reid", world / "tiny.py", tmp_path / "nan.pth", "--work-dir", tmp_path / "out"
    )
    assert code == 1 and "are not finite" in err and ".jpg" in err and "Traceback" not in err
    assert " - " in out


@pytest.mark.parametrize("images", [1, 2])
def test_one_identity(world, trained, tool, tmp_path, images: int) -> None:
    for number in range(images):
        path = tmp_path / "own" / "somebody" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((64, 32, 3), 60 * number, np.uint8))
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--target", f"folder:{tmp_path / 'own'}",
        "--html", "--work-dir", tmp_path / "out",
    )  # fmt: skip
    assert "Traceback" not in err
    if images == 1:
        assert code == 1 and "error: " in err, err
    else:
        assert code == 0, err
        assert "a single identity" in out and "no verification" in out


def test_a_best_checkpoint_is_marked(world, trained, tool, tmp_path) -> None:
    best = [tmp_path / f"best_{domain}_mAP_epoch_2.pth" for domain in ("noon", "dusk")]
    for path in best:
        path.write_bytes(trained.read_bytes())
    code, out, err = tool(
        "test_reid", world / "tiny.py", *best, "--domains", "noon", "--work-dir", tmp_path / "o"
    )
    assert code == 0, err
    assert "chosen as the best by noon/mAP, on test data" in out
    assert "chosen as the best by dusk/mAP, on a target domain" in out


def test_the_source_that_the_config_names(world, trained, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_reid", world / "tiny.py", trained, "--work-dir", tmp_path,
        "--cfg-options", "source_domain=dusk",
    )  # fmt: skip
    assert code == 0, err
    assert "dusk (source)" in out and "noon (target)" in out


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
    code, _, err = tool("test_reid", world / "tiny.py", trained, "absent.pth")
    assert code == 1 and "no checkpoint at absent.pth" in err and "mAP" not in err  # at once


def test_mistakes_end_in_one_line(world, trained, tool, tmp_path) -> None:
    tiny = world / "tiny.py"
    for arguments, words in (
        ((world / "absent.py", trained), "no config at"),
        ((tiny, trained, "--domains", "rain"), "tests on noon, dusk, not on rain"),
        ((tiny, trained, "--rerank", "quick"), "expected a variant of"),
        ((tiny, trained, "--rerank", "--k1", 0), "expected k1 and k2 of 1 or more"),
        ((tiny, trained, "--expand", "all"), "expected one of aqe, alpha-qe, dba"),
        ((tiny, trained, "--expand", "--expand-k", -1), "expected k of 1 or more"),
        (("--results", tmp_path / "absent.json"), "no results at"),
    ):
        code, _, err = tool("test_reid", *arguments, "--work-dir", tmp_path / "t")
        assert code == 1 and words in err and "Traceback" not in err, err
    for arguments, words in (
        ((), "give CONFIG and CHECKPOINT"),
        ((tiny,), "give a CHECKPOINT"),
        ((tiny, trained, "--pictures", -1), "expected 0 or more"),
    ):
        code, _, err = tool("test_reid", *arguments)
        assert code == 2 and words in err
