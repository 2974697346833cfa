"""The compiled kernels against plain loops, and life without a compiler."""

from __future__ import annotations

import logging
import os
import shutil

import numpy as np
import pytest
import torch

from reid.evaluation import ranking, ranking_cpu
from reid.evaluation.distances import _tree_sum

has_compiler = any(map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++")))
needs_compiler = pytest.mark.skipif(not has_compiler, reason="no C++ compiler is installed")


@pytest.fixture(params=["compiled", "torch"])
def count(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(ranking, "cpu_kernels", lambda: None)
    elif not has_compiler:
        pytest.skip("no C++ compiler is installed")
    return ranking.count_nearer


def plain_count(values, table, number, margin):
    """What is certain and what is not, pair by pair."""
    counts, doubtful = np.zeros(table.shape, int), []
    for b, row in enumerate(values.tolist()):
        keys = table[b, : number[b]].tolist()
        m = 0.0 if margin is None else float(margin[b])
        for c, value in enumerate(row):
            if margin is not None and any(key - m <= value <= key + m for key in keys):
                doubtful.append(b * len(row) + c)
            else:
                counts[b, : len(keys)] += np.array([value <= key for key in keys], bool)
    return counts, doubtful


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("most", [0, 1, 5, 64, 65, 120])  # on either side of COMPARE_ALL
@pytest.mark.parametrize("margin", [None, 0.01])
@pytest.mark.parametrize("columns", [1, 63, 130])
def test_count(count, dtype, most, margin, columns):
    rng = np.random.default_rng(most)
    number = torch.from_numpy(rng.integers(0, most + 1, 9))
    number[0] = most
    width = 2 ** (most + 1).bit_length() - 1
    table = torch.full((9, width), torch.inf, dtype=torch.float64)
    for row, n in enumerate(number.tolist()):  # multiples of 1/64: many ties with the values
        table[row, :n] = torch.from_numpy(np.sort(rng.integers(-64, 65, n)) / 64)
    values = torch.from_numpy(rng.integers(-80, 81, (9, columns)) / 64).to(dtype)
    values[:, columns // 2] = torch.inf
    margins = None if margin is None else torch.full((9,), margin, dtype=torch.float64)
    counts, doubtful = count(values, table.to(dtype), number, margins, values.numel())
    expected, doubts = plain_count(values, table, number, margins)
    real = torch.arange(width) < number[:, None]
    np.testing.assert_array_equal(counts[real], expected[real.numpy()])
    assert sorted(doubtful.tolist()) == doubts


def test_bounds_of_float32_are_rounded_outwards(count):
    """A value just inside a bound that float32 cannot hold is doubtful, on either side."""
    key, margin = 1.0, 2.0**-24 * 1.25
    single = torch.tensor([[1.0 - 2.0**-24, 1.0, 1.0 + 2.0**-23, 1.0 - 2.0**-22, 1.0 + 2.0**-21]])
    table = torch.tensor([[key, torch.inf, torch.inf]], dtype=torch.float64)
    one = torch.tensor([margin], dtype=torch.float64)
    counts, doubtful = count(single, table, torch.tensor([1]), one, 5)
    assert {0, 1} <= set(doubtful.tolist()) <= {0, 1, 2}
    assert counts[0, 0] == 1  # the fourth is certainly nearer


def test_too_many_doubts_are_not_named(count):
    values, table = torch.zeros(2, 10), torch.tensor([[0.0], [0.0]], dtype=torch.float64)
    margin = torch.ones(2, dtype=torch.float64)
    for limit, named in ((20, True), (19, False)):
        doubtful = count(values, table, torch.tensor([1, 1]), margin, limit)[1]
        assert (doubtful is not None) is named


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 2, 3, 37, 512])
@pytest.mark.parametrize("squared", [True, False])
def test_pair_sums_have_the_bits_of_the_sum_by_halving(dtype, dim, squared):
    torch.manual_seed(dim)
    query, gallery = torch.randn(5, dim, dtype=dtype), torch.randn(7, dim, dtype=dtype)
    rows, columns = torch.randint(5, (90,)), torch.randint(7, (90,))
    a, b = query[rows].double(), gallery[columns].double()
    expected = _tree_sum((a - b) ** 2 if squared else a * b)
    kernels = ranking_cpu.cpu_kernels()
    assert kernels is not None
    assert torch.equal(kernels.pair_sums(query, gallery, rows, columns, squared), expected)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 7, 512])
def test_center(dtype, dim):
    torch.manual_seed(dim)
    features = torch.randn(2 * dim, 9).to(dtype).T[:, ::2]  # (9, dim), not contiguous
    scale, center = torch.rand(9).double(), torch.randn(dim).double()
    kernels = ranking_cpu.cpu_kernels()
    assert kernels is not None
    single, products, squares = kernels.center(features, scale, center)
    expected = features.double() * scale[:, None] - center
    assert torch.equal(single, expected.float())
    torch.testing.assert_close(products, expected @ center)
    torch.testing.assert_close(squares, expected.square().sum(1))


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_tabulate(threads):
    kernels = ranking_cpu.cpu_kernels()
    assert kernels is not None
    values = torch.tensor([-1.0, -1.0 - 1e-16, 1.0 + 1e-15, 0.0, 0.13, 0.1, 0.125, torch.inf, 0.4])
    tables = torch.zeros(threads, 9, dtype=torch.int64)
    doubtful = kernels.tabulate(values.double(), 4, 1e-9, tables)
    assert doubtful.tolist() == [6]  # 0.125 is half a step from 0 and from 0.25
    assert tables.sum(0).tolist() == [2, 0, 0, 0, 2, 1, 1, 0, 1]


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    ranking_cpu.cpu_kernels.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert ranking_cpu.cpu_kernels() is None
        assert "no C++ compiler was found" in caplog.text
        result = ranking.evaluate_ranking(np.eye(2), np.eye(2), [1, 2], [1, 2])
        assert result.mAP == 1.0
    finally:
        monkeypatch.undo()
        ranking_cpu.cpu_kernels.cache_clear()
