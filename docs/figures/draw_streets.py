#!/usr/bin/env python
"""Draw docs/figures/streets.png: the same streets as a game and a camera show them, and labels.

python docs/figures/draw_streets.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engine.atomic import write_bytes
from seg.label_spaces import SPACES, label_table
from seg.synthetic import draw_street
from seg.visualization import colourise

STREETS = (1, 2, 5)
SIZE = (384, 192)
GAP = 4


def main() -> None:
    rows = []
    for style in ("game", "real"):
        rows.append([draw_street(style, number, size=SIZE)[0] for number in STREETS])
    labels = [draw_street("game", number, size=SIZE)[1] for number in STREETS]
    palette, table = SPACES["cityscapes19"].palette, label_table("gta5", "cityscapes19")
    rows.append([colourise(table[ids], palette) for ids in labels])
    picture = _stack([_stack(row, axis=1) for row in rows], axis=0)
    _, encoded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    write_bytes(Path(__file__).with_name("streets.png"), encoded.tobytes())


def _stack(images: list[np.ndarray], axis: int) -> np.ndarray:
    shape = list(images[0].shape)
    shape[axis] = GAP
    white = np.full(shape, 255, np.uint8)
    parts = [part for image in images for part in (image, white)][:-1]
    return np.concatenate(parts, axis=axis)


if __name__ == "__main__":
    main()
