"""VIPeR, PRID 2011, GRID and iLIDS-VID: two views, halves at random."""

from pathlib import Path

import pytest
from mmengine.registry import DATASETS

from reid.datasets import GRID, ILIDSVID, PRID2011, VIPeR
from tests.test_reid.test_datasets.made_trees import MAKERS, make_grid, make_prid2011, make_viper

KINDS = {"viper": VIPeR, "prid2011": PRID2011, "grid": GRID, "ilids_vid": ILIDSVID}


@pytest.mark.parametrize("layout", KINDS)
def test_ten_splits(tmp_path: Path, layout: str) -> None:
    kind = KINDS[layout]
    root = MAKERS[layout](tmp_path)
    halves = set()
    for seed in range(10):
        splits = kind.parse_tree(root, seed=seed)
        train = {r.pid for r in splits.train}
        tested = {r.pid for r in splits.query}
        assert not train & {r.pid for r in splits.records("test")}
        assert len(train) == len(tested) == (3 if layout == "viper" else 2)
        assert len(splits.train) == 2 * len(train) and len(splits.query) == len(tested)
        assert tested <= {r.pid for r in splits.gallery}
        assert f"halved at random with seed {seed}" in splits.protocol
        by_pid = {r.pid: r.camid for r in splits.query}
        assert all(by_pid.get(r.pid) != r.camid for r in splits.gallery)
        halves.add(tuple(sorted(train)))
        assert kind(root, "train", seed=seed).records == splits.train
    assert len(halves) > 3
    assert kind.parse_tree(root, seed=3) == kind.parse_tree(root, seed=3)


def test_viper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert VIPeR.official == (632, 316, 316)
    monkeypatch.setattr(VIPeR, "official", (6, 3, 3))
    splits = VIPeR.parse_tree(make_viper(tmp_path))
    assert splits.protocol == (
        "viper official images, halved at random with seed 0 (customary: the mean of seeds 0 to "
        "9), queries of camera a, gallery of camera b, 6/3/3 images"
    )
    assert {r.camid for r in splits.query} == {1} and {r.camid for r in splits.gallery} == {2}


def test_prid2011_numbers_beyond_200_are_other_people(tmp_path: Path) -> None:
    splits = PRID2011.parse_tree(make_prid2011(tmp_path))
    assert PRID2011.official == (200, 100, 649)
    assert len(splits.gallery) == 4 and {201, 202} <= {r.pid for r in splits.gallery}
    assert 201 not in {r.pid for r in (*splits.train, *splits.query)}
    assert splits.notes == ("1 identity of the first view alone left out",)


def test_grid_has_cameras_and_distractors(tmp_path: Path) -> None:
    splits = GRID.parse_tree(make_grid(tmp_path))
    assert GRID.official == (250, 125, 900)
    assert [r.camid for r in splits.gallery if r.pid == 0] == [5, 6]
    for record in (*splits.train, *splits.query, *splits.gallery):
        if record.pid:
            first = record.camid == record.pid
            assert ("/probe/" in record.path) == first and (first or record.camid == 9 - record.pid)


@pytest.mark.parametrize("layout", KINDS)
def test_foreign_names(tmp_path: Path, layout: str) -> None:
    root = MAKERS[layout](tmp_path)
    image = next(p for p in sorted(root.rglob("*")) if p.is_file())
    strange = image.with_name(f"holiday{image.suffix}")
    if layout == "ilids_vid":  # whose folders tell, not the files
        strange = image.parent.with_name("someone") / image.name
        strange.parent.mkdir()
    image.rename(strange)
    with pytest.raises(ValueError, match=r"is not (named as|where)"):
        KINDS[layout].parse_tree(root)


def test_nobody_in_both_views(tmp_path: Path) -> None:
    root = make_viper(tmp_path)
    for path in (root / "cam_b").iterdir():
        path.rename(path.with_name(f"9{path.name}"))
    with pytest.raises(ValueError, match="nobody in both views"):
        VIPeR.parse_tree(root)


@pytest.mark.parametrize("layout", KINDS)
def test_registered(tmp_path: Path, layout: str) -> None:
    kind = f"reid.{KINDS[layout].__name__}"
    built = DATASETS.build(dict(type=kind, root=str(MAKERS[layout](tmp_path)), seed=4))
    assert "seed 4" in built.metainfo["protocol"]
