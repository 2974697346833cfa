from pathlib import Path

import numpy as np
import pytest

from reid.datasets import VehicleID, parse_vehicleid
from reid.datasets.vehicleid import OFFICIAL_COUNTS
from tests.test_reid.test_datasets.made_trees import make_vehicleid, write_lines


def test_every_trial_parts_all_images(tmp_path: Path) -> None:
    splits = parse_vehicleid(make_vehicleid(tmp_path))
    records = splits.records("test")
    assert len(records) == 17 and len(splits.trials) == 10
    galleries = set()
    for query, gallery in splits.trials:
        assert query.dtype == gallery.dtype == np.int64
        np.testing.assert_array_equal(np.sort([*query, *gallery]), np.arange(17))
        assert sorted(records[k].pid for k in gallery) == [99, 100, 101, 102, 103]  # one each
        assert 99 not in [records[k].pid for k in query]  # a single image: gallery in every draw
        galleries.add(tuple(gallery.tolist()))
    assert len(galleries) > 5
    # the splits query and gallery are the first draw
    query, gallery = splits.trials[0]
    assert tuple(records[k] for k in query) == splits.query
    assert tuple(records[k] for k in gallery) == splits.gallery
    assert {r.camid for r in records} == {None}


def test_draws_depend_on_seed_and_names_alone(tmp_path: Path) -> None:
    root = make_vehicleid(tmp_path)

    def galleries(**options) -> list[set[str]]:
        splits = parse_vehicleid(root, **options)
        records = splits.records("test")
        return [{records[k].path for k in gallery} for _, gallery in splits.trials]

    first = galleries()
    assert galleries() == first and galleries(seed=1) != first
    assert galleries(draws=3) == first[:3]
    lines = (root / "train_test_split/test_list_800.txt").read_text().splitlines()
    write_lines(root / "train_test_split/test_list_800.txt", lines[::-1])
    assert galleries() == first
    with pytest.raises(ValueError, match="draws must be 1 or more"):
        parse_vehicleid(root, draws=0)


def test_every_image_is_drawn_about_as_often(tmp_path: Path) -> None:
    splits = parse_vehicleid(make_vehicleid(tmp_path), draws=400)
    times = np.bincount(np.concatenate([g for _, g in splits.trials]), minlength=17)
    four = np.delete(times, [k for k, r in enumerate(splits.records("test")) if r.pid == 99])
    assert four.min() > 60 and four.max() < 140  # 100 expected, standard deviation below 9


def test_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {size: q + g for size, (_, q, g) in OFFICIAL_COUNTS.items()} == {
        "small": 6_493,
        "medium": 13_377,
        "large": 19_777,
    }
    root = make_vehicleid(tmp_path)
    how = (
        "small test set, one random gallery image a vehicle and the rest queries, mean of 10 "
        "draws (seed 0), no cameras, 6/12/5 images"
    )
    protocol = parse_vehicleid(root).protocol
    assert protocol == f"vehicleid layout, {how}: not the official split"
    with pytest.raises(FileNotFoundError, match=r"test_list_1600\.txt' is missing"):
        parse_vehicleid(root, size="medium")
    monkeypatch.setitem(OFFICIAL_COUNTS, "small", (6, 12, 5))
    (root / "train_test_split/test_list_800.txt").rename(root / "train_test_split/test_list_5.txt")
    assert parse_vehicleid(root).protocol == f"vehicleid official split, {how}"


def test_metainfo(tmp_path: Path) -> None:
    root = make_vehicleid(tmp_path)
    test = VehicleID(root, "test", draws=3)
    assert test.metainfo["num_trials"] == len(test.metainfo["trials"]) == 3
    assert (test.num_query, len(test)) == (12, 17)
    assert VehicleID(root).metainfo["num_trials"] == 0
    # what two runs compare is the same object by object
    assert test.splits == VehicleID(root, "test", draws=3).splits


def test_windows_line_ends(tmp_path: Path) -> None:
    a = parse_vehicleid(make_vehicleid(tmp_path / "a"))
    b = parse_vehicleid(make_vehicleid(tmp_path / "b", end="\r\n"))
    assert [r.pid for r in a.train] == [r.pid for r in b.train]
    assert a.fingerprint() == b.fingerprint()


def test_broken_lists(tmp_path: Path) -> None:
    root = make_vehicleid(tmp_path)
    with pytest.raises(ValueError, match="size must be small, medium, large, got 'huge'"):
        parse_vehicleid(root, size="huge")
    lists = root / "train_test_split"
    write_lines(lists / "test_list_800.txt", ["0000050 car"])
    with pytest.raises(ValueError, match="1 line without the vehicle's number"):
        parse_vehicleid(root)
    write_lines(lists / "test_list_800.txt", ["0000050"])
    with pytest.raises(ValueError, match=r"not <image> <vehicle>: line 1: '0000050'"):
        parse_vehicleid(root)
    write_lines(lists / "test_list_800.txt", ["0009999 3"])
    with pytest.raises(FileNotFoundError, match=r"1 image of the 1 listed .*0009999\.jpg"):
        parse_vehicleid(root)
    write_lines(lists / "test_list_800.txt", [])
    with pytest.raises(ValueError, match="names no image"):
        parse_vehicleid(root)
