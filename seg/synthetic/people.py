"""People, and what they ride: figures of strokes and discs that face the camera."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Frame
from .chance import between, chance, tone
from .labels import BICYCLE, MOTORCYCLE, PERSON, RIDER

Random = np.random.Generator
Point = tuple[float, float]


def person(canvas: Canvas, rng: Random, x: float, z: float, base: float = 0.0) -> None:
    """Somebody who stands or walks, seen from the front, the back or the side."""
    child = chance(rng, 0.1)
    height = between(rng, 1.05, 1.35) if child else between(rng, 1.56, 1.9)
    frame = Frame((x, base, z))
    top, lower, skin, hair = (tone(rng) for _ in range(4))

    def part(material: str, colour: tuple[float, float]) -> int:
        return canvas.part(PERSON, material, colour, frame.surface)

    legs, shirt, flesh = part("trousers", lower), part("cloth", top), part("skin", skin)
    shoes = part("trim", hair)
    h = height
    sideways = chance(rng, 0.45)
    facing = 1.0 if chance(rng, 0.5) else -1.0
    stride = between(rng, 0.03, 0.17) * h if sideways else between(rng, 0.035, 0.06) * h
    wide = 0.075 * h if sideways else 0.115 * h
    hip, shoulder = 0.5 * h, 0.81 * h
    skirt = chance(rng, 0.2)
    feet = ((stride, 0.02 * h), (-stride, 0.03 * h))
    for k, (s, y) in enumerate(feet):
        knee = (s * 0.6 + (0.03 * h * facing if sideways else 0), 0.27 * h)
        start = (0.0 if sideways else (0.045 * h if k == 0 else -0.045 * h), hip)
        canvas.stroke(flesh if skirt else legs, frame, [start, knee, (s, y + 0.03)], 0.085 * h)
        toe = (s + (0.06 * h * facing if sideways else 0.0), y)
        canvas.stroke(shoes, frame, [(s, y), toe], 0.05 * h)
    if skirt:
        edge = 0.11 * h
        points = [(-edge, 0.28 * h), (edge, 0.28 * h), (0.08 * h, hip), (-0.08 * h, hip)]
        canvas.fill(legs, frame(points))
    if sideways and chance(rng, 0.3):  # a rucksack
        back = part("cloth", tone(rng))
        canvas.stroke(
            back, frame, [(-0.1 * h * facing, 0.6 * h), (-0.1 * h * facing, 0.75 * h)], 0.1 * h
        )
    waist, coat = wide * 0.85, hip - (0.16 * h if chance(rng, 0.25) else 0.03 * h)
    neck = shoulder + 0.015 * h
    torso = [(-waist, coat), (waist, coat), (wide, shoulder - 0.03 * h), (wide * 0.6, neck),
             (-wide * 0.6, neck), (-wide, shoulder - 0.03 * h)]  # fmt: skip
    canvas.fill(shirt, frame(torso))
    swing = between(rng, 0.02, 0.12) * h if sideways else 0.03 * h
    sleeve = part("cloth", (top[0], top[1] * 0.6))
    for sign in (-1, 1):
        root = (0.0 if sideways else sign * wide * 0.92, shoulder - 0.035 * h)
        hand = (sign * (swing if sideways else wide + 0.03 * h), 0.47 * h)
        elbow = ((root[0] + hand[0]) / 2 + sign * 0.012 * h, 0.63 * h)
        canvas.stroke(sleeve, frame, [root, elbow, hand], 0.055 * h)
        canvas.disc(flesh, frame, hand, 0.026 * h)
    if chance(rng, 0.25):  # a bag in the hand: part of the person, as in Cityscapes
        bag = part("cloth", tone(rng))
        s = wide + 0.03 * h
        canvas.rectangles(bag, frame, [(s - 0.06 * h, 0.3 * h, s + 0.06 * h, 0.45 * h)])
    canvas.stroke(flesh, frame, [(0, shoulder), (0, 0.87 * h)], 0.055 * h)
    turn = facing if sideways else 0.0
    back = not sideways and chance(rng, 0.5)
    centre = (0.015 * h * turn, 0.925 * h)
    _head(canvas, frame, PERSON, centre, 0.062 * h, skin, hair, back=back, turn=turn)
    _stand(canvas, x, z, 0.22, height, base)


def _head(
    canvas: Canvas,
    frame: Frame,
    label: int,
    centre: Point,
    radius: float,
    skin: tuple[float, float],
    hair: tuple[float, float],
    *,
    back: bool = False,
    turn: float = 0.0,
    helmet: bool = False,
) -> None:
    s, y = centre
    material = "helmet" if helmet else "hair"
    crown = canvas.part(label, material, hair, frame.surface)
    face = canvas.part(label, "skin", skin, frame.surface)
    canvas.disc(crown, frame, (s - turn * radius * 0.15, y + radius * 0.2), radius * 1.12, 1.15)
    if not back:
        canvas.disc(face, frame, (s + turn * radius * 0.25, y - radius * 0.15), radius * 0.85, 1.2)
        canvas.disc(crown, frame, (s - turn * radius * 0.1, y + radius * 0.85), radius * 0.8, 0.55)


def bicycle(
    canvas: Canvas, rng: Random, x: float, z: float, heading: tuple[float, float], base: float = 0.0
) -> None:
    """A bicycle: from the side where its heading lets us see it, else from behind."""
    colour = tone(rng)
    if abs(heading[0]) < 0.35:
        _bicycle_end(canvas, x, z, base, colour)
    else:
        _bicycle_side(canvas, Frame((x, base, z), (heading[0], 0.0, heading[1])), colour)
    _stand(canvas, x, z, 0.3, 1.0, base)


def _bicycle_side(canvas: Canvas, frame: Frame, colour: tuple[float, float]) -> None:
    wheel, rear, front = 0.34, (-0.52, 0.34), (0.52, 0.34)
    turn = np.linspace(0, 2 * np.pi, 25)
    circle = np.stack((np.cos(turn), np.sin(turn)), -1)
    for hub in (rear, front):
        canvas.relabel(BICYCLE, frame(circle[:-1] * wheel + hub))
    canvas.relabel(
        BICYCLE, frame([(-0.5, 0.3), (-0.2, 0.75), (0.4, 0.8), (0.45, 0.3), (-0.1, 0.25)])
    )
    metal = canvas.part(BICYCLE, "rim", (0.4, 0.4), frame.surface)
    tyre = canvas.part(BICYCLE, "tyre", (0.4, 0.3), frame.surface)
    tube = canvas.part(BICYCLE, "bike_frame", colour, frame.surface)
    for hub in (rear, front):
        for k in range(0, 24, 3):
            end = circle[k] * wheel + hub
            canvas.stroke(metal, frame, [hub, (end[0], end[1])], 0.008)
        rim = [(p[0] * wheel + hub[0], p[1] * wheel + hub[1]) for p in circle]
        canvas.stroke(tyre, frame, rim, 0.055)
    crank, seat, head = (-0.08, 0.28), (-0.2, 0.8), (0.38, 0.8)
    for line in ([rear, crank, head, seat, rear], [crank, seat], [head, front]):
        canvas.stroke(tube, frame, line, 0.045)
    canvas.stroke(tyre, frame, [(-0.32, 0.93), (-0.1, 0.92)], 0.08)
    canvas.stroke(tube, frame, [seat, (-0.22, 0.9)], 0.035)
    canvas.stroke(tyre, frame, [head, (0.36, 0.98), (0.46, 1.02)], 0.045)


def _bicycle_end(
    canvas: Canvas, x: float, z: float, base: float, colour: tuple[float, float]
) -> None:
    frame = Frame((x, base, z))
    tyre = canvas.part(BICYCLE, "tyre", (0.4, 0.3), frame.surface)
    tube = canvas.part(BICYCLE, "bike_frame", colour, frame.surface)
    canvas.stroke(tyre, frame, [(0, 0.05), (0, 0.64)], 0.085)
    canvas.stroke(tube, frame, [(0, 0.5), (0, 0.88)], 0.05)
    canvas.stroke(tyre, frame, [(-0.1, 0.92), (0.1, 0.92)], 0.09)
    canvas.stroke(tyre, frame, [(-0.28, 1.0), (0.28, 1.0)], 0.045)
    canvas.stroke(tube, frame, [(-0.15, 0.28), (0.15, 0.28)], 0.05)
    lamp = canvas.part(BICYCLE, "tail_lamp", (0.5, 0.5), frame.surface)
    canvas.disc(lamp, frame, (0, 0.7), 0.045)


def motorcycle(
    canvas: Canvas, rng: Random, x: float, z: float, heading: tuple[float, float], base: float = 0.0
) -> None:
    """A motorcycle or a scooter, from the side or from behind."""
    colour = tone(rng)
    if abs(heading[0]) < 0.35:
        _motorcycle_end(canvas, x, z, base, colour)
    else:
        frame = Frame((x, base, z), (heading[0], 0.0, heading[1]))
        _motorcycle_side(canvas, frame, colour, scooter=chance(rng, 0.4))
    canvas.touch(
        [(x - 0.7, z - 0.2), (x + 0.7, z - 0.2), (x + 0.7, z + 0.2), (x - 0.7, z + 0.2)], base
    )
    _stand(canvas, x, z, 0.4, 1.1, base)


def _motorcycle_side(
    canvas: Canvas, frame: Frame, colour: tuple[float, float], scooter: bool
) -> None:
    def part(material: str, shade: tuple[float, float] = (0.4, 0.4)) -> int:
        return canvas.part(MOTORCYCLE, material, shade, frame.surface)

    dark, tyre, body, chrome = part("trim"), part("tyre"), part("paint", colour), part("rim")
    radius = 0.26 if scooter else 0.32
    rear, front = (-0.68, radius), (0.7, radius)
    for hub in (rear, front):
        canvas.disc(tyre, frame, hub, radius)
        canvas.disc(chrome, frame, hub, radius * 0.55)
        canvas.disc(dark, frame, hub, radius * 0.3)
    canvas.stroke(chrome, frame, [front, (0.42, 0.95)], 0.08)
    if scooter:
        deck = [(-0.85, 0.45), (-0.8, 0.75), (-0.2, 0.72), (-0.1, 0.32), (0.3, 0.3), (0.36, 0.95),
                (0.5, 0.98), (0.55, 0.5), (0.4, 0.18), (-0.35, 0.18)]  # fmt: skip
        canvas.fill(body, frame(deck))
        canvas.stroke(dark, frame, [(-0.75, 0.8), (-0.25, 0.78)], 0.13)
    else:
        engine = [(-0.45, 0.25), (0.35, 0.22), (0.4, 0.6), (-0.4, 0.62)]
        canvas.fill(dark, frame(engine))
        canvas.stroke(chrome, frame, [(0.25, 0.28), (-0.2, 0.25), (-0.85, 0.38)], 0.1)
        tank = [(-0.15, 0.66), (0.05, 0.92), (0.38, 0.93), (0.48, 0.7), (0.3, 0.58)]
        tail = [(-0.9, 0.82), (-0.55, 0.66), (-0.1, 0.66), (-0.2, 0.74), (-0.6, 0.82)]
        canvas.fill(body, frame(tank))
        canvas.fill(body, frame(tail))
        canvas.stroke(dark, frame, [(-0.65, 0.83), (-0.15, 0.78)], 0.1)
    canvas.stroke(dark, frame, [(0.42, 0.95), (0.3, 1.05)], 0.06)
    canvas.disc(part("head_lamp"), frame, (0.53, 0.88), 0.1)
    canvas.disc(part("tail_lamp"), frame, (-0.88, 0.78), 0.06)


def _motorcycle_end(
    canvas: Canvas, x: float, z: float, base: float, colour: tuple[float, float]
) -> None:
    frame = Frame((x, base, z))

    def part(material: str, shade: tuple[float, float] = (0.4, 0.4)) -> int:
        return canvas.part(MOTORCYCLE, material, shade, frame.surface)

    dark, body = part("trim"), part("paint", colour)
    canvas.stroke(part("tyre"), frame, [(0, 0.1), (0, 0.6)], 0.2)
    canvas.stroke(part("rim"), frame, [(0.2, 0.35), (0.2, 0.5)], 0.12)
    canvas.fill(dark, frame([(-0.22, 0.35), (0.22, 0.35), (0.2, 0.7), (-0.2, 0.7)]))
    canvas.fill(body, frame([(-0.2, 0.62), (0.2, 0.62), (0.13, 0.88), (-0.13, 0.88)]))
    canvas.stroke(dark, frame, [(-0.38, 1.02), (0.38, 1.02)], 0.06)
    for s in (-0.36, 0.36):
        canvas.stroke(dark, frame, [(s, 1.02), (s * 1.05, 1.16)], 0.05)
        canvas.disc(dark, frame, (s * 1.08, 1.2), 0.08)
    canvas.disc(part("tail_lamp"), frame, (0, 0.72), 0.075)
    canvas.rectangles(part("plate"), frame, [(-0.1, 0.5, 0.1, 0.62)])


def rider(
    canvas: Canvas,
    rng: Random,
    x: float,
    z: float,
    heading: tuple[float, float],
    motor: bool,
) -> None:
    """Somebody on a bicycle or a motorcycle, which is painted too."""
    (motorcycle if motor else bicycle)(canvas, rng, x, z, heading)
    top, lower, skin, hair = (tone(rng) for _ in range(4))
    helmet = motor or chance(rng, 0.45)
    saddle = 0.88 if motor else 0.98
    if abs(heading[0]) >= 0.35:
        along = (heading[0], 0.0, heading[1])
        frame, s0 = Frame((x, 0.0, z), along), (-0.25 if motor else -0.2)
    else:
        frame, s0 = Frame((x, 0.0, z)), 0.0

    def part(material: str, colour: tuple[float, float]) -> int:
        return canvas.part(RIDER, material, colour, frame.surface)

    shirt, legs, shoes = part("cloth", top), part("trousers", lower), part("trim", (0.2, 0.2))
    sleeve = part("cloth", (top[0], top[1] * 0.6))
    if abs(heading[0]) >= 0.35:
        pedal = (0.05, 0.42) if motor else (-0.02, 0.2 + 0.2 * float(rng.random()))
        knee = (0.2, 0.72)
        canvas.stroke(legs, frame, [(s0, saddle), knee, pedal], 0.15)
        canvas.stroke(shoes, frame, [pedal, (pedal[0] + 0.12, pedal[1])], 0.09)
        neck = (s0 + 0.24, saddle + 0.54)
        canvas.stroke(shirt, frame, [(s0, saddle + 0.04), neck], 0.24)
        canvas.stroke(sleeve, frame, [neck, (s0 + 0.38, saddle + 0.2), (0.34, 1.04)], 0.1)
        head, turn = (neck[0] + 0.07, neck[1] + 0.23), 1.0
    else:
        for sign in (-1, 1):
            foot = (sign * 0.16, 0.42 if motor else (0.2 if sign > 0 else 0.42))
            canvas.stroke(legs, frame, [(sign * 0.09, saddle), (sign * 0.19, 0.68), foot], 0.15)
            canvas.stroke(shoes, frame, [foot, (foot[0], foot[1] - 0.05)], 0.1)
            hands = (sign * 0.3, 1.04)
            elbow = (sign * 0.33, saddle + 0.3)
            canvas.stroke(sleeve, frame, [(sign * 0.17, saddle + 0.5), elbow, hands], 0.1)
        torso = [(-0.16, saddle - 0.05), (0.16, saddle - 0.05), (0.22, saddle + 0.5),
                 (0.12, saddle + 0.6), (-0.12, saddle + 0.6), (-0.22, saddle + 0.5)]  # fmt: skip
        canvas.fill(shirt, frame(torso))
        head, turn = (0.0, saddle + 0.75), 0.0
    back = turn == 0 and heading[1] > 0
    _head(canvas, frame, RIDER, head, 0.115, skin, hair, back=back, turn=turn, helmet=helmet)


def _stand(canvas: Canvas, x: float, z: float, half: float, height: float, floor: float) -> None:
    foot = [(x - half, z - 0.2), (x + half, z - 0.2), (x + half, z + 0.2), (x - half, z + 0.2)]
    canvas.touch(foot, floor)
    slim = [(x - half * 0.7, z), (x + half * 0.7, z), (x, z + 0.1)]
    canvas.cast(slim, height, floor=floor)
