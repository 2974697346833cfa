"""The choice between GPU and CPU, and the copies there, with a CPU standing in for the GPU."""

import gc

import numpy as np
import pytest
import torch

from reid.gallery import scan_gpu
from reid.gallery.scan import scan, scan_range

from .clustered import QUERIES, ROWS, VECTORS, share_of


@pytest.fixture
def stand_in(monkeypatch):
    """Every search goes to a 'GPU'; how many searches and arrays came there."""
    seen = {"searches": 0, "arrays": 0}
    search, copy = scan_gpu.scan_torch.search, scan_gpu._copy

    def counted(*args):
        seen["searches"] += 1
        return search(*args)

    def copied(array, device):
        seen["arrays"] += id(array) not in scan_gpu._copies
        return copy(array, device)

    monkeypatch.setattr(scan_gpu, "_LEAST_PRODUCTS", 0)
    monkeypatch.setattr(scan_gpu, "gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(scan_gpu.scan_torch, "search", counted)
    monkeypatch.setattr(scan_gpu, "_copy", copied)
    monkeypatch.setattr(scan_gpu, "_too_large", set())
    return seen


def segments() -> list[np.ndarray]:
    return [part.copy() for part in np.split(VECTORS, [1, 1500, 1501])]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_same_bits_with_and_without(stand_in, metric, dtype, monkeypatch):
    stored = [part.astype(dtype) for part in segments()]
    filters = (None, share_of(0.9), share_of(0.01), np.arange(ROWS) % 1500 > 1400)
    there = [scan(stored, QUERIES, 10, metric, keep) for keep in filters]
    ranges = [scan_range(stored, QUERIES, 0.4, metric, keep) for keep in filters]
    assert stand_in["searches"] == 8
    assert stand_in["arrays"] == 4, "each segment is copied once"
    monkeypatch.setattr(scan_gpu, "gpu", lambda: None)
    for keep, found, within in zip(filters, there, ranges, strict=True):
        for one, other in zip(found, scan(stored, QUERIES, 10, metric, keep), strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(within, scan_range(stored, QUERIES, 0.4, metric, keep), strict=True):
            for row, other_row in zip(one, other, strict=True):
                np.testing.assert_array_equal(row, other_row)
    assert stand_in["searches"] == 8


def test_segments_added_are_copied_and_those_gone_are_freed(stand_in):
    stored = segments()
    before = len(scan_gpu._copies)
    scan(stored, QUERIES, 5, "cosine")
    stored = [*stored, QUERIES.copy()]
    rows, _ = scan(stored, QUERIES, 5, "cosine")
    assert (rows[:, 0] == ROWS + np.arange(len(QUERIES))).all()
    assert stand_in["arrays"] == 5
    assert len(scan_gpu._copies) == before + 5
    stored.clear()
    gc.collect()
    assert len(scan_gpu._copies) == before


def test_a_gallery_that_does_not_fit_is_searched_on_the_cpu(stand_in, monkeypatch, caplog):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scan_gpu, "_copy", out_of_memory)
    stored = segments()
    for _ in range(2):
        rows, _ = scan(stored, QUERIES, 5, "cosine")
        assert rows.shape == (len(QUERIES), 5)
    assert caplog.text.count("searched on the CPU: CUDA out of memory") == 1


def test_small_searches_stay_where_they_are(stand_in, monkeypatch):
    monkeypatch.setattr(scan_gpu, "_LEAST_PRODUCTS", ROWS * 3)
    scan(segments(), QUERIES[:2], 5, "cosine")
    assert stand_in == {"searches": 0, "arrays": 0}
    scan(segments(), QUERIES[:3], 5, "cosine")
    assert stand_in["searches"] == 1


@pytest.mark.gpu
def test_on_a_gpu_the_bits_are_those_of_a_cpu(monkeypatch):
    stored, found = segments(), {}
    for least in (0, 1 << 60):
        monkeypatch.setattr(scan_gpu, "_LEAST_PRODUCTS", least)
        for metric in ("cosine", "euclidean"):
            found[least, metric] = scan(stored, QUERIES, 10, metric, share_of(0.7))
    for metric in ("cosine", "euclidean"):
        for one, other in zip(found[0, metric], found[1 << 60, metric], strict=True):
            np.testing.assert_array_equal(one, other)
