"""Which rows a search may see: the language of ``where``, the same for every kind of gallery.

A condition is a dict of field -> wanted::

    {"camera": 3}                               # equal
    {"camera": [1, 2]}                          # one of these
    {"time": {"$gte": 43200, "$lt": 50400}}     # operators; several are all to hold
    {"pid": {"$nin": [-1, 0]}, "gate": "north"} # fields, too, are all to hold

Operators: ``$eq $ne $in $nin $lt $lte $gt $gte``. A field that a record does not have is None: it
equals None, differs from everything else, and is neither below nor above anything. 1 and 1.0 are
equal, but True, 1 and '1' are three values; numbers compare with numbers and texts with texts.
It is plain JSON, so that a program, a command line and a web page ask with the same words.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Record: TypeAlias = dict[str, Any]
Where: TypeAlias = Callable[[Record], object] | Mapping[str, Any]
Operator: TypeAlias = Literal["in", "nin", "lt", "lte", "gt", "gte"]

KNOWN_FIELDS = ("image",)
"""Fields that any gallery may be asked for, whether a record has them: is this file there?"""

_SINGLE = {"$eq": "in", "$ne": "nin"}
_SEVERAL = {"$in": "in", "$nin": "nin"}
_ORDERED = {"$lt": "lt", "$lte": "lte", "$gt": "gt", "$gte": "gte"}
_OPERATORS = (*_SINGLE, *_SEVERAL, *_ORDERED)


@dataclass(frozen=True, slots=True)
class Condition:
    """``field`` is one, or none, of ``values``; or below or above the only one of them."""

    field: str
    operator: Operator
    values: tuple[Any, ...]

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether one record fulfils it: the plain meaning, which stores compute faster."""
        value = record.get(self.field)
        if self.operator in ("in", "nin"):
            found = value_key(value) in {value_key(wanted) for wanted in self.values}
            return found == (self.operator == "in")
        bound = self.values[0]
        if not same_order(value, bound):
            return False
        return bool(
            {
                "lt": value < bound,
                "lte": value <= bound,
                "gt": value > bound,
                "gte": value >= bound,
            }[self.operator]
        )


@dataclass(frozen=True, slots=True)
class RowFilter:
    """All that decides which rows the queries of one search may see.

    Attributes:
        conditions: hold for every row that is seen.
        function: a record -> bool that must hold, too; None for all.
        exclude_cameras: by query, the camera whose rows it must not see (None: sees all of them).
            Rows without a camera are never excluded.
        exclude_ids: by query, single rows that it must not see.
    """

    conditions: tuple[Condition, ...] = ()
    function: Callable[[Record], object] | None = None
    exclude_cameras: tuple[int | str | None, ...] | None = None
    exclude_ids: tuple[frozenset[int], ...] | None = None

    def of(self, queries: Iterable[int]) -> "RowFilter":
        """The filter of some of the queries, by number."""
        cameras, ids, chosen = self.exclude_cameras, self.exclude_ids, list(queries)
        return RowFilter(
            self.conditions,
            self.function,
            None if cameras is None else tuple(cameras[query] for query in chosen),
            None if ids is None else tuple(ids[query] for query in chosen),
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that the conditions name, in order, each once."""
        return tuple(dict.fromkeys(condition.field for condition in self.conditions))


def make_filter(
    where: Where | None,
    exclude_cameras: Sequence[Any] | None,
    exclude_ids: Sequence[Iterable[int]] | None,
    queries: int,
) -> RowFilter:
    """Checked arguments of a search of ``queries`` queries.

    Raises:
        ValueError: an argument is not what the module's text says.
    """
    conditions, function = _split(where)
    cameras = _cameras(exclude_cameras, queries)
    return RowFilter(conditions, function, cameras, _ids(exclude_ids, queries))


def value_key(value: Any) -> Hashable:
    """What two field values must share to be equal: 1 == 1.0, but True, 1 and '1' differ."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return (bool, value)
    if value is None or isinstance(value, int | float | str):
        return value
    return (list, json.dumps(value, sort_keys=True))


def same_order(value: Any, bound: Any) -> bool:
    """Whether one is below, at or above the other: two numbers, or two texts."""
    for kind in (int | float, str):
        if isinstance(bound, kind):
            return isinstance(value, kind) and not isinstance(value, bool)
    return False


def extent(values: Iterable[Any]) -> tuple[Any, Any] | None:
    """The least and the greatest of a field's values; None where there are none.

    Numbers and texts have no common order: where there are both, texts are left out.
    """
    there = [value for value in values if value is not None]
    ordered = [value for value in there if not isinstance(value, str)] or there
    return (min(ordered), max(ordered)) if ordered else None


def unknown_field(field: str, known: Iterable[str], option: str = "where") -> ValueError:
    """A field that no record has is a slip of the pen: an empty answer would hide it."""
    names = ", ".join(repr(name) for name in sorted({*known, *KNOWN_FIELDS}))
    return ValueError(
        f"{option} names the field {field!r}, which no record of this gallery has. Its fields: "
        f"{names}"
    )


def unlike_camera(camera: int | str, known: Iterable[int | str]) -> ValueError | None:
    """An error where a camera is known, but as another type.

    '3' for 3 would exclude nothing, in silence, and inflate every score measured so.
    """
    for twin in known:
        if type(twin) is not type(camera) and str(twin) == str(camera):
            return ValueError(
                f"exclude_cameras holds {camera!r} ({type(camera).__name__}), but the gallery "
                f"knows this camera as {twin!r} ({type(twin).__name__}). Use one type."
            )
    return None


def _split(
    where: Where | None,
) -> tuple[tuple[Condition, ...], Callable[[Record], object] | None]:
    if where is None:
        return (), None
    if isinstance(where, Mapping):
        found = [c for field, wanted in where.items() for c in _conditions(field, wanted)]
        return tuple(found), None
    if not callable(where):
        raise ValueError(
            "where must be a dict of field -> value, list of values or operators such as "
            f"{{'$gte': 5}}, or a function record -> bool; got {type(where).__name__}."
        )
    return (), where


def _conditions(field: object, wanted: Any) -> list[Condition]:
    if not isinstance(field, str):
        raise ValueError(f"where: field names must be str; got {field!r}.")
    if not (isinstance(wanted, Mapping) and wanted and all(_is_operator(key) for key in wanted)):
        if _is_several(wanted):
            return [Condition(field, "in", _values(field, wanted))]
        return [Condition(field, "in", (_plain(field, wanted),))]
    found = []
    for operator, value in wanted.items():
        if operator in _SINGLE:
            found.append(Condition(field, _SINGLE[operator], (_plain(field, value),)))  # type: ignore[arg-type]
        elif operator in _SEVERAL:
            if not _is_several(value):
                raise ValueError(
                    f"where[{field!r}]: {operator} needs a list of values; got {value!r}."
                )
            found.append(Condition(field, _SEVERAL[operator], _values(field, value)))  # type: ignore[arg-type]
        elif operator in _ORDERED:
            bound = _plain(field, value)
            if isinstance(bound, bool) or not isinstance(bound, int | float | str):
                raise ValueError(
                    f"where[{field!r}]: {operator} needs a number or a text; got {value!r}."
                )
            found.append(Condition(field, _ORDERED[operator], (bound,)))  # type: ignore[arg-type]
        else:
            raise ValueError(
                f"where[{field!r}]: {operator!r} is no operator; there are {', '.join(_OPERATORS)}."
            )
    return found


def _is_operator(key: object) -> bool:
    return isinstance(key, str) and key.startswith("$")


def _is_several(wanted: Any) -> bool:
    return isinstance(wanted, list | tuple | set | frozenset | range | np.ndarray)


def _values(field: str, wanted: Any) -> tuple[Any, ...]:
    return tuple(_plain(field, value) for value in wanted)


def _plain(field: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"where[{field!r}] must be a JSON value, a list of them, or operators; got {value!r} "
            f"({error})."
        ) from error
    return value


def _cameras(cameras: Any, queries: int) -> tuple[int | str | None, ...] | None:
    if cameras is None:
        return None
    if isinstance(cameras, str | bytes) or not hasattr(cameras, "__len__"):
        raise ValueError(
            f"exclude_cameras must be a list with one camera (or None) per query; got {cameras!r}."
        )
    if len(cameras) != queries:
        raise ValueError(
            f"exclude_cameras must hold one camera (or None) per query; got {len(cameras)} for "
            f"{queries} queries."
        )
    plain = tuple(c.item() if isinstance(c, np.generic) else c for c in cameras)
    for camera in plain:
        if isinstance(camera, bool) or not isinstance(camera, int | str | None):
            raise ValueError(
                "exclude_cameras must hold one camera (int or str) or None per query; got "
                f"{camera!r}."
            )
    return plain


def _ids(ids: Any, queries: int) -> tuple[frozenset[int], ...] | None:
    if ids is None:
        return None
    try:
        sets = tuple(frozenset(as_id(row_id) for row_id in one) for one in ids)
    except TypeError:
        raise ValueError(
            f"exclude_ids must be a list with a list of ids per query; got {ids!r}."
        ) from None
    if len(sets) != queries:
        raise ValueError(
            f"exclude_ids must hold a list of ids per query; got {len(sets)} for {queries} queries."
        )
    return sets


def as_ids(ids: Any) -> list[int]:
    """Ids as ints; ValueError for what is none."""
    if isinstance(ids, str | bytes) or not hasattr(ids, "__iter__"):
        raise ValueError(f"ids must be a list of ints as returned by add; got {ids!r}.")
    return [as_id(row_id) for row_id in ids]


def as_id(row_id: Any) -> int:
    """An id as an int; ValueError for what is none."""
    if isinstance(row_id, bool) or not isinstance(row_id, int | np.integer):
        raise ValueError(f"ids must be ints as returned by add; got {row_id!r}.")
    return int(row_id)


def unknown_ids(unknown: Sequence[int], wanted: int, done: str) -> ValueError:
    """The error that names ids which are not in a gallery; ``done`` is what was not done."""
    shown = ", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
    return ValueError(
        f"{len(unknown)} of {wanted} ids are not in the gallery (never given, or removed before): "
        f"{shown}. Nothing was {done}."
    )
