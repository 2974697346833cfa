"""What a record may be.

A record is a dict of JSON values. Four fields have a meaning: ``image`` (path or URL, str), ``pid``
and ``camera`` (int or str) and ``time`` (number or str); all may be absent, and any other field is
free. A field that is None is the same as one that is not there.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from reid.gallery.where import Record

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")  # JPEG, PNG, WebP
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "image": (str,),
    "pid": (int, str),
    "camera": (int, str),
    "time": (int, float, str),
}


def check_records(records: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Validated copies, exactly as they will read back (numpy scalars become numbers, None goes).

    Raises:
        ValueError: something is not a dict of JSON values; names the record and the field.
    """
    if isinstance(records, Mapping | str | bytes):
        raise ValueError(f"records must be a list of dicts, one per feature; got {type(records)}.")
    checked = (_check_record(record, f"record {row}") for row, record in enumerate(records))
    return [{f: value for f, value in record.items() if value is not None} for record in checked]


def check_changes(changes: Mapping[int, Mapping[str, Any]]) -> dict[int, Record]:
    """The same for changes of records, by id; here None stays: it takes the field away.

    Raises:
        ValueError: something is not a dict of JSON values; names the id and the field.
    """
    return {
        row_id: _check_record(change, f"change of id {row_id}")
        for row_id, change in changes.items()
    }


def changed(record: Record, change: Record) -> Record:
    """A record with some fields set anew; those set to None go away."""
    return {f: value for f, value in {**record, **change}.items() if value is not None}


def is_picture(thumbnail: Any) -> bool:
    """Whether these are the bytes of a JPEG, PNG or WebP file, by how they begin."""
    return isinstance(thumbnail, bytes) and thumbnail.startswith(_PICTURES)


def _check_record(record: Any, place: str) -> Record:
    if not isinstance(record, Mapping):
        raise ValueError(f"{place} must be a dict; got {type(record).__name__}.")
    plain = {}
    for key, value in record.items():
        if not isinstance(key, str):
            raise ValueError(f"{place}: field names must be str; got {key!r}.")
        name = key if key.isascii() else json.loads(json.dumps(key))
        plain[name] = _plain(value, f"{place}, field {key!r}")
    for field, types in _FIELD_TYPES.items():
        value = plain.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            expected = " or ".join(kind.__name__ for kind in types)
            raise ValueError(
                f"{place}, field {field!r}: expected {expected} (or None), got {value!r}."
            )
    return plain


def _plain(value: Any, place: str) -> Any:
    """The value as JSON would give it back: tuples become lists, numpy scalars numbers."""
    kind = type(value)
    if (
        value is None
        or kind is bool
        or (kind is int and abs(value) < 2**63)
        or (kind is float and math.isfinite(value))
        or (kind is str and value.isascii())
    ):
        return value  # most values; the long way gives the same
    try:
        text = json.dumps(value, allow_nan=False, default=_numpy_scalar)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{place}: not a JSON value ({error}). Records are kept as JSON: use str, int, finite "
            "float, bool, None, and lists and dicts of these (a path as str(path), a date as "
            ".isoformat())."
        ) from error
    _check_keys(value, place)
    return json.loads(text)


def _numpy_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} object")


def _check_keys(value: Any, place: str) -> None:
    """Refuse the key 1, which JSON would turn into '1' in silence."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place}: field names must be str; got {key!r}.")
            _check_keys(item, place)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item, place)
