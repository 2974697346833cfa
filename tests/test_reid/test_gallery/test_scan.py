"""The exact scan, against plain float64 arithmetic: every row, every score, every tie."""

import functools
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.gallery import scan_cpu, scan_torch
from reid.gallery.scan import scan, scan_range
from reid.gallery.scores import Segments, score_rows

METRICS = ("cosine", "euclidean")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=["auto", "torch"])
def engine(request, monkeypatch) -> str:
    """The scan by the compiled kernels, and by operations of torch."""
    monkeypatch.setenv("REID_KERNELS", request.param)
    if request.param == "auto" and scan_cpu.kernels() is None:
        pytest.skip("there is no C++ compiler")
    return request.param


def on_a_grid(rows: int, dim: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Eighths, few of them: float64 arithmetic on them is exact, and many scores tie."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-4, 5, (rows, dim)) / 8).astype(dtype)


def ordinary(rows: int, dim: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


def all_scores(stored, queries, metric) -> np.ndarray:
    """(Q, N) by the book, one difference or product at a time."""
    stored, queries = stored.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        return queries @ stored.T
    return -np.sqrt(((queries[:, None, :] - stored[None]) ** 2).sum(-1))


def expected(stored, queries, k, metric, keep=None):
    scores = all_scores(stored, queries, metric)
    numbers = np.arange(len(stored)) if keep is None else np.flatnonzero(keep)
    order = np.argsort(-scores[:, numbers], axis=1, kind="stable")[:, :k]
    rows = numbers[order]
    return rows, np.take_along_axis(scores, rows, 1)


def assert_same(found, wanted) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


# -- what is found ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("queries", [1, 3, 9, 40])
@pytest.mark.parametrize("dim", [1, 3, 8, 37])
def test_rows_scores_and_ties_are_exact(engine, metric, dtype, queries, dim):
    stored, asked = on_a_grid(1500, dim, dtype), on_a_grid(queries, dim, seed=1)
    keep = np.random.default_rng(2).random(1500) < 0.4
    segments = np.split(stored, [0, 1, 2, 700, 1400])
    for k in (1, 10, 700, 2000):
        assert_same(scan(segments, asked, k, metric), expected(stored, asked, k, metric))
        assert_same(
            scan(segments, asked, k, metric, keep), expected(stored, asked, k, metric, keep)
        )


@functools.cache
def near_ties(metric):
    """Rows that differ by a few units in the last place, a query, and by exact fractions how much
    better than the first row each is."""
    rng = np.random.default_rng(0)
    stored = np.tile(ordinary(1, 64), (2000, 1))
    for row, place in zip(stored, rng.integers(0, 64, 2000), strict=True):
        row[place] += rng.normal() * 2e-8
    query = ordinary(1, 64, seed=5)
    ours = [Fraction(float(value)) for value in query[0]]

    def fraction(row):
        pairs = zip(ours, map(Fraction, row.tolist()), strict=True)
        return sum(q * x if metric == "cosine" else -((q - x) ** 2) for q, x in pairs)

    first = fraction(stored[0])
    return stored, query, np.array([float(fraction(row) - first) for row in stored])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 5, 12])
def test_what_float32_cannot_tell_apart_is_told_apart(engine, metric, queries):
    stored, query, truth = near_ties(metric)
    single = (stored @ query[0]) - (stored[0] @ query[0])
    assert not set(np.argsort(-single)[:50]) <= set(np.argsort(-truth)[:50]), "too easy"
    rows, _ = scan([stored], np.repeat(query, queries, axis=0), 50, metric)
    for found in rows:
        left = np.delete(truth, found)
        # float64 itself does not tell apart what is closer than this
        assert truth[found].min() > left.max() - 1e-15
        assert np.diff(truth[found]).max() < 1e-15


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 7, 40])
def test_scores_closer_than_the_error_of_float32(engine, metric, queries):
    """Without the bound on that error a tenth of these rows would be missed, or more."""
    rng = np.random.default_rng(1)
    stored = (ordinary(1, 512) + rng.normal(0, 2e-9, (3000, 512))).astype(np.float32)
    asked = ordinary(queries, 512, seed=2)
    rows, scores = scan([stored], asked, 100, metric)
    truth = all_scores(stored, asked, metric)
    worst = -np.sort(-truth, axis=1)[:, 99]
    single = asked @ stored.T if metric == "cosine" else -np.square(asked[0] - stored).sum(-1)[None]
    assert (np.argsort(-single[0])[:100][:, None] != rows[0]).all(1).sum() >= 10, "too easy"
    found = np.take_along_axis(truth, rows, 1)
    assert (found.min(1) > worst - 1e-14).all()
    np.testing.assert_allclose(scores, found, rtol=0, atol=1e-14)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 12])
def test_many_equal_rows_come_in_their_order(engine, metric, queries):
    stored = np.tile(ordinary(1, 16), (20_000, 1))
    asked = ordinary(queries, 16, seed=1)
    rows, scores = scan([stored], asked, 5, metric)
    assert_same([rows], [np.tile(np.arange(5), (queries, 1))])
    assert (scores == scores[:, :1]).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 12])
def test_the_worst_order_of_rows(engine, metric, queries):
    """Every row is better than all before."""
    query = ordinary(1, 8)
    stored = (query * np.linspace(0.1, 0.9, 3000, dtype=np.float32)[:, None]).astype(np.float32)
    asked = np.repeat(query, queries, axis=0)
    rows, _ = scan([stored], asked, 7, metric)
    assert (rows == np.arange(2999, 2992, -1)).all()


# -- the same bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_scores_do_not_depend_on_batch_segments_filter_or_threads(engine, metric, dtype):
    stored, asked = ordinary(3000, 50, dtype), ordinary(33, 50, seed=1)
    whole = scan([stored], asked, 20, metric)
    for number in (0, 32):
        alone = scan([stored], asked[number : number + 1], 20, metric)
        assert_same(alone, [part[number : number + 1] for part in whole])
    assert_same(scan(np.split(stored, range(1, 60)), asked, 20, metric), whole)
    keep = np.zeros(3000, bool)
    keep[whole[0].ravel()] = True
    assert_same(scan([stored], asked, 20, metric, keep), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 3)
        assert_same(scan([stored], asked, 20, metric), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("dim", [1, 2, 31, 64, 100])
def test_with_and_without_kernels_the_bits_are_the_same(metric, dtype, dim, monkeypatch):
    stored, asked = ordinary(2500, dim, dtype), ordinary(20, dim, seed=1)
    found = {}
    for choice in ("auto", "torch"):
        monkeypatch.setenv("REID_KERNELS", choice)
        found[choice] = scan([stored], asked, 30, metric)
    assert_same(found["auto"], found["torch"])


def test_small_tiles_and_few_pairs_at_a_time(monkeypatch):
    stored, asked = on_a_grid(500, 6), on_a_grid(30, 6, seed=1)
    monkeypatch.setenv("REID_KERNELS", "torch")
    monkeypatch.setitem(scan_torch._TILE, "cpu", 7)
    monkeypatch.setitem(scan_torch._PAIRS, "cpu", 60)
    monkeypatch.setattr(scan_torch, "_QUERIES", 4)
    keep = np.random.default_rng(0).random(500) < 0.5
    for metric in METRICS:
        wanted = expected(stored, asked, 9, metric, keep)
        assert_same(scan([stored[:99], stored[99:]], asked, 9, metric, keep), wanted)


def test_the_code_for_processors_without_its_instructions(monkeypatch):
    """The same source without fused products and half-precision instructions."""
    if scan_cpu.compiled() is None:
        pytest.skip("there is no C++ compiler")
    flags = (*scan_cpu.EXTRA_FLAGS, "-U__F16C__", "-U__FMA__")
    library = scan_cpu.native.load_library(scan_cpu.SOURCE, "gallery-plain", "a test", flags)
    plain = scan_cpu.CpuKernels(library)
    for metric in METRICS:
        for queries in (1, 5, 20):
            stored, asked = ordinary(700, 21, "float16"), ordinary(queries, 21, seed=1)
            rows, scores = plain.search(Segments([stored], 21), asked, metric, None, 9, -np.inf)
            assert_same((np.stack(rows), np.stack(scores)), scan([stored], asked, 9, metric))
    assert_every_half_is_read(
        lambda stored, k: plain.search(
            Segments([stored], 1), np.ones((1, 1), np.float32), "cosine", None, k, -np.inf
        )
    )


def test_every_half_precision_number_is_read_exactly(engine):
    assert_every_half_is_read(
        lambda stored, k: scan([stored], np.ones((1, 1), np.float32), k, "cosine")
    )


def assert_every_half_is_read(search) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    rows, scores = search(halves[:, None], len(halves))
    np.testing.assert_array_equal(scores[0], np.sort(halves.astype(np.float64))[::-1])
    np.testing.assert_array_equal(halves[rows[0]].astype(np.float64), scores[0])


def test_threads_search_at_the_same_time(engine):
    stored = ordinary(4000, 32)
    asked = [ordinary(1 + number % 13, 32, seed=number) for number in range(24)]
    wanted = [scan([stored], one, 10, "euclidean") for one in asked]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: scan([stored], one, 10, "euclidean"), asked))
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


def test_the_process_keeps_its_precision_of_products():
    """Several threads at once: the last one to leave puts the switches back."""
    switch = torch.backends.mkldnn.matmul if hasattr(torch.backends.mkldnn, "matmul") else None
    if not hasattr(switch, "fp32_precision"):
        pytest.skip("this torch has another switch")
    before = switch.fp32_precision
    first_in, second_in = threading.Event(), threading.Event()
    seen = []

    def first():
        with scan_torch.precise(torch.device("cpu")):
            first_in.set()
            second_in.wait(10)

    try:
        switch.fp32_precision = "bf16"
        thread = threading.Thread(target=first)
        thread.start()
        first_in.wait(10)
        with scan_torch.precise(torch.device("cpu")):
            second_in.set()
            thread.join()
            seen.append(switch.fp32_precision)
        seen.append(switch.fp32_precision)
    finally:
        switch.fp32_precision = before
    assert seen == ["ieee", "bf16"]


# -- degenerate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_find(engine, metric):
    queries, stored = ordinary(3, 4), ordinary(5, 4)
    empty = np.empty((0, 4), np.float32)
    for segments, keep in (([], None), ([empty], None), ([stored], np.zeros(5, bool))):
        rows, scores = scan(segments, queries, 10, metric, keep)
        assert rows.shape == scores.shape == (3, 0)
        assert [len(part) for part in scan_range(segments, queries, -9, metric, keep)[0]] == [0] * 3
    rows, scores = scan([stored], empty, 3, metric)
    assert rows.shape == scores.shape == (0, 3)
    assert scan_range([stored], empty, 0.0, metric) == ([], [])


def test_a_single_row_and_a_single_dimension(engine):
    rows, scores = scan([np.float32([[2]])], np.float32([[3], [-1]]), 5, "cosine")
    assert rows.tolist() == [[0], [0]]
    assert scores.tolist() == [[6.0], [-2.0]]


@pytest.mark.parametrize("queries", [1, 5, 12])
@pytest.mark.parametrize(
    ("of_rows", "of_queries"),
    [(1e-44, 1e-44), (1e-30, 1e-30), (1e15, 1e30), (1e30, 1e30), (1e30, 1.0), (3e38, 3e38)],
)
def test_numbers_that_float32_products_cannot_hold(engine, of_rows, of_queries, queries):
    """Overflow and underflow in the screen must not hide a row, not even among the worst."""
    stored = on_a_grid(1000, 9).astype(np.float64) * of_rows
    stored = np.concatenate([on_a_grid(50, 9, seed=3), stored]).astype(np.float32)
    asked = (on_a_grid(queries, 9, seed=1).astype(np.float64) * of_queries).astype(np.float32)
    for metric in METRICS:
        scores = all_scores(stored, asked, metric)
        rounding = 1e-14 * float(np.abs(stored).max()) * float(np.abs(asked).max())
        for k in (40, 800):
            rows, found = scan([stored], asked, k, metric)
            best = -np.sort(-scores, axis=1)[:, :k]
            np.testing.assert_allclose(found, best, rtol=1e-12, atol=rounding)
            again = np.take_along_axis(scores, rows, 1)
            np.testing.assert_allclose(found, again, rtol=1e-12, atol=rounding)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 10])
def test_a_damaged_row_hides_no_other(engine, metric, queries):
    stored, asked = on_a_grid(100, 5), on_a_grid(queries, 5, seed=1)
    wanted = expected(np.delete(stored, [7, 50], 0), asked, 98, metric)[0]
    wanted = wanted + (wanted >= 7)
    wanted = wanted + (wanted >= 50)
    stored[7], stored[50, 2] = np.nan, np.nan
    rows, scores = scan([stored], asked, 100, metric)
    np.testing.assert_array_equal(rows[:, :98], wanted)
    np.testing.assert_array_equal(rows[:, 98:], np.tile([7, 50], (queries, 1)))
    assert (scores[:, 98:] == -np.inf).all()


def test_mapped_read_only_files(engine, tmp_path, recwarn):
    stored = ordinary(2000, 12, "float16")
    stored.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", np.float16, "r", shape=(2000, 12))
    asked = ordinary(30, 12, seed=1)
    assert_same(scan([mapped], asked, 5, "cosine"), scan([stored], asked, 5, "cosine"))
    assert not recwarn.list


# -- everything above a score -------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("queries", [1, 20])
def test_a_range_is_what_scores_enough(engine, metric, queries):
    stored, asked = on_a_grid(3000, 6), on_a_grid(queries, 6, seed=1)
    keep = np.random.default_rng(2).random(3000) < 0.7
    scores = np.where(keep, all_scores(stored, asked, metric), -np.inf)
    lowest = float(np.sort(scores[0])[-200])  # some row scores just this
    for limit in (None, 1, 25, 5000):
        rows, found = scan_range([stored[:40], stored[40:]], asked, lowest, metric, keep, limit)
        for number in range(queries):
            order = np.argsort(-scores[number], kind="stable")
            order = order[scores[number][order] >= lowest][:limit]
            np.testing.assert_array_equal(rows[number], order)
            np.testing.assert_array_equal(found[number], scores[number][order])
    assert len(scan_range([stored], asked, lowest, metric, keep)[0][0]) >= 200


def test_a_range_of_everything_and_of_nothing(engine):
    stored, asked = ordinary(50, 4), ordinary(9, 4, seed=1)
    assert all(len(rows) == 50 for rows in scan_range([stored], asked, -2, "cosine")[0])
    assert not any(map(len, scan_range([stored], asked, 2, "cosine")[0]))
    assert not any(map(len, scan_range([stored], asked, 0.5, "euclidean")[0]))


# -- scores of given rows -----------------------------------------------------------------------


def test_scores_of_proposed_rows_are_those_of_the_scan():
    stored, asked = ordinary(900, 30, "float16"), ordinary(7, 30, seed=1)
    segments = np.split(stored, [100, 101, 500])
    for metric in METRICS:
        rows, scores = scan(segments, asked, 40, metric)
        again = score_rows(Segments(segments, 30), asked, rows, metric)
        np.testing.assert_array_equal(again, scores)
    rows[2, 5:] = -1
    again = score_rows(Segments(segments, 30), asked, rows, metric)
    assert (again[2, 5:] == -np.inf).all()
    np.testing.assert_array_equal(again[3], scores[3])


# -- what is refused ----------------------------------------------------------------------------


def test_bad_arguments_are_named():
    stored, query = ordinary(5, 4), ordinary(1, 4)
    with pytest.raises(ValueError, match=r"C-ordered array \(rows, 4\); got shape \(5, 3\)"):
        scan([ordinary(5, 3)], query, 1, "cosine")
    with pytest.raises(ValueError, match="C-ordered"):
        scan([np.asfortranarray(stored)], query, 1, "cosine")
    with pytest.raises(ValueError, match=r"all be float32 or all.*got float32 and float16"):
        scan([stored, stored.astype(np.float16)], query, 1, "cosine")
    with pytest.raises(ValueError, match="float64"):
        scan([stored.astype(np.float64)], query, 1, "cosine")
    with pytest.raises(ValueError, match=r"each of the 5 rows.*got shape \(4,\)"):
        scan([stored], query, 1, "cosine", np.ones(4, bool))
    with pytest.raises(ValueError, match=r"\(Q, dim\); got \(4,\)"):
        scan([stored], query[0], 1, "cosine")
    with pytest.raises(ValueError, match="'cosine' or 'euclidean'; got 'dot'"):
        scan([stored], query, 1, "dot")


# -- without a compiler -------------------------------------------------------------------------


def test_without_a_compiler_it_says_so_once_and_finds_the_same(monkeypatch, caplog):
    stored, asked = ordinary(300, 8), ordinary(3, 8, seed=1)
    wanted = scan([stored], asked, 5, "cosine")

    def no_compiler(*_):
        raise OSError("no C++ compiler was found")

    monkeypatch.setattr("backbones.native.load_library", no_compiler)
    scan_cpu.compiled.cache_clear()
    try:
        for _ in range(2):
            assert_same(scan([stored], asked, 5, "cosine"), wanted)
        assert caplog.text.count("no C++ compiler was found") == 1
    finally:
        scan_cpu.compiled.cache_clear()


def test_an_unknown_choice_of_kernels_is_an_error(monkeypatch):
    monkeypatch.setenv("REID_KERNELS", "gpu")
    with pytest.raises(ValueError, match="REID_KERNELS must be 'auto' or 'torch', got 'gpu'"):
        scan([ordinary(5, 4)], ordinary(1, 4), 1, "cosine")


def test_exact_search_needs_no_faiss():
    code = (
        "import sys; sys.modules['faiss'] = None\n"
        "import numpy as np\n"
        "from reid.gallery.scan import scan\n"
        "print(scan([np.eye(3, dtype=np.float32)], np.eye(3, dtype=np.float32), 1, 'cosine')[0].T)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[[0 1 2]]"
