"""Conditions on records as expressions of Milvus that mean exactly the same.

Milvus compares numbers, truth values and missing fields by rules of its own, which differ between
its editions. So no value of a record is compared there: next to its record a row keeps *keys*,
texts of hexadecimal digits whose order and equality are those of the values
(:func:`order_key`), and an expression compares texts with texts. No text of a user reaches an
expression other than as digits, so nothing can break out of one.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

from reid.gallery.where import Condition, Record, value_key

COLUMNS = ("pid", "camera", "time")
"""Fields with a column of keys of their own; '' where a record has none."""
KEY_LENGTH = 1024
"""Characters of a key, at most."""
MAX_FIELDS = 2000
"""Fields of a record, at most: a row keeps two texts for each in an array of 4,096."""

_TEXT_BYTES = 100  # of a text, in UTF-8, that its key spells out
_NAME_BYTES = 100
_INT_DIGITS = 400  # hexadecimal, of an int
_MOST_VALUES = 4096  # in one expression


def order_key(value: Any) -> str:
    """A text of ``[a-z0-9~]`` for a JSON value; '' for None.

    Keys are equal exactly where the values are (:func:`reid.gallery.where.value_key`), and keys of
    two numbers, or of two texts, are in the order of these; only texts of more than 100 bytes that
    begin alike are in an arbitrary order (:func:`orders_exactly`).
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"b{int(value)}"
    if isinstance(value, int | float):
        return f"n{_number_key(value)}"
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")  # in the order of code points
        return f"s{_cut(text, _TEXT_BYTES)}"
    return f"j{hashlib.sha256(repr(value_key(value)).encode('utf-8', 'surrogatepass')).hexdigest()}"


def orders_exactly(bound: Any) -> bool:
    """Whether all keys are below or above that of ``bound`` as the values are."""
    return not isinstance(bound, str) or len(bound.encode("utf-8", "surrogatepass")) <= _TEXT_BYTES


def key_columns(record: Record) -> dict[str, Any]:
    """What a row keeps beside its record, by column.

    Raises:
        ValueError: the record has too many fields.
    """
    free = {name: value for name, value in record.items() if name not in COLUMNS}
    if len(free) > MAX_FIELDS:
        raise ValueError(
            f"a record has {len(free)} fields; in Milvus at most {MAX_FIELDS} can be searched by. "
            "Put what is not searched by into one field, as a dict."
        )
    keys = {_name_key(name): order_key(value) for name, value in free.items()}
    return {
        **{name: order_key(record.get(name)) for name in COLUMNS},
        "fields": keys,
        "keys": [*keys, *(f"{name}={key}" for name, key in keys.items())],
    }


def expression(conditions: Sequence[Condition]) -> tuple[str, tuple[Condition, ...]]:
    """An expression ('' for all rows), and the conditions that it does not express."""
    parts, left = [], []
    for condition in conditions:
        part = _expressed(condition)
        if part is None:
            left.append(condition)
        else:
            parts.append(part)
    return conjunction(parts), tuple(left)


def conjunction(parts: Sequence[str]) -> str:
    """All of some expressions; '' is all rows."""
    return " and ".join(f"({part})" for part in parts if part)


def has_field(name: str) -> str:
    """An expression: rows whose record has a field."""
    if name in COLUMNS:
        return f'{name} != ""'
    return f'array_contains(keys, "{_name_key(name)}")'


def listed(column: str, keys: Sequence[str]) -> str:
    """An expression: rows whose key in a column is one of these."""
    return f"{column} in [{_quoted(keys)}]" if keys else "id < 0"


def _expressed(condition: Condition) -> str | None:
    name = condition.field
    if condition.operator in ("in", "nin"):
        keys = sorted({order_key(value) for value in condition.values})
        if len(keys) > _MOST_VALUES:
            return None
        if name in COLUMNS:
            found = listed(name, keys)
        else:
            alternatives = [f"not {has_field(name)}"] if "" in keys else []
            wanted = _quoted([f"{_name_key(name)}={key}" for key in keys if key])
            if wanted:
                alternatives.append(f"array_contains_any(keys, [{wanted}])")
            found = " or ".join(f"({part})" for part in alternatives) or "id < 0"
        return found if condition.operator == "in" else f"not ({found})"
    bound = condition.values[0]
    if not orders_exactly(bound):
        return None
    key = order_key(bound)
    column = name if name in COLUMNS else f'fields["{_name_key(name)}"]'
    lowest, highest = key[0], f"{key[0]}~~"  # of the keys of this kind
    sign = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}[condition.operator]
    other = f'{column} >= "{lowest}"' if sign.startswith("<") else f'{column} <= "{highest}"'
    return f'({column} {sign} "{key}") and ({other})'


def _quoted(keys: Sequence[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


def _number_key(number: int | float) -> str:
    """Sixteen digits for the nearest float64, then what an int is above or below that.

    Of two ints with the same nearest float64 the greater is further above it, so that all numbers
    are in order and no two share a key.
    """
    try:
        nearest = float(number)
    except OverflowError:  # an int beyond float64
        nearest = float("inf") if number > 0 else float("-inf")
        rest = int(number)
    else:
        rest = int(number) - int(nearest) if isinstance(number, int) else 0
    (bits,) = struct.unpack(">Q", struct.pack(">d", nearest + 0.0))  # + 0.0: -0.0 is 0.0
    bits = bits ^ (1 << 64) - 1 if bits >> 63 else bits | 1 << 63
    return f"{bits:016x}{_int_key(rest)}"


def _int_key(number: int) -> str:
    """Digits in the order of ints: negative ones begin with 1, nought with 5, the others with 9."""
    if not number:
        return "5"
    digits = f"{abs(number):x}"
    if len(digits) > _INT_DIGITS:
        raise ValueError(
            f"an int of {len(digits)} hexadecimal digits cannot be kept in Milvus, where a number "
            f"may have {_INT_DIGITS}; keep it as a text."
        )
    size = f"{len(digits):03x}"
    if number > 0:
        return f"9{size}{digits}"
    turned = str.maketrans("0123456789abcdef", "fedcba9876543210")
    return f"1{(size + digits).translate(turned)}"


def _name_key(name: str) -> str:
    return f"f{_cut(name.encode('utf-8', 'surrogatepass'), _NAME_BYTES)}"


def _cut(text: bytes, most: int) -> str:
    """The text in hexadecimal; a longer one, by its beginning and its hash."""
    if len(text) <= most:
        return text.hex()
    return f"{text[:most].hex()}~{hashlib.sha256(text).hexdigest()}"
