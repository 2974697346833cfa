"""``results.json``: a list of results that the tool which wrote it can read again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .atomic import write_json

Result = TypeVar("Result")


def write_entries(
    path: str | Path, kind: str, entries: Sequence[Mapping[str, Any]], **more: Any
) -> Path:
    """Write ``entries``, with null for what is no finite number.

    Args:
        kind: of results and its version, 'segmentation results 1'.
        more: further facts of the run, e.g. the averages.
    """
    content = {"format": kind, "results": [_without_nan(entry) for entry in entries], **more}
    return write_json(path, content)


def read_entries(
    path: str | Path, kind: str, tool: str, build: Callable[[dict[str, Any]], Result]
) -> list[Result]:
    """What ``write_entries`` wrote, each entry made a result by ``build``.

    Raises:
        FileNotFoundError: no such file. ValueError: it is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no results at {path}; {tool} writes results.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != kind:
            raise ValueError(f"its format is {content['format']!r}")
        return [build(entry) for entry in content["results"]]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        what = kind.rstrip(" 0123456789")
        raise ValueError(
            f"{path} does not hold {what} ({error}); expected a results.json that {tool} wrote"
        ) from error


def finite(value: Any) -> float | None:
    """A float, or None for None, NaN and infinity."""
    number = float(value) if value is not None else math.nan
    return number if math.isfinite(number) else None


def with_nan(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics as they were before they were written: NaN for null."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return finite(value) if isinstance(value, float) else value
