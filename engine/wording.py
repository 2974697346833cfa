"""Numbers and lists as a sentence has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def counted(number: int, noun: str) -> str:
    """``1 image``, ``12,936 images``, ``2 identities``, ``3 queries``."""
    if number != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun}"


def some(items: Iterable[str], limit: int = 5) -> str:
    """The first few of ``items`` for an error message, and how many more there are."""
    items = list(items)
    more = f", and {len(items) - limit:,} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def distinct(names: Sequence[str]) -> list[str]:
    """``a, b, a`` -> ``a, b, a (2)``."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def as_file_name(text: str) -> str:
    """``run/epoch 3 on art`` -> ``run_epoch_3_on_art``: a name as (a part of) a file's."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_")


def printable(text: str) -> str:
    """A text of somebody else's for a terminal: what would steer that is shown, not sent."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
