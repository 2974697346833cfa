from pathlib import Path

import pytest

from reid.datasets import DukeMTMCreID, parse_dukemtmc
from reid.datasets.dukemtmc import OFFICIAL_COUNTS
from tests.test_reid.test_datasets.made_trees import make_dukemtmc


def test_names(tmp_path: Path) -> None:
    splits = parse_dukemtmc(make_dukemtmc(tmp_path))
    assert [(r.pid, r.camid) for r in splits.train] == [(1, 2), (1, 8), (3, 1)]
    assert [(r.pid, r.camid) for r in splits.gallery] == [(5, 5), (7139, 2)]
    assert splits.protocol == "dukemtmc layout, 3/1/2 images: not the official split"


def test_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OFFICIAL_COUNTS == (16_522, 2_228, 17_661)
    monkeypatch.setattr("reid.datasets.dukemtmc.OFFICIAL_COUNTS", (3, 1, 2))
    root = make_dukemtmc(tmp_path)
    assert DukeMTMCreID(root).splits.protocol == "dukemtmc official split, 3/1/2 images"


def test_foreign_names(tmp_path: Path) -> None:
    root = make_dukemtmc(tmp_path)
    (root / "query" / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"1 image name not of DukeMTMC-reID's pattern"):
        parse_dukemtmc(root)
