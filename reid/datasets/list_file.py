"""Text files that list images, one a line: ``<image> <identity>`` and the like.

That a listed image exists is learned from one look into each folder, not from a look-up of each
file: a set of 100,000 images is checked in a moment, also on a slow disk.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from engine.wording import counted, some

__all__ = ["raise_missing", "read_rows"]


def read_rows(file: Path, columns: str, *, separator: str | None = None) -> list[list[str]]:
    """The cells of each line that is not empty; Windows' line ends and a byte order mark are fine.

    Args:
        columns: names of the cells that a line must have, e.g. ``"image identity"``; it may have
            more.
        separator: between cells; None: white space.

    Raises:
        FileNotFoundError: no such file. ValueError: no text, or lines of fewer cells: by number.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"the list {str(file)!r} is missing; it comes with the data set: unpack it again"
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"the list {str(file)!r} is no UTF-8 text") from None
    expected = columns.split()
    wrong = []
    rows = []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.strip().split(separator)]
        if not line.strip():
            continue
        if len(cells) < len(expected):
            wrong.append(f"line {number}: {line.strip()!r}")
        else:
            rows.append(cells)
    if wrong:
        raise ValueError(
            f"the list {str(file)!r} has {counted(len(wrong), 'line')} that "
            f"{'is' if len(wrong) == 1 else 'are'} not <{'> <'.join(expected)}>: {some(wrong)}"
        )
    return rows


def raise_missing(folder: Path, names: Iterable[str], *, listed_in: str) -> None:
    """Refuse a list that names images which are not there.

    Args:
        folder: that the names, with forward slashes, are relative to.
        listed_in: the list(s), for the message.

    Raises:
        FileNotFoundError: some are missing; how many, and the first of them.
    """
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_folder[name.rpartition("/")[0]].append(name)
    missing = []
    for below, listed in by_folder.items():
        try:
            with os.scandir(folder / below) as entries:
                there = {entry.name for entry in entries}
        except OSError:  # no such folder
            there = set()
        missing += [name for name in listed if name.rpartition("/")[2] not in there]
    if missing:
        total = sum(map(len, by_folder.values()))
        raise FileNotFoundError(
            f"{counted(len(missing), 'image')} of the {total:,} listed in {listed_in} "
            f"{'is' if len(missing) == 1 else 'are'} not in {str(folder)!r}: "
            f"{some(sorted(missing))}; unpack the images again, or use lists that fit them"
        )
