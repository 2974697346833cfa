"""Which segments are merged: few are left, and no row is copied often."""

import math
import random

import pytest

from reid.gallery.merging import merge_start

MAX_ROWS, ROW_BYTES = 4096, 100
_random = random.Random(0)

STREAMS = {
    "ones": [1] * 3000,
    "sixteens": [16] * 1000,
    "two sizes": [200 if i % 2 else 1 for i in range(1000)],
    "many small, then large": [1, 1, 1, 1, 1000] * 300,
    "random": [int(2 ** _random.uniform(0, 10)) for _ in range(1500)],
    "larger than any merged segment": [5000] * 40,
}


def fill(batches, max_bytes=10**9):
    """Rows of the segments after every add, and by row the number of times it was copied."""
    segments: list[list[int]] = []  # each segment as the copies made of its rows
    history = []
    for batch in batches:
        rows = [*map(len, segments), batch]
        start = merge_start(rows, [ROW_BYTES * count for count in rows], MAX_ROWS, max_bytes)
        merged = [copies + 1 for segment in segments[start:] for copies in segment]
        segments = [*segments[:start], merged + [0] * batch]
        history.append([len(segment) for segment in segments])
    return history, [copies for segment in segments for copies in segment]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda name: name.replace(" ", "-"))
def test_few_segments_and_few_copies(stream):
    batches = STREAMS[stream]
    history, copies = fill(batches)
    assert sum(history[-1]) == len(copies) == sum(batches)
    assert max(copies) <= math.log2(MAX_ROWS)
    full = sum(batches) / MAX_ROWS
    assert max(map(len, history)) <= 16 * (full + math.log2(MAX_ROWS))
    if stream == "ones":
        assert max(map(len, history)) <= 25
    assert all(rows <= MAX_ROWS or rows in batches for rows in history[-1])


def test_a_limit_of_bytes_bounds_what_one_add_copies():
    history, _ = fill([1] * 2000, max_bytes=100 * ROW_BYTES)
    assert max(map(max, history)) <= 100


def test_nothing_is_merged_with_nothing():
    assert merge_start([5], [500], MAX_ROWS, 10**9) == 0
    assert merge_start([5] * 15, [500] * 15, MAX_ROWS, 10**9) == 14
    assert merge_start([5] * 16, [500] * 16, MAX_ROWS, 10**9) == 0
    assert merge_start([1000] + [1] * 15, [1] * 16, MAX_ROWS, 10**9) == 15
