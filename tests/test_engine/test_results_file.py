from __future__ import annotations

import json
import math

import pytest

from engine.results_file import finite, read_entries, with_nan, write_entries

KIND = "weather results 2"


def test_what_is_written_is_read(tmp_path) -> None:
    entries = [{"name": "a", "metrics": {"sun": 0.5, "rain": math.nan}, "rows": [math.inf, 1]}]
    path = write_entries(tmp_path / "results.json", KIND, entries, place="here")
    content = json.loads(path.read_text())
    assert content["format"] == KIND and content["place"] == "here"
    (read,) = read_entries(path, KIND, "tools/sky.py", dict)
    assert read["metrics"] == {"sun": 0.5, "rain": None} and read["rows"] == [None, 1]
    assert math.isnan(with_nan(read["metrics"])["rain"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "weather results 1"}', "\x00"])
def test_other_files_are_refused(tmp_path, text) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"does not hold weather results \(.*sky\.py wrote"):
        read_entries(path, KIND, "tools/sky.py", dict)
    with pytest.raises(FileNotFoundError, match=r"no results at .*sky\.py writes"):
        read_entries(tmp_path / "absent.json", KIND, "tools/sky.py", dict)


def test_finite() -> None:
    assert [finite(v) for v in (1, 0.5, None, math.nan, math.inf)] == [1.0, 0.5, None, None, None]
