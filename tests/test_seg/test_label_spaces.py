"""The table of labels, against the published mappings written out a second time."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from seg import label_spaces
from seg.label_spaces import (
    IGNORE,
    SOURCES,
    SPACES,
    UNKNOWN,
    LabelSource,
    LabelSpace,
    evaluated_classes,
    label_table,
    register_source,
    register_space,
)

# labelIds -> trainIds as the Cityscapes authors publish them
TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
SYNTHIA = {
    3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 1: 10, 10: 11, 17: 12, 8: 13, 19: 15,
    12: 17, 11: 18,
}  # fmt: skip
MAPILLARY = {
    13: 0, 24: 0, 41: 0, 2: 1, 15: 1, 17: 2, 6: 3, 3: 4, 45: 5, 47: 5, 48: 6, 50: 7, 30: 8, 29: 9,
    27: 10, 19: 11, 20: 12, 21: 12, 22: 12, 55: 13, 61: 14, 54: 15, 58: 16, 57: 17, 52: 18,
}  # fmt: skip


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_spaces, "SOURCES", dict(SOURCES))
    monkeypatch.setattr(label_spaces, "SPACES", dict(SPACES))


@pytest.mark.parametrize(
    ("source", "mapping", "defined"),
    [
        ("gta5", TRAIN_IDS, range(35)),
        ("cityscapes", TRAIN_IDS, [*range(34), 255]),
        ("trainids", {i: i for i in range(19)}, [*range(19), 255]),
        ("synthia", SYNTHIA, range(23)),
        ("mapillary12", MAPILLARY, range(66)),
    ],
)
def test_the_19_classes(source: str, mapping: dict[int, int], defined: list[int]) -> None:
    table = label_table(source, "cityscapes19")
    bits = 16 if source == "synthia" else 8
    assert table.shape == (2**bits,) and table.dtype == np.uint8
    for number in range(2**bits):
        expected = mapping.get(number, IGNORE) if number in defined else UNKNOWN
        assert table[number] == expected, number


def test_the_classes_stand_in_the_order_of_mmseg() -> None:
    datasets = pytest.importorskip("mmseg.datasets")
    meta = datasets.CityscapesDataset.METAINFO
    assert SPACES["cityscapes19"].classes == tuple(meta["classes"])
    assert SPACES["cityscapes19"].palette == tuple(map(tuple, meta["palette"]))


def test_camvid_and_idd_lite_share_seven_classes() -> None:
    # Sky, Building, Pole, Road, Pavement, Tree, SignSymbol, Fence, Car, Pedestrian, Bicyclist, void
    assert label_table("camvid", "street7")[:13].tolist() == [
        6, 5, 4, 0, 1, 5, 4, 4, 3, 2, 255, 255, 254
    ]  # fmt: skip
    lite = label_table("idd_lite", "street7")
    assert lite[:8].tolist() == [0, 1, 2, 3, 4, 5, 6, UNKNOWN] and lite[255] == IGNORE
    assert label_table("camvid", "camvid11")[:12].tolist() == [*range(11), 255]


def test_idd_level_3_agrees_with_level_1_of_its_hierarchy() -> None:
    # level-1 class of the level-3 ids 0..25
    level1 = [0, 0, 1, 1, 2, 2, *[3] * 7, *[4] * 9, 5, 5, 5, 6]
    assert label_table("idd", "street7")[:26].tolist() == level1
    trainids = label_table("idd", "cityscapes19")[:26].tolist()
    assert trainids == [
        0, 255, 1, 9, 11, 12, 17, 18, 255, 13, 14, 15, 255, 255, 3, 4, 255, 255, 7, 6, 5, 255, 2,
        255, 8, 10,
    ]  # fmt: skip


def test_evaluated_classes() -> None:
    assert evaluated_classes("cityscapes", "cityscapes19") == tuple(range(19))
    synthia = evaluated_classes("synthia", "cityscapes19")
    assert len(synthia) == 16
    missing = set(range(19)) - set(synthia)
    names = SPACES["cityscapes19"].classes
    assert {names[i] for i in missing} == {"terrain", "truck", "train"}


@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("source", list(SOURCES))
def test_every_pair_fits_or_says_what_does(source: str, space: str) -> None:
    try:
        table = label_table(source, space)
    except ValueError as error:
        assert source == "idd_lite" and "street7" in str(error)  # too coarse for the others
        return
    number = len(SPACES[space].classes)
    assert set(np.unique(table)) <= {*range(number), IGNORE, UNKNOWN}
    assert not table.flags.writeable


def test_own_source() -> None:
    register_source("mine", {0: "road", 3: "car", 255: None})
    table = label_table("mine", "cityscapes19")
    assert (table[0], table[3], table[255], table[1]) == (0, 13, IGNORE, UNKNOWN)
    assert register_source("mine", {0: "road", 3: "car", 255: None}).name == "mine"  # again
    with pytest.raises(ValueError, match="other ids already"):
        register_source("mine", {0: "car"})
    with pytest.raises(ValueError, match=r"0\.\.255"):
        register_source("wide", {300: "car"})
    assert label_table(register_source("wide", {300: "car"}, bits=16).name, "street7")[300] == 3
    with pytest.raises(ValueError, match="8 or 16"):
        LabelSource("odd", {}, bits=12)


def test_a_class_that_the_space_does_not_know_is_an_error() -> None:
    register_source("typo", {0: "raod", 1: "car"})
    with pytest.raises(ValueError, match=r"'raod' \(id 0\)"):
        label_table("typo", "cityscapes19")


def test_own_space() -> None:
    space = LabelSpace("two", ("road", "rest"), ((1, 2, 3), (4, 5, 6)), merges={"car": "rest"})
    register_space(space)
    register_source("three", {0: "road", 1: "car", 2: None})
    assert label_table("three", "two")[:4].tolist() == [0, 1, IGNORE, UNKNOWN]
    with pytest.raises(ValueError, match="another label space"):
        register_space(LabelSpace("two", ("road",), ((1, 2, 3),)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": (), "palette": ()}, "1 to 254 classes"),
        ({"classes": ("a", "b"), "palette": ((0, 0, 0),)}, "2 classes but 1 colours"),
        ({"classes": ("a", "a"), "palette": ((0, 0, 0),) * 2}, "twice"),
        ({"classes": ("a",), "palette": ((0, 0, 0),), "merges": {"x": "b"}}, "'b'"),
    ],
)
def test_a_wrong_space(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSpace("x", **options)  # type: ignore[arg-type]


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown label source 'gta'.*gta5"):
        label_table("gta", "cityscapes19")
    with pytest.raises(ValueError, match=r"unknown label space '19'.*cityscapes19"):
        label_table("gta5", "19")


def test_importing_it_is_cheap() -> None:
    code = "import sys, seg.label_spaces; print({'torch', 'mmseg', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
