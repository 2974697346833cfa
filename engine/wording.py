"""Numbers and lists as a sentence has them."""

from __future__ import annotations

from collections.abc import Iterable


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
