"""What compacting makes of segments: which stay, and which rows go together into new ones."""

from collections.abc import Iterator

from reid.gallery.manifest import Segment
from reid.gallery.segment import SegmentRows
from reid.gallery.snapshot import Snapshot


def packed(snapshot: Snapshot, most: int) -> Iterator[Segment | list[SegmentRows]]:
    """The rows that were not removed: segments that may stay, and runs of at most ``most`` rows."""
    run: list[SegmentRows] = []
    room = most
    for number, segment in enumerate(snapshot.segments):
        rows = snapshot.live_numbers(number)
        if len(rows) == len(segment) >= most // 2:
            yield from _closed(run)
            yield segment.entry
            run, room = [], most
            continue
        while len(rows):
            run.append(segment.rows(rows[:room]))
            rows, room = rows[room:], room - len(rows[:room])
            if not room:
                yield from _closed(run)
                run, room = [], most
    yield from _closed(run)


def _closed(run: list[SegmentRows]) -> Iterator[Segment | list[SegmentRows]]:
    if len(run) == 1 and len(run[0].numbers) == len(run[0].segment):
        yield run[0].segment.entry
    elif run:
        yield run
