"""The screens keep their promised bounds, and exact keys depend on the pair alone."""

import numpy as np
import pytest
import torch

from reid.evaluation import distances as distances_module
from reid.evaluation.distances import FeatureDistances, _tree_sum, full_precision

both_metrics = pytest.mark.parametrize("metric", ["cosine", "euclidean"])


def features(kind, n, dim, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim))
    if kind == "signs":  # equal products: their rounding errors add up in one direction
        x = np.sign(x) * 0.1
    elif kind == "constant":
        x = np.full((n, dim), 0.1) + np.eye(n, dim)
    elif kind == "positive":
        x = np.maximum(x, 0) + 5
    elif kind == "outlier":
        x[0] *= 1e4
        x[1] = 0
    return x.astype(np.float32)


def true_distance(q, g, metric):
    q, g = q.astype(np.longdouble), g.astype(np.longdouble)
    if metric == "cosine":
        lengths = np.sqrt((q * q).sum(1))[:, None] * np.sqrt((g * g).sum(1))[None]
        return -(q @ g.T) / np.where(lengths > 0, lengths, 1)
    return ((q[:, None] - g[None]) ** 2).sum(2)


@both_metrics
@pytest.mark.parametrize("kind", ["normal", "signs", "constant", "positive", "outlier"])
@pytest.mark.parametrize("dim", [1, 37, 512, 2048])
def test_screen_never_contradicts_the_exact_key(metric, kind, dim):
    """The key of every pair lies within the bounds that enclose its own screened value."""
    q, g = features(kind, 12, dim, 0), features(kind, 40, dim, 1)
    source = FeatureDistances(q, g, metric)
    with full_precision(source.device):
        block = source.open(2, 12)
        rows, columns = torch.meshgrid(torch.arange(10), torch.arange(40), indexing="ij")
        keys = block.exact(rows.flatten(), columns.flatten()).view(10, 40)
        (screen,) = block.screens(keys)
        assert (screen.row, screen.column) == (0, 0)
        for made in (screen, screen.finer()):
            error = (made.values.double() - made.table).abs()
            assert (error <= made.margin[:, None]).all()
            if kind == "normal" and dim > 1:  # and the bounds are of use
                assert 2 * made.margin.max() < 1e-3 * made.values.std()


@both_metrics
def test_screens_cover_every_pair_once(monkeypatch, metric):
    monkeypatch.setitem(distances_module._SCREEN_ROWS, "cpu", 4)
    monkeypatch.setitem(distances_module._SCREEN_COLUMNS, "cpu", 7)
    q, g = features("normal", 12, 5, 0), features("normal", 40, 5, 1)
    block = FeatureDistances(q, g, metric).open(2, 12)
    seen = torch.zeros(10, 40)
    for screen in block.screens(torch.zeros(10, 1)):
        height, width = screen.values.shape
        seen[screen.row : screen.row + height, screen.column : screen.column + width] += 1
    assert (seen == 1).all()


@both_metrics
@pytest.mark.parametrize("noise", [1e-3, 1e-6])
def test_the_finest_margin_narrows_where_features_are_alike(metric, noise):
    base = features("normal", 1, 256, 0).astype(float)
    rng = np.random.default_rng(1)
    q, g = (base + noise * rng.standard_normal((n, 256)) for n in (3, 9))
    wide = FeatureDistances(features("normal", 3, 256, 2), features("normal", 9, 256, 3), metric)
    margins = []
    for source in (wide, FeatureDistances(q, g, metric)):
        (screen,) = source.open(0, 3).screens(torch.zeros(3, 1))
        margins.append(float(screen.finer().margin.max()))
    assert margins[1] < margins[0] / 3


@both_metrics
@pytest.mark.parametrize("copies", [True, False])
def test_many_pairs_are_judged_as_one_by_one(monkeypatch, metric, copies):
    rng = np.random.default_rng(0)
    q, g = features("normal", 6, 37, 0), features("normal", 30, 37, 1)
    if copies:
        g = g[rng.integers(0, 5, 30)]
    source = FeatureDistances(q, g, metric)
    rows, columns = torch.from_numpy(rng.integers(0, (6, 30), (500, 2))).T
    expected = source.exact(rows, columns)
    monkeypatch.setattr(distances_module, "_MANY_PAIRS", 1)
    assert (source._equals is None) is not copies
    for elements in (1 << 20, 1):  # and where they do not fit
        monkeypatch.setitem(distances_module._CODE_ELEMENTS, "cpu", elements)
        assert torch.equal(source.exact(rows, columns), expected)


@both_metrics
@pytest.mark.parametrize("kind", ["normal", "positive", "outlier"])
def test_exact_keys_are_the_distances(metric, kind):
    q, g = features(kind, 6, 37, 0), features(kind, 9, 37, 1)
    source = FeatureDistances(q, g, metric)
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(9), indexing="ij")
    keys = source.exact(rows.flatten(), columns.flatten()).view(6, 9).numpy()
    expected = true_distance(q, g, metric).astype(float)
    if metric == "cosine":
        expected = expected * np.abs(expected) * (q.astype(float) ** 2).sum(1, keepdims=True)
    np.testing.assert_allclose(keys, expected, rtol=1e-12, atol=1e-12)


def test_exact_keys_of_equal_vectors_are_equal_bits():
    rng = np.random.default_rng(0)
    g = np.repeat(rng.standard_normal((1, 515)).astype(np.float32), 1000, axis=0)
    for metric in ("cosine", "euclidean"):
        source = FeatureDistances(rng.standard_normal((1, 515)), g, metric)
        for count in (1, 2, 77, 1000):
            keys = source.exact(torch.zeros(count, dtype=torch.int64), torch.arange(count))
            assert (
                keys == source.exact(torch.zeros(1, dtype=torch.int64), torch.ones(1).long())
            ).all()


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 100])
def test_tree_sum(width):
    terms = torch.from_numpy(np.random.default_rng(0).integers(-9, 9, (5, width)).astype(float))
    expected = terms.sum(1)
    assert torch.equal(_tree_sum(terms.clone()), expected)


def test_full_precision_restores_what_it_switches_off():
    ones = torch.ones(2, 2, requires_grad=True)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with pytest.raises(RuntimeError, match="inside"), full_precision(torch.device("cpu")):
                product = ones @ ones
                assert product.dtype == torch.float32 and not product.requires_grad
                if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
                    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
                    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
                raise RuntimeError("inside")
            assert (ones @ ones).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
