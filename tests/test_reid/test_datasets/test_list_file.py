from pathlib import Path

import pytest

from reid.datasets.list_file import raise_missing, read_rows
from tests.test_reid.test_datasets.made_trees import write_images


def test_rows(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(b"\xef\xbb\xbfa.jpg 1\r\n\r\n  b.jpg\t2 more \n")
    assert read_rows(file, "image identity") == [["a.jpg", "1"], ["b.jpg", "2", "more"]]
    file.write_text("x;1 ; 2\n")
    assert read_rows(file, "image camera", separator=";") == [["x", "1", "2"]]
    file.write_text("")
    assert read_rows(file, "image") == []


def test_what_is_wrong_is_said_by_line(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    with pytest.raises(FileNotFoundError, match=r"list\.txt' is missing"):
        read_rows(file, "image")
    file.write_text("a 1\nb\nc 3\nd\n")
    with pytest.raises(ValueError, match=r"2 lines that are not <image> <pid>: line 2: 'b', li"):
        read_rows(file, "image pid")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_rows(file, "image")


def test_missing_images(tmp_path: Path) -> None:
    write_images(tmp_path, ("a.jpg", "x/b.jpg", "x/y/c.jpg"))
    raise_missing(tmp_path, ["a.jpg", "x/b.jpg", "x/y/c.jpg"], listed_in="a list")
    raise_missing(tmp_path, [], listed_in="a list")
    with pytest.raises(FileNotFoundError, match=r"2 images of the 3 listed in a list are not in"):
        raise_missing(tmp_path, ["a.jpg", "x/a.jpg", "z/c.jpg"], listed_in="a list")


def test_each_folder_is_looked_into_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    names = [f"{k % 3}/{k}.jpg" for k in range(60)]
    write_images(tmp_path, names)
    looks = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looks.append(path) or scandir(path))
    raise_missing(tmp_path, names, listed_in="a list")
    assert len(looks) == 3
