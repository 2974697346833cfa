"""Vehicles as extruded side views: cars, vans, trucks, buses and trams.

A vehicle has its own axes: t forward, w to its right, y up, with the origin on the ground below
its middle. Only the faces that look at the camera are painted, from far to near.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .camera import Array, Surface, Vector
from .canvas import Canvas, Frame
from .chance import between, chance, pick, tone
from .labels import BUS, CAR, TRAIN, TRUCK

Random = np.random.Generator
# (t, y, half width) as shares of length, height and half the width, and what covers the strip to
# the next point. From the rear bumper over the roof to the front bumper.
Profile = Sequence[tuple[float, float, float, str]]

SEDAN: Profile = (
    (-0.5, 0.14, 0.92, "paint"),
    (-0.5, 0.56, 0.96, "paint"),
    (-0.47, 0.64, 0.94, "paint"),
    (-0.35, 0.67, 0.93, "glass"),
    (-0.2, 0.96, 0.76, "paint"),
    (-0.05, 1.0, 0.76, "paint"),
    (0.07, 0.97, 0.76, "glass"),
    (0.24, 0.68, 0.93, "paint"),
    (0.46, 0.58, 0.92, "paint"),
    (0.5, 0.46, 0.94, "paint"),
    (0.5, 0.14, 0.92, ""),
)
HATCH: Profile = (
    (-0.5, 0.14, 0.92, "paint"),
    (-0.5, 0.58, 0.96, "paint"),
    (-0.48, 0.64, 0.95, "glass"),
    (-0.4, 0.95, 0.78, "paint"),
    (-0.34, 1.0, 0.78, "paint"),
    (0.05, 0.98, 0.78, "glass"),
    (0.24, 0.67, 0.93, "paint"),
    (0.46, 0.57, 0.92, "paint"),
    (0.5, 0.45, 0.94, "paint"),
    (0.5, 0.14, 0.92, ""),
)
VAN: Profile = (
    (-0.5, 0.15, 0.97, "paint"),
    (-0.5, 0.6, 0.98, "glass"),
    (-0.49, 0.92, 0.93, "paint"),
    (-0.46, 1.0, 0.9, "paint"),
    (0.2, 1.0, 0.9, "glass"),
    (0.35, 0.6, 0.95, "paint"),
    (0.48, 0.5, 0.95, "paint"),
    (0.5, 0.4, 0.96, "paint"),
    (0.5, 0.15, 0.96, ""),
)
BOX: Profile = (
    (-0.5, 0.0, 1.0, "paint"),
    (-0.5, 1.0, 1.0, "paint"),
    (0.5, 1.0, 1.0, "paint"),
    (0.5, 0.0, 1.0, ""),
)
COACH: Profile = (
    (-0.5, 0.1, 1.0, "paint"),
    (-0.5, 0.95, 1.0, "paint"),
    (-0.49, 1.0, 0.95, "paint"),
    (0.485, 1.0, 0.95, "paint"),
    (0.5, 0.93, 0.98, "paint"),
    (0.5, 0.1, 1.0, ""),
)
TRAM: Profile = (
    (-0.5, 0.08, 0.92, "paint"),
    (-0.495, 0.45, 0.96, "glass"),
    (-0.475, 0.86, 0.9, "paint"),
    (-0.46, 0.98, 0.85, "paint"),
    (0.46, 0.98, 0.85, "paint"),
    (0.475, 0.86, 0.9, "glass"),
    (0.495, 0.45, 0.96, "paint"),
    (0.5, 0.08, 0.92, ""),
)


class Body:
    """One rigid box on wheels, seen from where the camera is."""

    def __init__(
        self,
        canvas: Canvas,
        label: int,
        x: float,
        z: float,
        heading: tuple[float, float],
        size: tuple[float, float, float],
        base: float = 0.0,
    ) -> None:
        self.canvas, self.label = canvas, label
        self.x, self.z, self.base = x, z, base
        self.length, self.width, self.height = size
        norm = math.hypot(*heading)
        self.ahead = heading[0] / norm, heading[1] / norm
        self.right = self.ahead[1], -self.ahead[0]
        # the camera stands above the world's origin
        self.eye_t = -(x * self.ahead[0] + z * self.ahead[1])
        self.eye_w = -(x * self.right[0] + z * self.right[1])
        self.side = 1.0 if self.eye_w > 0 else -1.0
        self.end = 1.0 if self.eye_t > 0 else -1.0
        self.sees_side = abs(self.eye_w) > self.width / 2
        self.sees_end = abs(self.eye_t) > self.length / 2

    def world(self, points: Sequence[tuple[float, float, float]] | Array) -> Array:
        """(n, 3) of t, w, y in metres -> world points."""
        t, w, y = np.asarray(points, float).T
        (ax, az), (rx, rz) = self.ahead, self.right
        world = np.empty((len(t), 3))
        world[:, 0] = self.x + t * ax + w * rx
        world[:, 1] = self.base + y
        world[:, 2] = self.z + t * az + w * rz
        return world

    def direction(self, t: float, w: float, y: float) -> Vector:
        (ax, az), (rx, rz) = self.ahead, self.right
        return t * ax + w * rx, y, t * az + w * rz

    def paint(
        self,
        material: str,
        shade: tuple[float, float],
        points: Sequence[tuple[float, float, float]] | Array,
        normal: Vector,
    ) -> None:
        """A polygon of t, w, y corners in metres with a normal in the vehicle's axes."""
        corners = self.world(points)
        surface = Surface.through(corners[0], self.direction(*normal))
        self.canvas.fill(self.canvas.part(self.label, material, shade, surface), corners)

    def on_side(
        self,
        material: str,
        shade: tuple[float, float],
        shape: Sequence[tuple[float, float]] | Array,
    ) -> None:
        """A polygon of (t, y) in metres on the side that the camera sees."""
        if self.sees_side:
            w = self.side * self.width / 2
            self.paint(material, shade, [(t, w, y) for t, y in shape], (0, self.side, 0))

    def boxes_on_side(
        self, material: str, shade: tuple[float, float], boxes: Sequence[tuple[float, ...]]
    ) -> None:
        """Rectangles (t0, y0, t1, y1) in metres on the side that the camera sees."""
        if not self.sees_side:
            return
        origin = self.world([(0, self.side * self.width / 2, 0)])[0]
        frame = Frame((origin[0], origin[1], origin[2]), (self.ahead[0], 0.0, self.ahead[1]))
        surface = Surface.through(origin, self.direction(0, self.side, 0))
        part = self.canvas.part(self.label, material, shade, surface)
        self.canvas.rectangles(part, frame, boxes)

    def on_end(
        self, material: str, shade: tuple[float, float], boxes: Sequence[tuple[float, ...]]
    ) -> None:
        """Rectangles (w0, y0, w1, y1), shares of half the width and of the height, on the end."""
        if not self.sees_end:
            return
        t, half, high = self.end * self.length / 2, self.width / 2, self.height
        for w0, y0, w1, y1 in boxes:
            corners = ((w0, y0), (w1, y0), (w1, y1), (w0, y1))
            points = [(t, w * half, y * high) for w, y in corners]
            self.paint(material, shade, points, (self.end, 0, 0))

    def wheel(self, t: float, radius: float, rim: tuple[float, float], arch: bool = True) -> None:
        if not self.sees_side:
            return
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        circle = np.stack((np.cos(turn), np.sin(turn)), -1)
        if arch:
            self.on_side("trim", (0.2, 0.3), circle * radius * 1.16 + (t, radius * 1.05))
        self.on_side("tyre", (0.5, 0.5), circle * radius + (t, radius))
        self.on_side("rim", rim, circle * radius * 0.6 + (t, radius))
        self.on_side("trim", (0.4, 0.5), circle * radius * 0.2 + (t, radius))

    def tyres_at_end(self, radius: float, width: float = 0.2) -> None:
        """The lower halves of the wheels below the bumper."""
        share = width / (self.width / 2)
        boxes = [(-0.95, 0, -0.95 + share, 1), (0.95 - share, 0, 0.95, 1)]
        top = radius * 1.3 / self.height
        self.on_end("tyre", (0.5, 0.5), [(a, 0, b, top) for a, _, b, _ in boxes])

    def extrude(
        self, profile: Profile, shade: tuple[float, float], paint: str, bottom: float = 0
    ) -> None:
        """Strips over the top, far to near, then the side."""
        points = np.array([p[:3] for p in profile]) * (self.length, self.height, self.width / 2)
        points[:, 1] = np.maximum(points[:, 1], bottom)
        strips = []
        for k in range(len(points) - 1):
            (t0, y0, h0), (t1, y1, h1) = points[k], points[k + 1]
            run, rise = t1 - t0, y1 - y0
            length = max(math.hypot(run, rise), 1e-6)
            normal = (-rise / length, 0.0, run / length)
            eye = (self.eye_t - t0, self.canvas.camera.elevation - self.base - y0)
            if normal[0] * eye[0] + normal[2] * eye[1] > 0:
                distance = math.hypot(self.eye_t - (t0 + t1) / 2, eye[1])
                quad = [(t0, -h0, y0), (t0, h0, y0), (t1, h1, y1), (t1, -h1, y1)]
                strips.append((distance, k, quad, normal, profile[k][3]))
        for _, _, quad, normal, cover in sorted(strips, reverse=True):
            self.paint(paint, shade, quad, normal)
            if cover == "glass":
                middle = np.mean(quad, axis=0)
                self.paint("glass", shade, (np.array(quad) - middle) * 0.86 + middle, normal)
        if self.sees_side:
            outline = [(t, self.side * h, y) for t, y, h in points]
            self.paint(paint, shade, outline, (0, self.side, 0))

    def corners(self) -> Array:
        """(4, 3): its footprint in world points."""
        half, wide = self.length / 2, self.width / 2
        return self.world([(-half, -wide, 0), (half, -wide, 0), (half, wide, 0), (-half, wide, 0)])

    def ground(self, height: float | None = None) -> None:
        """Shadows: of the sun, and where little light comes below the vehicle."""
        corners = self.corners()
        self.canvas.touch(corners[:, [0, 2]])
        self.canvas.cast(corners[:, [0, 2]], height or self.height)


def car(
    canvas: Canvas, rng: Random, x: float, z: float, heading: tuple[float, float], kind: str = ""
) -> float:
    """A passenger car; returns its length."""
    kind = kind or pick(rng, ("sedan", "hatch", "estate", "van"), (4, 4, 3, 1.2))
    profile, size = {
        "sedan": (SEDAN, (4.5, 1.8, 1.45)),
        "hatch": (HATCH, (3.9, 1.74, 1.5)),
        "estate": (HATCH, (4.6, 1.88, 1.68)),
        "van": (VAN, (4.9, 1.95, 2.0)),
    }[kind]
    body = Body(canvas, CAR, x, z, heading, size)
    length, width, height = size
    shade, rim = tone(rng), tone(rng)
    body.ground()
    if canvas.misses(body.corners()):
        return length
    body.tyres_at_end(0.31)
    floor = 0.14 * height
    body.on_side("trim", (0.1, 0.1), _box(-0.42 * length, 0.1, 0.42 * length, floor + 0.05))
    body.extrude(profile, shade, "paint")
    # side windows follow the roof line, with a pillar between them
    belt, roof = (0.64, 0.92) if kind != "van" else (0.6, 0.9)
    rear_low, rear_high, front_high, front_low = {
        "sedan": (-0.31, -0.2, 0.06, 0.2),
        "hatch": (-0.42, -0.36, 0.05, 0.2),
        "estate": (-0.44, -0.38, 0.05, 0.2),
        "van": (-0.44, -0.44, 0.2, 0.31),
    }[kind]
    pillar = -0.08 if kind != "van" else 0.05
    inset = 0.87  # windows lie further in than the doors
    for corners in (
        ((rear_low, belt), (rear_high, roof), (pillar - 0.01, roof), (pillar - 0.015, belt)),
        ((pillar + 0.015, belt), (pillar + 0.01, roof), (front_high, roof), (front_low, belt)),
    ):
        if body.sees_side and not (kind == "van" and corners[0][0] < pillar and shade[0] < 0.5):
            half = width / 2
            points = [
                (t * length, body.side * half * (inset if y == roof else 0.95), y * height)
                for t, y in corners
            ]
            body.paint("glass", shade, points, (0, body.side, 0))
    line = 0.008 * length
    if canvas.pixels_per_metre((x, 0, max(z, 1.0))) < 14:  # too far for the rest
        for t in (-0.3, 0.31):
            body.on_side("tyre", (0.5, 0.5), _box(t * length - 0.28, 0.0, t * length + 0.28, 0.6))
        _ends(body, shade, rear=body.end < 0)
        return length
    body.boxes_on_side(
        "trim",
        (0.3, 0.4),
        [
            (t * length - line / 2, 0.25 * height, t * length + line / 2, 0.62 * height)
            for t in (-0.26, pillar, 0.2)
        ],
    )
    radius = 0.33 if kind in ("estate", "van") else 0.31
    for t in (-0.3, 0.31):
        body.wheel(t * length, radius, rim)
    _ends(body, shade, rear=body.end < 0)
    return length


def _ends(body: Body, shade: tuple[float, float], rear: bool) -> None:
    """Lamps, plate and bumper on the end that the camera sees."""
    body.on_end("trim", (0.2, 0.4), [(-0.9, 0.14, 0.9, 0.25)])
    if rear:
        body.on_end("tail_lamp", shade, [(-0.94, 0.44, -0.66, 0.57), (0.66, 0.44, 0.94, 0.57)])
        body.on_end("plate", (0.5, 0.5), [(-0.26, 0.36, 0.26, 0.44)])
        body.on_end("trim", shade, [(-0.6, 0.545, 0.6, 0.56)])
    else:
        body.on_end("trim", shade, [(-0.5, 0.3, 0.5, 0.42)])
        body.on_end("head_lamp", shade, [(-0.92, 0.36, -0.58, 0.45), (0.58, 0.36, 0.92, 0.45)])
        body.on_end("plate", (0.5, 0.5), [(-0.26, 0.23, 0.26, 0.3)])


def truck(canvas: Canvas, rng: Random, x: float, z: float, heading: tuple[float, float]) -> float:
    """A lorry: a cab before a box, a tipper or a tank; returns its length."""
    long = between(rng, 4.6, 7.5)
    cab_length, width = 1.9, 2.4
    total = long + cab_length + 0.25
    high = between(rng, 2.3, 2.7)
    bed = 0.95
    cargo_t, cab_t = -total / 2 + long / 2, total / 2 - cab_length / 2
    norm = math.hypot(*heading)
    ahead = heading[0] / norm, heading[1] / norm
    cargo = Body(
        canvas, TRUCK, x + cargo_t * ahead[0], z + cargo_t * ahead[1], heading,
        (long, width, high), bed,
    )  # fmt: skip
    cab_height = between(rng, 2.5, 2.9)
    cab = Body(
        canvas, TRUCK, x + cab_t * ahead[0], z + cab_t * ahead[1], heading,
        (cab_length, 2.3, cab_height),
    )  # fmt: skip
    whole = Body(canvas, TRUCK, x, z, heading, (total, width, high + bed))
    whole.ground()
    shade, load = tone(rng), tone(rng)
    open_bed = chance(rng, 0.3)

    def draw_cargo() -> None:
        whole.tyres_at_end(0.48, 0.45)
        whole.boxes_on_side("trim", (0.1, 0.1), [(-total / 2 + 0.2, 0.55, total / 2 - 0.4, bed)])
        if open_bed:
            low = Body(canvas, TRUCK, cargo.x, cargo.z, heading, (long, width, 1.1), bed)
            low.extrude(BOX, load, "paint")
            stakes = np.arange(-long / 2, long / 2, 0.9)
            low.boxes_on_side("trim", load, [(t, 0, t + 0.1, 1.1) for t in stakes])
            low.on_end("trim", load, [(-0.02, 0, 0.02, 1), (-1, 0, -0.93, 1), (0.93, 0, 1, 1)])
        else:
            cargo.extrude(BOX, load, "panel")
            edge = ((-1, 0, -0.95, 1), (0.95, 0, 1, 1), (-0.015, 0, 0.015, 1), (-1, 0, 1, 0.03))
            if cargo.end < 0:
                cargo.on_end("trim", load, [*edge, (-0.4, 0.1, -0.36, 0.9), (0.36, 0.1, 0.4, 0.9)])
            cargo.boxes_on_side("trim", load, [(-long / 2, 0, long / 2, 0.08)])
            if chance(rng, 0.6):
                mark = (-long * 0.3, high * 0.35, long * between(rng, 0.1, 0.3), high * 0.7)
                cargo.boxes_on_side("paint", shade, [mark])
        for t in (-total / 2 + 1.0, -total / 2 + 2.1):
            whole.wheel(t, 0.48, (0.3, 0.3), arch=False)
        if whole.end < 0:
            whole.on_end("trim", (0.2, 0.3), [(-0.95, 0.14, 0.95, 0.2)])
            lamps = [(-0.94, 0.2, -0.72, 0.25), (0.72, 0.2, 0.94, 0.25)]
            whole.on_end("tail_lamp", shade, lamps)
            whole.on_end("plate", (0.5, 0.5), [(-0.2, 0.15, 0.2, 0.19)])

    def draw_cab() -> None:
        if cab.end > 0:
            cab.tyres_at_end(0.48, 0.3)
        cab.extrude(BOX, shade, "paint", bottom=0.4)
        window = [(-0.3, 1.5), (-0.3, cab_height - 0.3), (0.75, cab_height - 0.3), (0.8, 1.45)]
        cab.on_side("glass", shade, window)
        if cab.end > 0:
            cab.on_end("glass", shade, [(-0.9, 0.53, 0.9, 0.9)])
            cab.on_end("trim", shade, [(-0.7, 0.22, 0.7, 0.42), (-0.95, 0.14, 0.95, 0.2)])
            cab.on_end("head_lamp", shade, [(-0.95, 0.22, -0.75, 0.32), (0.75, 0.22, 0.95, 0.32)])
        cab.wheel(0.0, 0.48, (0.5, 0.6))

    for draw in (draw_cab, draw_cargo) if whole.end < 0 else (draw_cargo, draw_cab):
        draw()
    return total


def bus(canvas: Canvas, rng: Random, x: float, z: float, heading: tuple[float, float]) -> float:
    """A city bus; returns its length."""
    length, width, height = between(rng, 10, 12), 2.5, between(rng, 2.95, 3.15)
    body = Body(canvas, BUS, x, z, heading, (length, width, height))
    shade = tone(rng)
    body.ground()
    body.tyres_at_end(0.46, 0.3)
    body.boxes_on_side("trim", (0.1, 0.1), [(-length * 0.48, 0.22, length * 0.48, 0.4)])
    body.extrude(COACH, shade, "bus_paint")
    step = 1.35
    starts = np.arange(-length / 2 + 0.4, length / 2 - 1.5, step)
    panes = [(t, height * 0.46, t + step - 0.1, height * 0.83) for t in starts]
    body.boxes_on_side(
        "trim", (0.3, 0.3), [(starts[0], height * 0.45, length * 0.47, height * 0.84)]
    )
    body.boxes_on_side("bus_glass", shade, panes)
    if body.side > 0:  # doors are on the kerb side
        doors = [length / 2 - 1.7, -0.4]
        body.boxes_on_side("trim", (0.5, 0.6), [(t, 0.3, t + 1.2, height * 0.85) for t in doors])
        leaves = [(t + k, 0.4, t + k + 0.48, height * 0.82) for t in doors for k in (0.08, 0.64)]
        body.boxes_on_side("bus_glass", shade, leaves)
    if chance(rng, 0.7):
        stripe = [(-length / 2, height * 0.22, length / 2, height * 0.32)]
        body.boxes_on_side("paint", tone(rng), stripe)
    for t in (-length * 0.27, length * 0.28):
        body.wheel(t, 0.48, (0.4, 0.4))
    if body.end > 0:
        body.on_end("bus_glass", shade, [(-0.92, 0.36, 0.92, 0.8)])
        body.on_end("display", shade, [(-0.6, 0.84, 0.6, 0.94)])
        body.on_end("head_lamp", shade, [(-0.92, 0.2, -0.66, 0.28), (0.66, 0.2, 0.92, 0.28)])
        body.on_end("trim", (0.2, 0.3), [(-0.96, 0.1, 0.96, 0.17), (-0.01, 0.36, 0.01, 0.8)])
    else:
        body.on_end("bus_glass", shade, [(-0.8, 0.55, 0.8, 0.85)])
        body.on_end("tail_lamp", shade, [(-0.95, 0.25, -0.82, 0.45), (0.82, 0.25, 0.95, 0.45)])
        body.on_end("trim", (0.2, 0.3), [(-0.96, 0.1, 0.96, 0.17), (-0.6, 0.25, 0.6, 0.45)])
        body.on_end("display", shade, [(-0.25, 0.88, 0.25, 0.95)])
    return length


def train(
    canvas: Canvas,
    rng: Random,
    x: float,
    z: float,
    heading: tuple[float, float],
    cars: int = 2,
    base: float = 0.0,
) -> float:
    """A tram or a local train of several cars without visible wheels; returns its length."""
    one, width, height = 12.5, 2.55, 3.45
    total = cars * one
    whole = Body(canvas, TRAIN, x, z, heading, (total, width, height), base)
    if base == 0.0:
        whole.ground()
    shade, trim = tone(rng), tone(rng)
    order = sorted(range(cars), key=lambda k: -abs(whole.eye_t - (k + 0.5) * one + total / 2))
    for k in order:
        t = -total / 2 + (k + 0.5) * one
        place = whole.world([(t, 0, 0)])[0]
        size = one - 0.35, width, height
        body = Body(canvas, TRAIN, place[0], place[2], heading, size, base)
        bellows = Body(canvas, TRAIN, place[0], place[2], heading, (one, width * 0.9, 3.1), base)
        bellows.boxes_on_side("trim", (0.2, 0.2), [(-one / 2, 0.4, one / 2, 3.0)])
        body.extrude(TRAM, shade, "train_paint")
        length = size[0]
        band = [(-length * 0.475, height * 0.46, length * 0.475, height * 0.8)]
        body.boxes_on_side("trim", (0.2, 0.3), band)
        starts = np.arange(-length * 0.45, length * 0.45 - 1.6, 1.9)
        panes = [(s, height * 0.49, s + 1.75, height * 0.78) for s in starts]
        body.boxes_on_side("bus_glass", shade, panes)
        for door in (-length * 0.22, length * 0.2):
            body.boxes_on_side("train_trim", trim, [(door, 0.35, door + 1.3, height * 0.82)])
            leaves = [(door + s, 0.9, door + s + 0.52, height * 0.78) for s in (0.1, 0.7)]
            body.boxes_on_side("bus_glass", shade, leaves)
        stripe = [(-length * 0.49, height * 0.14, length * 0.49, height * 0.24)]
        body.boxes_on_side("train_trim", trim, stripe)
        rails = [(-length * 0.47, 0.08, length * 0.47, height * 0.12)]
        body.boxes_on_side("trim", (0.1, 0.1), rails)
        if k == order[-1]:  # the end that the camera sees
            body.on_end("train_trim", trim, [(-0.92, 0.1, 0.92, 0.3)])
            body.on_end("bus_glass", shade, [(-0.78, 0.45, 0.78, 0.8)])
            body.on_end("display", shade, [(-0.45, 0.83, 0.45, 0.92)])
            lamp = "head_lamp" if body.end > 0 else "tail_lamp"
            body.on_end(lamp, shade, [(-0.8, 0.32, -0.56, 0.39), (0.56, 0.32, 0.8, 0.39)])
            body.on_end("trim", (0.2, 0.2), [(-0.88, 0.06, 0.88, 0.12)])
    roof = Frame((whole.x, base, whole.z), (whole.ahead[0], 0.0, whole.ahead[1]))
    part = canvas.part(TRAIN, "trim", (0.3, 0.5), roof.surface)
    for s in (-one * 0.2, one * 0.3):
        arms = [(s - 0.7, height), (s + 0.2, height + 0.55), (s - 0.5, height + 1.1)]
        canvas.stroke(part, roof, arms, 0.07)
    return total


def _box(t0: float, y0: float, t1: float, y1: float) -> list[tuple[float, float]]:
    return [(t0, y0), (t1, y0), (t1, y1), (t0, y1)]
