"""A filter as a person types it: ``camera=1,2``, ``time>=43200``, ``pid!=-1`` -> ``where``.

Each text is one condition, and all are to hold::

    camera=3            equal                      gate=north,south    one of these
    camera!=1,2         none of these              time>=43200         also <, <=, >
    pid=null            the row has no pid         pid!=null           it has one

A value is a number, ``true``, ``false`` or ``null`` where it reads as one, and a text otherwise;
``001`` is a text. Quotes make any value a text, and keep commas together: ``gate="left, rear"``.
A text that begins with a brace is JSON, as :mod:`reid.gallery.where` has it:
``{"time": {"$gte": 43200}}``.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reid.gallery.where import make_filter

_OPERATORS = {
    "=": "$in",
    "==": "$in",
    "!=": "$nin",
    "<": "$lt",
    "<=": "$lte",
    ">": "$gt",
    ">=": "$gte",
}
_CONDITION = re.compile(
    r"\s*(?P<field>[^=!<>]*[^=!<>\s])\s*(?P<operator>==|!=|<=|>=|=|<|>)(?P<values>.*)", re.S
)
_VALUE = re.compile(
    r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^,"']*?))\s*(?:(?P<more>,)|$)"""
)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False, "null": None}
_EXAMPLES = 'camera=1,2  time>=43200  pid!=-1  gate="left, rear"  pid=null'

Known = Callable[[str], Iterable[Any]]
"""A field's name -> the values that rows have in it."""


def parse_where(texts: Sequence[str], known: Known | None = None) -> dict[str, Any]:
    """Conditions as texts -> the dict that ``Gallery.search(where=...)`` takes.

    Args:
        texts: see the module's text; none give ``{}``, which all rows fulfil.
        known: tells what a field holds, so that a value without quotes is written as the gallery
            has it: ``camera=1`` finds a camera ``'1'``, where that is how cameras are called.

    Raises:
        ValueError: a text is no condition, or two of them contradict each other.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            _merge_json(found, text)
        else:
            _merge_condition(found, text, known)
    where = {field: _simplest(wanted) for field, wanted in found.items()}
    make_filter(where, None, None, 0)
    return where


def parse_fields(texts: Sequence[str], known: Known | None = None) -> dict[str, Any]:
    """``pid=7``, ``gate=north``, ``time=null`` -> the fields to set; null removes a field.

    Values are read as those of :func:`parse_where`, and written as the gallery writes its others:
    ``camera=4`` becomes the text ``'4'`` where all cameras are texts.

    Raises:
        ValueError: a text is no field and value, or two of them name one field.
    """
    found: dict[str, Any] = {}
    for text in texts:
        match = _CONDITION.fullmatch(text)
        words = [] if match is None or match["operator"] != "=" else _split(text, match["values"])
        if match is None or len(words) != 1:
            raise ValueError(
                f'{text!r} does not set a field. Examples: pid=7  gate="left, rear"  time=null'
            )
        if match["field"] in found:
            raise ValueError(f"{text!r}: the field {match['field']!r} is set twice.")
        found[match["field"]] = _bound(match["field"], words[0], known)
    return found


def _merge_condition(found: dict[str, dict[str, Any]], text: str, known: Known | None) -> None:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise _no_condition(text, "it has no field and operator (=, !=, <, <=, >, >=)")
    field, operator = match["field"], _OPERATORS[match["operator"]]
    words = _split(text, match["values"])
    if operator not in ("$in", "$nin"):
        if len(words) > 1:
            raise _no_condition(text, f"{match['operator']} takes one value")
        _put(found, text, field, operator, _bound(field, words[0], known))
        return
    held: dict[str, dict[type, Any]] = {}
    if known is not None and any(not quoted for _, quoted in words):
        for value in known(field):
            if isinstance(value, str | int | float):
                written = value if isinstance(value, str) else json.dumps(value)
                held.setdefault(written, {})[type(value)] = value
    values = [value for word in words for value in _as_held(*word, held)]
    if operator == "$nin" and (before := found.get(field, {}).get("$nin")) is not None:
        found[field]["$nin"] = [*before, *values]
        return
    _put(found, text, field, operator, values)


def _merge_json(found: dict[str, dict[str, Any]], text: str) -> None:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise _no_condition(text, f"it begins like JSON, but is none ({error})") from error
    make_filter(given, None, None, 0)
    for field, wanted in given.items():
        operators = isinstance(wanted, dict) and wanted and all(k.startswith("$") for k in wanted)
        if not operators:
            wanted = {"$in": wanted if isinstance(wanted, list) else [wanted]}
        for operator, value in wanted.items():
            _put(found, text, field, operator, value)


def _put(
    found: dict[str, dict[str, Any]], text: str, field: str, operator: str, value: Any
) -> None:
    wanted = found.setdefault(field, {})
    if operator in wanted:
        hint = f"; for one of several values write {field}=1,2" if operator == "$in" else ""
        raise ValueError(f"where: {text!r} is a second condition of its kind on {field!r}{hint}.")
    wanted[operator] = value


def _split(text: str, values: str) -> list[tuple[str, bool]]:
    """``1, "a, b"`` -> the values, each with whether it stood in quotes."""
    words: list[tuple[str, bool]] = []
    position = 0
    while True:
        match = _VALUE.match(values, position)
        if match is None:
            raise _no_condition(text, "quotes in it do not end, or stand inside a value")
        plain = match["plain"]
        if plain == "":
            raise _no_condition(text, 'a value is missing; an empty text is ""')
        if plain is not None and re.search("[=<>]", plain):
            raise _no_condition(
                text,
                f"the value {plain!r} holds an operator; give every condition a text of its own, "
                "or put the value into quotes",
            )
        quoted = match["double"] or match["single"] or ""
        words.append((quoted, True) if plain is None else (plain, False))
        if match["more"] is None:
            return words
        position = match.end()


def _as_held(word: str, quoted: bool, held: dict[str, dict[type, Any]]) -> list[Any]:
    """The values that a word may mean: as the gallery writes it, else as it reads."""
    if quoted:
        return [word]
    if word in held and word != "null":
        return list(held[word].values())
    return [_value(word)]


def _bound(field: str, word: tuple[str, bool], known: Known | None) -> Any:
    """A value as it reads, or as a text where all of the field's values are texts."""
    text, quoted = word
    value = text if quoted else _value(text)
    if quoted or known is None or value is None or isinstance(value, str):
        return value
    values = [held for held in known(field) if held is not None]
    texts = bool(values) and all(isinstance(held, str) for held in values)
    return text if texts else value


def _value(word: str) -> Any:
    if word in _WORDS:
        return _WORDS[word]
    return json.loads(word) if _NUMBER.fullmatch(word) else word


def _simplest(wanted: dict[str, Any]) -> Any:
    """``{"$in": [3]}`` -> 3: what a person would write, and reads again in a report."""
    wanted = dict(wanted)
    if set(wanted) == {"$in"}:
        values = wanted["$in"]
        alone = len(values) == 1 and not isinstance(values[0], list | dict)
        return values[0] if alone else list(values)
    if len(wanted.get("$nin", ())) == 1:
        return {
            ("$ne" if k == "$nin" else k): (v[0] if k == "$nin" else v) for k, v in wanted.items()
        }
    return wanted


def _no_condition(text: str, why: str) -> ValueError:
    return ValueError(f"where: {text!r} is no condition: {why}. Examples: {_EXAMPLES}")
