"""When small segments become one, so that ten thousand adds do not leave ten thousand files."""

from collections.abc import Sequence

_FAN_IN = 16  # small segments that become one


def merge_start(rows: Sequence[int], sizes: Sequence[int], max_rows: int, max_bytes: int) -> int:
    """The number of the segment from which on all are to be merged; the last one's for none.

    Merged are the fewest last segments that are at least 16, and of which none has more rows than
    the others together; then, as the result counts as one, again. So a row is copied only into a
    segment of at least twice the rows of the one it lies in: at most log2(max_rows) times. Ten
    thousand adds of one row copy each 7 times, and leave 23 segments at the most.

    Args:
        rows: of every segment, in row order; the last is the new one.
        sizes: their bytes.
        max_rows: a merged segment has at most so many.
        max_bytes: and so many bytes, which bounds how long the longest merging takes.
    """
    start = len(rows) - 1
    total, size, count, largest = rows[-1], sizes[-1], 1, rows[-1]
    for number in range(len(rows) - 2, -1, -1):
        total, size = total + rows[number], size + sizes[number]
        if total > max_rows or size > max_bytes:
            break
        count, largest = count + 1, max(largest, rows[number])
        if count >= _FAN_IN and total >= 2 * largest:
            start, count, largest = number, 1, total
    return start
