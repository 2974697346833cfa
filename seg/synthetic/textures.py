"""Small repeating textures, clean for the game and worn for the camera."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from .camera import Array
from .chance import generator

TILE = 256  # pixels along either side
NAMES = ("plain", "grain", "slabs", "bricks", "plaster", "leaves", "grass", "planks", "panels")


def _noise(rng: np.random.Generator, cell: int) -> Array:
    """Smooth noise that repeats, in about -1..1, with blobs of `cell` pixels."""
    coarse = rng.integers(-127, 128, (TILE // cell, TILE // cell)).astype(np.float32) / 127
    padded = np.pad(coarse, 2, mode="wrap")
    size = padded.shape[0] * cell
    fine = cv2.resize(padded, (size, size), interpolation=cv2.INTER_LINEAR)
    return fine[2 * cell : 2 * cell + TILE, 2 * cell : 2 * cell + TILE]


@lru_cache(maxsize=2)
def tiles(style: str) -> Array:
    """(textures, TILE, TILE) int8: brighter above 0, darker below, for one style."""
    clean = style == "game"
    rng = generator("textures", style)
    dirt = 0.12 if clean else 0.38
    y, x = np.mgrid[:TILE, :TILE]
    fine, small, medium, broad = (_noise(rng, cell) for cell in (2, 4, 16, 64))
    stain = broad * 0.6 + medium * 0.4

    def joints(rows: int, columns: int, shifted: bool, width: int) -> tuple[Array, Array]:
        """Where the joints of blocks are, and a shade for each block."""
        high, wide = TILE // rows, TILE // columns
        row = y // high
        moved = (x + (row % 2) * (wide // 2 if shifted else 0)) % TILE
        shade = rng.integers(-127, 128, (rows, columns)) / 127
        return (y % high < width) | (moved % wide < width), shade[row, moved // wide]

    result = {name: np.zeros((TILE, TILE)) for name in NAMES}
    result["plain"] = stain * (0.15 if clean else 0.5) + fine * (0.05 if clean else 0.2)
    result["grain"] = fine * (0.35 if clean else 0.6) + stain * dirt + small * 0.15
    for name, rows, columns, shifted, width in (
        ("slabs", 4, 4, False, 4),
        ("bricks", 16, 8, True, 3),
        ("panels", 2, 2, False, 3),
    ):
        dark, shade = joints(rows, columns, shifted, width)
        light_joint = name == "bricks" and not clean
        line = 0.5 if light_joint else (-0.85 if clean else -0.5)
        result[name] = np.where(dark, line, shade * (0.3 if clean else 0.2)) + stain * dirt
        result[name] += fine * (0.08 if clean else 0.25)
    result["plaster"] = stain * (0.25 if clean else 0.7) + fine * (0.1 if clean else 0.25)
    clumps = medium * 0.45 + small * 0.55 + fine * (0.25 if clean else 0.5)
    result["leaves"] = np.where(clumps > 0.1, 0.65, clumps - 0.25) if clean else clumps
    blades = cv2.resize(fine[:64], (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    result["grass"] = blades * 0.6 + medium * (0.2 if clean else 0.5) + fine * 0.2
    seam = x % 32 < 3
    plank = rng.integers(-127, 128, TILE // 32) / 127
    result["planks"] = np.where(seam, -0.9, plank[x // 32] * 0.35) + stain * dirt
    stack = np.stack([result[name] for name in NAMES])
    return np.rint(np.clip(stack, -1, 1) * 127).astype(np.int8)
