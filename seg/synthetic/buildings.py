"""What lines a street: fronts with windows, roofs, walls, fences and hedges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import Surface
from .canvas import Canvas, Frame
from .chance import between, chance, pick, tone
from .labels import BUILDING, FENCE, VEGETATION, WALL

Random = np.random.Generator
Tone = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """What all fronts of one building share."""

    material: str
    shade: Tone
    frame_shade: Tone
    glass_shade: Tone
    floors: int
    storey: float  # metres
    bay: float  # metres from window to window
    window: tuple[float, float]  # width, height in metres
    shop: bool
    band: bool  # windows in a band, as in offices
    pitched: bool

    @property
    def height(self) -> float:
        return self.floors * self.storey + (0.9 if self.shop else 0.4)


def building_look(rng: Random, house: bool = False) -> Look:
    band = not house and chance(rng, 0.2)
    material = pick(
        rng, ("plaster", "brick", "stone", "concrete"), (5, 3, 1, 0.5) if house else (4, 3, 2, 2)
    )
    return Look(
        material,
        tone(rng),
        tone(rng),
        tone(rng),
        floors=int(rng.integers(1, 3))
        if house
        else pick(rng, (2, 3, 4, 5, 6, 8), (1, 3, 4, 4, 2, 1)),
        storey=between(rng, 2.8, 3.5),
        bay=between(rng, 2.2, 3.4),
        window=(between(rng, 1.0, 1.5), between(rng, 1.35, 1.9)),
        shop=not house and chance(rng, 0.5),
        band=band,
        pitched=house or chance(rng, 0.25),
    )


def front(canvas: Canvas, rng: Random, look: Look, frame: Frame, length: float) -> None:
    """One wall of a building with its windows: s in 0..length of the frame."""
    surface, height = frame.surface, look.height
    if canvas.misses(frame([(0, 0), (length, 0)])):
        return

    def part(material: str, shade: Tone) -> int:
        return canvas.part(BUILDING, material, shade, surface)

    canvas.rectangles(part(look.material, look.shade), frame, [(0, 0, length, height)])
    ledge = part("ledge", look.frame_shade)
    canvas.rectangles(ledge, frame, [(0, height - 0.45, length, height)])
    first = 0.9 if look.shop else 0.4
    middle = frame([(length / 2, 2.0)])[0]
    coarse = canvas.pixels_per_metre(middle) < 4  # a window is a few pixels of the canvas
    ground = _ground_floor(canvas, rng, look, frame, length)
    starts = first + look.storey * np.arange(ground, look.floors)
    if not len(starts):
        return
    if look.band:
        panes = [(0.5, y + 0.8, length - 0.5, y + look.storey - 0.5) for y in starts]
        canvas.rectangles(part("glass", look.glass_shade), frame, panes)
        if not coarse:
            mullions = np.arange(0.5 + look.bay / 2, length - 0.5, look.bay / 2)
            between_panes = [
                (s, y + 0.8, s + 0.1, y + look.storey - 0.5) for s in mullions for y in starts
            ]
            canvas.rectangles(part("frame", look.frame_shade), frame, between_panes)
        return
    count = max(int((length - 0.6) // look.bay), 1)
    s = (np.arange(count) + 0.5) * (length / count)
    centre_s, low = (v.ravel() for v in np.meshgrid(s, starts + 0.85))
    half, tall = look.window[0] / 2, min(look.window[1], look.storey - 1.15)
    boxes = np.stack((centre_s - half, low, centre_s + half, low + tall), -1)
    if not coarse:
        canvas.rectangles(
            part("frame", look.frame_shade), frame, boxes + np.array([-0.14, -0.14, 0.14, 0.14])
        )
    lit = rng.random(len(boxes)) < 0.35
    canvas.rectangles(part("glass", look.glass_shade), frame, boxes[~lit])
    canvas.rectangles(part("glass_lit", look.glass_shade), frame, boxes[lit])
    if not coarse:
        bars = np.stack((centre_s - 0.04, low, centre_s + 0.04, low + tall), -1)
        canvas.rectangles(part("frame", look.frame_shade), frame, bars)
        if look.storey > 3.15:
            lines = [(0, y - 0.08, length, y + 0.1) for y in starts]
            canvas.rectangles(ledge, frame, lines)


def _ground_floor(canvas: Canvas, rng: Random, look: Look, frame: Frame, length: float) -> int:
    """Shop windows and doors; returns how many floors it took."""
    surface = frame.surface

    def part(material: str, shade: Tone) -> int:
        return canvas.part(BUILDING, material, shade, surface)

    if not look.shop:
        door = between(rng, 0.1, 0.8) * max(length - 1.2, 0.1)
        canvas.rectangles(
            part("frame", look.frame_shade), frame, [(door - 0.12, 0, door + 1.22, 2.45)]
        )
        canvas.rectangles(part("door", tone(rng)), frame, [(door, 0, door + 1.1, 2.3)])
        return 0
    top = look.storey + 0.3
    base = part("stone", look.frame_shade)
    canvas.rectangles(base, frame, [(0, 0, length, top)])
    count = max(int(length // 4.5), 1)
    step = length / count
    for k in range(count):
        left, right = k * step + 0.35, (k + 1) * step - 0.35
        sign_shade = tone(rng)
        panes = [(left, 0.45, right - 1.2, top - 0.95), (right - 1.05, 0.05, right, top - 0.95)]
        canvas.rectangles(part("shop_glass", look.glass_shade), frame, panes)
        goods = part("cloth", tone(rng))
        s = left + np.array([0.1, 0.32, 0.55]) * (right - 1.2 - left)
        tall = rng.uniform(0.3, 1.0, 3)
        canvas.rectangles(goods, frame, np.stack((s, s * 0 + 0.5, s + 0.4, 0.5 + tall), -1))
        material = "awning" if chance(rng, 0.45) else "shop_sign"
        canvas.rectangles(
            part(material, sign_shade), frame, [(left - 0.1, top - 0.9, right + 0.1, top - 0.25)]
        )
    return 1


def side_front(
    canvas: Canvas, rng: Random, look: Look, side: float, x: float, near: float, far: float
) -> None:
    """A building's front along the street at x, from z = near to z = far, with roof and shadow.

    `side` is -1 left of the street and 1 right of it.
    """
    length = far - near
    if side < 0:
        frame = Frame((x, 0.0, near), (0.0, 0.0, 1.0))
    else:
        frame = Frame((x, 0.0, far), (0.0, 0.0, -1.0))
    deep = 9.0
    if look.pitched:
        _roof(canvas, look, side, x, near, far, deep)
    front(canvas, rng, look, frame, length)
    canvas.cast([(x, near), (x, far), (x + side * deep, far), (x + side * deep, near)], look.height)


def end_wall(canvas: Canvas, rng: Random, look: Look, x: float, side: float, z: float) -> None:
    """The wall that faces the camera where a building's neighbour is missing."""
    deep = 9.0
    frame = Frame((x if side > 0 else x - deep, 0.0, z))
    if chance(rng, 0.5):
        front(canvas, rng, look, frame, deep)
    else:
        part = canvas.part(BUILDING, look.material, look.shade, frame.surface)
        canvas.rectangles(part, frame, [(0, 0, deep, look.height)])
    if look.pitched:
        gable = canvas.part(BUILDING, look.material, look.shade, frame.surface)
        rise = look.height + _RISE
        canvas.fill(gable, frame([(0, look.height), (deep, look.height), (deep / 2, rise)]))


_RISE = 3.2  # metres from the eaves to the ridge


def _roof(
    canvas: Canvas, look: Look, side: float, x: float, near: float, far: float, deep: float
) -> None:
    """The slope that looks at the street."""
    normal = (-side * _RISE, deep / 2, 0.0)
    norm = float(np.hypot(_RISE, deep / 2))
    unit = (normal[0] / norm, normal[1] / norm, 0.0)
    eaves, ridge = look.height, look.height + _RISE
    edge, middle = x - side * 0.35, x + side * deep / 2
    part = canvas.part(BUILDING, "roof", look.frame_shade, Surface.through((x, eaves, near), unit))
    canvas.fill(part, [(edge, eaves - 0.2, near), (edge, eaves - 0.2, far),
                       (middle, ridge, far), (middle, ridge, near)])  # fmt: skip


def backdrop(canvas: Canvas, rng: Random, z: float, left: float, right: float) -> None:
    """A row of buildings across the end of the street."""
    x = left
    while x < right:
        width = between(rng, 9, 18)
        look = building_look(rng)
        frame = Frame((x, 0.0, z + between(rng, 0, 3)))
        front(canvas, rng, look, frame, width)
        if look.pitched:
            part = canvas.part(BUILDING, "roof", look.frame_shade, frame.surface)
            high = look.height
            roof = [(-0.3, high), (width + 0.3, high), (width - 1.5, high + 3), (1.5, high + 3)]
            canvas.fill(part, frame(roof))
        x += width


def _along(x: float, near: float, far: float, side: float) -> tuple[Frame, float]:
    """A frame along the street whose normal looks at the road."""
    if side < 0:
        return Frame((x, 0.0, near), (0.0, 0.0, 1.0)), far - near
    return Frame((x, 0.0, far), (0.0, 0.0, -1.0)), far - near


def wall(
    canvas: Canvas, rng: Random, side: float, x: float, near: float, far: float,
    height: float, material: str, shade: Tone,
) -> None:  # fmt: skip
    canvas.cast([(x, near), (x, far), (x + side * 0.3, far), (x + side * 0.3, near)], height)
    frame, length = _along(x, near, far, side)
    if canvas.misses(frame([(0, 0), (length, 0)])):
        return
    part = canvas.part(WALL, material, shade, frame.surface)
    canvas.rectangles(part, frame, [(0, 0, length, height)])
    cap = canvas.part(WALL, "ledge", shade, frame.surface)
    canvas.rectangles(cap, frame, [(0, height - 0.14, length, height)])
    front_end = Frame((x if side > 0 else x - 0.3, 0.0, near))
    face = canvas.part(WALL, material, shade, front_end.surface)
    canvas.rectangles(face, front_end, [(0, 0, 0.3, height)])
    if material == "concrete" and chance(rng, 0.4):  # graffiti
        paint = canvas.part(WALL, "cloth", tone(rng), frame.surface)
        s = between(rng, 0, max(length - 2, 0.1))
        points = [(s, 0.5), (s + 0.5, height * 0.8), (s + 1.2, 0.6), (s + 1.9, height * 0.75)]
        canvas.stroke(paint, frame, points, 0.14)


def fence(
    canvas: Canvas, rng: Random, side: float, x: float, near: float, far: float,
    height: float, kind: str, shade: Tone,
) -> None:  # fmt: skip
    """Railings, boards or wire mesh. What is seen between the bars is labelled fence as well."""
    canvas.cast([(x, near), (x, far), (x + side * 0.05, far)], height)
    frame, length = _along(x, near, far, side)
    if canvas.misses(frame([(0, 0), (length, 0)])):
        return
    material = {"boards": "wood", "bars": "metal", "mesh": "metal"}[kind]
    if kind != "boards":
        canvas.relabel(FENCE, frame([(0, 0.05), (length, 0.05), (length, height), (0, height)]))
    part = canvas.part(FENCE, material, shade, frame.surface)
    step = {"boards": 0.16, "bars": 0.17, "mesh": 0.35}[kind]
    thick = {"boards": 0.145, "bars": 0.045, "mesh": 0.03}[kind]
    pixel = 1 / canvas.pixels_per_metre(frame([(length / 2, 0)])[0])
    squeeze = max(pixel * 2.5 / step, 1.0)  # far bars merge: fewer and thicker ones
    starts = np.arange(0, length - thick, step * squeeze)
    thick = thick * squeeze
    bars = np.stack((starts, starts * 0, starts + thick, starts * 0 + height), -1)
    canvas.rectangles(part, frame, bars)
    rails = (0.25, 0.8) if kind != "mesh" else (0.3, 0.5, 0.7, 0.97)
    canvas.rectangles(
        part, frame, [(0, r * height - 0.04, length, r * height + 0.05) for r in rails]
    )
    posts = canvas.part(FENCE, material, (shade[0], shade[1] * 0.6), frame.surface)
    canvas.rectangles(posts, frame, [(s, 0, s + 0.12, height + 0.1) for s in (0, length - 0.12)])


def hedge(
    canvas: Canvas, rng: Random, side: float, x: float, near: float, far: float,
    height: float, shade: Tone,
) -> None:  # fmt: skip
    frame, length = _along(x, near, far, side)
    part = canvas.part(VEGETATION, "leaf", shade, frame.surface)
    steps = np.linspace(0, length, 9)
    bumps = height * rng.uniform(0.9, 1.06, 9)
    outline = np.concatenate(([(0, 0)], np.stack((steps, bumps), -1), [(length, 0)]))
    canvas.fill(part, frame(outline))
    lighter = canvas.part(VEGETATION, "leaf_light", shade, frame.surface)
    boxes = [(s + 0.1, height * 0.7, s + length / 8 - 0.1, height * 0.9) for s in steps[:-1]]
    canvas.rectangles(lighter, frame, boxes)
    face = canvas.part(VEGETATION, "leaf_dark", shade, Frame((x, 0.0, near)).surface)
    start = x if side > 0 else x - 1.0
    canvas.rectangles(face, Frame((start, 0.0, near)), [(0, 0, 1.0, bumps[0])])
    canvas.cast([(x, near), (x, far), (x + side, far), (x + side, near)], height)
