"""Ranking metrics against a naive version that sorts, hand-computed cases, and invariances."""

import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid.evaluation import distances as distances_module
from reid.evaluation import evaluate_distances, evaluate_ranking, ranking

# ---------------------------------------------------------------------------------------------
# the naive version: sort every gallery, walk down the list


def naive_distance(q, g, metric):
    """A number, exact for integer features, that orders like the distance."""
    q, g = q.tolist(), g.tolist()
    if all(float(x).is_integer() for x in q + g):
        q, g = [Fraction(x) for x in q], [Fraction(x) for x in g]
    if metric == "euclidean":
        return sum((x - y) ** 2 for x, y in zip(q, g, strict=True))
    dot = sum(x * y for x, y in zip(q, g, strict=True))
    square = sum(y * y for y in g)
    return -dot * abs(dot) / square if square else 0


def naive(dist, qids, gids, qcams, gcams, ap, ks):
    aps, inps, hits, firsts = [], [], [], []
    for i, pid in enumerate(qids):
        ranked = []
        for j in range(len(gids)):
            if gids[j] == -1:
                continue
            same = gids[j] == pid
            cameras_known = qcams is not None and qcams[i] != -1 and gcams[j] != -1
            if same and cameras_known and qcams[i] == gcams[j]:
                continue
            ranked.append((dist[i][j], same))
        ranked.sort(key=lambda item: (item[0], item[1]))  # of equals, negatives first
        relevant = [same for _, same in ranked]
        total = sum(relevant)
        if not total:
            aps.append(None)
            inps.append(None)
            hits.append([0] * len(ks))
            firsts.append(0)
            continue
        recall = seen = 0
        precision, area = 1.0, 0.0
        for position, same in enumerate(relevant, 1):
            seen += same
            new_precision, new_recall = seen / position, seen / total
            height = new_precision if ap == "step" else (precision + new_precision) / 2
            area += (new_recall - recall) * height
            precision, recall = new_precision, new_recall
        aps.append(area)
        firsts.append(relevant.index(True) + 1)
        inps.append(total / (len(relevant) - relevant[::-1].index(True)))
        hits.append([any(relevant[:k]) for k in ks])
    valid = [a for a in aps if a is not None]
    n = len(valid) if ap == "step" else len(aps)
    return SimpleNamespace(
        mAP=sum(valid) / n,
        mINP=sum(x for x in inps if x is not None) / n,
        cmc={k: sum(h[c] for h in hits) / n for c, k in enumerate(ks)},
        valid=len(valid),
        aps=[np.nan if a is None else a for a in aps],
        firsts=firsts,
    )


def assert_agrees(result, expected):
    assert result.num_valid_queries == expected.valid
    assert result.mAP == pytest.approx(expected.mAP, abs=1e-12)
    assert result.mINP == pytest.approx(expected.mINP, abs=1e-12)
    assert result.cmc == pytest.approx(expected.cmc, abs=1e-12)
    np.testing.assert_allclose(result.average_precision, expected.aps, atol=1e-12)
    np.testing.assert_array_equal(result.first_match_rank, expected.firsts)


def assert_same(a, b):
    """Equal to the last bit, query by query."""
    for name in ("mAP", "mINP", "cmc", "num_queries", "num_valid_queries", "ap"):
        assert getattr(a, name) == getattr(b, name), name
    for name in (
        "average_precision",
        "inverse_negative_penalty",
        "num_positives",
        "first_match_rank",
        "last_match_rank",
    ):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def random_case(seed, kind, num_query=23, num_gallery=67, dim=5):
    """Features with few or many ties, junk, distractors, unknown cameras, missing positives."""
    rng = np.random.default_rng(seed)
    qids = rng.integers(0, 9, num_query)  # some identities are not in the gallery
    gids = rng.integers(-1, 7, num_gallery)
    qcams = rng.integers(-1, 3, num_query)
    gcams = rng.integers(-1, 3, num_gallery)
    if kind == "integers":  # distances take few values; zero vectors occur
        q = rng.integers(-1, 2, (num_query, dim)).astype(np.float32)
        g = rng.integers(-1, 2, (num_gallery, dim)).astype(np.float32)
    elif kind == "copies":  # every vector several times, also across identities
        pool = rng.standard_normal((12, dim)).astype(np.float32)
        q, g = pool[rng.integers(0, 12, num_query)], pool[rng.integers(0, 12, num_gallery)]
    else:
        centers = rng.standard_normal((10, dim))
        q = (centers[qids] + rng.standard_normal((num_query, dim))).astype(np.float32)
        g = (centers[gids] + rng.standard_normal((num_gallery, dim))).astype(np.float32)
    return q, g, qids, gids, qcams, gcams


KINDS = ("floats", "copies", "integers")
both_metrics = pytest.mark.parametrize("metric", ["cosine", "euclidean"])
both_rules = pytest.mark.parametrize("ap", ["step", "trapezoid"])
all_kinds = pytest.mark.parametrize("kind", KINDS)


# ---------------------------------------------------------------------------------------------
# against the naive version


@both_metrics
@both_rules
@all_kinds
@pytest.mark.parametrize("cameras", [True, False])
def test_agrees_with_naive(metric, ap, kind, cameras):
    for seed in range(3):
        q, g, qids, gids, qcams, gcams = random_case(seed, kind)
        if not cameras:
            qcams = gcams = None
        dist = [[naive_distance(x, y, metric) for y in g] for x in q]
        ks = (1, 2, 5, 1000)
        expected = naive(dist, qids, gids, qcams, gcams, ap, ks)
        assert expected.valid < len(qids)
        result = evaluate_ranking(q, g, qids, gids, qcams, gcams, metric=metric, ap=ap, ks=ks)
        assert_agrees(result, expected)
        assert (result.metric, result.ap, result.num_queries) == (metric, ap, len(qids))


@both_rules
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_distances_agree_with_naive(ap, dtype):
    for seed in range(4):
        _, _, qids, gids, qcams, gcams = random_case(seed, "floats")
        rng = np.random.default_rng(seed)
        # few distinct values, so that ties abound
        dist = rng.integers(-20, 20, (len(qids), len(gids))).astype(dtype)
        expected = naive(dist.tolist(), qids, gids, qcams, gcams, ap, (1, 5))
        result = evaluate_distances(dist, qids, gids, qcams, gcams, ap=ap, ks=(1, 5))
        assert_agrees(result, expected)
        assert result.metric == "precomputed"


def test_float64_distances_are_not_rounded():
    near, far = 0.5, 0.5 + 1e-12
    result = evaluate_distances(np.array([[far, near]]), [1], [2, 1])
    assert result.mAP == 1.0
    assert evaluate_distances(np.array([[near, near]]), [1], [2, 1]).mAP == 0.5


# ---------------------------------------------------------------------------------------------
# by hand


def one_query(relevant, **kwargs):
    """Ranks 1, 2, ... with the identity of the query where ``relevant``."""
    dist = np.arange(len(relevant), dtype=np.float32)[None]
    return evaluate_distances(dist, [7], [7 if x else 3 for x in relevant], **kwargs)


@pytest.mark.parametrize(
    ("relevant", "step", "trapezoid", "inp"),
    [
        ([0, 1], 1 / 2, 1 / 4, 1 / 2),
        ([1], 1, 1, 1),
        ([1, 1, 0], 1, 1, 1),
        ([0, 0, 1], 1 / 3, 1 / 6, 1 / 3),
        ([1, 0, 1], (1 + 2 / 3) / 2, (1 + (2 / 3 + 1 / 2) / 2) / 2, 2 / 3),
        ([0, 1, 1], (1 / 2 + 2 / 3) / 2, (1 / 4 + (2 / 3 + 1 / 2) / 2) / 2, 2 / 3),
    ],
)
def test_by_hand(relevant, step, trapezoid, inp):
    assert one_query(relevant).mAP == pytest.approx(step, abs=1e-15)
    assert one_query(relevant, ap="trapezoid").mAP == pytest.approx(trapezoid, abs=1e-15)
    assert one_query(relevant).mINP == pytest.approx(inp, abs=1e-15)
    first = relevant.index(1) + 1
    assert one_query(relevant, ks=(1, 2, 3, 9)).cmc == {
        1: float(first <= 1),
        2: float(first <= 2),
        3: float(first <= 3),
        9: 1.0,
    }


def test_denominators():
    dist = np.array([[0.0, 1.0], [0.0, 1.0]])
    step = evaluate_distances(dist, [5, 6], [5, 9])
    assert (step.mAP, step.mINP, step.cmc[1], step.num_valid_queries) == (1.0, 1.0, 1.0, 1)
    trapezoid = evaluate_distances(dist, [5, 6], [5, 9], ap="trapezoid")
    assert (trapezoid.mAP, trapezoid.mINP, trapezoid.cmc[1]) == (0.5, 0.5, 0.5)
    assert (trapezoid.num_queries, trapezoid.num_valid_queries) == (2, 1)
    np.testing.assert_array_equal(trapezoid.average_precision, [1.0, np.nan])
    np.testing.assert_array_equal(trapezoid.inverse_negative_penalty, [1.0, np.nan])
    np.testing.assert_array_equal(trapezoid.num_positives, [1, 0])
    np.testing.assert_array_equal(trapezoid.first_match_rank, [1, 0])
    np.testing.assert_array_equal(trapezoid.last_match_rank, [1, 0])


def test_camera_filter_and_junk_take_no_rank():
    # junk, same camera, distractor, the match, an unknown camera of the same identity
    dist = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    gids, gcams = [-1, 4, 0, 4, 4], [1, 1, 2, 2, -1]
    result = evaluate_distances(dist, [4], gids, [1], gcams)
    assert (result.first_match_rank[0], result.last_match_rank[0]) == (2, 3)
    everything = evaluate_distances(dist, [4], gids)
    assert (everything.first_match_rank[0], everything.last_match_rank[0]) == (1, 4)
    unknown = evaluate_distances(dist, [4], gids, [-1], gcams)
    assert (unknown.first_match_rank[0], unknown.last_match_rank[0]) == (1, 4)


def test_queries_without_a_positive_are_still_checked(monkeypatch):
    monkeypatch.setattr(distances_module, "_GIVEN_ELEMENTS", 1)  # one query at a time
    dist = np.array([[0.0, 1.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match="query row 1 hold"):
        evaluate_distances(dist, [1, 5], [1, 2])


def test_identity_zero_of_a_query_matches():
    assert evaluate_distances(np.array([[0.0, 1.0]]), [0], [0, 1]).mAP == 1.0


def test_negatives_rank_before_a_positive_at_the_same_distance():
    # two positives and two negatives at one distance: the positives take ranks 3 and 4
    result = evaluate_distances(np.zeros((1, 4)), [1], [1, 2, 1, 2])
    assert (result.first_match_rank[0], result.last_match_rank[0]) == (3, 4)
    assert result.mAP == pytest.approx((1 / 3 + 2 / 4) / 2)


# ---------------------------------------------------------------------------------------------
# invariances


def wide_case(seed, copies):
    """Float features in which several items of other identities are copies of positives."""
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((40, 300)).astype(np.float32)
    g = rng.standard_normal((500, 300)).astype(np.float32) + 3
    gids, qids = rng.integers(-1, 30, 500), rng.integers(0, 30, 40)
    if copies:
        g[rng.permutation(500)[:300]] = g[rng.integers(0, 20, 300)]
    return q, g, qids, gids, rng.integers(0, 4, 40), rng.integers(0, 4, 500)


@both_metrics
@pytest.mark.parametrize("copies", [True, False])
def test_order_makes_no_difference(metric, copies):
    q, g, qids, gids, qcams, gcams = wide_case(0, copies)
    expected = evaluate_ranking(q, g, qids, gids, qcams, gcams, metric=metric)
    rng = np.random.default_rng(1)
    for _ in range(5):
        p = rng.permutation(len(g))
        assert_same(
            evaluate_ranking(q, g[p], qids, gids[p], qcams, gcams[p], metric=metric), expected
        )
    p = rng.permutation(len(q))
    result = evaluate_ranking(q[p], g, qids[p], gids, qcams[p], gcams, metric=metric)
    np.testing.assert_array_equal(result.average_precision, expected.average_precision[p])
    assert result.mAP == pytest.approx(expected.mAP, abs=1e-14)


@both_metrics
@all_kinds
@pytest.mark.parametrize(("rows", "columns"), [(1, 20), (7, 10), (12, 1), (7, 1000), (1000, 10)])
def test_block_sizes_make_no_difference(monkeypatch, metric, kind, rows, columns):
    case = random_case(5, kind)
    expected = evaluate_ranking(*case, metric=metric)
    monkeypatch.setitem(distances_module._SCREEN_ROWS, "cpu", rows)
    monkeypatch.setitem(distances_module._SCREEN_COLUMNS, "cpu", columns)
    monkeypatch.setitem(distances_module._JUDGE_ELEMENTS, "cpu", 3 * columns)
    monkeypatch.setattr(distances_module, "_PIECE", 2)
    assert_same(evaluate_ranking(*case, metric=metric), expected)


@both_metrics
@all_kinds
@pytest.mark.parametrize("opened", [1, 1 << 24])
def test_torch_operations_give_what_the_compiled_kernels_give(monkeypatch, metric, kind, opened):
    monkeypatch.setattr(distances_module, "_OPEN_ELEMENTS", opened)
    monkeypatch.setitem(distances_module._SCREEN_ROWS, "cpu", 9)
    for case in (random_case(14, kind), wide_case(14, kind == "copies")):
        dist = torch.cdist(*(torch.from_numpy(x).double() for x in case[:2])).float()
        expected = [evaluate_ranking(*case, metric=metric), evaluate_distances(dist, *case[2:])]
        with monkeypatch.context() as patch:
            for module in (ranking, distances_module):
                patch.setattr(module, "cpu_kernels", lambda: None)
            assert_same(evaluate_ranking(*case, metric=metric), expected[0])
            assert_same(evaluate_distances(dist, *case[2:]), expected[1])


@both_metrics
@pytest.mark.parametrize("compiled", [True, False])
def test_many_positives(monkeypatch, metric, compiled):
    """More than are compared one by one, with ties and items of their own camera among them."""
    if not compiled:
        for module in (ranking, distances_module):
            monkeypatch.setattr(module, "cpu_kernels", lambda: None)
    rng = np.random.default_rng(15)
    q, g = rng.integers(-3, 4, (4, 3)), rng.integers(-3, 4, (300, 3))
    qids, gids, qcams, gcams = (rng.integers(0, 2, n) for n in (4, 300, 4, 300))
    dist = [[naive_distance(x, y, metric) for y in g] for x in q]
    expected = naive(dist, qids, gids, qcams, gcams, "step", (1, 5))
    result = evaluate_ranking(q, g, qids, gids, qcams, gcams, metric=metric, ks=(1, 5))
    assert result.num_positives.min() > 64
    assert_agrees(result, expected)


@both_metrics
@pytest.mark.parametrize("copies", [True, False])
def test_the_ways_to_settle_doubt_agree(monkeypatch, metric, copies):
    case = wide_case(2, copies)
    expected = evaluate_ranking(*case, metric=metric)
    for share in (0.0, 1.0):  # always, or never, a float64 screen
        for many in (1, 10**9):  # always, or never, look for equal vectors
            monkeypatch.setattr(ranking, "_DOUBTFUL_SHARE", share)
            monkeypatch.setattr(distances_module, "_MANY_PAIRS", many)
            assert_same(evaluate_ranking(*case, metric=metric), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
def test_equal_vectors_are_found_in_every_type(monkeypatch, dtype):
    rng = np.random.default_rng(3)
    q = torch.from_numpy(rng.integers(0, 2, (20, 4))).to(dtype)
    g = torch.from_numpy(rng.integers(0, 2, (300, 4))).to(dtype)
    labels = rng.integers(0, 9, 20), rng.integers(0, 9, 300)
    expected = evaluate_ranking(q, g, *labels)
    monkeypatch.setattr(distances_module, "_MANY_PAIRS", 1)
    assert_same(evaluate_ranking(q, g, *labels), expected)


@both_metrics
@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("positives", [1, 2, 3, 4])
def test_negatives_barely_behind_the_last_positive(monkeypatch, metric, share, positives):
    monkeypatch.setattr(ranking, "_DOUBTFUL_SHARE", share)
    # unit vectors in the plane; the last one keeps the others far from the centre of the screen
    angle = 0.5 + np.r_[np.zeros(positives), 1e-9, 1e-9, -1e-9, 2]
    gallery = np.stack([np.cos(angle), np.sin(angle)], 1)
    gids = [1] * positives + [2, 2, 3, 0]
    result = evaluate_ranking([[1.0, 0.0]], gallery, [1], gids, metric=metric)
    assert (result.first_match_rank[0], result.last_match_rank[0]) == (2, 1 + positives)


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_block_sizes_of_given_distances_make_no_difference(monkeypatch, rows):
    q, g, *labels = random_case(6, "copies")
    dist = torch.cdist(torch.from_numpy(q), torch.from_numpy(g))
    expected = evaluate_distances(dist, *labels)
    monkeypatch.setattr(distances_module, "_GIVEN_ELEMENTS", rows * len(g))
    assert_same(evaluate_distances(dist, *labels), expected)
    monkeypatch.setattr(ranking, "_TABLE_ELEMENTS", 1)
    assert_same(evaluate_distances(dist, *labels), expected)


@both_metrics
def test_scale_and_shift_make_no_difference(metric):
    q, g, *labels = wide_case(3, copies=True)
    expected = evaluate_ranking(q, g, *labels, metric=metric)
    for scale in (2.0**-100, 2.0**60):
        assert_same(evaluate_ranking(q * scale, g * scale, *labels, metric=metric), expected)


@both_metrics
def test_collapsed_features_rank_every_negative_first(metric):
    qids, gids = np.array([1, 2, 3]), np.array([1, 2, 3, 1, 2, 3, 0, -1])
    for value in (0.0, 0.1, -3.0):
        result = evaluate_ranking(
            np.full((3, 20), value), np.full((8, 20), value), qids, gids, metric=metric
        )
        np.testing.assert_array_equal(result.first_match_rank, [6, 6, 6])
        np.testing.assert_array_equal(result.last_match_rank, [7, 7, 7])


@both_metrics
def test_nearly_collapsed_features_are_told_apart(metric):
    """Differences far below float32 rounding of the products still rank exactly."""
    rng = np.random.default_rng(0)
    base, noise = rng.random(64) + 1, 1e-4 if metric == "cosine" else 1e-7
    q, g = (base + noise * rng.standard_normal((n, 64)) for n in (20, 200))
    qids, gids = np.arange(20), np.arange(200) % 25
    unit = (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)) if metric == "cosine" else None
    a, b = (unit(q), unit(g)) if unit else (q, g)
    dist = ((a[:, None] - b[None]) ** 2).sum(2)
    result = evaluate_ranking(q, g, qids, gids, metric=metric)
    assert result.mAP == pytest.approx(evaluate_distances(dist, qids, gids).mAP, abs=1e-12)


@both_metrics
def test_equals_evaluate_distances(metric):
    rng = np.random.default_rng(4)
    q, g = rng.standard_normal((50, 16)), rng.standard_normal((300, 16))
    labels = [rng.integers(0, high, n) for high in (20, 3) for n in (50, 300)]
    if metric == "cosine":
        unit_q, unit_g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
        dist = 1 - unit_q @ unit_g.T
    else:
        dist = np.sqrt(((q[:, None] - g[None]) ** 2).sum(2))
    from_features = evaluate_ranking(q, g, *labels, metric=metric)
    from_distances = evaluate_distances(dist, *labels)
    assert_same(from_features, from_distances)


def test_cosine_ignores_length_and_euclidean_does_not():
    q, g = np.array([[1.0, 0.0]]), np.array([[9.0, 1.0], [1.0, 1.0]])
    assert evaluate_ranking(q, g, [1], [1, 2]).mAP == 1.0
    assert evaluate_ranking(q, g, [1], [1, 2], metric="euclidean").mAP == 0.5


# ---------------------------------------------------------------------------------------------
# what may be passed in


@both_metrics
@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.int8),
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
        lambda x: np.repeat(x, 2, axis=1)[::-1, ::2][::-1],
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x).half(),
        lambda x: torch.from_numpy(x).bfloat16(),
        lambda x: torch.from_numpy(x).double().requires_grad_(),
    ],
)
def test_types_of_features(metric, convert):
    q, g, *labels = random_case(7, "integers")  # exact in every type
    expected = evaluate_ranking(q, g, *labels, metric=metric)
    assert_same(evaluate_ranking(convert(q), convert(g), *labels, metric=metric), expected)
    assert_same(evaluate_ranking(convert(q), g, *labels, metric=metric), expected)


@pytest.mark.parametrize("convert", [torch.from_numpy, list, lambda x: x.astype(np.int32)])
def test_types_of_labels(convert):
    q, g, *labels = random_case(8, "floats")
    expected = evaluate_ranking(q, g, *labels)
    assert_same(evaluate_ranking(q, g, *map(convert, labels)), expected)


def test_no_camera_at_all_equals_unknown_cameras():
    q, g, qids, gids, _, _ = random_case(9, "floats")
    unknown = evaluate_ranking(q, g, qids, gids, np.full(len(q), -1), np.full(len(g), -1))
    assert_same(unknown, evaluate_ranking(q, g, qids, gids))


class RowsOnly:
    def __init__(self, values):
        self.values = values

    def rows(self, start, stop):
        return self.values[start:stop]

    def toarray(self):
        raise AssertionError("rows are enough")


@pytest.mark.parametrize(
    "wrap",
    [
        torch.from_numpy,
        RowsOnly,
        lambda x: RowsOnly(torch.from_numpy(x)),
        lambda x: SimpleNamespace(toarray=lambda: x),
        lambda x: np.asfortranarray(x),
        lambda x: torch.from_numpy(x.T.copy()).T,
    ],
)
def test_types_of_distances(wrap):
    q, g, *labels = random_case(10, "copies")
    dist = ((q[:, None] - g[None]) ** 2).sum(2)
    assert_same(evaluate_distances(wrap(dist), *labels), evaluate_distances(dist, *labels))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_are_left_alone(dtype):
    q, g, *labels = random_case(11, "floats")
    q, g = q.astype(dtype), g.astype(dtype)
    dist = ((q[:, None] - g[None]) ** 2).sum(2)
    before = [x.copy() for x in (q, g, dist, *labels)]
    for array in (q, g, dist):
        array.flags.writeable = False
    evaluate_ranking(q, g, *labels)
    evaluate_ranking(q, g, *labels, metric="euclidean")
    evaluate_distances(dist, *labels)
    for array in (q, g, dist):
        array.flags.writeable = True
    evaluate_ranking(q, g, *labels)
    evaluate_ranking(q, g, *labels, metric="euclidean")
    evaluate_distances(dist, *labels)
    for old, new in zip(before, (q, g, dist, *labels), strict=True):
        np.testing.assert_array_equal(old, new)


def test_autocast_and_precision_switches_make_no_difference():
    case = wide_case(12, copies=True)
    expected = evaluate_ranking(*case)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_same(evaluate_ranking(*case), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.gpu
@both_metrics
@pytest.mark.parametrize("copies", [True, False])
def test_gpu_equals_cpu(metric, copies):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    q, g, *labels = wide_case(13, copies)
    expected = evaluate_ranking(q, g, *labels, metric=metric)
    gpu_q, gpu_g = torch.from_numpy(q).cuda(), torch.from_numpy(g).cuda()
    assert_same(evaluate_ranking(gpu_q, gpu_g, *labels, metric=metric), expected)
    assert_same(evaluate_ranking(q, gpu_g, *labels, metric=metric), expected)
    assert_same(evaluate_ranking(gpu_q, g, *labels, metric=metric), expected)
    dist = torch.cdist(gpu_q, gpu_g)
    assert_same(evaluate_distances(dist, *labels), evaluate_distances(dist.cpu(), *labels))


def test_the_package_imports_on_use():
    program = "import reid.evaluation as e, sys; assert 'torch' not in sys.modules; e.no_such_name"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "module 'reid.evaluation' has no attribute 'no_such_name'" in done.stderr
    import reid.evaluation

    assert all(getattr(reid.evaluation, name) for name in reid.evaluation.__all__)
    assert set(reid.evaluation.__all__) <= set(dir(reid.evaluation))


def test_one_line_summary_names_rule_distance_and_denominator():
    text = str(one_query([0, 1], ks=(1, 5)))
    assert text == (
        "mAP 50.00, mINP 50.00, rank-1 0.00, rank-5 100.00 "
        "(%; AP rule step, precomputed distance, 1 of 1 queries valid)"
    )


# ---------------------------------------------------------------------------------------------
# what is refused


def case(**changes):
    arguments = {
        "query_features": np.eye(2, 4),
        "gallery_features": np.eye(3, 4),
        "query_ids": [1, 2],
        "gallery_ids": [1, 2, 3],
    }
    arguments.update(changes)
    return arguments


def holed(shape, value, *rows):
    array = np.ones(shape)
    array[list(rows), -1] = value
    return array


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metric": "l2"}, ValueError, r"metric must be 'cosine' or 'euclidean', got 'l2'"),
        ({"ap": "voc"}, ValueError, r"ap must be 'step' or 'trapezoid', got 'voc'"),
        ({"ks": ()}, ValueError, r"ks must be positive integers"),
        ({"ks": (1, 0)}, ValueError, r"ks must be positive integers"),
        ({"ks": (1.5,)}, ValueError, r"ks must be positive integers"),
        ({"query_features": np.ones(4)}, ValueError, r"query_features must be a matrix"),
        ({"gallery_features": np.ones((3, 5))}, ValueError, r"have 4 dimensions.*features 5"),
        ({"query_features": np.ones((0, 4))}, ValueError, r"query_features must not be empty"),
        ({"gallery_features": np.ones((0, 4))}, ValueError, r"gallery_features must not be empty"),
        ({"query_features": np.ones((2, 4), complex)}, TypeError, r"real numbers"),
        ({"query_features": torch.ones(2, 4, dtype=torch.cfloat)}, TypeError, r"real numbers"),
        ({"query_features": [["a"], ["b"]]}, TypeError, r"query_features must hold real numbers"),
        ({"query_features": holed((2, 4), np.nan, 1)}, ValueError, r"finite: row 1 of 2 hold NaN"),
        ({"gallery_features": holed((3, 4), np.inf, 0, 2)}, ValueError, r"rows 0, 2 of 3 hold"),
        ({"gallery_features": holed((3, 4), 1e200, 0)}, ValueError, r"too large to square"),
        ({"query_ids": [1]}, ValueError, r"query_ids has 1 entries, query_features 2"),
        ({"gallery_ids": [1] * 4}, ValueError, r"gallery_ids has 4 entries, gallery_features 3"),
        ({"query_ids": [[1, 2]]}, ValueError, r"query_ids must be one-dimensional"),
        ({"query_ids": [1.0, 2.0]}, TypeError, r"query_ids must be integers, got float64"),
        ({"query_ids": ["a", "b"]}, TypeError, r"query_ids must be integers.*number the ident"),
        ({"query_cameras": [1, 2]}, ValueError, r"gallery_cameras is None but.*pass both, or None"),
        ({"gallery_cameras": [1, 2, 3]}, ValueError, r"query_cameras is None but"),
        (
            {"query_cameras": [1, None], "gallery_cameras": [1, 2, 3]},
            TypeError,
            r"query_cameras must be integers, got object; use -1 for an unknown camera",
        ),
        (
            {"query_cameras": [1, 1], "gallery_cameras": [1, 2]},
            ValueError,
            r"gallery_cameras has 2 entries, gallery_ids 3",
        ),
        (
            {"query_cameras": [1, 1], "gallery_cameras": [1, 1, 1]},
            ValueError,
            r"no query has a positive in another camera.*pass query_cameras=None",
        ),
        (
            {"gallery_ids": [4, 5, -1]},
            ValueError,
            r"no query identity occurs in the gallery \(query ids 1, 2; gallery ids -1, 4, 5\)",
        ),
        ({"query_ids": [-1, -1], "gallery_ids": [-1, 5, 6]}, ValueError, r"no query identity"),
    ],
)
def test_refuses(changes, error, message):
    with pytest.raises(error, match=message):
        evaluate_ranking(**case(**changes))


def test_names_only_the_first_rows_that_are_not_finite():
    with pytest.raises(ValueError, match=r"rows 0, 1, 2, 3, 4 and 2 more of 9"):
        evaluate_ranking(np.ones((2, 4)), holed((9, 4), np.nan, *range(7)), [1, 2], [1] * 9)


@pytest.mark.parametrize(
    ("dist", "error", "message"),
    [
        (np.ones((2, 4)), ValueError, r"shape \(2, 3\), a row for each.*got \(2, 4\)"),
        (np.ones((3, 2)), ValueError, r"shape \(2, 3\).*got \(3, 2\)"),
        (RowsOnly(np.ones((2, 5))), ValueError, r"shape \(1, 3\).*got \(1, 5\)"),
        (np.ones(6), ValueError, r"distances must be a matrix"),
        (np.ones((0, 3)), ValueError, r"distances must not be empty"),
        (np.full((2, 3), "x"), TypeError, r"distances must hold real numbers"),
        (holed((2, 3), np.nan, 1), ValueError, r"finite: query row 1 hold NaN or infinity"),
        (holed((2, 3), -np.inf, 0, 1), ValueError, r"query rows 0, 1 hold"),
        (RowsOnly(holed((2, 3), np.inf, 1)), ValueError, r"query row 1 hold"),
    ],
)
def test_refuses_distances(dist, error, message):
    with pytest.raises(error, match=message):
        evaluate_distances(dist, [1, 2], [1, 2, 3])


def test_refuses_empty_labels():
    with pytest.raises(ValueError, match="query_ids must not be empty"):
        evaluate_distances(np.ones((0, 3)), [], [1, 2, 3])
    with pytest.raises(ValueError, match="gallery_ids must not be empty"):
        evaluate_distances(np.ones((2, 0)), [1, 2], [])
