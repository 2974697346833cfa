from pathlib import Path

import pytest

from reid.datasets import LAYOUTS, PARSERS, CSVList, parse_csv_list, write_csv_list
from tests.test_reid.test_datasets.made_trees import MAKERS, OPTIONS, write_images

Table = Path


@pytest.fixture
def folder(tmp_path: Path, make_image) -> Path:
    for identity in ("a", "b", "c", "d"):
        for camera in (1, 2):
            for k in range(2):
                make_image(tmp_path / "images" / f"{identity}{camera}{k}.jpg")
    return tmp_path


def write(folder: Path, text: str, name: str = "list.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def rows(columns: str, line: str) -> str:
    """``line`` formatted for every image: identity i, its number n, camera c, image k."""
    lines = [
        line.format(i=i, n=n, c=c, k=k)
        for n, i in enumerate("abcd", 7)
        for c in (1, 2)
        for k in range(2)
    ]
    return "\n".join([columns, *lines]) + "\n"


def test_automatic_split(folder: Path) -> None:
    splits = parse_csv_list(write(folder, rows("path,pid", "images/{i}{c}{k}.jpg,{i}")))
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (8, 2, 6)
    assert dict(splits.identities) == {0: "a", 1: "b", 2: "c", 3: "d"}
    assert splits.name == "list"
    assert splits.protocol == (
        "CSV list, identities split automatically (train_fraction 0.5, seed 0), no cameras"
    )
    assert {r.camid for r in splits.query} == {None}


def test_cameras_and_numbers_are_kept(folder: Path) -> None:
    file = write(folder, rows("camera,pid,path", "{c},{n},images/{i}{c}{k}.jpg"))
    splits = parse_csv_list(file, train_fraction=0)
    assert {r.pid for r in splits.gallery} == {7, 8, 9, 10}
    assert {r.camid for r in splits.query} == {1, 2}
    assert len(splits.query) == 8
    assert {r.camid for r in parse_csv_list(file, camera=None).gallery} == {None}


def test_names_with_leading_zeros_are_names(folder: Path) -> None:
    splits = parse_csv_list(write(folder, "path,pid\nimages/a10.jpg,01\nimages/b10.jpg,1\n"))
    assert dict(splits.identities) == {0: "01", 1: "1"}


def test_huge_numbers_are_names(folder: Path) -> None:
    splits = parse_csv_list(write(folder, f"path,pid\nimages/a10.jpg,{10**30}\nimages/b10.jpg,1\n"))
    assert set(splits.identities) == {0, 1}


def test_splits_as_listed(folder: Path) -> None:
    text = "path,pid,camera,split\n" + "\n".join(
        ["images/a10.jpg,1,x,train", "images/b10.jpg,2,x,Query", "images/b20.jpg,2,y,gallery"]
    )
    splits = parse_csv_list(write(folder, text))
    assert [len(splits.records(s)) for s in ("train", "query", "gallery")] == [1, 1, 1]
    assert dict(splits.cameras) == {0: "x", 1: "y"}
    assert splits.protocol == "CSV list, splits as listed, cameras as listed"


def test_listed_test_is_divided(folder: Path) -> None:
    text = rows("path,pid,camera,split", "images/{i}{c}{k}.jpg,{i},{c},test")
    splits = parse_csv_list(write(folder, text))
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (0, 8, 8)
    assert "query and gallery automatic (seed 0)" in splits.protocol


def test_root_is_a_folder(folder: Path) -> None:
    text = rows("path,pid", "{i}{c}{k}.jpg,{i}")
    write(folder, text)
    splits = CSVList(folder / "images", csv_file=folder / "list.csv").splits
    assert Path(splits.train[0].path).is_file()
    write(folder / "images", text)
    assert CSVList(folder / "images").splits.fingerprint() == splits.fingerprint()
    assert CSVList(folder / "images", csv_file="list.csv").splits == splits
    with pytest.raises(FileNotFoundError, match=r"none\.csv' does not exist"):
        parse_csv_list(folder, csv_file="none.csv")
    write(folder, text, "other.csv")
    with pytest.raises(FileNotFoundError, match=r"2 CSV files \(list.csv, other.csv\); name one"):
        parse_csv_list(folder)
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no CSV file"):
        parse_csv_list(folder / "empty")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        parse_csv_list(folder / "none.csv")


def test_spreadsheet_dialects(folder: Path) -> None:
    plain = parse_csv_list(write(folder, rows("path,pid", "images/{i}{c}{k}.jpg,{i}")))
    for text in (
        "\ufeff" + rows("Path; PID ;remark", "images/{i}{c}{k}.jpg; {i} ;x"),
        rows("path\tpid", '"images/{i}{c}{k}.jpg"\t{i}').replace("\n", "\r\n"),
        rows("path,pid", "images/{i}{c}{k}.jpg,{i}\n"),  # blank lines between
    ):
        assert parse_csv_list(write(folder, text)) == plain


def test_absolute_paths(folder: Path) -> None:
    text = rows("path,pid", f"{folder}/images/{{i}}{{c}}{{k}}.jpg,{{i}}")
    (folder / "lists").mkdir()
    assert len(CSVList(write(folder / "lists", text))) == 8


def test_junk_is_left_out(folder: Path) -> None:
    splits = parse_csv_list(
        write(folder, "path,pid\nimages/a10.jpg,-1\nimages/b10.jpg,3\nimages/b11.jpg,3\n")
    )
    assert set(splits.identities) == {3}
    assert splits.notes == ("1 row of identity -1 (junk) left out",)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,id", "line 1: the header lacks path and pid; .* found 'file,id'"),
        ("path,camera", "the header lacks pid"),
        ("path,pid,pid", "the header repeats pid"),
        ("", "the header lacks path and pid"),
    ],
)
def test_wrong_header(folder: Path, header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_csv_list(write(folder, f"{header}\nimages/a10.jpg,1\n"))


def test_no_rows(folder: Path) -> None:
    with pytest.raises(ValueError, match="lists no image"):
        parse_csv_list(write(folder, "path,pid\n"))


def test_all_mistakes_are_told_at_once_by_line(folder: Path) -> None:
    text = "\n".join(
        [
            "path,pid,camera,split",
            "images/a10.jpg,1,1,train",
            "images/none.jpg,1,1,train",
            ",1,1,train",
            "images/a11.jpg,,1,train",
            "",
            "images/a20.jpg,1,,train",
            "images/a21.jpg,1,1,val",
            "images/a10.jpg,1,1,train",
            "images/b10.jpg,2,1,query",
            "images/b11.jpg,2,1,test",
        ]
    )
    with pytest.raises(ValueError) as caught:
        parse_csv_list(write(folder, text))
    message = str(caught.value)
    missing = str(folder / "images" / "none.jpg")
    assert message.splitlines()[1:] == [
        f"  line 3: {missing!r} does not exist",
        "  line 4: the path is empty",
        "  line 5: the pid is empty",
        "  line 7: the camera is empty, though other rows have one",
        "  line 8: the split is 'val', not train, query, gallery, test",
        "  line 9: 'images/a10.jpg' is already listed on line 2",
        "  line 11: the split is 'test', though other rows say query or gallery",
    ]
    assert "has 7 problems:" in message


def test_many_mistakes_are_cut_short(folder: Path) -> None:
    text = "path,pid\n" + "".join(f"none{k}.jpg,1\n" for k in range(30))
    with pytest.raises(ValueError, match="30 problems") as caught:
        parse_csv_list(write(folder, text))
    assert str(caught.value).splitlines()[-1] == "  and 20 more"


def test_wrong_number_of_cells(folder: Path) -> None:
    with pytest.raises(ValueError, match="has 1 problem:\n  line 3: 3 cells, the header has 2"):
        parse_csv_list(write(folder, "path,pid\nimages/a10.jpg,1\nimages/a11.jpg,1,x\n"))


def test_broken_quoting_has_a_line(folder: Path) -> None:
    with pytest.raises(ValueError, match="line"):
        parse_csv_list(write(folder, 'path,pid\n"' + "x" * 200_000 + "\n"))


def test_encoding(folder: Path) -> None:
    (folder / "list.csv").write_bytes("path,pid\nimages/a10.jpg,Müller\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 2: not UTF-8; save the table as 'CSV UTF-8'"):
        parse_csv_list(folder / "list.csv")


def test_the_same_image_may_be_in_query_and_gallery(folder: Path) -> None:
    text = "path,pid,split\nimages/a10.jpg,1,query\nimages/a10.jpg,1,gallery\n"
    splits = parse_csv_list(write(folder, text))
    assert len(splits.query) == len(splits.gallery) == 1


# ------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read(tmp_path: Path, layout: str) -> None:
    root = MAKERS[layout](tmp_path / "data")
    splits = PARSERS[layout](root, **OPTIONS.get(layout, {}))
    file = write_csv_list(splits, tmp_path / "list.csv")
    again = parse_csv_list(file)
    assert again.protocol.startswith("CSV list, splits as listed")
    for split in ("train", "query", "gallery"):
        first, second = splits.records(split), again.records(split)
        assert [r.path for r in first] == [r.path for r in second]
        assert [splits.identities.get(r.pid, str(r.pid)) for r in first] == [
            again.identities[r.pid] for r in second
        ]
        assert [r.camid is None for r in first] == [r.camid is None for r in second]
    assert "data/" in file.read_text() and str(tmp_path) not in file.read_text()
    moved = write_csv_list(splits, tmp_path / "elsewhere" / "list.csv")
    assert parse_csv_list(moved).train == again.train  # by absolute paths


def test_cameras_of_some_are_not_written(tmp_path: Path) -> None:
    root = MAKERS["veriwild"](tmp_path / "data")
    splits = PARSERS["veriwild"](root, same_camera="keep")
    file = write_csv_list(splits, tmp_path / "list.csv")
    assert file.read_text().startswith("path,pid,split\n")
    assert "no cameras" in parse_csv_list(file).protocol


def test_names_that_a_table_must_quote(tmp_path: Path) -> None:
    write_images(tmp_path / "data", ('a, "b"/1.jpg', 'a, "b"/2.jpg', "c/1.jpg", "c/2.jpg"))
    splits = PARSERS["folder"](tmp_path / "data")
    again = parse_csv_list(write_csv_list(splits, tmp_path / "list.csv"))
    assert set(again.identities.values()) == {'a, "b"', "c"}


@pytest.mark.parametrize("path", ["images/a10.jpg", "./images/a10.jpg", "images//a10.jpg"])
def test_paths_are_as_pathlib_has_them(folder: Path, path: str) -> None:
    file = write(folder, f"path,pid,split\n{path},1,train\n")
    assert parse_csv_list(file).train[0].path == str(folder / "images/a10.jpg")
    file = write(folder, f"path,pid,split\n{folder / path},1,train\n")
    assert parse_csv_list(file).train[0].path == str(folder / "images/a10.jpg")
