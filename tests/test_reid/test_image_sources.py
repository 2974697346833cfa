from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.datasets import ImageFolder
from reid.image_sources import Item, dataset_items, fingerprint, list_items


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images in two folders, with a hidden file and a text beside them."""
    for name in ("a/1.png", "a/2.jpg", "b/c/3.png", "b/4.PNG"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file.with_suffix(file.suffix.lower())), np.zeros((8, 4, 3), np.uint8))
        file.with_suffix(file.suffix.lower()).rename(file)
    (tmp_path / "photos" / "a" / "._1.png").write_bytes(b"resource fork")
    (tmp_path / "photos" / "readme.md").write_text("no image")
    return tmp_path / "photos"


def names(items: list[Item], root: Path) -> list[str]:
    return [Path(item.path).relative_to(root).as_posix() for item in items]


def test_folders_are_searched_with_all_below(photos: Path) -> None:
    items = list_items([photos])
    assert names(items, photos) == ["a/1.png", "a/2.jpg", "b/4.PNG", "b/c/3.png"]
    assert items[0].record == {"image": str(photos / "a/1.png")} and items[0].frame is None


def test_a_list_keeps_order_and_repetitions(photos: Path) -> None:
    (photos / "list.txt").write_text("\ufeffb/4.PNG\n\na/1.png\nb/4.PNG\nmissing.png\n")
    expected = ["b/4.PNG", "a/1.png", "b/4.PNG", "missing.png"]
    assert names(list_items([photos / "list.txt"]), photos) == expected
    both = list_items([photos / "list.txt", photos / "a" / "1.png"])
    assert names(both, photos) == [*expected, "a/1.png"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_keeps_its_columns(photos: Path, separator: str) -> None:
    rows = [
        ["Path", "pid", "camera", "time", "weather"],
        ["a/1.png", "001", "2", "12.5", "rain"],
        ["a/2.jpg", "17", "3", "-1", ""],
    ]
    text = "\n".join(separator.join(row) for row in rows)
    (photos / "list.csv").write_text(text + "\n\n")
    first, second = (dict(item.record) for item in list_items([photos / "list.csv"]))
    assert first.pop("image") == str(photos / "a/1.png")
    # a column with one 001 holds names; the others are numbers
    assert first == {"pid": "001", "camera": 2, "time": 12.5, "weather": "rain"}
    assert second == {"image": str(photos / "a/2.jpg"), "pid": "17", "camera": 3, "time": -1.0}


def test_identities_are_whole_numbers_or_names(photos: Path) -> None:
    """What a gallery takes for a pid or a camera is an int or a text."""
    (photos / "list.csv").write_text("path,pid,camera,time\n1,1.0,2,3\n2,2.5,,4.5\n")
    known = [dict(item.record) for item in list_items([photos / "list.csv"])]
    assert [(k["pid"], k.get("camera"), k["time"]) for k in known] == [
        ("1.0", 2, 3.0),
        ("2.5", None, 4.5),
    ]
    assert all(Path(k["image"]).parent == photos for k in known)


def test_boxes_of_a_video_are_sorted_by_frame_and_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"not looked at here")
    (tmp_path / "b.csv").write_text(
        "frame,x,y,w,h,track\n7,1,2,3,4,9\n2,0.5,0,5,5,8\n2,1,1,1,1,7\n"
    )
    items = list_items([tmp_path / "v.mp4"], [str(tmp_path / "b.csv")])
    assert [(i.frame, i.record["track"]) for i in items] == [(2, 8), (2, 7), (7, 9)]
    assert items[0].box == (0.5, 0, 5, 5) and items[0].record["x"] == 0.5
    assert "v.mp4, frame 7, box 1, 2, 3, 4" in items[2].name


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("l.csv", "file,pid\na.png,1\n", "no column 'path'"),
        ("l.csv", "", "no column 'path'"),
        ("l.csv", "path,pid\n", "nothing to embed"),
        ("l.csv", "path,pid\na.png\n", "row 1 has 1 cells"),
        ("l.csv", "path,pid,pid\na.png,1,2\n", "two columns of one name"),
        ("l.csv", "path,pid\n,1\n", "row 1 has no path"),
        ("l.csv", "path,image\na.png,b.png\n", "rename the column image"),
        ("l.txt", "\n \n", "nothing to embed"),
        ("l.doc", "a.png", "expected an image, a folder"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        list_items([tmp_path / file])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,x,y,w\n1,1,1,1\n", "no column 'h'"),
        ("frame,x,y,w,h\n", "nothing to embed"),
        ("frame,x,y,w,h\n1,a,1,1,1\n", "x of row 1 is 'a'"),
        ("frame,x,y,w,h\n1,1,1,1,1\n1,1,1,,1\n", "w of row 2 is ''"),
        ("frame,x,y,w,h\n-1,1,1,1,1\n", "frame of row 1 is -1"),
        ("frame,x,y,w,h\n1.5,1,1,1,1\n", "frame of row 1 is 1.5"),
    ],
)
def test_boxes_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "v.mp4").write_bytes(b"")
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        list_items([tmp_path / "v.mp4"], [str(tmp_path / "b.csv")])


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_items([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        list_items([tmp_path / "empty"])
    with pytest.raises(ValueError, match="nothing to embed"):
        list_items([])
    (tmp_path / "v.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="1 videos and 0 files of boxes"):
        list_items([tmp_path / "v.mp4"])
    with pytest.raises(FileNotFoundError, match="no boxes at"):
        list_items([tmp_path / "v.mp4"], [str(tmp_path / "b.csv")])


def test_a_data_set_keeps_its_own_names(tmp_path: Path) -> None:
    for i in range(12):
        file = tmp_path / f"00{i // 4}" / f"0{i % 2 + 1}_{i}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), np.zeros((8, 4, 3), np.uint8))
    dataset = ImageFolder(tmp_path, "test", camera_pattern=r"^(\d+)_", train_fraction=0.0)
    items = dataset_items(dataset)
    assert {item.record["pid"] for item in items} == {"000", "001", "002"}
    assert {item.record["camera"] for item in items} == {"01", "02"}
    splits = [item.record["split"] for item in items]
    assert splits == ["query"] * dataset.num_query + ["gallery"] * (12 - dataset.num_query)


def test_fingerprint_is_of_the_list_in_its_order() -> None:
    items = [Item("a", {"pid": 1}), Item("b"), Item("v", frame=1, box=(0, 0, 1, 1))]
    same = [Item("a", {"pid": 1}), Item("b"), Item("v", frame=1, box=(0, 0, 1, 1))]
    assert fingerprint(items) == fingerprint(same)
    others = [
        items[::-1],
        items[:2],
        [*items, items[0]],
        [Item("a", {"pid": 2}), *items[1:]],
        [*items[:2], Item("v", frame=2, box=(0, 0, 1, 1))],
        [*items[:2], Item("v", frame=1, box=(0, 0, 1, 2))],
    ]
    assert len({fingerprint(other) for other in [items, *others]}) == 7
