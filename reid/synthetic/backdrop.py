"""Backdrops: what a camera sees without people, and what stands in front of them.

Scenes are wider than a picture, and pictures are windows into them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from .palette import CARS, UPPER, Array, Colour, darker, near, palette, pick, rgb

Box = tuple[float, float, float, float]  # left, top, right, bottom; pixels


def _texture(rng: np.random.Generator, shape: tuple[int, int], strength: float) -> Array:
    """Cloudy grain around 1: three octaves of smoothed noise, H x W x 1."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for cell, weight in ((2, 0.5), (8, 0.8), (48, 1.0)):
        coarse = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (1 + strength * total)[..., None]


def _fill(scene: Array, box: Box, colour: Any) -> None:
    x0, y0, x1, y1 = (round(v) for v in box)
    scene[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = colour


def _line(
    scene: Array, a: tuple[float, float], b: tuple[float, float], colour: Any, thick: float
) -> None:
    ends = [(round(x), round(y)) for x, y in (a, b)]
    paint = tuple(float(v) for v in colour)
    cv2.line(scene, ends[0], ends[1], paint, max(1, round(thick)), cv2.LINE_AA)


def _ground(
    scene: Array, horizon: int, colour: Colour, rng: np.random.Generator, tiles: int = 0
) -> None:
    """A floor below the horizon, brighter with distance; `tiles` adds joints in perspective."""
    height, width = scene.shape[:2]
    depth = height - horizon
    fade = np.linspace(1.08, 0.92, depth, dtype=np.float32)[:, None, None]
    scene[horizon:] = np.asarray(colour, np.float32) * fade
    joint = np.multiply(colour, 0.8)
    for k in range(1, tiles + 1):
        y = horizon + depth * (k / tiles) ** 1.8
        _line(scene, (0, y), (width, y), joint, height / 250)
    for k in range(-5 * tiles, 5 * tiles + 1) if tiles else ():
        x = width * (0.5 + 0.35 * k / tiles)
        start = width / 2 + (x - width / 2) * 0.35
        _line(scene, (start, horizon), (x, height), joint, height / 250)
    scene[horizon:] *= _texture(rng, (depth, width), 0.03)


def _windows(scene: Array, box: Box, lit: float, rng: np.random.Generator, step: float) -> None:
    """A grid of windows, `step` apart; the fraction `lit` of them has a lamp on."""
    x0, y0, x1, y1 = box
    for x in np.arange(x0 + step * 0.3, x1 - step * 0.6, step):
        for y in np.arange(y0 + step * 0.2, y1 - step * 0.9, step * 1.35):
            glass = rgb("ffdc8a") if rng.random() < lit else near(rng, rgb("5d6f80"), 0.05)
            _fill(scene, (x - 2, y - 2, x + step * 0.6 + 2, y + step * 0.95 + 2), rgb("d8d4cc"))
            _fill(scene, (x, y, x + step * 0.6, y + step * 0.95), glass)
            _line(scene, (x + step * 0.3, y), (x + step * 0.3, y + step * 0.95), rgb("d8d4cc"), 1)


def _tree(scene: Array, x: float, foot: float, size: float, rng: np.random.Generator) -> None:
    _line(scene, (x, foot), (x, foot - size), rgb("57452f"), size * 0.09)
    for _ in range(26):
        dx, dy = rng.normal(0, 0.24, 2) * size
        leaf = near(rng, rgb("4f7a35"), 0.06)
        centre = (round(x + dx), round(foot - size * 1.15 + dy * 0.8))
        cv2.circle(scene, centre, max(2, round(size * 0.13)), leaf, -1, cv2.LINE_AA)


def _bench(scene: Array, x: float, y: float, size: float) -> None:
    wood, iron = rgb("7a5533"), rgb("2c2c2e")
    for rise in (0.0, 0.22, 0.5):
        plank = y - size * rise
        _line(scene, (x, plank), (x + size * 1.6, plank), wood, size * 0.1)
    for leg in (x + size * 0.15, x + size * 1.45):
        _line(scene, (leg, y), (leg, y + size * 0.4), iron, size * 0.07)


def _parked_car(scene: Array, x: float, y: float, size: float, colour: Colour) -> None:
    """A car from the side; (x, y) is the middle of the line on which its wheels stand."""

    def polygon(points: Sequence[tuple[float, float]], paint: Colour) -> None:
        corners = np.array([(x + px * size, y - py * size) for px, py in points])
        cv2.fillPoly(scene, [np.round(corners * 16).astype(np.int32)], paint, cv2.LINE_AA, shift=4)

    rear, front = [(-1.0, 0.12), (-1.0, 0.38), (-0.62, 0.43)], [(0.97, 0.38), (1.0, 0.12)]
    polygon([*rear, (-0.38, 0.68), (0.3, 0.68), (0.6, 0.43), *front], colour)
    polygon([(-0.53, 0.43), (-0.34, 0.63), (-0.05, 0.63), (-0.05, 0.43)], rgb("2f3a44"))
    polygon([(0.0, 0.43), (0.0, 0.63), (0.27, 0.63), (0.5, 0.43)], rgb("2f3a44"))
    polygon([(-1.0, 0.12), (-1.0, 0.2), (1.0, 0.2), (1.0, 0.12)], darker(colour, 0.6))
    for wheel in (-0.6, 0.6):
        centre = (round(x + wheel * size), round(y - 0.13 * size))
        cv2.circle(scene, centre, round(size * 0.17), rgb("17181a"), -1, cv2.LINE_AA)
        cv2.circle(scene, centre, round(size * 0.08), rgb("a9abae"), -1, cv2.LINE_AA)


def _plaza(scene: Array, horizon: int, lit: float, rng: np.random.Generator) -> None:
    height, width = scene.shape[:2]
    _fill(scene, (0, 0, width, horizon), near(rng, rgb("b5a48a")))
    _windows(scene, (0, 0, width, horizon * 0.8), lit, rng, height * 0.2)
    _fill(scene, (0, horizon * 0.88, width, horizon), rgb("a5977d"))
    _ground(scene, horizon, near(rng, rgb("a69b8a")), rng, tiles=7)
    for x in rng.uniform(0, width, 2):
        _bench(scene, x, horizon + height * 0.1, height * 0.14)


def _park(scene: Array, horizon: int, lit: float, rng: np.random.Generator) -> None:
    height, width = scene.shape[:2]
    _fill(scene, (0, 0, width, horizon), rgb("8fa5a5"))
    for x in np.linspace(0, width, 16) + rng.normal(0, width / 60, 16):
        _tree(scene, x, horizon + height * 0.02, height * rng.uniform(0.18, 0.3), rng)
    _ground(scene, horizon, near(rng, rgb("6f8f47")), rng)
    path = np.array([(0.30, 0.5), (0.62, 0.5), (1.0, 1.0), (0.05, 1.0)]) * (width, height)
    path[:2, 1] = horizon + height * 0.1
    cv2.fillPoly(scene, [path.astype(np.int32)], rgb("b9a585"), cv2.LINE_AA)
    strands = 500
    xs, ys = rng.uniform(0, width, strands), horizon + (height - horizon) * rng.random(strands)
    for x, y, tone in zip(xs, ys, rng.uniform(0.75, 1.2, strands), strict=True):
        colour = scene[min(int(y), height - 1), min(int(x), width - 1)] * tone
        _line(scene, (x, y), (x + 2, y - height * 0.015), colour, 1)
    _bench(scene, rng.uniform(0.1, 0.8) * width, horizon + height * 0.12, height * 0.13)


def _shop(scene: Array, horizon: int, lit: float, rng: np.random.Generator) -> None:
    width = scene.shape[1]
    count = 5
    for k in range(count):
        x0, x1 = width * k / count, width * (k + 1) / count
        facade = pick(rng, palette("7f4a3c 4b5b52 c3b59b 39465c 8d8378"))
        awning = pick(rng, palette("b13a32 2f6b55 d8a537 2f4f86"))
        _fill(scene, (x0, 0, x1, horizon), near(rng, facade))
        glass = rgb("f6d894") if rng.random() < lit else rgb("4d5c66")
        pane = (x0 + width * 0.015, horizon * 0.42, x1 - width * 0.06, horizon * 0.9)
        _fill(scene, pane, glass)
        for _ in range(7):  # goods behind the glass
            gx, gh = rng.uniform(pane[0], pane[2] - 6), horizon * rng.uniform(0.1, 0.3)
            goods = darker(pick(rng, UPPER), 0.8)
            _fill(scene, (gx, pane[3] - gh, gx + width * 0.012, pane[3]), goods)
        door = (x1 - width * 0.045, horizon * 0.4, x1 - width * 0.012, horizon)
        _fill(scene, door, rgb("35302c"))
        for stripe in range(8):
            sx = x0 + (x1 - x0) * stripe / 8
            colour = awning if stripe % 2 else rgb("e9e4d8")
            _fill(scene, (sx, horizon * 0.25, sx + (x1 - x0) / 8, horizon * 0.4), colour)
    _ground(scene, horizon, near(rng, rgb("9a958d")), rng, tiles=10)


def _street(scene: Array, horizon: int, lit: float, rng: np.random.Generator) -> None:
    height, width = scene.shape[:2]
    edges = np.sort(rng.uniform(0, width, 4))
    for x0, x1 in zip((0, *edges), (*edges, width), strict=True):
        wall = near(rng, pick(rng, palette("a0856c b9b3a6 8a5f50 93a0a5")))
        _fill(scene, (x0, 0, x1, horizon), wall)
        _windows(scene, (x0, 0, x1, horizon * 0.9), lit, rng, height * 0.13)
    _ground(scene, horizon, near(rng, rgb("6b6c6e")), rng)
    kerb = horizon + (height - horizon) * 0.5
    _fill(scene, (0, kerb, width, kerb + height * 0.03), rgb("c9c6bf"))
    pavement = scene[round(kerb + height * 0.03) :]
    pavement *= np.asarray((1.45, 1.42, 1.36), np.float32)
    for x in np.arange(0, width, width / 10):
        near_end = (x + (x - width / 2) * 0.5, height)
        _line(scene, (x, kerb + height * 0.03), near_end, rgb("7d7b77"), height / 250)
    for x in np.arange(0, width, width / 8):
        y = horizon + (kerb - horizon) * 0.45
        _fill(scene, (x, y, x + width / 18, y + height * 0.015), rgb("deddd6"))
    for x in rng.uniform(0, width, 3):
        paint = near(rng, pick(rng, CARS))
        _parked_car(scene, x, horizon + (kerb - horizon) * 0.75, height * 0.3, paint)


def _wall(scene: Array, horizon: int, lit: float, rng: np.random.Generator) -> None:
    height, width = scene.shape[:2]
    brick = near(rng, pick(rng, palette("9a6650 8c8a86 b7a88c")))
    _fill(scene, (0, 0, width, horizon), brick)
    course = height * 0.035
    for row, y in enumerate(np.arange(0, horizon, course)):
        _line(scene, (0, y), (width, y), darker(brick, 0.82), 1)
        for x in np.arange((row % 2) * course * 1.1, width, course * 2.2):
            stone = darker(brick, rng.uniform(0.9, 1.1))
            _fill(scene, (x, y, x + course * 2.1, y + course - 1), stone)
    for x in rng.uniform(0, width * 0.9, 4):  # posters
        w, h = width * rng.uniform(0.04, 0.07), horizon * rng.uniform(0.3, 0.5)
        y = horizon * rng.uniform(0.25, 0.45)
        _fill(scene, (x, y, x + w, y + h), near(rng, pick(rng, UPPER)))
        _fill(scene, (x + w * 0.15, y + h * 0.15, x + w * 0.85, y + h * 0.5), pick(rng, UPPER))
    _ground(scene, horizon, near(rng, rgb("8f8c86")), rng, tiles=5)


def _station(scene: Array, horizon: int, lit: float, rng: np.random.Generator) -> None:
    height, width = scene.shape[:2]
    _fill(scene, (0, 0, width, horizon), rgb("c2c7c8"))
    for x in np.arange(0, width, height * 0.07):
        _line(scene, (x, 0), (x, horizon), rgb("9ea4a6"), 1)
    for y in np.arange(0, horizon, height * 0.07):
        _line(scene, (0, y), (width, y), rgb("9ea4a6"), 1)
    _fill(scene, (0, horizon * 0.3, width, horizon * 0.42), rgb("2f5d8f"))
    for x in np.arange(rng.uniform(0, width / 8), width, width / 4):
        _fill(scene, (x, 0, x + height * 0.09, horizon * 1.08), rgb("6d7478"))
        _fill(scene, (x, 0, x + height * 0.03, horizon * 1.08), rgb("858d91"))
    _ground(scene, horizon, near(rng, rgb("77797c")), rng, tiles=8)
    edge = horizon + (height - horizon) * 0.18
    _fill(scene, (0, edge, width, edge + height * 0.035), rgb("d9b83c"))


SCENES: dict[str, Callable[[Array, int, float, np.random.Generator], None]] = {
    "plaza": _plaza,
    "park": _park,
    "shop": _shop,
    "street": _street,
    "wall": _wall,
    "station": _station,
}


def draw_scene(
    name: str, size: tuple[int, int], elevation: float, lit: float, rng: np.random.Generator
) -> Array:
    """The scene `name` for pictures of `size` (height, width): H x W x 3 float32, RGB 0..1.

    The scene is 1.12 times as high and 4 times as wide as a picture. A camera that stands higher
    (`elevation`, radians) sees the horizon higher up; `lit` is the fraction of windows with a lamp.
    """
    height, width = round(size[0] * 1.12), size[1] * 4
    scene = np.zeros((height, width, 3), np.float32)
    SCENES[name](scene, round(height * (0.49 - 0.6 * elevation)), lit, rng)
    scene *= _texture(rng, (height, width), 0.018)
    # Brighter towards one side, so that every place of the scene has its own brightness.
    slope = rng.choice([-1.0, 1.0]) * np.linspace(-1, 1, width)[None, :, None]
    return np.asarray(scene * (0.94 + 0.10 * slope), np.float32)


def draw_obstacle(canvas: Array, kind: str, rng: np.random.Generator) -> None:
    """Something in front of a person: a "pole", a "car", or a box of "plants"."""
    height, width = canvas.shape[:2]
    if kind == "pole":
        x, half = width * rng.uniform(0.2, 0.8), width * rng.uniform(0.03, 0.055)
        columns = np.arange(width, dtype=np.float32)
        s = (columns - np.float32(x)) / np.float32(half)
        tone = np.float32(0.5) * np.sqrt(np.clip(1 - s * s, 0, 1)) + np.float32(0.15)
        canvas += (tone[:, None] - canvas) * (np.abs(s) < 1)[:, None]
    elif kind == "car":
        paint = near(rng, pick(rng, CARS))
        x = width * (0.5 + rng.choice([-1, 1]) * rng.uniform(0.35, 0.8))
        _parked_car(canvas, x, height * 1.0, height * 0.4, paint)
    else:
        top = height * rng.uniform(0.72, 0.82)
        x0 = width * rng.uniform(-0.4, 0.5)
        _fill(canvas, (x0, top + height * 0.08, x0 + width * 0.8, height), rgb("8a7a6a"))
        for _ in range(40):
            centre = (
                round(x0 + width * rng.uniform(0, 0.8)),
                round(top + height * rng.normal(0.06, 0.025)),
            )
            leaf = near(rng, rgb("4a7334"), 0.06)
            cv2.circle(canvas, centre, round(height * 0.02), leaf, -1, cv2.LINE_AA)
