"""Numbers for names of identities and cameras."""

import re
from collections.abc import Iterable

__all__ = ["number_names"]


def number_names(names: Iterable[str]) -> dict[str, int]:
    """name -> number: its own value when every name is a plain number, else its place in order.

    Leading zeros make no plain number: ``01`` and ``1`` may be two identities.
    """
    ordered = sorted(set(names))
    if all(re.fullmatch(r"0|[1-9][0-9]{0,17}", name) for name in ordered):  # fits int64
        return {name: int(name) for name in ordered}
    return {name: number for number, name in enumerate(ordered)}
