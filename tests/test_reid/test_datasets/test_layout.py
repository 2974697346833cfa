from pathlib import Path

import pytest
from mmengine.registry import DATASETS

from reid.datasets import LAYOUTS, PARSERS, ReIDDataset, recognise_layout, validate
from tests.test_reid.test_datasets.made_trees import (
    MAKERS,
    OPTIONS,
    make_cuhk03,
    make_cuhk03_np,
    make_msmt17,
    write_images,
)

PUBLISHED = [name for name in LAYOUTS if name not in ("folder", "flat", "csv")]


def test_layouts(market: Path, people: Path, tmp_path: Path) -> None:
    assert recognise_layout(market) == "market1501"
    assert recognise_layout(market / "query") == "market1501"
    assert recognise_layout(market / "bounding_box_train") == "market1501"
    assert recognise_layout(market.parent) == "market1501"  # one level up: its parser says so
    assert recognise_layout(people) == "folder"
    (people / "notes.csv").write_text("date,weather\n")
    assert recognise_layout(people) == "folder"
    (people / "list.csv").write_text("\ufeffPID;Path;x\n")
    assert recognise_layout(people) == "csv"
    assert recognise_layout(people / "notes.csv") == "csv"
    (tmp_path / "query" / "anna").mkdir(parents=True)
    assert recognise_layout(tmp_path / "query") == "folder"
    (tmp_path / "empty").mkdir()
    assert recognise_layout(tmp_path / "empty") == "folder"


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        recognise_layout(tmp_path / "none")


def test_all_layouts_are_made_here() -> None:
    assert list(MAKERS) == list(LAYOUTS) == list(PARSERS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_made_tree_is_recognised_parsed_and_built(tmp_path: Path, layout: str) -> None:
    root = MAKERS[layout](tmp_path / "data")
    expected = "folder" if layout == "flat" else layout  # which a pattern alone tells from it
    assert recognise_layout(root) == expected
    options = OPTIONS.get(layout, {})
    splits = PARSERS[layout](root, **options)
    assert splits.train and splits.query and splits.gallery and splits.protocol
    assert (splits.official is None) == (layout not in PUBLISHED)
    if splits.official:
        assert "not the official" in splits.protocol
    for split in ("train", "query", "gallery", "test"):
        config = dict(type=LAYOUTS[layout], root=str(root), split=split, **options)
        dataset = DATASETS.build(config)
        assert isinstance(dataset, ReIDDataset)
        assert dataset.records == splits.records(split)
        assert dataset[0]["inputs"].shape == (3, 8, 4)
        assert not dataset.domains.any() and len(dataset.domains) == len(dataset)
        assert dataset.metainfo["protocol"] == splits.protocol
        assert dataset.metainfo["num_trials"] == len(dataset.metainfo["trials"])
    assert not set(splits.train) & set(splits.records("test"))
    everyone = {r.pid for r in splits.train} & {r.pid for r in splits.records("test")}
    assert not everyone  # numbers that mean two people would be an error of the check
    assert not [f for f in validate(splits).errors if "camera" not in f.message]


@pytest.mark.parametrize("layout", PUBLISHED)
@pytest.mark.parametrize("depth", ["unpacked", "unpacked/twice"])
def test_a_tree_too_deep_is_recognised_and_named(tmp_path: Path, layout: str, depth: str) -> None:
    MAKERS[layout](tmp_path / "outer" / depth)
    assert recognise_layout(tmp_path / "outer") == layout
    with pytest.raises(FileNotFoundError) as caught:
        PARSERS[layout](tmp_path / "outer")
    named = tmp_path / "outer" / depth
    assert f"use {str(named)!r} instead" in str(caught.value)


@pytest.mark.parametrize("layout", PUBLISHED)
def test_a_folder_inside_the_tree_leads_to_it(tmp_path: Path, layout: str) -> None:
    root = MAKERS[layout](tmp_path / "data")
    inside = next(p for p in sorted(root.iterdir()) if p.is_dir())
    if layout == "cuhk03":
        inside = inside / "query"
    with pytest.raises(FileNotFoundError, match="instead, which has them"):
        PARSERS[layout](inside)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_folder(tmp_path: Path, layout: str) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PARSERS[layout](tmp_path / "none", **OPTIONS.get(layout, {}))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_camera_none_drops_the_labels(tmp_path: Path, layout: str) -> None:
    root = MAKERS[layout](tmp_path / "data")
    splits = PARSERS[layout](root, camera=None, **OPTIONS.get(layout, {}))
    assert {r.camid for split in ("train", "test") for r in splits.records(split)} == {None}
    assert "camera" in splits.protocol


def test_variants(tmp_path: Path) -> None:
    assert recognise_layout(make_msmt17(tmp_path / "v2", "V2")) == "msmt17"
    assert recognise_layout(make_cuhk03(tmp_path / "release")) == "cuhk03"
    detected = make_cuhk03_np(tmp_path / "np", "detected")
    assert recognise_layout(detected) == recognise_layout(detected / "detected") == "cuhk03"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "cuhk-03.mat").touch()
    assert recognise_layout(tmp_path / "raw") == "cuhk03"
    single = MAKERS["prid2011"](tmp_path / "prid") / "single_shot"
    assert recognise_layout(single) == "prid2011"


def test_many_identity_folders_are_not_searched(tmp_path: Path) -> None:
    """A person whose pictures lie in folders like those of a data set, among many others."""
    write_images(tmp_path, (f"person{n:02d}/{n}.jpg" for n in range(30)))
    write_images(tmp_path, ("person00/probe/a.jpg", "person00/gallery/a.jpg"))
    assert recognise_layout(tmp_path) == "folder"
