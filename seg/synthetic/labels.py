"""The label ids of Cityscapes that a drawn street uses, and the colours they are shown in.

Source: Cordts et al., "The Cityscapes Dataset" (https://arxiv.org/abs/1604.01685). GTA5 stores the
same ids and the same colours in its palette PNGs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNLABELLED, EGO, STATIC, DYNAMIC, GROUND = 0, 1, 4, 5, 6
ROAD, SIDEWALK, PARKING, RAIL_TRACK = 7, 8, 9, 10
BUILDING, WALL, FENCE = 11, 12, 13
POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 17, 19, 20
VEGETATION, TERRAIN, SKY = 21, 22, 23
PERSON, RIDER = 24, 25
CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 26, 27, 28, 31, 32, 33

# name and RGB of every label id, by id; the 19 evaluated classes in the order of their trainIds
# are those of EVALUATED
_TABLE = """
unlabeled 0 0 0 | ego vehicle 0 0 0 | rectification border 0 0 0 | out of roi 0 0 0
static 0 0 0 | dynamic 111 74 0 | ground 81 0 81 | road 128 64 128 | sidewalk 244 35 232
parking 250 170 160 | rail track 230 150 140 | building 70 70 70 | wall 102 102 156
fence 190 153 153 | guard rail 180 165 180 | bridge 150 100 100 | tunnel 150 120 90
pole 153 153 153 | polegroup 153 153 153 | traffic light 250 170 30 | traffic sign 220 220 0
vegetation 107 142 35 | terrain 152 251 152 | sky 70 130 180 | person 220 20 60 | rider 255 0 0
car 0 0 142 | truck 0 0 70 | bus 0 60 100 | caravan 0 0 90 | trailer 0 0 110 | train 0 80 100
motorcycle 0 0 230 | bicycle 119 11 32
"""
_ROWS = [row.split() for row in _TABLE.replace("\n", "|").split("|") if row.strip()]

NAMES: tuple[str, ...] = tuple(" ".join(row[:-3]) for row in _ROWS)
PALETTE: tuple[tuple[int, int, int], ...] = tuple(
    (int(row[-3]), int(row[-2]), int(row[-1])) for row in _ROWS
)
EVALUATED = (
    *(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION),
    *(TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE),
)


def train_ids() -> NDArray[np.uint8]:
    """(256,) uint8 table: label id -> trainId, 255 for ids that are not evaluated."""
    table = np.full(256, 255, np.uint8)
    table[list(EVALUATED)] = np.arange(len(EVALUATED), dtype=np.uint8)
    return table
