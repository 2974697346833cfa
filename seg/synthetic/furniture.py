"""What stands along a street: trees, lamps, signs, traffic lights, bins."""

from __future__ import annotations

import numpy as np

from .camera import facing
from .canvas import Canvas, Frame
from .chance import between, chance, pick, tone
from .labels import DYNAMIC, POLE, STATIC, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION

KERB = 0.13  # metres: height of the sidewalk above the road

Random = np.random.Generator


def tree(canvas: Canvas, rng: Random, x: float, z: float, height: float, base: float = 0.0) -> None:
    """A broad-leaved tree, or now and then a conifer, `height` metres tall."""
    frame = Frame((x, base, z))
    scale = canvas.pixels_per_metre(frame.origin)
    conifer = chance(rng, 0.12)
    trunk_height = height * (0.12 if conifer else between(rng, 0.28, 0.45))
    bark = canvas.part(VEGETATION, "bark", tone(rng), frame.surface)
    girth = max(0.14, height * 0.03)
    bend = between(rng, -0.04, 0.04) * height
    top = (bend, trunk_height * 1.5)
    canvas.stroke(bark, frame, [(0, -0.05), (bend * 0.4, trunk_height), top], girth)
    if not conifer:
        for side in (-1, 1):
            twig = (side * height * between(rng, 0.12, 0.22), height * between(rng, 0.5, 0.65))
            canvas.stroke(bark, frame, [(bend * 0.4, trunk_height), twig], girth * 0.5)
    colour = tone(rng)
    count = int(np.clip(scale * height * 0.4, 14, 230))
    spread = height * (0.16 if conifer else between(rng, 0.22, 0.33))
    middle = (trunk_height * 0.8 + height) / 2
    half = (height - trunk_height * 0.8) / 2
    s, y = rng.normal(0, 0.5, (2, count)).clip(-1, 1)
    if conifer:
        s = s * (0.55 - 0.5 * y)
        radius = spread * np.full(count, 0.3)
    else:
        # an ellipse: leaves that fall outside are pulled to its rim, where they are small
        out = np.hypot(s, y)
        s, y = s / np.maximum(out, 1.0), y / np.maximum(out, 1.0)
        radius = spread * rng.uniform(0.16, 0.36, count) * (1.05 - 0.45 * np.minimum(out, 1.0))
    if not conifer:
        core = canvas.part(VEGETATION, "leaf_dark", colour, frame.surface)
        canvas.disc(core, frame, (bend, middle), spread * 0.85, half * 0.85 / (spread * 0.85))
    _leaves(canvas, frame, colour, bend + s * spread * 1.15, middle + y * half, radius, y)
    canvas.cast(_square(x, z, spread * 1.2), height, base=trunk_height, floor=base)
    canvas.cast(_square(x, z, girth / 2), trunk_height * 1.2, floor=base)


def bush(canvas: Canvas, rng: Random, x: float, z: float, size: float, base: float = 0.0) -> None:
    frame = Frame((x, base, z))
    count = int(np.clip(canvas.pixels_per_metre(frame.origin) * size * 0.5, 6, 40))
    s = rng.uniform(-1, 1, count) * size
    y = rng.uniform(0.1, 1, count) * size * (1 - 0.5 * (s / size) ** 2)
    radius = size * rng.uniform(0.18, 0.32, count)
    _leaves(canvas, frame, tone(rng), s, y, radius, 2 * y / size - 1)
    canvas.touch(_square(x, z, size * 0.8), base)


def _leaves(
    canvas: Canvas,
    frame: Frame,
    colour: tuple[float, float],
    s: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    light: np.ndarray,
) -> None:
    """Clusters in three shades: the dark inside and below first, the sunny side last."""
    pixels = canvas.fine.to_pixels(
        np.maximum(canvas.fine.to_view(frame(np.stack((s, y), -1))), (-1e9, -1e9, 0.4))
    )
    radii = radius * canvas.pixels_per_metre(frame.origin)
    rank = light + 0.35 * np.sign(canvas.sun[0]) * s / max(float(np.abs(s).max()), 0.1)
    order = np.argsort(rank, kind="stable")
    for name, group in zip(
        ("leaf_dark", "leaf", "leaf_light"),
        np.array_split(order, [len(s) * 2 // 5, len(s) * 3 // 4]),
        strict=True,
    ):
        part = canvas.part(VEGETATION, name, colour, frame.surface)
        canvas.blobs(part, pixels[group], radii[group] * (0.8 if name == "leaf_light" else 1.0))


def lamp_post(canvas: Canvas, rng: Random, x: float, z: float, towards_road: float) -> None:
    """A street lamp whose arm reaches over the road."""
    frame = Frame((x, KERB, z))
    height = between(rng, 5.5, 8.5)
    part = canvas.part(POLE, "metal", tone(rng), frame.surface)
    canvas.stroke(part, frame, [(0, 0), (0, height)], 0.13)
    canvas.stroke(part, frame, [(0, 0), (0, 1.1)], 0.2)
    reach = towards_road * between(rng, 0.8, 2.0)
    canvas.stroke(part, frame, [(0, height), (reach, height + 0.35)], 0.09)
    head = canvas.part(POLE, "lamp", tone(rng), frame.surface)
    canvas.stroke(head, frame, [(reach * 0.75, height + 0.3), (reach, height + 0.36)], 0.2)
    canvas.cast(_square(x, z, 0.1), height, floor=KERB)


def bollard(canvas: Canvas, rng: Random, x: float, z: float) -> None:
    frame = Frame((x, KERB, z))
    part = canvas.part(POLE, "metal", tone(rng), frame.surface)
    canvas.stroke(part, frame, [(0, 0), (0, 0.85)], 0.13)
    canvas.touch(_square(x, z, 0.12), KERB)


def traffic_light(
    canvas: Canvas, rng: Random, x: float, z: float, towards_road: float, base: float = KERB
) -> None:
    """A post with one box, and often a mast arm with a second one over the road."""
    frame = Frame((x, base, z))
    pole = canvas.part(POLE, "metal", tone(rng), frame.surface)
    lit = int(rng.integers(3))
    mast = chance(rng, 0.45)
    height = between(rng, 5.2, 6.0) if mast else between(rng, 3.2, 3.8)
    canvas.stroke(pole, frame, [(0, 0), (0, height)], 0.16)
    canvas.cast(_square(x, z, 0.1), height, floor=KERB)
    heads = [(0.0, min(height, 3.6) - 0.55)]
    if mast:
        reach = towards_road * between(rng, 2.6, 4.2)
        canvas.stroke(pole, frame, [(0, height - 0.1), (reach, height)], 0.12)
        heads.append((reach, height - 0.5))
    away = chance(rng, 0.2)  # seen from behind: no lamps
    for s, y in heads:
        board = canvas.part(TRAFFIC_LIGHT, "lamp_box", tone(rng), frame.surface)
        canvas.rectangles(board, frame, [(s - 0.22, y - 0.58, s + 0.22, y + 0.58)])
        for k, colour in enumerate(() if away else ("red", "amber", "green")):
            name = f"lamp_{colour}" if k == lit else "lamp_off"
            lamp = canvas.part(TRAFFIC_LIGHT, name, tone(rng), frame.surface)
            canvas.disc(lamp, frame, (s, y + 0.36 - 0.36 * k), 0.14)


SIGNS = ("ban", "order", "warning", "square", "stop", "priority", "speed", "panel")


def sign_post(
    canvas: Canvas, rng: Random, x: float, z: float, base: float = KERB, kind: str = ""
) -> None:
    """A pole with one or two traffic signs."""
    frame = Frame((x, base, z))
    pole = canvas.part(POLE, "metal", tone(rng), frame.surface)
    height = between(rng, 2.3, 3.0)
    canvas.stroke(pole, frame, [(0, 0), (0, height)], 0.09)
    canvas.cast(_square(x, z, 0.06), height, floor=KERB)
    kind = kind or pick(rng, SIGNS)
    _sign(canvas, rng, frame, height - 0.1, kind)
    if kind != "panel" and chance(rng, 0.3):
        _sign(canvas, rng, frame, height - 0.95, pick(rng, ("order", "square", "speed")))


def gantry(canvas: Canvas, rng: Random, left: float, right: float, z: float) -> None:
    """Direction signs on a beam across the whole road."""
    frame = Frame((0.0, 0.0, z))
    pole = canvas.part(POLE, "metal", tone(rng), frame.surface)
    for s in (left, right):
        canvas.stroke(pole, frame, [(s, 0), (s, 6.6)], 0.26)
    canvas.stroke(pole, frame, [(left, 6.1), (right, 6.1)], 0.24)
    colour = pick(rng, ("sign_blue", "sign_green"))
    for share in (0.3, 0.72):
        middle = left + (right - left) * share
        _panel(canvas, rng, frame, middle, 5.8, between(rng, 2.4, 3.6), 1.9, colour)


def _sign(canvas: Canvas, rng: Random, frame: Frame, y: float, kind: str) -> None:
    size = between(rng, 0.36, 0.46)
    shade = tone(rng)

    def part(material: str) -> int:
        return canvas.part(TRAFFIC_SIGN, material, shade, frame.surface)

    if kind in ("ban", "speed"):
        canvas.disc(part("sign_red"), frame, (0, y), size)
        canvas.disc(part("sign_white"), frame, (0, y), size * 0.74)
        if kind == "speed":
            digit = part("sign_black")
            for s in (-0.3, 0.06):
                box = (s * size, y - 0.32 * size, (s + 0.26) * size, y + 0.32 * size)
                canvas.rectangles(digit, frame, [box])
    elif kind == "order":
        canvas.disc(part("sign_blue"), frame, (0, y), size)
        arrow = part("sign_white")
        canvas.stroke(arrow, frame, [(0, y - size * 0.5), (0, y + size * 0.5)], size * 0.2)
    elif kind == "warning":
        shape = np.array([(-1.1, -0.75), (1.1, -0.75), (0, 1.15)])
        canvas.fill(part("sign_red"), frame(shape * size + (0, y)))
        canvas.fill(part("sign_white"), frame(shape * size * 0.66 + (0, y - 0.03)))
        canvas.stroke(part("sign_black"), frame, [(0, y - 0.1), (0, y + 0.14)], 0.07)
    elif kind == "square":
        canvas.rectangles(part("sign_blue"), frame, [(-size, y - size, size, y + size)])
        canvas.disc(part("sign_white"), frame, (0, y), size * 0.5)
    elif kind == "stop":
        turn = np.arange(8) * (np.pi / 4) + np.pi / 8
        octagon = np.stack((np.cos(turn), np.sin(turn)), -1)
        canvas.fill(part("sign_red"), frame(octagon * size + (0, y)))
        box = (-0.7 * size, y - 0.16 * size, 0.7 * size, y + 0.16 * size)
        canvas.rectangles(part("sign_white"), frame, [box])
    elif kind == "priority":
        diamond = np.array([(-1, 0), (0, -1), (1, 0), (0, 1)])
        canvas.fill(part("sign_white"), frame(diamond * size * 1.1 + (0, y)))
        canvas.fill(part("sign_yellow"), frame(diamond * size * 0.78 + (0, y)))
    else:
        colour = pick(rng, ("sign_blue", "sign_green", "sign_yellow"))
        _panel(canvas, rng, frame, 0.0, y, between(rng, 1.2, 2.0), between(rng, 0.5, 0.9), colour)


def _panel(
    canvas: Canvas,
    rng: Random,
    frame: Frame,
    s: float,
    y: float,
    width: float,
    height: float,
    colour: str,
) -> None:
    """A direction sign: rows of light marks on a coloured board."""
    board = canvas.part(TRAFFIC_SIGN, colour, tone(rng), frame.surface)
    canvas.rectangles(
        board, frame, [(s - width / 2, y - height / 2, s + width / 2, y + height / 2)]
    )
    ink = canvas.part(TRAFFIC_SIGN, "sign_white", tone(rng), frame.surface)
    rows = 2 if height < 1.2 else 3
    for k in range(rows):
        middle = y + height * (0.5 - (k + 0.6) / (rows + 0.2))
        end = s + width * between(rng, 0.05, 0.4)
        half = height * 0.3 / rows
        canvas.rectangles(ink, frame, [(s - width * 0.42, middle - half, end, middle + half)])


def bin_(canvas: Canvas, rng: Random, x: float, z: float) -> None:
    """A litter bin, a cabinet or a planter: Cityscapes calls them static."""
    frame = Frame((x, KERB, z))
    width, height = between(rng, 0.25, 0.5), between(rng, 0.8, 1.3)
    part = canvas.part(STATIC, "plastic", tone(rng), frame.surface)
    canvas.rectangles(part, frame, [(-width, 0, width, height)])
    lid = canvas.part(STATIC, "trim", tone(rng), frame.surface)
    canvas.rectangles(lid, frame, [(-width * 1.1, height * 0.88, width * 1.1, height)])
    canvas.touch(_square(x, z, width * 1.2), KERB)
    canvas.cast(_square(x, z, width), height, floor=KERB)


def luggage(canvas: Canvas, rng: Random, x: float, z: float) -> None:
    """A suitcase or a pushchair on the sidewalk: Cityscapes calls them dynamic."""
    frame = Frame((x, KERB, z))
    part = canvas.part(DYNAMIC, "cloth", tone(rng), frame.surface)
    canvas.rectangles(part, frame, [(-0.25, 0.12, 0.25, 0.75)])
    dark = canvas.part(DYNAMIC, "trim", tone(rng), frame.surface)
    canvas.stroke(dark, frame, [(0.22, 0.7), (0.4, 1.0)], 0.05)
    for s in (-0.2, 0.2):
        canvas.disc(dark, frame, (s, 0.08), 0.09)
    canvas.touch(_square(x, z, 0.3), KERB)


def tree_line(
    canvas: Canvas, rng: Random, z: float, left: float, right: float, height: float, base: float = 0
) -> None:
    """A far row of trees across the view."""
    frame = Frame((0.0, base, z))
    scale = canvas.pixels_per_metre(frame.origin)
    count = int(np.clip((right - left) * scale / 14, 20, 160))
    s = np.linspace(left, right, count) + rng.normal(0, 1.5, count)
    hill = np.interp(s, np.linspace(left, right, 12), rng.uniform(0.55, 1.0, 12)) * height
    body = canvas.part(VEGETATION, "leaf", tone(rng), facing(z))
    outline = np.concatenate(([(left, 0)], np.stack((s, hill * 0.85), -1), [(right, 0)]))
    canvas.fill(body, frame(outline[np.argsort(outline[:, 0], kind="stable")]))
    y = hill * rng.uniform(0.35, 0.95, count)
    radius = rng.uniform(0.12, 0.22, count) * height
    _leaves(canvas, frame, tone(rng), s, y, radius, 2 * y / height - 1)


def _square(x: float, z: float, half: float) -> list[tuple[float, float]]:
    return [(x - half, z - half), (x + half, z - half), (x + half, z + half), (x - half, z + half)]
