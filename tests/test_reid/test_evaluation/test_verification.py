"""Error rates against a list of all pairs, scikit-learn, and hand-computed cases."""

import logging

import numpy as np
import pytest

from reid.evaluation import distances, verification, verify, verify_pairs
from reid.evaluation.verification import wilson_interval

from .test_ranking import random_case

pytestmark = pytest.mark.filterwarnings("error")


def all_pairs(q, g, qids, gids, qcams=None, gcams=None, cross_camera_only=False):
    """Score and whether it is genuine, of every pair that counts, one by one."""
    q, g = (np.asarray(x, dtype=np.longdouble) for x in (q, g))
    scores, same = [], []
    for i in range(len(q)):
        for j in range(len(g)):
            one_camera = qcams is not None and qcams[i] == gcams[j] != -1
            genuine = qids[i] == gids[j]
            if -1 in (qids[i], gids[j]) or (one_camera and (genuine or cross_camera_only)):
                continue
            length = np.sqrt((q[i] @ q[i]) * (g[j] @ g[j]))
            scores.append(q[i] @ g[j] / length if length else 0)
            same.append(genuine)
    return np.array(scores, dtype=np.float64), np.array(same)


def rounded(scores, step):
    return np.round(scores / step) * step


def naive_table(scores, same, step):
    scores = rounded(scores, step)
    levels = np.unique(scores)
    return levels, *(((scores[kind] == levels[:, None]).sum(1)) for kind in (same, ~same))


def assert_table(result, expected):
    for got, wanted in zip((result.scores, result.genuine, result.impostor), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.fixture(params=["few", "many", "many without kernels"])
def way(request, monkeypatch):
    """The step of the scores; the three ways to count them."""
    if request.param == "few":
        return 2.0**-40
    monkeypatch.setattr(verification, "_FEW_PAIRS", 0)
    if request.param != "many":
        for module in (verification, distances):
            monkeypatch.setattr(module, "cpu_kernels", lambda: None)
    grid = 1 << 12  # coarser than the real one: ties and doubts abound, and tests are quick
    monkeypatch.setattr(verification, "_GRID", grid)
    return 1 / grid


@pytest.mark.parametrize("kind", ["floats", "copies", "integers"])
@pytest.mark.parametrize("cameras", [True, False])
@pytest.mark.parametrize("cross", [True, False])
def test_counts_every_pair(way, kind, cameras, cross, monkeypatch):
    monkeypatch.setitem(distances._SCREEN_ROWS, "cpu", 10)
    monkeypatch.setitem(distances._SCREEN_COLUMNS, "cpu", 31)
    case = random_case(0, kind)
    case[2][3] = -1  # a query of no identity
    cross = cross and cameras
    case = case if cameras else case[:4]
    scores, same = all_pairs(*case, cross_camera_only=cross)
    result = verify(*case, cross_camera_only=cross)
    assert_table(result, naive_table(scores, same, way))
    assert (result.num_genuine, result.num_impostor) == (same.sum(), (~same).sum())
    assert result.step == way


def test_blocks_and_order_make_no_difference(way, monkeypatch):
    q, g, qids, gids, qcams, gcams = random_case(1, "copies", 40, 90)
    first = verify(q, g, qids, gids, qcams, gcams)
    rng = np.random.default_rng(0)
    monkeypatch.setitem(distances._SCREEN_ROWS, "cpu", 7)
    monkeypatch.setitem(distances._SCREEN_COLUMNS, "cpu", 11)
    a, b = rng.permutation(40), rng.permutation(90)
    second = verify(q[a], g[b], qids[a], gids[b], qcams[a], gcams[b])
    assert_table(second, (first.scores, first.genuine, first.impostor))


def test_scores_on_the_grid_at_its_real_size(monkeypatch):
    case = random_case(2, "floats")
    fine = verify(*case)
    monkeypatch.setattr(verification, "_FEW_PAIRS", 0)
    coarse = verify(*case)
    assert coarse.step == 2.0**-23
    assert coarse.num_impostor == fine.num_impostor
    assert coarse.eer == pytest.approx(fine.eer, abs=1e-4)
    assert coarse.auc == pytest.approx(fine.auc, abs=1e-4)
    scores, same = all_pairs(*case)
    assert_table(coarse, naive_table(scores, same, coarse.step))


# ---------------------------------------------------------------------------------------------
# rates


def some_scores(seed, ties):
    rng = np.random.default_rng(seed)
    same = rng.random(300) < 0.3
    scores = rng.normal(same * 1.0, 1.0)
    return (np.round(scores, 1) if ties else scores), same


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_learn(seed, ties):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, same = some_scores(seed, ties)
    result = verify_pairs(scores, same)
    far, tar, thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
    for got, wanted in zip(result.roc(), (far, tar, thresholds), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-15)
    assert result.auc == pytest.approx(metrics.roc_auc_score(same, scores), abs=1e-14)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_naive_rates(seed, ties):
    scores, same = some_scores(seed, ties)
    result = verify_pairs(scores, same)
    genuine, impostor = scores[same], scores[~same]
    for threshold in (-9.0, *scores[:20], *(scores[:20] + 1e-9), 9.0):
        rates = result.rates_at(threshold)
        assert rates.far == np.mean(impostor >= threshold)
        assert rates.frr == np.mean(genuine < threshold)
        assert rates.far_interval[0] <= rates.far <= rates.far_interval[1]
        assert rates.frr_interval[0] <= rates.frr <= rates.frr_interval[1]
    for far in (0.0, 0.01, 0.1, 1 / len(impostor), 3 / len(impostor), 0.999, 1.0):
        threshold = result.threshold_at(far)
        assert np.mean(impostor >= threshold) <= far
        assert result.tar_at(far) == np.mean(genuine >= threshold)
        if threshold > scores.min():  # no smaller one would do
            assert np.mean(impostor >= np.nextafter(threshold, -np.inf)) > far
        assert result.rates_at(threshold).far <= far
    assert result.threshold_at(1.0) == scores.min()


@pytest.mark.parametrize(
    ("genuine", "impostor", "eer", "threshold"),
    [
        ([0.9, 0.8], [0.2, 0.1], 0.0, 0.8),  # told apart
        ([0.1, 0.2], [0.8, 0.9], 1.0, 0.8),  # the wrong way round
        ([0.5, 0.5], [0.5, 0.5], 0.5, 0.5),  # all the same score
        ([0.9, 0.4], [0.6, 0.1], 0.5, 0.6),  # an operating point: FAR 1/2, FRR 1/2
        # from FAR 0, FRR 1/2 at 0.9 to FAR 1/3, FRR 0 at 0.5: the line meets FAR = FRR at 1/5
        ([0.9, 0.5], [0.5, 0.2, 0.1], 0.2, 0.5),
        ([0.7], [0.9, 0.8, 0.1, 0.0], 0.5, 0.8),  # one genuine pair
    ],
)
def test_equal_error_by_hand(genuine, impostor, eer, threshold):
    same = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    result = verify_pairs(np.r_[genuine, impostor], same)
    assert result.eer == pytest.approx(eer, abs=1e-15)
    assert result.eer_threshold == threshold


def test_area_by_hand():
    assert verify_pairs([0.5, 0.5], [1, 0]).auc == 0.5
    assert verify_pairs([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]).auc == (4 - 0.5) / 4


def test_equal_scores_are_accepted_or_rejected_together():
    result = verify_pairs([0.5, 0.5, 0.5, 0.3], [1, 0, 0, 1])
    assert result.rates_at(0.5).far == 1.0
    assert result.threshold_at(0.5) == np.nextafter(0.5, 1)
    assert result.tar_at(0.5) == 0.0


def test_threshold_between_steps(way):
    """It rejects the score below it as the table has it, and as the cosine has it."""
    case = random_case(3, "floats")
    result = verify(*case)
    scores, same = all_pairs(*case)
    for far in (0.0, 0.05, 0.3):
        threshold = result.threshold_at(far)
        assert np.mean(scores[~same] >= threshold) == result.rates_at(threshold).far <= far


def test_what_cannot_be_measured_is_said(caplog):
    result = verify_pairs([0.1, 0.2, 0.9], [0, 0, 1])
    with caplog.at_level(logging.WARNING):
        threshold = result.threshold_at(0.4)
    assert "0.4 cannot be measured on 2 impostor pairs" in caplog.text
    assert threshold == np.nextafter(0.2, 1)
    caplog.clear()
    assert result.threshold_at(0.0) == threshold
    assert result.threshold_at(0.5) == np.nextafter(0.1, 1)
    assert result.tar_at(0.4) == 1.0
    assert not caplog.text


@pytest.mark.parametrize(
    ("count", "number", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 100, 0.0018, 0.0545),
    ],
)
def test_wilson_interval(count, number, low, high):
    assert wilson_interval(count, number) == pytest.approx((low, high), abs=5e-5)


def test_histogram():
    result = verify_pairs([0.0, 0.1, 0.9, 1.0, 1.0], [0, 0, 1, 1, 0])
    edges, genuine, impostor = result.histogram(2)
    np.testing.assert_allclose(edges, [0, 0.5, 1])
    np.testing.assert_array_equal(genuine, [0, 2])
    np.testing.assert_array_equal(impostor, [2, 1])
    edges, genuine, impostor = verify_pairs([0.5, 0.5], [0, 1]).histogram(4)
    assert len(edges) == 5 and genuine.sum() == impostor.sum() == 1


def test_one_line_summary():
    assert str(verify_pairs([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])) == (
        "EER 0.00, AUC 100.00 (%; 2 genuine and 2 impostor pairs; the same if the score is at "
        "least the threshold)"
    )


# ---------------------------------------------------------------------------------------------
# degenerate and refused


def test_one_image_an_identity_and_cameras_missing_in_half(way):
    x = np.eye(4, 6) + 0.1
    cameras = [1, -1, 2, -1]
    result = verify(x, x, [1, 2, 3, 4], [1, 2, 3, 4], cameras, cameras)
    assert result.num_genuine == 2  # with oneself, where no camera is known to say so
    assert result.num_impostor == 12


def test_constant_features(way):
    result = verify(np.full((3, 8), 0.3), np.full((4, 8), 0.7), [1, 2, 3], [1, 2, 3, 0])
    assert (result.num_genuine, result.num_impostor) == (3, 9)
    assert result.eer == result.auc == 0.5
    assert result.scores.tolist() == [1.0]
    zero = verify(np.zeros((3, 8)), np.ones((4, 8)), [1, 2, 3], [1, 2, 3, 0])
    assert zero.scores.tolist() == [0.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_features": [[1, np.nan], [1, 2]]}, "query_features must be finite: row 0"),
        ({"gallery_ids": [8, 9]}, "no query identity occurs in the gallery"),
        (
            {"query_cameras": [1, 1], "gallery_cameras": [1, 1]},
            "no query has a positive in another",
        ),
        ({"query_ids": [1, 1], "gallery_ids": [1, 1]}, "there is no impostor pair"),
        ({"query_cameras": [1, 1]}, "gallery_cameras is None"),
        ({"cross_camera_only": True}, "cross_camera_only needs query_cameras"),
    ],
)
def test_refuses(changes, message):
    arguments = {
        "query_features": [[1.0, 0.0], [0.0, 1.0]],
        "gallery_features": [[1.0, 0.1], [0.1, 1.0]],
        "query_ids": [1, 2],
        "gallery_ids": [1, 2],
    }
    with pytest.raises(ValueError, match=message):
        verify(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("scores", "same", "error", "message"),
    [
        ([0.1, np.nan], [0, 1], ValueError, "scores must be finite: pair 1"),
        ([0.1, 0.2], [0, 1, 1], ValueError, "of one length"),
        ([[0.1]], [[1]], ValueError, "one-dimensional"),
        (["a", "b"], [0, 1], TypeError, "real numbers"),
        ([0.1, 0.2], [0, 2], ValueError, "True and False"),
        ([0.1, 0.2], [1, 1], ValueError, "there is no impostor pair"),
        ([0.1, 0.2], [0, 0], ValueError, "there is no genuine pair"),
        ([], [], ValueError, "there is no genuine pair"),
    ],
)
def test_refuses_pairs(scores, same, error, message):
    with pytest.raises(error, match=message):
        verify_pairs(scores, same)


@pytest.mark.parametrize("far", [-0.1, 1.1, np.nan])
def test_refuses_rates_and_thresholds(far):
    result = verify_pairs([0.1, 0.9], [0, 1])
    with pytest.raises(ValueError, match="far must be a share"):
        result.threshold_at(far)
    with pytest.raises(ValueError, match="threshold must be a number"):
        result.rates_at(np.nan)
