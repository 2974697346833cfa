import json
from pathlib import Path

import numpy as np
import pytest

from reid.datasets import CUHK03, parse_cuhk03
from reid.datasets.cuhk03 import OFFICIAL_COUNTS
from tests.test_reid.test_datasets.made_trees import (
    CUHK03_TEST,
    CUHK03_TRAIN,
    make_cuhk03,
    make_cuhk03_np,
)


def names(records) -> list[str]:
    return [Path(r.path).name for r in records]


def test_new_protocol_in_folders(tmp_path: Path) -> None:
    make_cuhk03_np(tmp_path, "labeled")
    make_cuhk03_np(tmp_path, "detected")
    (tmp_path / "detected/bounding_box_test/0009_c2_1.png").touch()
    labelled, detected = parse_cuhk03(tmp_path), parse_cuhk03(tmp_path, boxes="detected")
    assert [(r.pid, r.camid) for r in labelled.train] == [(1, 1), (1, 2), (4, 1)]
    assert (len(labelled.gallery), len(detected.gallery)) == (1, 2)
    assert labelled.protocol == (
        "cuhk03 layout, new protocol, labelled boxes, 3/1/1 images: not the official split"
    )
    assert "new protocol, detected boxes, 3/1/2 images" in detected.protocol
    # the folder of one kind of boxes says which it is
    assert parse_cuhk03(tmp_path / "detected").protocol == detected.protocol
    with pytest.raises(ValueError, match="holds the detected boxes, not the labelled ones"):
        parse_cuhk03(tmp_path / "detected", boxes="labelled")
    with pytest.raises(ValueError, match="do not say who is in the classic test sets"):
        parse_cuhk03(tmp_path, protocol="classic")


@pytest.mark.parametrize("boxes", ["labelled", "detected"])
def test_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boxes: str) -> None:
    assert OFFICIAL_COUNTS == {
        "labelled": (7_368, 1_400, 5_328),
        "detected": (7_365, 1_400, 5_332),
    }
    monkeypatch.setitem(OFFICIAL_COUNTS, boxes, (3, 1, 1))
    root = make_cuhk03_np(tmp_path, "labeled" if boxes == "labelled" else boxes)
    protocol = parse_cuhk03(root, boxes=boxes).protocol
    assert protocol == f"cuhk03 official split, new protocol, {boxes} boxes, 3/1/1 images"


def test_new_protocol_in_lists(tmp_path: Path) -> None:
    splits = parse_cuhk03(make_cuhk03(tmp_path))
    assert tuple(names(splits.train)) == CUHK03_TRAIN
    assert names(splits.query) == ["1_003_1_01.png", "2_001_1_01.png"]
    # identities are those of the file names, not the lists', which begin at 0 twice
    assert [r.pid for r in splits.query] == [1003, 2001]
    assert [r.camid for r in splits.train] == [1, 2, 1, 2]
    assert splits.identities[2001] == "pair 2 person 1"
    assert "new protocol, labelled boxes, 4/2/5 images: not the official split" in splits.protocol


def test_classic_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_cuhk03(tmp_path)
    splits = parse_cuhk03(root, protocol="classic", boxes="detected")
    assert tuple(names(splits.train)) == CUHK03_TRAIN
    assert set(names(splits.records("test"))) == set(CUHK03_TEST)
    assert {r.camid for r in splits.query} == {1} and {r.camid for r in splits.gallery} == {2}
    assert len(splits.trials) == 10
    records = splits.records("test")
    chosen = set()
    for query, gallery in splits.trials:
        np.testing.assert_array_equal(query, np.arange(len(splits.query)))
        assert query.dtype == gallery.dtype == np.int64
        assert sorted(records[k].pid for k in gallery) == [1003, 2001]  # one each
        assert all(records[k].camid == 2 for k in gallery)
        chosen.add(tuple(gallery.tolist()))
    assert 1 < len(chosen) <= 6
    assert "test set 0" in splits.protocol and "2 identities trained on" in splits.protocol
    assert "not the official" in splits.protocol and "mean of 10 draws (seed 0)" in splits.protocol
    again = parse_cuhk03(root, protocol="classic", boxes="detected", seed=1)
    assert [g.tolist() for _, g in again.trials] != [g.tolist() for _, g in splits.trials]
    monkeypatch.setattr("reid.datasets.cuhk03._CLASSIC_IDENTITIES", (2, 2))
    assert "not the official" not in parse_cuhk03(root, protocol="classic").protocol


def test_test_sets(tmp_path: Path) -> None:
    root = make_cuhk03(tmp_path)
    other = CUHK03(root, protocol="classic", test_set=1)
    assert set(names(other.records)) == set(CUHK03_TEST)
    for wrong in (2, -1):
        with pytest.raises(ValueError, match=f"test_set must be from 0 to 1, got {wrong}"):
            parse_cuhk03(root, protocol="classic", test_set=wrong)


def test_metainfo_has_the_trials_of_the_test_split_alone(tmp_path: Path) -> None:
    root = make_cuhk03(tmp_path)
    assert CUHK03(root, "test", protocol="classic").metainfo["num_trials"] == 10
    assert CUHK03(root, "query", protocol="classic").metainfo["trials"] == ()
    assert CUHK03(root, "test").metainfo["trials"] == ()


def test_the_raw_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "cuhk-03.mat").write_bytes(b"\x89HDF")
    with pytest.raises(FileNotFoundError, match=r"HDF5.*extract it once to images_labeled/"):
        parse_cuhk03(tmp_path)
    release = tmp_path / "outer" / "cuhk03_release"
    release.mkdir(parents=True)
    (release / "cuhk-03.mat").touch()
    with pytest.raises(FileNotFoundError, match=r"images_detected/ and splits_classic_detected"):
        parse_cuhk03(tmp_path / "outer", protocol="classic", boxes="detected")
    make_cuhk03(release)
    assert len(parse_cuhk03(tmp_path / "outer").train) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not a list of splits"),
        ("[{}]", "KeyError: 'train'"),
        (json.dumps([{"train": [["1_001_1.png", 0, 0]], "query": [], "gallery": []}]), "not in"),
    ],
)
def test_broken_lists(tmp_path: Path, content: str, message: str) -> None:
    root = make_cuhk03(tmp_path)
    (root / "splits_new_labeled.json").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        parse_cuhk03(root)


def test_foreign_names_in_lists(tmp_path: Path) -> None:
    root = make_cuhk03(tmp_path)
    (root / "images_labeled" / "a.png").touch()
    lists = {"train": [["a.png", 0, 0]], "query": [], "gallery": []}
    (root / "splits_new_labeled.json").write_text(json.dumps([lists]))
    with pytest.raises(ValueError, match=r"names a\.png, which is not <camera pair>_<person>"):
        parse_cuhk03(root)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"protocol": "old"}, "'new' or 'classic'"), ({"boxes": "labeled"}, "'labelled' or 'det")],
)
def test_wrong_options(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cuhk03(make_cuhk03(tmp_path), **options)
