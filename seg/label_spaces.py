"""One table of labels: which class every id of every data set is, and which classes are shared.

A *source* says what the ids in a label file mean: for each id a class name, or None for an id that
is to be ignored. A *space* is the list of classes that a network distinguishes. ``label_table``
joins the two, by class names, to a lookup table that is applied when a file is loaded; no file is
ever converted on disk. Ids that a source does not define become ``UNKNOWN``, so that a wrong file
is noticed and not learned from.

Own data: ``register_source("mine", {0: "road", 1: "car", 255: None})`` and, where none of the
spaces fits, ``register_space(LabelSpace(...))``.

Where the ids come from: Cityscapes (Cordts et al., CVPR 2016, https://arxiv.org/abs/1604.01685),
GTA5 (Richter et al., ECCV 2016, https://arxiv.org/abs/1608.02192), SYNTHIA (Ros et al., CVPR 2016),
Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017) onto 19 classes as RobustNet (Choi et al.,
CVPR 2021, https://arxiv.org/abs/2103.15597) does it, IDD (Varma et al., WACV 2019,
https://arxiv.org/abs/1811.10200) and its "lite" edition, CamVid (Brostow et al., 2009) in its
11 classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

__all__ = [
    "IGNORE",
    "SOURCES",
    "SPACES",
    "UNKNOWN",
    "LabelSource",
    "LabelSpace",
    "evaluated_classes",
    "label_table",
    "register_source",
    "register_space",
]

IGNORE = 255
"""Class index of pixels that neither the loss nor the evaluation looks at."""

UNKNOWN = 254
"""Class index of ids that a source does not define; loading refuses it unless told otherwise."""


@dataclass(frozen=True)
class LabelSpace:
    """The classes that are told apart, in the order of a network's outputs.

    Args:
        name: by which configs call it.
        classes: names, at most 254.
        palette: an (R, G, B) colour, 0..255, for each class.
        merges: finer or differently called classes of sources -> the class of this space.
        ignored: classes of sources that have no counterpart here and are ignored. A source's class
            that stands in none of the three is an error, so that nothing is ignored by accident.
    """

    name: str
    classes: tuple[str, ...] = field(hash=False)
    palette: tuple[tuple[int, int, int], ...]
    merges: Mapping[str, str] = field(default_factory=dict, hash=False)
    ignored: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < len(self.classes) <= UNKNOWN:
            raise ValueError(
                f"label space {self.name!r}: expected 1 to {UNKNOWN} classes, got "
                f"{len(self.classes)}"
            )
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"label space {self.name!r}: {len(self.classes)} classes but "
                f"{len(self.palette)} colours; give one (R, G, B) per class"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"label space {self.name!r}: a class stands there twice")
        if strange := sorted(set(self.merges.values()) - set(self.classes)):
            raise ValueError(
                f"label space {self.name!r}: merges lead to {', '.join(map(repr, strange))}, "
                f"which is none of its classes ({', '.join(self.classes)})"
            )

    def index(self, name: str) -> int | None:
        """Class index of a source's class ``name``; IGNORE if ignored; None if unheard of."""
        name = self.merges.get(name, name)
        if name in self.classes:
            return self.classes.index(name)
        return IGNORE if name in self.ignored else None


@dataclass(frozen=True)
class LabelSource:
    """What the ids in a data set's label files mean.

    Args:
        name: by which ``label_table`` and datasets call it.
        ids: id -> class name, or None to ignore the id.
        bits: of the ids in the file, 8 or 16.
    """

    name: str
    ids: Mapping[int, str | None] = field(hash=False)
    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise ValueError(f"label source {self.name!r}: bits must be 8 or 16, got {self.bits}")
        if wrong := [i for i in self.ids if not 0 <= i < 2**self.bits]:
            raise ValueError(
                f"label source {self.name!r}: ids of {self.bits} bits lie in "
                f"0..{2**self.bits - 1}, got {wrong[:5]}"
            )


_STREETS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

_CITYSCAPES19 = LabelSpace(
    "cityscapes19",
    tuple(_STREETS),
    tuple(_STREETS.values()),
    # IDD counts its non-drivable fallback as terrain, too (its own csTrainIds)
    merges={
        "pavement": "sidewalk",
        "tree": "vegetation",
        "pedestrian": "person",
        "non-drivable fallback": "terrain",
    },
    # CamVid's sign symbols hold lights and signs, its bicyclists riders and bicycles
    ignored=frozenset(
        (
            "sign symbol",
            "bicyclist",
            "drivable fallback",
            "autorickshaw",
            "vehicle fallback",
            "curb",
            "guard rail",
            "billboard",
            "obstacle fallback",
            "bridge",
        )
    ),
)

_STREET7 = LabelSpace(
    "street7",
    ("drivable", "non-drivable", "living", "vehicles", "roadside", "far", "sky"),
    (
        (128, 64, 128),
        (244, 35, 232),
        (220, 20, 60),
        (0, 0, 142),
        (220, 220, 0),
        (107, 142, 35),
        (70, 130, 180),
    ),
    # the first level of IDD's hierarchy
    merges={
        **dict.fromkeys(("road", "drivable fallback"), "drivable"),
        **dict.fromkeys(
            ("sidewalk", "pavement", "terrain", "non-drivable fallback"), "non-drivable"
        ),
        **dict.fromkeys(("person", "pedestrian", "rider"), "living"),
        **dict.fromkeys(
            (
                "car",
                "truck",
                "bus",
                "train",
                "motorcycle",
                "bicycle",
                "autorickshaw",
                "vehicle fallback",
            ),
            "vehicles",
        ),
        **dict.fromkeys(
            (
                "pole",
                "sign symbol",
                "traffic light",
                "traffic sign",
                "fence",
                "wall",
                "curb",
                "guard rail",
                "billboard",
                "obstacle fallback",
            ),
            "roadside",
        ),
        **dict.fromkeys(("building", "bridge", "tree", "vegetation"), "far"),
    },
    ignored=frozenset(("bicyclist",)),  # half living, half vehicle
)

_CAMVID11 = LabelSpace(
    "camvid11",
    (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    # as CamVid's 32 classes become its 11
    merges={
        **dict.fromkeys(("wall", "bridge"), "building"),
        "sidewalk": "pavement",
        "vegetation": "tree",
        **dict.fromkeys(("traffic light", "traffic sign"), "sign symbol"),
        **dict.fromkeys(("truck", "bus", "train"), "car"),
        "person": "pedestrian",
        **dict.fromkeys(("rider", "motorcycle", "bicycle"), "bicyclist"),
    },
    ignored=frozenset(
        (
            "terrain",
            "drivable fallback",
            "non-drivable fallback",
            "autorickshaw",
            "vehicle fallback",
            "curb",
            "guard rail",
            "billboard",
            "obstacle fallback",
        )
    ),
)

SPACES: dict[str, LabelSpace] = {s.name: s for s in (_CITYSCAPES19, _STREET7, _CAMVID11)}
"""Label spaces by name."""


def _numbered(names: Mapping[str, int | tuple[int, ...]], last: int) -> dict[int, str | None]:
    """{class: its id or ids} -> {id: class} over 0..last, where the others are ignored."""
    ids: dict[int, str | None] = dict.fromkeys(range(last + 1))
    for name, numbers in names.items():
        for number in (numbers,) if isinstance(numbers, int) else numbers:
            ids[number] = name
    return ids


_LABEL_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}

_SYNTHIA = {
    "sky": 1,
    "building": 2,
    "road": 3,
    "sidewalk": 4,
    "fence": 5,
    "vegetation": 6,
    "pole": 7,
    "car": 8,
    "traffic sign": 9,
    "person": 10,
    "bicycle": 11,
    "motorcycle": 12,
    "traffic light": 15,
    "rider": 17,
    "bus": 19,
    "wall": 21,
}

_MAPILLARY_12: dict[str, int | tuple[int, ...]] = {
    "road": (13, 24, 41),  # road, lane marking, manhole
    "sidewalk": (2, 15),  # kerb, sidewalk
    "building": 17,
    "wall": 6,
    "fence": 3,
    "pole": (45, 47),  # pole, utility pole
    "traffic light": 48,
    "traffic sign": 50,  # its front
    "vegetation": 30,
    "terrain": 29,
    "sky": 27,
    "person": 19,
    "rider": (20, 21, 22),
    "car": 55,
    "truck": 61,
    "bus": 54,
    "train": 58,
    "motorcycle": 57,
    "bicycle": 52,
}

_IDD_LEVEL_3 = (
    "road",
    "drivable fallback",
    "sidewalk",
    "non-drivable fallback",
    "person",
    "rider",
    "motorcycle",
    "bicycle",
    "autorickshaw",
    "car",
    "truck",
    "bus",
    "vehicle fallback",
    "curb",
    "wall",
    "fence",
    "guard rail",
    "billboard",
    "traffic sign",
    "traffic light",
    "pole",
    "obstacle fallback",
    "building",
    "bridge",
    "vegetation",
    "sky",
)

SOURCES: dict[str, LabelSource] = {
    source.name: source
    for source in (
        LabelSource("gta5", _numbered(_LABEL_IDS, 34)),  # 34: licence plate
        # the licence plate's -1 is 255 in a file of 8 bits
        LabelSource("cityscapes", {**_numbered(_LABEL_IDS, 33), IGNORE: None}),
        LabelSource("trainids", {**dict(enumerate(_STREETS)), IGNORE: None}),
        LabelSource("synthia", _numbered(_SYNTHIA, 22), bits=16),
        LabelSource("mapillary12", _numbered(_MAPILLARY_12, 65)),
        LabelSource("idd", {**dict(enumerate(_IDD_LEVEL_3)), IGNORE: None}),
        LabelSource("idd_lite", {**dict(enumerate(_STREET7.classes)), IGNORE: None}),
        LabelSource("camvid", {**dict(enumerate(_CAMVID11.classes)), 11: None}),
    )
}
"""Label sources by name; ``register_source`` adds one."""


def register_source(name: str, ids: Mapping[int, str | None], *, bits: int = 8) -> LabelSource:
    """Say what the ids of one's own label files mean.

    Args:
        name: a new name, for ``seg.ImageLabelFolder(source=name)``.
        ids: id -> class name of the label space to be used, or None to ignore the id. Ids that
            stand here not at all are errors when a label file is loaded.
        bits: 8, or 16 for 16-bit PNGs.

    Raises:
        ValueError: the name is taken by a source with other ids.
    """
    source = LabelSource(name, {int(i): c for i, c in ids.items()}, bits)
    known = SOURCES.setdefault(name, source)
    if (dict(known.ids), known.bits) != (dict(source.ids), source.bits):
        raise ValueError(
            f"there is a label source {name!r} with other ids already; choose another name"
        )
    return known


def register_space(space: LabelSpace) -> LabelSpace:
    """Add a label space. ValueError if the name is taken by another one."""
    if SPACES.setdefault(space.name, space) != space:
        raise ValueError(
            f"there is another label space {space.name!r} already; choose another name"
        )
    return space


def label_table(source: str, space: str) -> np.ndarray:
    """The lookup from a source's ids to a space's class indices.

    Args:
        source: a key of ``SOURCES``.
        space: a key of ``SPACES``.

    Returns:
        (256,) uint8, or (65536,) uint8 for a source of 16 bits, read-only: the class index of each
        id, ``IGNORE`` (255) for ids to ignore, ``UNKNOWN`` (254) for ids that the source does not
        define.

    Raises:
        ValueError: an unknown name, or a source with a class that the space does not know.
    """
    return _table(_source(source), _space(space))


def evaluated_classes(source: str, space: str) -> tuple[int, ...]:
    """Class indices that the source can contain, in rising order; mIoU is the mean over these.

    SYNTHIA has 16 of Cityscapes' 19 classes: a mean over 19 would count three that cannot occur.
    """
    table = label_table(source, space)
    return tuple(sorted({int(v) for v in np.unique(table)} - {IGNORE, UNKNOWN}))


@lru_cache(maxsize=64)
def _table(source: LabelSource, space: LabelSpace) -> np.ndarray:
    table = np.full(2**source.bits, UNKNOWN, np.uint8)
    strange = []
    for number, name in source.ids.items():
        index = IGNORE if name is None else space.index(name)
        if index is None:
            strange.append(f"{name!r} (id {number})")
        else:
            table[number] = index
    if strange:
        raise ValueError(
            f"the label source {source.name!r} does not fit the space {space.name!r}, which knows "
            f"nothing of {', '.join(strange[:5])}{' ...' if strange[5:] else ''}; "
            f"its classes are {', '.join(space.classes)}. Name these ids after one of them, "
            f"set them to None (ignore), or take a space that fits: "
            f"{', '.join(_fitting(source)) or 'none is registered'}"
        )
    table.setflags(write=False)  # it is shared by all callers
    return table


def _fitting(source: LabelSource) -> list[str]:
    names = {name for name in source.ids.values() if name is not None}
    return [s.name for s in SPACES.values() if all(s.index(n) is not None for n in names)]


def _source(name: str) -> LabelSource:
    if name not in SOURCES:
        raise ValueError(
            f"unknown label source {name!r}: there are {', '.join(SOURCES)}; own data is made "
            "known with seg.label_spaces.register_source"
        )
    return SOURCES[name]


def _space(name: str) -> LabelSpace:
    if name not in SPACES:
        raise ValueError(
            f"unknown label space {name!r}: there are {', '.join(SPACES)}; an own one is made "
            "known with seg.label_spaces.register_space"
        )
    return SPACES[name]
