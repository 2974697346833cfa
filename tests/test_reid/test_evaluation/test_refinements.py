from __future__ import annotations

import numpy as np
import pytest

from reid.evaluation import evaluate_distances, evaluate_ranking
from reid.evaluation.expansion import augment_database, expand_queries
from reid.evaluation.refinements import EXPANSIONS, Expansion, Reranking, refine
from reid.evaluation.reranking import VARIANTS, rerank

NUMBER, QUERIES = 60, 12
PIDS, CAMIDS = np.arange(NUMBER) % 6, np.arange(NUMBER) // 6 % 3
Q, G = np.arange(QUERIES), np.arange(QUERIES, NUMBER)
RULES = {"metric": "cosine", "ap": "step", "ks": (1, 5)}


@pytest.fixture
def features() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 8))[PIDS]
    return (centres + 1.2 * generator.normal(size=(NUMBER, 8))).astype(np.float32)


def labels() -> tuple[np.ndarray, ...]:
    return PIDS[Q], PIDS[G], CAMIDS[Q], CAMIDS[G]


@pytest.mark.parametrize("camera_aware", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_reranking(features, variant, camera_aware) -> None:
    step = Reranking(variant, k1=6, k2=3, lambda_value=0.2, camera_aware=camera_aware)
    found = refine(step, features, PIDS, CAMIDS, [(Q, G)], **RULES)
    cameras = (CAMIDS[Q], CAMIDS[G]) if camera_aware else (None, None)
    options = {"k1": 6, "k2": 3, "lambda_value": 0.2, "variant": variant}
    distances = rerank(
        features[Q], features[G], **options, query_cameras=cameras[0], gallery_cameras=cameras[1]
    )
    expected = evaluate_distances(distances, *labels(), ks=(1, 5))
    assert found.metrics["mAP"] == expected.mAP and found.metrics["rank-5"] == expected.cmc[5]
    assert found.metrics["mAP"] != evaluate_ranking(features[Q], features[G], *labels()).mAP
    for key, value in options.items():
        assert found.rules[key] == value
    assert found.rules["camera_aware"] == camera_aware == ("by camera" in step.name)
    assert f"{variant} (k1 6, k2 3, lambda 0.2" in step.name


@pytest.mark.parametrize("kind", EXPANSIONS)
def test_expansion(features, kind) -> None:
    step = Expansion(kind, k=4, alpha=2.0)
    found = refine(step, features, PIDS, CAMIDS, [(Q, G)], **RULES)
    queries, gallery = features[Q], features[G]
    if kind == "dba":
        gallery = augment_database(gallery, k=4, alpha=2.0)
    else:
        queries = expand_queries(queries, gallery, k=4, alpha=2.0 if kind == "alpha-qe" else 0.0)
    assert found.metrics["mAP"] == evaluate_ranking(queries, gallery, *labels()).mAP
    assert found.rules == {"method": kind, "k": 4, "alpha": 0.0 if kind == "aqe" else 2.0}
    assert "k 4" in step.name and ("alpha 2" in step.name) == (kind != "aqe")


def test_names_tell_all_steps_apart() -> None:
    steps = [Expansion(kind, k) for kind in EXPANSIONS for k in (5, 6)]
    steps += [Reranking(v, k1, k2) for v in VARIANTS for k1 in (20, 25) for k2 in (3, 6)]
    steps += [Reranking(lambda_value=0.1), Reranking(camera_aware=True)]
    assert len({step.name for step in steps}) == len(steps)


def test_the_mean_over_draws(features) -> None:
    step = Expansion("aqe", 3)
    draws = [(Q, G), (np.arange(5, 20), np.r_[0:5, 20:60])]
    both = refine(step, features, PIDS, CAMIDS, draws, **RULES)
    single = [
        refine(step, features, PIDS, CAMIDS, [draw], **RULES).metrics["mAP"] for draw in draws
    ]
    assert both.metrics["mAP"] == pytest.approx(np.mean(single))
    assert both.deviations["mAP"] == pytest.approx(np.std(single, ddof=1))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a variant of zhong, .* got 'quick'"):
        Reranking("quick")
    for options in ({"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}):
        with pytest.raises(ValueError, match="expected k1 and k2 of 1 or more"):
            Reranking(**options)
    with pytest.raises(ValueError, match="expected one of aqe, alpha-qe, dba, got 'qe'"):
        Expansion("qe")
    for options in ({"k": 0}, {"alpha": -1.0}):
        with pytest.raises(ValueError, match="k of 1 or more and alpha of 0 or more"):
            Expansion("dba", **options)
