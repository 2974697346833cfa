from __future__ import annotations

import json

import numpy as np
import pytest

from reid.evaluation import camera_pairs, evaluate_ranking, verify
from reid.evaluation.analysis import FALSE_ACCEPT_RATES, analyse
from reid.evaluation.refinements import Expansion

NUMBER, QUERIES = 60, 12
PIDS, CAMIDS = np.arange(NUMBER) % 6, np.arange(NUMBER) // 6 % 3
SIDES = slice(None, QUERIES), slice(QUERIES, None)


@pytest.fixture
def features() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 8))[PIDS]
    return (centres + 1.2 * generator.normal(size=(NUMBER, 8))).astype(np.float32)


def sides(features: np.ndarray) -> list[np.ndarray]:
    return [values[side] for values in (features, PIDS, CAMIDS) for side in SIDES]


def test_everything(features, evaluate) -> None:
    metrics, details = evaluate(features, PIDS, CAMIDS, QUERIES)
    found = analyse(
        metrics,
        details,
        inference="as they are",
        refinements=[Expansion("aqe", 3)],
        camera_pairs=True,
        verification=True,
        examples=2,
        camera_names={0: "north", 1: "south"},
    )
    json.dumps(found.__dict__, default=vars)
    assert found.metrics == metrics and found.notes == []
    assert list(found.refined) == ["query expansion (k 3)"]
    pairs = camera_pairs(*sides(features), ks=(1,))
    named = {0: "north", 1: "south", 2: "2"}
    assert {(p["query_camera"], p["gallery_camera"]): p["mAP"] for p in found.camera_pairs} == {
        (named[a], named[b]): result.mAP for (a, b), result in pairs.items()
    }
    verified = verify(*sides(features))
    kept = found.verification
    assert kept["eer"] == verified.eer and kept["num_genuine"] == verified.num_genuine
    assert [p["far"] for p in kept["points"]] == list(FALSE_ACCEPT_RATES)
    assert verified.num_impostor < 1000  # too few for 0.1%
    assert [p["tar"] for p in kept["points"]] == [None, verified.tar_at(0.01), verified.tar_at(0.1)]
    assert kept["points"][0]["threshold"] is None
    assert kept["points"][2]["threshold"] == verified.threshold_at(0.1)
    assert sum(kept["histogram"]["genuine"]) == verified.num_genuine
    assert sum(kept["histogram"]["impostor"]) == verified.num_impostor
    assert len(kept["histogram"]["edges"]) == len(kept["histogram"]["genuine"]) + 1
    far, tar = np.array(kept["roc"]).T
    assert (np.diff(far) > 0).all() and (np.diff(tar) >= 0).all() and far[-1] == tar[-1] == 1
    assert [e["why"] for e in found.examples] == ["worst", "worst", "random", "random"]
    assert {e["camera"] for e in found.examples} <= set(named.values())


def test_nothing_but_the_numbers(features, evaluate) -> None:
    found = analyse(*evaluate(features, PIDS, CAMIDS, QUERIES))
    expected = evaluate_ranking(*sides(features))
    assert found.metrics["mAP"] == expected.mAP
    assert not (found.refined or found.camera_pairs or found.verification or found.examples)


def test_cameras_that_are_not_known(features, evaluate) -> None:
    camids = np.where(np.arange(NUMBER) % 2, -1, CAMIDS)
    found = analyse(
        *evaluate(features, PIDS, camids, QUERIES), camera_pairs=True, verification=True
    )
    assert any("the camera of 6 of 12 query images is not known" in note for note in found.notes)
    assert any("the camera of 24 of 48 gallery images" in note for note in found.notes)
    assert found.camera_pairs and found.verification
    unknown = np.full(NUMBER, -1)
    kept = evaluate(features, PIDS, unknown, QUERIES)
    found = analyse(*kept, camera_pairs=True, verification=True, examples=1)
    assert any(note.startswith("no camera labels") for note in found.notes)
    assert found.camera_pairs == [] and found.verification
    assert found.examples[0]["camera"] is None


def test_a_single_identity(evaluate) -> None:
    features = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    kept = evaluate(features, np.full(6, 7), np.arange(6), 2)
    found = analyse(*kept, verification=True, camera_pairs=True, examples=5)
    assert any("a single identity" in note for note in found.notes)
    assert found.metrics["mAP"] == 1 and found.verification == {}
    assert any(note.startswith("no verification: ") for note in found.notes)
    assert len(found.examples) == 2


def test_what_has_no_numbers(evaluate) -> None:
    kept = evaluate(
        np.eye(4, dtype=np.float32), np.array([1, 2, 3, 4]), np.arange(4), 2, tolerant=True
    )
    found = analyse(
        *kept, refinements=[Expansion("aqe")], verification=True, camera_pairs=True, examples=5
    )
    assert found.problem is not None and not np.isfinite(found.metrics["mAP"])
    assert not (found.refined or found.camera_pairs or found.verification or found.examples)


def test_draws_are_said(features, evaluate) -> None:
    draws = ((np.arange(12), np.arange(12, 36)), (np.arange(12), np.arange(36, 60)))
    metrics, details = evaluate(features, PIDS, np.full(NUMBER, -1), QUERIES, trials=draws)
    found = analyse(metrics, details, refinements=[Expansion("aqe", 3)], examples=1)
    assert any(note.startswith("means over 2 draws of the gallery") for note in found.notes)
    assert set(found.deviations) == set(found.metrics)
    assert set(found.refined["query expansion (k 3)"].deviations) == set(found.metrics)
    assert (found.num_queries, found.num_gallery) == (12, 24)
