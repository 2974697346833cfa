"""A street: where everything stands, painted from far to near.

The street runs along z. Across it, from left to right: front, sidewalk, lanes and parked cars,
sidewalk, front. The camera is in the traffic, above the origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import buildings, furniture, people, vehicles
from .camera import Camera, Surface
from .canvas import Canvas, Frame
from .chance import between, chance, generator, pick, tone
from .furniture import KERB
from .labels import (
    BUILDING,
    EGO,
    GROUND,
    PARKING,
    RAIL_TRACK,
    ROAD,
    SIDEWALK,
    TERRAIN,
)

Random = np.random.Generator
Tone = tuple[float, float]

# How likely a street has one of these close by, on top of what is there anyway: without such a
# word, a small set would hardly know the rare classes.
GUESTS = {
    "truck": 0.17,
    "bus": 0.17,
    "train": 0.15,
    "motorcycle": 0.22,
    "rider": 0.28,
    "bicycle": 0.36,
    "wall": 0.3,
    "fence": 0.4,
}


@dataclass
class Street:
    """The plan of one street, and what waits to be painted on it."""

    rng: Random
    canvas: Canvas
    guests: frozenset[str]
    left: float  # x of the kerbs
    right: float
    lane: float  # width
    lanes_left: int  # of oncoming traffic
    lanes_right: int  # of ours; the camera is in one of them
    own: float  # x of the kerb-side line of our lane, i.e. half a lane to the right
    parking: tuple[float, float]  # width of the strips with parked cars, left and right
    sidewalk: tuple[float, float]
    end: float  # z where the street ends
    crossing: tuple[float, float] | None  # z of a cross street's two edges
    districts: tuple[str, str]
    waiting: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    def later(self, x: float, z: float, paint: Callable[[], object]) -> None:
        """Paint after all that is farther, and after what stands farther out at the same depth."""
        self.waiting.append((z + 0.05 * abs(x), paint))

    def small(self, x: float, z: float, paint: Callable[[], object], reach: float = 1.5) -> None:
        """The same for what is within `reach` metres of (x, z): left out where nobody sees it."""
        camera = self.canvas.camera
        side, _, depth = camera.to_view(np.array([x, 0.0, z])).tolist()
        if depth > 0.5 and abs(side) - reach < depth * camera.width * 0.56 / camera.focal:
            self.later(x, z, paint)

    def front(self, side: int) -> float:
        """x of the line where the sidewalk ends and fronts begin."""
        if side < 0:
            return self.left - self.sidewalk[0]
        return self.right + self.sidewalk[1]

    def kerb(self, side: int) -> float:
        return self.left if side < 0 else self.right

    def open_at(self, z: float, margin: float = 0.0) -> bool:
        """Whether a cross street passes here."""
        return self.crossing is not None and (
            self.crossing[0] - margin < z < self.crossing[1] + margin
        )


def paint_street(seed: int, number: int, size: tuple[int, int]) -> Canvas:
    """Street `number` of a world, painted for an image of `size` (width, height)."""
    rng = generator("street", seed, number)
    street = _plan(rng, size)
    _backdrop(street)
    _ground(street)
    for side in (-1, 1):
        _frontage(street, side)
        _sidewalk(street, side)
    _traffic(street)
    for _, paint in sorted(street.waiting, key=lambda entry: -entry[0]):
        paint()
    if chance(rng, 0.5):
        _hood(street)
    return street.canvas


def _plan(rng: Random, size: tuple[int, int]) -> Street:
    width, height = size
    focal = width * between(rng, 0.86, 1.06)
    camera = Camera(
        width,
        height,
        focal,
        centre=width * between(rng, 0.46, 0.54),
        horizon=height * between(rng, 0.39, 0.47),
        yaw=between(rng, -0.07, 0.07),
        elevation=between(rng, 1.25, 1.6),
    )
    high, around = between(rng, 0.5, 1.05), between(rng, 0, 2 * math.pi)
    sun = (math.cos(high) * math.sin(around), math.sin(high), math.cos(high) * math.cos(around))
    guests = frozenset(name for name, share in GUESTS.items() if rng.random() < share)
    lane = between(rng, 2.9, 3.5)
    lanes_left, lanes_right = pick(rng, ((1, 1), (2, 2), (0, 2), (1, 2)), (5, 2, 1, 1.5))
    parking = (
        between(rng, 2.1, 2.4) if chance(rng, 0.55) else 0.0,
        between(rng, 2.1, 2.4) if chance(rng, 0.55) else 0.0,
    )
    extra_right = 0 if lanes_right == 1 else int(rng.integers(0, 2))
    offset = between(rng, -0.3, 0.3)
    right = lane / 2 + extra_right * lane + parking[1] + offset
    inner = lanes_right - 1 - extra_right  # own-direction lanes to our left
    left = -(lane / 2 + (inner + lanes_left) * lane + parking[0]) + offset
    start = between(rng, 16, 55)
    crossing = (start, start + between(rng, 7, 11)) if chance(rng, 0.45) else None
    district = pick(rng, ("city", "suburb", "green"), (5, 3, 2))
    other = district if chance(rng, 0.6) else pick(rng, ("city", "suburb", "green"), (4, 3, 3))
    return Street(
        rng=rng,
        canvas=Canvas(camera, sun),
        guests=guests,
        left=left,
        right=right,
        lane=lane,
        lanes_left=lanes_left,
        lanes_right=lanes_right,
        own=lane / 2 + offset,
        parking=parking,
        sidewalk=(between(rng, 2.0, 5.0), between(rng, 2.0, 5.0)),
        end=between(rng, 80, 180),
        crossing=crossing,
        districts=(district, other),
    )


# ------------------------------------------------------------------------------------------ ground


def _strip(
    canvas: Canvas, part: int, x0: float, x1: float, z0: float, z1: float, y: float = 0.0
) -> None:
    """A flat rectangle, with x in either order; nothing where z1 <= z0."""
    if z1 > z0:
        canvas.fill(part, [(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)])


def _backdrop(street: Street) -> None:
    """Beyond the end of the street: hills of trees, and often a row of houses."""
    rng, canvas, end = street.rng, street.canvas, street.end
    reach = end * 0.75
    far = canvas.part(TERRAIN, "grass", tone(rng))
    _strip(canvas, far, -4 * end, 4 * end, 0.3, 3000.0)
    if chance(rng, 0.8):
        height = between(rng, 7, 16)
        _call(furniture.tree_line, canvas, rng, end + 60, -reach * 1.6, reach * 1.6, height)()
    if chance(rng, 0.15):
        _skyline(street)
    if chance(rng, 0.6):
        _call(buildings.backdrop, canvas, rng, end + 6, -reach, reach)()
    else:
        height = between(rng, 5, 10)
        _call(furniture.tree_line, canvas, rng, end + 5, -reach, reach, height)()


def _skyline(street: Street) -> None:
    """Towers far away."""
    rng, canvas = street.rng, street.canvas
    for _ in range(int(rng.integers(2, 6))):
        z = between(rng, 260, 420)
        frame = Frame((between(rng, -110, 110), 0.0, z))
        part = canvas.part(BUILDING, "concrete", tone(rng), frame.surface)
        canvas.rectangles(part, frame, [(0, 0, between(rng, 18, 34), between(rng, 35, 85))])


def _ground(street: Street) -> None:
    rng, canvas, end = street.rng, street.canvas, street.end
    asphalt, paving, kerb_tone = tone(rng), tone(rng), tone(rng)
    road = canvas.part(ROAD, "asphalt", asphalt)
    _strip(canvas, road, street.left, street.right, 0.3, end)
    _strip(canvas, road, -300, 300, end - 4, end + 4)  # the street ends in another one
    for side, strip in zip((-1, 1), street.parking, strict=True):
        if strip and chance(rng, 0.25):
            bay = canvas.part(PARKING, "paving_small", tone(rng))
            kerb = street.kerb(side)
            _strip(canvas, bay, kerb, kerb - side * strip, 0.3, end - 4)
    for side in (-1, 1):
        _sidewalk_ground(street, side, paving, kerb_tone)
    if street.crossing:
        near, far = street.crossing
        _strip(canvas, road, -300, 300, near, far)
    _markings(street)


def _sidewalk_ground(street: Street, side: int, paving: Tone, kerb_tone: Tone) -> None:
    """The sidewalk with its kerb, cut where a cross street passes."""
    rng, canvas = street.rng, street.canvas
    x, outer = street.kerb(side), street.front(side)
    label = GROUND if chance(rng, 0.06) else SIDEWALK
    flat = canvas.part(label, "paving", paving, Surface((0.0, 1.0, 0.0), KERB))
    top = canvas.part(label, "kerb", kerb_tone, Surface((0.0, 1.0, 0.0), KERB))
    edge = canvas.part(label, "kerb", kerb_tone, Surface.through((x, 0, 0), (-side, 0.0, 0.0)))
    pieces = [(0.3, street.end - 4)]
    if street.crossing:
        near, far = street.crossing
        pieces = [(0.3, near), (far, street.end - 4)]
    verge = side_verge = 0.0
    if street.districts[max(side, 0)] != "city" and chance(rng, 0.45):
        verge = between(rng, 0.9, 1.8)  # a strip of grass along the kerb
        side_verge = x + side * verge
    grass = canvas.part(TERRAIN, "grass", tone(rng), Surface((0.0, 1.0, 0.0), KERB))
    for near, far in pieces:
        _strip(canvas, flat, x, outer, near, far, KERB)
        if verge:
            _strip(canvas, grass, x, side_verge, near, far, KERB)
        _strip(canvas, top, x, x + side * 0.16, near, far, KERB)
        canvas.fill(edge, [(x, 0, near), (x, KERB, near), (x, KERB, far), (x, 0, far)])
        if near > 1:  # the kerb that faces us beyond the cross street
            frame = Frame((min(x, outer), 0.0, near))
            face = canvas.part(label, "kerb", kerb_tone, frame.surface)
            canvas.rectangles(face, frame, [(0, 0, abs(outer - x), KERB)])


def _markings(street: Street) -> None:
    rng, canvas = street.rng, street.canvas
    paint = canvas.part(ROAD, "marking", tone(rng))
    near_end = street.crossing[0] - 5 if street.crossing else street.end - 5
    spans = [(0.3, near_end)]
    if street.crossing:
        spans.append((street.crossing[1] + 5, street.end - 5))
    first = street.left + street.parking[0]
    lanes = street.lanes_left + street.lanes_right
    style = pick(rng, ("dashed", "solid", "none"), (6, 3, 1))
    for k in range(1, lanes):
        x = first + k * street.lane
        double = k == street.lanes_left and style == "solid"
        for z0, z1 in spans:
            if double:
                _strip(canvas, paint, x - 0.18, x - 0.07, z0, z1)
                _strip(canvas, paint, x + 0.07, x + 0.18, z0, z1)
            elif style != "none" or lanes > 2:
                start = between(rng, -6, 0)
                for z in np.arange(max(z0, 0.0) + start, min(z1, 90.0), 9.0):
                    _strip(canvas, paint, x - 0.08, x + 0.08, max(z, z0), min(z + 4.0, z1))
    for x, strip in (
        (first, street.parking[0]),
        (street.right - street.parking[1], street.parking[1]),
    ):
        if strip and chance(rng, 0.6):
            for z0, z1 in spans:
                _strip(canvas, paint, x - 0.06, x + 0.06, z0, z1)
    if street.crossing and chance(rng, 0.7):
        stop = street.crossing[0] - 4.2
        middle = first + street.lanes_left * street.lane
        _strip(canvas, paint, middle, street.right - street.parking[1], stop, stop + 0.45)
        if chance(rng, 0.7):
            for z0 in (stop + 0.9, street.crossing[1] + 0.8):
                for x in np.arange(street.left + 0.3, street.right - 0.4, 1.0):
                    _strip(canvas, paint, x, x + 0.5, z0, z0 + 2.6)
    elif not street.crossing and chance(rng, 0.25):
        z0 = between(rng, 9, 35)
        for x in np.arange(street.left + 0.3, street.right - 0.4, 1.0):
            _strip(canvas, paint, x, x + 0.5, z0, z0 + 3)
    if chance(rng, 0.2):
        _arrow(canvas, paint, street.own - street.lane / 2, between(rng, 7, 20))
    patch = tone(rng)  # repaired asphalt
    for _ in range(int(rng.integers(0, 4))):
        part = canvas.part(ROAD, "asphalt", (patch[0], float(rng.random())))
        x, z = between(rng, street.left, street.right - 1), between(rng, 5, 40)
        wide, long = between(rng, 0.6, 1.6), between(rng, 0.8, 6)
        _strip(canvas, part, x, min(x + wide, street.right), z, z + long)
    if chance(rng, 0.5):
        lid = canvas.part(ROAD, "trim", tone(rng))
        x, z = between(rng, -1.5, 1.5), between(rng, 5, 16)
        turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        canvas.fill(lid, np.stack((x + 0.33 * np.cos(turn), 0 * turn, z + 0.33 * np.sin(turn)), -1))


def _arrow(canvas: Canvas, part: int, x: float, z: float) -> None:
    _strip(canvas, part, x - 0.09, x + 0.09, z, z + 2.6)
    canvas.fill(part, [(x - 0.4, 0, z + 2.4), (x + 0.4, 0, z + 2.4), (x, 0, z + 4.0)])


# ----------------------------------------------------------------------------------------- fronts


def _frontage(street: Street, side: int) -> None:
    """Buildings, gardens, walls and parks along one side, from the camera to the end."""
    rng = street.rng
    district = street.districts[max(side, 0)]
    railway = (
        "train" in street.guests and side == (1 if street.own < 3 else -1) and chance(rng, 0.5)
    )
    boundary = _boundary(street, district)
    # rare things begin where they are seen well
    z = between(rng, -6, 3)
    first = True
    if railway:
        _railway(street, side)
        boundary = ("fence", "mesh") if chance(rng, 0.5) else None
    while z < street.end - 6:
        if street.open_at(z, 1.5):
            assert street.crossing is not None
            z = street.crossing[1] + 2.5
            first = True
        length = between(rng, 9, 20)
        if railway:
            kind = "railway"
        elif district == "city":
            kind = pick(rng, ("building", "garden", "lot"), (12, 1, 1.2))
        elif district == "suburb":
            kind = pick(rng, ("building", "garden", "lot"), (1.5, 8, 1))
        else:
            kind = pick(rng, ("park", "garden", "lot"), (6, 1.5, 1))
        far = min(z + length, street.end - 4)
        if street.crossing and z < street.crossing[0] - 2 < far:
            far = street.crossing[0] - 2
        if far - z > 4:
            _plot(street, side, kind, z, far, boundary, first)
            first = kind != "building"
        z = max(far, z + 4) + (between(rng, 0, 5) if kind == "garden" else 0.0)


def _boundary(street: Street, district: str) -> tuple[str, str] | None:
    """What separates gardens and parks from the sidewalk on this side."""
    rng = street.rng
    wanted: list[str] = [kind for kind in ("wall", "fence") if kind in street.guests]
    if wanted and chance(rng, 0.75):
        kind = pick(rng, wanted)
    else:
        kind = pick(rng, ("wall", "fence", "hedge", "none"), (1, 1, 1.5, 3))
    if kind == "wall":
        return kind, pick(rng, ("brick", "stone", "concrete", "plaster"))
    if kind == "fence":
        return kind, pick(rng, ("boards", "bars", "mesh"))
    return (kind, "") if kind == "hedge" else None


def _plot(
    street: Street,
    side: int,
    kind: str,
    near: float,
    far: float,
    boundary: tuple[str, str] | None,
    open_end: bool,
) -> None:
    rng, canvas, x = street.rng, street.canvas, street.front(side)
    if kind == "building":
        look = buildings.building_look(rng)
        set_back = x + side * between(rng, 0.0, 0.3)
        if far > 1:

            def paint() -> None:
                if near > 2:
                    buildings.end_wall(canvas, rng, look, set_back, side, near)
                buildings.side_front(canvas, rng, look, side, set_back, near, far)

            street.later(0.0, far, paint)
        return
    cover = "paving" if kind == "lot" else "grass"
    label = GROUND if kind == "lot" else TERRAIN
    lawn = canvas.part(label, cover, tone(rng))
    _strip(canvas, lawn, x, x + side * (20 if kind != "park" else 45), max(near, 0.3), far)
    deep = between(rng, 4.5, 8)
    if kind == "garden":
        look = buildings.building_look(rng, house=True)
        gap = between(rng, 0.5, 2.0)
        start, stop, house_x = near + gap, far - gap, x + side * deep

        def paint_house() -> None:
            if start > 2:
                buildings.end_wall(canvas, rng, look, house_x, side, start)
            buildings.side_front(canvas, rng, look, side, house_x, start, stop)

        if stop > 2:
            street.later(0.0, far, paint_house)
    elif kind == "lot":
        look = buildings.building_look(rng)
        lot_x = x + side * between(rng, 9, 16)

        def paint_shed() -> None:
            if near > 2:
                buildings.end_wall(canvas, rng, look, lot_x, side, near)
            buildings.side_front(canvas, rng, look, side, lot_x, near, far)

        if far > 2:
            street.later(0.0, far, paint_shed)
    planted = {"garden": (0, 3), "park": (2, 6), "lot": (0, 2), "railway": (0, 2)}[kind]
    if kind == "railway":
        deep = 2.4
    for _ in range(int(rng.integers(*planted))):
        out = between(rng, 1.2, deep if kind in ("garden", "railway") else 18)
        tree_z, tall = between(rng, near, far), between(rng, 4, 11)
        tree_x = x + side * out
        if tree_z > 3:
            if chance(rng, 0.75) and kind != "railway":
                street.small(
                    tree_x, tree_z, _call(furniture.tree, canvas, rng, tree_x, tree_z, tall), 5.0
                )
            else:
                size = between(rng, 0.6, 1.6)
                street.small(
                    tree_x, tree_z, _call(furniture.bush, canvas, rng, tree_x, tree_z, size), 5.0
                )
    if kind == "park":  # the wood behind
        back = x + side * between(rng, 20, 30)
        for z in np.arange(near, far, 4.5):
            tall = between(rng, 7, 13)
            street.small(
                back, z + 4, _call(furniture.tree, canvas, rng, back, max(z, 4), tall), 5.0
            )
    if boundary is None:
        if kind == "lot" and chance(rng, 0.5):
            boundary = ("fence", "mesh")
        else:
            return
    _border(street, side, x, near, far, boundary)


def _border(
    street: Street, side: int, x: float, near: float, far: float, boundary: tuple[str, str]
) -> None:
    """The wall, fence or hedge of a plot, in pieces short enough to sort by depth."""
    rng, canvas = street.rng, street.canvas
    kind, material = boundary
    low = {"wall": (0.9, 2.6), "fence": (1.0, 1.9), "hedge": (0.9, 1.8)}[kind]
    height, shade = between(rng, *low), tone(rng)
    gate = between(rng, near, far)
    for start in np.arange(near, far, 5.0):
        stop = min(start + 5.0, far)
        if stop < 1 or (start < gate < stop and far - near > 12):
            continue
        z0 = max(start, 0.5)
        paint: Callable[[], object]
        if kind == "wall":
            paint = _call(buildings.wall, canvas, rng, side, x, z0, stop, height, material, shade)
        elif kind == "fence":
            paint = _call(buildings.fence, canvas, rng, side, x, z0, stop, height, material, shade)
        else:
            paint = _call(buildings.hedge, canvas, rng, side, x, z0, stop, height, shade)
        street.later(x * 0.5, stop, paint)


def _railway(street: Street, side: int) -> None:
    """A track on ballast beside the street, with a train on it."""
    rng, canvas, x = street.rng, street.canvas, street.front(side)
    track = x + side * 4.8
    ballast = canvas.part(RAIL_TRACK, "ballast", tone(rng))
    grass = canvas.part(TERRAIN, "grass", tone(rng))
    # painted with the ground, before anything that stands on it
    _strip(canvas, grass, x, x + side * 40, 0.5, street.end)
    _strip(canvas, ballast, track - 1.7, track + 1.7, 0.5, street.end)
    rail = canvas.part(RAIL_TRACK, "rim", (0.3, 0.3))
    for gauge in (-0.72, 0.72):
        _strip(canvas, rail, track + gauge - 0.05, track + gauge + 0.05, 0.5, street.end)
    cars = int(rng.integers(2, 5))
    z = between(rng, 12, 26) + cars * 6.25
    heading = (0.0, pick(rng, (-1.0, 1.0)))
    street.later(0.0, z, _call(vehicles.train, canvas, rng, track, z, heading, cars, 0.25))
    for back in np.arange(6, street.end, 9.0):
        far_x = track + side * between(rng, 5, 10)
        tall = between(rng, 5, 10)
        street.small(far_x, back + 60, _call(furniture.tree, canvas, rng, far_x, back, tall), 5.0)


def _call(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """The call, for later. Its draws come from a generator of its own, keyed now."""
    fixed = list(arguments)
    for k, argument in enumerate(fixed):
        if isinstance(argument, np.random.Generator):
            fixed[k] = np.random.default_rng(int(argument.integers(1 << 62)))
    return lambda: function(*fixed)


# --------------------------------------------------------------------------------------- sidewalks


def _sidewalk(street: Street, side: int) -> None:
    rng, canvas = street.rng, street.canvas
    kerb, outer = street.kerb(side), street.front(side)
    wide = abs(outer - kerb)
    line = kerb + side * 0.55
    inward = -float(side)
    if chance(rng, 0.8):
        start, step = between(rng, 6, 26), between(rng, 18, 30)
        for z in np.arange(start, min(street.end, 110), step):
            if not street.open_at(z, 1):
                street.later(line, z, _call(furniture.lamp_post, canvas, rng, line, z, inward))
    leafy = {"city": 0.5, "suburb": 0.6, "green": 0.6}[street.districts[max(side, 0)]]
    if chance(rng, leafy):
        start, step, tall = between(rng, 5, 14), between(rng, 7, 13), between(rng, 5, 9.5)
        x = kerb + side * between(rng, 0.9, 1.3)
        for z in np.arange(start, min(street.end, 100), step):
            if chance(rng, 0.85) and not street.open_at(z, 2):
                grown = tall * between(rng, 0.8, 1.15)
                street.small(x, z, _call(furniture.tree, canvas, rng, x, z, grown, KERB), 5.0)
    for _ in range(int(rng.integers(0, 4))):
        z = between(rng, 7, 38)
        if not street.open_at(z, 1):
            street.small(line, z, _call(furniture.sign_post, canvas, rng, line, z))
    if street.crossing and street.crossing[0] < 48 and chance(rng, 0.75):
        for z in (street.crossing[0] - 0.8, street.crossing[1] + 0.8):
            if chance(rng, 0.8):
                street.later(line, z, _call(furniture.traffic_light, canvas, rng, line, z, inward))
    elif not street.crossing and chance(rng, 0.2):
        z = between(rng, 9, 32)
        street.later(line, z, _call(furniture.traffic_light, canvas, rng, line, z, inward))
    if chance(rng, 0.25):
        start = between(rng, 6, 12)
        for z in np.arange(start, start + between(rng, 5, 14), 1.8):
            if not street.open_at(z, 1):
                near_kerb = kerb + side * 0.3
                street.small(near_kerb, z, _call(furniture.bollard, canvas, rng, near_kerb, z))
    if side > 0 and chance(rng, 0.06):
        z = between(rng, 28, 55)
        ends = street.left - 0.6, street.right + 0.6
        street.later(0, z, _call(furniture.gantry, canvas, rng, *ends, z))
    for _ in range(int(rng.integers(0, 3))):
        z, x = between(rng, 7, 30), kerb + side * between(rng, 0.5, max(wide - 0.4, 0.6))
        if not street.open_at(z, 1):
            what = furniture.bin_ if chance(rng, 0.75) else furniture.luggage
            street.small(x, z, _call(what, canvas, rng, x, z))
    crowd = {"city": 6, "suburb": 3, "green": 3}[street.districts[max(side, 0)]]
    for _ in range(int(rng.poisson(crowd))):
        z = 6 + 44 * float(rng.random()) ** 1.3
        x = kerb + side * between(rng, 0.5, max(wide - 0.3, 0.7))
        if street.open_at(z, 0.5):
            continue
        for k in range(pick(rng, (1, 2, 3), (6, 3, 1))):
            place = x + side * 0.55 * k, z + 0.2 * k
            street.small(*place, _call(people.person, canvas, rng, *place, KERB))
    if "bicycle" in street.guests or chance(rng, 0.08):
        z = between(rng, 6, 18)
        x = kerb + side * between(rng, 0.6, max(wide - 1.0, 0.8))
        row = int(rng.integers(1, 5)) if chance(rng, 0.4) else 1
        for k in range(row):
            heading = (pick(rng, (-1.0, 1.0)) if row == 1 else 0.8, 0.6 if row > 1 else 0.0)
            there = z + 0.75 * k
            if not street.open_at(there, 1):
                street.small(x, there, _call(people.bicycle, canvas, rng, x, there, heading, KERB))
    if "motorcycle" in street.guests and chance(rng, 0.6):
        z = between(rng, 6, 16)
        x = kerb + side * between(rng, 0.9, max(wide - 0.8, 1.0))
        if not street.open_at(z, 1):
            heading = (pick(rng, (-1.0, 1.0)), 0.0)
            street.small(x, z, _call(people.motorcycle, canvas, rng, x, z, heading, KERB))


# ---------------------------------------------------------------------------------------- traffic


def _traffic(street: Street) -> None:
    rng, canvas = street.rng, street.canvas
    away, towards = (0.0, 1.0), (0.0, -1.0)
    for side, strip in zip((-1, 1), street.parking, strict=True):
        if strip:
            _parked(street, side, strip)
    first = street.left + street.parking[0]
    # (x of the lane's middle, heading), from left to right
    lanes = [
        (first + (k + 0.5) * street.lane, towards if k < street.lanes_left else away)
        for k in range(street.lanes_left + street.lanes_right)
    ]
    own = min(range(len(lanes)), key=lambda k: abs(lanes[k][0]))
    guests = [name for name in ("truck", "bus", "train") if name in street.guests]
    for k, (x, heading) in enumerate(lanes):
        z = between(rng, 9, 34) if k == own else between(rng, 7, 26)
        if chance(rng, 0.22):
            z += between(rng, 15, 40)
        guest = guests.pop() if guests and (k != own or len(guests) >= len(lanes) - k) else ""
        if guest == "train" and heading == away and k == own:
            guest = ""
        if guest:
            z = between(rng, 13, 24)
            half = {"truck": 4.5, "bus": 6.0, "train": 12.5}[guest]
            if guest == "train":
                _tracks(street, x)
            make = getattr(vehicles, guest)
            street.later(x, z + half, _call(make, canvas, rng, x, z + half, heading))
            z += 2 * half + between(rng, 6, 20)
        while z < min(street.end - 8, 78):
            if street.open_at(z, 4) and chance(rng, 0.8):
                z += 6
                continue
            wobble = x + between(rng, -0.25, 0.25)
            draw = float(rng.random())
            if draw < 0.016:
                make, gap = vehicles.truck, 6.0
            elif draw < 0.028:
                make, gap = vehicles.bus, 8.0
            else:
                make, gap = vehicles.car, 0.0
            middle = z + 2.2 + gap / 2
            street.later(wobble, middle, _call(make, canvas, rng, wobble, middle, heading))
            z += gap + 5 + float(rng.exponential(14)) + 2
    if street.crossing and street.crossing[0] > 12 and chance(rng, 0.5):
        near, far = street.crossing
        for z, direction in ((near + 0.3 * (far - near), -1.0), (near + 0.75 * (far - near), 1.0)):
            if chance(rng, 0.6):
                x = between(rng, -12, 12)
                make = pick(rng, (vehicles.car, vehicles.truck, vehicles.bus), (8, 1, 1))
                street.later(0, z, _call(make, canvas, rng, x, z, (direction, 0.0)))
    _two_wheelers(street, lanes)
    if street.crossing and chance(rng, 0.6):  # people who cross the street
        for _ in range(int(rng.integers(1, 5))):
            x, z = (
                between(rng, street.left, street.right),
                street.crossing[0] - between(rng, 0.8, 3),
            )
            street.small(x, z, _call(people.person, canvas, rng, x, z))
    elif chance(rng, 0.12):
        x, z = between(rng, street.left, street.right), between(rng, 10, 35)
        street.small(x, z, _call(people.person, canvas, rng, x, z))


def _parked(street: Street, side: int, strip: float) -> None:
    rng, canvas = street.rng, street.canvas
    x = street.kerb(side) - side * strip / 2
    heading = (0.0, 1.0 if side > 0 or street.lanes_left == 0 else -1.0)
    z = between(rng, 2.5, 9)
    fill = between(rng, 0.45, 0.95)
    while z < min(street.end - 10, 64):
        if not street.open_at(z, 5.5) and chance(rng, fill):
            turn = (between(rng, -0.02, 0.02), heading[1])
            if "motorcycle" in street.guests and z < 20 and chance(rng, 0.3):
                across = (pick(rng, (-1.0, 1.0)), 0.0)
                street.small(x, z, _call(people.motorcycle, canvas, rng, x, z, across))
            elif chance(rng, 0.008):
                street.later(x, z + 3, _call(vehicles.truck, canvas, rng, x, z + 3, turn))
                z += 5
            else:
                street.later(x, z, _call(vehicles.car, canvas, rng, x, z, turn))
        z += 5.0 + float(rng.exponential(1.0))


def _tracks(street: Street, x: float) -> None:
    """Rails in the asphalt."""
    canvas = street.canvas
    rail = canvas.part(ROAD, "trim", (0.5, 0.9))
    for gauge in (-0.72, 0.72):
        _strip(canvas, rail, x + gauge - 0.06, x + gauge + 0.06, 0.5, street.end)


def _two_wheelers(street: Street, lanes: list[tuple[float, tuple[float, float]]]) -> None:
    rng, canvas = street.rng, street.canvas
    if "rider" in street.guests:
        for _ in range(int(rng.integers(1, 4))):
            z = between(rng, 7, 24)
            if chance(rng, 0.3):
                x, heading = between(rng, -4, 4), (pick(rng, (-1.0, 1.0)), 0.0)
            else:
                x = street.right - street.parking[1] - between(rng, 0.4, 0.9)
                heading = (0.0, 1.0)
                if street.lanes_left and chance(rng, 0.35):
                    x, heading = street.left + street.parking[0] + 0.6, (0.0, -1.0)
            street.small(x, z, _call(people.rider, canvas, rng, x, z, heading, False))
    if "motorcycle" in street.guests and chance(rng, 0.6):
        x, heading = pick(rng, lanes)
        z, x = between(rng, 7, 18), x + between(rng, -0.9, 0.9)
        street.small(x, z, _call(people.rider, canvas, rng, x, z, heading, True))


def _hood(street: Street) -> None:
    """The bonnet of the camera's own car, as Cityscapes shows it."""
    rng, canvas = street.rng, street.canvas
    camera = canvas.camera
    rise = camera.height * between(rng, 0.03, 0.09)
    part = canvas.part(EGO, "hood", tone(rng), Surface((0.0, 1.0, 0.0), 0.9))
    columns = np.linspace(0, camera.width, 25)
    bow = 1 - 0.55 * ((columns - camera.width / 2) / (camera.width / 2)) ** 2
    rows = camera.height - rise * bow
    canvas.fill_pixels(part, np.stack((columns, rows), -1))
