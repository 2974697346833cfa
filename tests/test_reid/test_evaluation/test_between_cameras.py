"""Rankings between cameras are those of the restricted sets, to the last bit."""

import numpy as np
import pytest

from reid.evaluation import between_cameras, camera_pairs, evaluate_ranking

from .test_ranking import assert_same, both_metrics, both_rules, random_case


@both_metrics
@both_rules
@pytest.mark.parametrize("kind", ["floats", "copies", "integers"])
def test_equals_the_ranking_of_the_restricted_sets(metric, ap, kind):
    q, g, qids, gids, qcams, gcams = random_case(0, kind, 60, 150)
    rules = {"metric": metric, "ap": ap, "ks": (1, 3)}
    found = camera_pairs(q, g, qids, gids, qcams, gcams, **rules)
    for a in (-1, 0, 1, 2):
        for b in (-1, 0, 1, 2):
            here, there = qcams == a, gcams == b
            sets = (q[here], g[there], qids[here], gids[there], qcams[here], gcams[there])
            if a == b != -1:
                assert (a, b) not in found
            else:
                assert_same(found[a, b], evaluate_ranking(*sets, **rules))
                assert found[a, b].num_queries == here.sum()
    assert list(found) == sorted(found)


def test_distractors_and_junk_of_the_camera():
    gallery = np.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.0]])
    found = camera_pairs([[1.0, 0.0]], gallery, [5], [-1, 0, 5, 5], [1], [2, 2, 2, 3])
    assert {pair: result.first_match_rank[0] for pair, result in found.items()} == {
        (1, 2): 2,  # behind the distractor, not behind the junk
        (1, 3): 1,
    }


def test_pairs_without_a_valid_query_are_left_out():
    x = np.eye(3)
    found = camera_pairs(x, x, [1, 2, 3], [1, 2, 9], [1, 1, 1], [2, 1, 3])
    assert list(found) == [(1, 2)]
    assert (found[1, 2].num_queries, found[1, 2].num_valid_queries) == (3, 1)


def test_every_query_meets_every_gallery_item_once_at_most(monkeypatch):
    seen = []
    real = between_cameras.rank

    def counting(distances, matches, ap):
        seen.append(distances.num_queries * distances.num_gallery)
        return real(distances, matches, ap)

    monkeypatch.setattr(between_cameras, "rank", counting)
    q, g, *labels = random_case(1, "floats", 60, 150)
    camera_pairs(q, g, *labels)
    assert sum(seen) <= 60 * 150


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_cameras": None}, "camera_pairs needs query_cameras and gallery_cameras"),
        ({"gallery_cameras": [1, 1]}, "no query has a positive in another camera"),
        ({"gallery_ids": [8, 9]}, "no query identity occurs in the gallery"),
        ({"ap": "voc"}, "ap must be"),
        ({"ks": (0,)}, "ks must be positive"),
        ({"gallery_features": [[1, 2], [3, np.nan]]}, "gallery_features must be finite: row 1"),
    ],
)
def test_refuses(changes, message):
    arguments = {
        "query_features": [[1.0, 2.0]],
        "gallery_features": [[1.0, 2.0], [3.0, 4.0]],
        "query_ids": [1],
        "gallery_ids": [1, 1],
        "query_cameras": [1],
        "gallery_cameras": [2, 2],
    }
    with pytest.raises(ValueError, match=message):
        camera_pairs(**{**arguments, **changes})
