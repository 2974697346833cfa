"""Expanded queries and augmented galleries equal the loops that describe them."""

import numpy as np
import pytest
import torch

from reid.evaluation import augment_database, evaluate_ranking, expand_queries


def unit(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def naive(features, others, k, alpha, itself):
    features, others = unit(features.astype(np.float64)), unit(others.astype(np.float64))
    blended = []
    for row, feature in enumerate(features):
        similarity = others @ feature
        ranked = similarity.copy()
        if itself:
            ranked[row] = -np.inf
        nearest = np.argsort(-np.round(ranked, 12), kind="stable")[: min(k, len(others) - itself)]
        weights = np.maximum(similarity[nearest], 0) ** alpha
        blended.append(unit(feature + weights @ others[nearest]))
    return np.array(blended)


def features(count, dim=20, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32) * 3


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("queries", "gallery", "k"), [(30, 200, 5), (1, 1, 1), (3, 50, 50)])
def test_expand_queries(queries, gallery, k, alpha):
    q, g = features(queries), features(gallery, seed=1)
    result = expand_queries(q, g, k=k, alpha=alpha)
    assert result.dtype == np.float32 and result.shape == q.shape
    np.testing.assert_allclose(result, naive(q, g, k, alpha, itself=False), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize(("count", "k"), [(200, 10), (2, 1), (40, 39)])
def test_augment_database(count, k, alpha):
    g = features(count)
    result = augment_database(g, k=k, alpha=alpha)
    np.testing.assert_allclose(result, naive(g, g, k, alpha, itself=True), atol=1e-6)


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_ties_and_blocks_make_no_difference(kernels, monkeypatch):
    from reid.evaluation import expansion

    monkeypatch.setenv("REID_KERNELS", kernels)
    g = np.repeat(features(5), 12, axis=0)
    expected = naive(g, g, 4, 2.0, itself=True)
    for elements in (1, 1000, 1 << 22):
        monkeypatch.setattr(expansion, "_GATHERED_ELEMENTS", elements)
        np.testing.assert_allclose(augment_database(g, k=4, alpha=2.0), expected, atol=1e-6)
        np.testing.assert_allclose(
            expand_queries(g[::7], g, k=4), naive(g[::7], g, 4, 0.0, itself=False), atol=1e-6
        )


def test_negative_similarity_weighs_nothing():
    q, g = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [-0.8, 0.6]])
    result = expand_queries(q, g, k=2, alpha=1.0)
    np.testing.assert_allclose(result, [unit(np.array([1 + 0.36, 0.48]))], atol=1e-7)


def test_opposite_vectors_leave_zero():
    result = expand_queries(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]]), k=1)
    assert (result == 0).all()


def test_zero_features_stay_finite():
    q, g = features(4), features(9)
    q[1], g[3] = 0, 0
    assert np.isfinite(expand_queries(q, g, k=3, alpha=3.0)).all()
    assert np.isfinite(augment_database(g, k=3)).all()


def test_lengths_make_no_difference():
    q, g = features(5), features(40, seed=1)
    stretch = np.random.default_rng(2).uniform(0.01, 100, (40, 1)).astype(np.float32)
    np.testing.assert_allclose(
        expand_queries(q * 7, g * stretch, alpha=3.0), expand_queries(q, g, alpha=3.0), atol=1e-5
    )


def test_tensors_and_half_precision():
    q, g = (torch.from_numpy(x).half() for x in (features(5), features(40, seed=1)))
    expected = expand_queries(q.float().numpy(), g.float().numpy())
    assert (expand_queries(q, g) == expected).all()
    assert (expand_queries(q.numpy(), g.numpy()) == expected).all()


def test_fewer_items_than_asked_for_is_said(caplog):
    result = expand_queries(features(2), features(3, seed=1), k=5)
    assert "k is 5, but the gallery has only 3 items" in caplog.text
    assert (result == expand_queries(features(2), features(3, seed=1), k=3)).all()
    assert augment_database(features(1), k=5).shape == (1, 20)
    assert "an item has only 0 others" in caplog.text


def test_it_helps_where_it_should():
    rng = np.random.default_rng(0)
    ids = np.arange(400) % 20
    x = rng.standard_normal((20, 32))[ids] + 1.5 * rng.standard_normal((400, 32))
    q, g, labels = x[:40], x[40:], (ids[:40], ids[40:])
    plain = evaluate_ranking(q, g, *labels).mAP
    assert evaluate_ranking(expand_queries(q, g, k=5), g, *labels).mAP > plain + 0.02
    augmented = augment_database(g, k=8)
    assert evaluate_ranking(q, augmented, *labels).mAP > plain + 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"k": 1.5}, "k must be an integer"),
        ({"alpha": -1}, "alpha must be at least 0 and finite, got -1"),
        ({"alpha": float("nan")}, "alpha must be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        expand_queries(features(2), features(9), **options)
    with pytest.raises(ValueError, match=message):
        augment_database(features(9), **options)


def test_bad_features_are_refused():
    g = features(9)
    g[4, 2] = np.nan
    with pytest.raises(ValueError, match="gallery_features must be finite: row 4"):
        expand_queries(features(2), g)
    with pytest.raises(ValueError, match="gallery_features must be finite: row 4"):
        augment_database(g)
    with pytest.raises(ValueError, match="dimensions"):
        expand_queries(features(2, dim=4), features(9))
