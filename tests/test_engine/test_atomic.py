from __future__ import annotations

import json

import pytest

from engine.atomic import write_csv, write_file, write_json


def test_write_json(tmp_path) -> None:
    path = write_json(tmp_path / "new" / "file.json", {"a": [1, 2]})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_crash_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = write_json(tmp_path / "file.json", 1)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        write_json(path, 2)
    assert json.loads(path.read_text()) == 1


def test_write_file_makes_folders(tmp_path) -> None:
    path = write_file(str(tmp_path / "a" / "b.bin"), b"data")
    assert path.read_bytes() == b"data" and [p.name for p in path.parent.iterdir()] == ["b.bin"]


def test_a_table_keeps_the_bytes_of_odd_names(tmp_path) -> None:
    file = write_csv(
        tmp_path / "new" / "a.csv", [("path", "reason"), ("caf\udce9, 1.png", 'no "x"')]
    )
    assert file.read_bytes() == b'path,reason\r\n"caf\xe9, 1.png","no ""x"""\r\n'
