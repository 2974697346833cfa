"""How large, deep and odd a JSON value of a client may be before anything works with it."""

from __future__ import annotations

from typing import Any

__all__ = ["check_plain"]

_INT64 = 2**63


def check_plain(value: Any, *, depth: int = 6, parts: int = 1000, text: int = 4096) -> Any:
    """``value``, if it is a harmless JSON value.

    Args:
        depth: levels of lists and objects. parts: values and names in all. text: characters of one.

    Raises:
        ValueError: it is too large or too deep; a number is beyond 64 bits or not finite; a text
            has half a surrogate pair or a NUL, which most other programs do not take.
    """
    left = parts
    waiting = [(value, 0)]
    while waiting:
        item, level = waiting.pop()
        left -= 1
        if left < 0:
            raise ValueError(f"at most {parts} values are accepted")
        if isinstance(item, dict | list):
            if level >= depth:
                raise ValueError(f"at most {depth} levels of lists and objects are accepted")
            inner = [*item, *item.values()] if isinstance(item, dict) else item
            waiting.extend((part, level + 1) for part in inner)
        else:
            _check_scalar(item, text)
    return value


def _check_scalar(value: Any, longest: int) -> None:
    if isinstance(value, str):
        if len(value) > longest:
            raise ValueError(f"a text has at most {longest} characters")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("a text holds a character that cannot be stored")
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("a number must be finite")
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise ValueError("a whole number must fit into 64 bits")
