"""A pedestrian: a 3-D skeleton dressed in shaded tubes, painted from far to near.

`Appearance` is what stays the same about an identity, `Pose` what changes from picture to picture.
Front, side and back views, logos, rucksacks and open jackets follow from the view direction alone.

The body frame has the axes left, up, forward, its origin on the ground, and one stature as unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, hypot, pi, sin
from typing import Any

import numpy as np

from .palette import (
    BAGS,
    HAIR,
    HATS,
    LOWER,
    SHOES,
    SKIN,
    UPPER,
    Array,
    Colour,
    darker,
    mix,
    near,
    normal,
    pick,
)

Point = tuple[float, float, float]  # left, up, forward
# A material maps (position along a tube 0..1, azimuth around the body in radians) to colours.
Material = Callable[[Array, Array], Array]


@dataclass(frozen=True, slots=True)
class Appearance:
    """What stays the same about an identity from picture to picture."""

    height: float  # stature, 1 = average
    girth: float  # width, 1 = average
    waist: float  # waist relative to chest
    skin: Colour
    hair: str  # bald, short, bob, long, ponytail, bun, afro, cap, scarf
    hair_colour: Colour
    hat_colour: Colour
    upper: str  # tshirt, sleeveless, shirt, hoodie, jacket (open over a shirt), coat
    pattern: str  # plain, stripes, pinstripes, checks, block, logo, band
    upper_colour: Colour
    accent: Colour  # second colour of the pattern
    inner: Colour  # what an open jacket shows
    lower: str  # trousers, shorts, skirt, long skirt
    cut: float  # width of the trouser legs
    lower_colour: Colour
    side_stripe: bool  # down the trouser legs
    shoe_colour: Colour
    bag: str  # none, rucksack, shoulder, handbag
    bag_colour: Colour
    left_handed: bool  # the side on which bags are carried

    @classmethod
    def sample(cls, rng: np.random.Generator, warm_clothing: float) -> Appearance:
        """Somebody new; `warm_clothing` is the probability of being dressed for the cold."""
        warm = rng.random() < warm_clothing
        long_hair = rng.random() < 0.45
        if warm:
            upper = pick(rng, ("shirt", "hoodie", "jacket", "coat"), (0.3, 0.3, 0.25, 0.15))
            lower = pick(rng, ("trousers", "long skirt"), (0.75, 0.25) if long_hair else (1, 0))
        else:
            upper = pick(rng, ("tshirt", "sleeveless", "shirt"), (0.6, 0.15, 0.25))
            odds = (0.4, 0.25, 0.35) if long_hair else (0.6, 0.4, 0)
            lower = pick(rng, ("trousers", "shorts", "skirt"), odds)
        if long_hair:
            hair = pick(rng, ("bob", "long", "ponytail", "bun", "scarf", "cap"))
        else:
            hair = pick(rng, ("short", "afro", "bald", "cap"), (0.6, 0.12, 0.1, 0.18))
        patterns = ("plain", "stripes", "pinstripes", "checks", "block", "logo", "band")
        return cls(
            height=normal(rng, 1.0 - 0.05 * long_hair, 0.045, 0.86, 1.08),
            girth=normal(rng, 1.0, 0.11, 0.8, 1.3),
            waist=float(rng.uniform(0.76, 0.92) if long_hair else rng.uniform(0.86, 1.05)),
            skin=near(rng, pick(rng, SKIN), 0.015),
            hair=hair,
            hair_colour=near(rng, pick(rng, HAIR), 0.015),
            hat_colour=near(rng, pick(rng, HATS)),
            upper=upper,
            pattern=pick(rng, patterns, (0.36, 0.13, 0.07, 0.12, 0.1, 0.13, 0.09)),
            upper_colour=near(rng, pick(rng, UPPER)),
            accent=near(rng, pick(rng, UPPER)),
            inner=near(rng, pick(rng, UPPER)),
            lower=lower,
            cut=float(rng.uniform(0.88, 1.25)),
            lower_colour=near(rng, pick(rng, LOWER)),
            side_stripe=bool(rng.random() < 0.12),
            shoe_colour=near(rng, pick(rng, SHOES)),
            bag=pick(rng, ("none", "rucksack", "shoulder", "handbag"), (0.42, 0.25, 0.17, 0.16)),
            bag_colour=near(rng, pick(rng, BAGS)),
            left_handed=bool(rng.random() < 0.5),
        )


@dataclass(frozen=True, slots=True)
class Pose:
    """How the person stands in one picture: view, step, gesture, and place in the frame."""

    yaw: float  # radians; 0 = faces the camera, pi/2 = walks to the right, pi = seen from behind
    phase: float  # of the walking cycle, radians
    stride: float  # largest thigh angle, radians; near 0 = stands
    elbow: float  # bend of the elbows, radians
    phone: bool  # holds a phone to the ear
    scale: float  # relative to a well-fitting box
    shift: tuple[float, float]  # of the feet, fraction of the picture's width and height

    @classmethod
    def sample(cls, rng: np.random.Generator, heading: float) -> Pose:
        """A picture where people mostly walk in the direction `heading` (radians, as `yaw`)."""
        yaw = heading + rng.normal(0, 0.45) + (pi if rng.random() < 0.25 else 0.0)
        return cls(
            yaw=float(yaw),
            phase=float(rng.uniform(0, 2 * pi)),
            stride=float(rng.uniform(0.2, 0.48) if rng.random() < 0.8 else 0.05),
            elbow=float(rng.uniform(0.1, 0.7)),
            phone=bool(rng.random() < 0.08),
            scale=normal(rng, 1.0, 0.05, 0.88, 1.12),
            shift=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.015))),
        )


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from, and how much of it."""

    direction: Point  # unit vector: right, up, towards the camera
    ambient: float  # light from everywhere
    sun: float  # light from `direction`
    shadow: float  # depth of the shadow on the ground, 0..1


def _plain(colour: Colour) -> Material:
    return lambda t, azimuth: np.asarray(colour, np.float32)


def _folded(material: Material) -> Material:
    """Soft folds, as loose cloth throws them."""

    def folds(t: Array, azimuth: Array) -> Array:
        shade = 1 + 0.05 * np.sin(13 * t + 3 * azimuth)
        return np.asarray(material(t, azimuth) * shade[..., None])

    return folds


def _pattern(who: Appearance) -> Material:
    """The cloth of the upper body, wrapped around it: t = 0 at the collar, 1 at the waist."""
    base, accent = who.upper_colour, who.accent

    def cloth(t: Array, azimuth: Array) -> Array:
        if who.pattern == "stripes":
            return mix(base, accent, np.sin(7 * 2 * pi * t) > 0)
        if who.pattern == "pinstripes":
            return mix(base, accent, np.cos(9 * azimuth) > 0.35)
        if who.pattern == "checks":
            rows, columns = np.sin(6 * 2 * pi * t) > 0, np.cos(7 * azimuth) > 0
            return mix(base, accent, 0.5 * rows + 0.5 * columns)
        if who.pattern == "block":
            return mix(base, accent, t > 0.5)
        if who.pattern == "band":
            return mix(base, accent, np.abs(t - 0.42) < 0.09)
        return np.asarray(base, np.float32)

    return cloth


def _dressed_torso(who: Appearance, length: float) -> Material:
    """The pattern plus what lies over it: print, open front, zip, straps of bags."""
    cloth, side = _pattern(who), 1.0 if who.left_handed else -1.0

    def torso(t: Array, azimuth: Array) -> Array:
        t = t * length
        colours, front = cloth(t, azimuth), np.abs(azimuth)
        if who.pattern == "logo":  # on the chest and, larger, on the back
            chest = ((t - 0.34) / 0.13) ** 2 + (front / 0.5) ** 2 < 1
            back = ((t - 0.36) / 0.17) ** 2 + ((pi - front) / 0.6) ** 2 < 1
            colours = mix(colours, who.accent, chest | back)
        if who.upper == "jacket":
            colours = mix(colours, who.inner, front < 0.28 + 0.25 * t)
        elif who.upper in ("coat", "hoodie", "shirt"):
            seam = 0.05 if who.upper == "shirt" else 0.09
            colours = mix(colours, colours * np.float32(0.6), front < seam)
        if who.bag == "rucksack":
            colours = mix(colours, who.bag_colour, (np.abs(front - 0.62) < 0.13) & (t < 0.55))
        elif who.bag == "shoulder":  # from one shoulder to the other hip, on both sides
            strap = np.abs(np.sin(azimuth) * side - 1.7 * (0.45 - t)) < 0.13
            colours = mix(colours, who.bag_colour, strap & (t < 1.1))
        return colours

    return _folded(torso)


def _sleeve(who: Appearance, start: float, stop: float) -> Material:
    """Cloth down to the sleeve's end, then skin; the tube covers start..stop of the arm (0..1)."""
    cloth, end = _pattern(who), {"tshirt": 0.33, "sleeveless": 0.0}.get(who.upper, 0.94)

    def sleeve(t: Array, azimuth: Array) -> Array:
        along = start + (stop - start) * t
        return mix(cloth(along * 0.7 + 0.12, azimuth), who.skin, along > end)

    return sleeve


def _leg(who: Appearance, outside: float, start: float, stop: float) -> Material:
    """Cloth down to the hem, then skin; `outside` is the azimuth of the outer seam."""
    end = {"trousers": 1.0, "shorts": 0.47}.get(who.lower, 0.0)

    def leg(t: Array, azimuth: Array) -> Array:
        along = start + (stop - start) * t
        stripe = who.side_stripe & (np.abs(azimuth - outside) < 0.5)
        return mix(mix(who.lower_colour, who.accent, stripe), who.skin, along > end)

    return _folded(leg)


def _skirt(who: Appearance) -> Material:
    def pleats(t: Array, azimuth: Array) -> Array:
        shade = 1 + 0.1 * t * np.cos(11 * azimuth)
        return np.asarray(np.asarray(who.lower_colour, np.float32) * shade[..., None])

    return pleats


@dataclass(frozen=True, slots=True)
class Easel:
    """A canvas with a body frame: projects 3-D points and paints shaded tubes and balls."""

    canvas: Array  # H x W x 3 float32, RGB 0..1; painted in place
    light: Light
    elevation: float  # of the camera above the horizontal, radians
    yaw: float  # of the body, as in `Pose`
    feet: tuple[float, float]  # pixel (x, y) of the point on the ground below the body
    unit: float  # pixels per stature

    def project(self, point: Point) -> tuple[float, float, float]:
        """Body frame -> pixel x, pixel y, depth (larger = nearer, in statures)."""
        left, up, forward = point
        c, s = cos(self.yaw), sin(self.yaw)
        across, depth = left * c + forward * s, forward * c - left * s
        up = up * cos(self.elevation) - depth * sin(self.elevation)
        return self.feet[0] + across * self.unit, self.feet[1] - up * self.unit, depth

    def girth(self, width: float, depth: float) -> float:
        """Half the visible width of an elliptic section with these half axes."""
        return hypot(width * cos(self.yaw), depth * sin(self.yaw))

    def tube(
        self,
        top: Point,
        bottom: Point,
        radii: Sequence[float],
        material: Material,
        *,
        knots: Sequence[float] | None = None,
        flat: bool = False,
    ) -> None:
        """A tube between two points whose radii (statures) hold at `knots` (default: even).

        The ends are round, or cut straight with `flat`. Shading is that of a cylinder under the
        camera's light; the edge is smoothed over one pixel of the enlarged canvas.
        """
        px, py, _ = self.project(top)
        qx, qy, _ = self.project(bottom)
        reach = max(radii) * self.unit + 1
        x0, x1, y0, y1 = min(px, qx), max(px, qx), min(py, qy), max(py, qy)
        window = self._window(x0 - reach, y0 - reach, x1 + reach, y1 + reach)
        if window is None:
            return
        patch, xs, ys = window
        length = max(hypot(qx - px, qy - py), 1e-3)
        ux, uy = (qx - px) / length, (qy - py) / length
        dx, dy = xs - px, ys - py
        along, across = dx * ux + dy * uy, dx * uy - dy * ux  # across > 0: right of an upright tube
        t = np.clip(along / length, 0, 1)
        places = np.linspace(0, 1, len(radii)) if knots is None else np.asarray(knots)
        radius = (np.interp(t, places, radii) * self.unit).astype(np.float32)
        if flat:
            cover = np.clip(radius - np.abs(across) + 0.5, 0, 1)
            cover = cover * np.clip(np.minimum(along, length - along) + 0.5, 0, 1)
        else:
            cover = np.clip(radius - np.hypot(across, along - t * length) + 0.5, 0, 1)
        s = np.clip(across / np.maximum(radius, 1e-3), -1, 1)
        azimuth = (np.arcsin(s) - self.yaw + pi) % (2 * pi) - pi
        self._blend(patch, cover, material(t, azimuth), s * uy, -s * ux, np.sqrt(1 - s * s))

    def ball(
        self,
        centre: Point,
        radii: tuple[float, float],
        material: Callable[[Array, Array, Array], Array],
    ) -> None:
        """An upright ellipsoid; the material gets the body-frame normal (left, up, forward)."""
        cx, cy, _ = self.project(centre)
        rx, ry = radii[0] * self.unit, radii[1] * self.unit
        window = self._window(cx - rx - 1, cy - ry - 1, cx + rx + 1, cy + ry + 1)
        if window is None:
            return
        patch, xs, ys = window
        nx, ny = (xs - cx) / rx, (ys - cy) / ry
        square = nx * nx + ny * ny
        cover = np.clip((1 - np.sqrt(square)) * min(rx, ry) + 0.5, 0, 1)
        nz = np.sqrt(np.clip(1 - square, 0, 1))
        c, s = cos(self.yaw), sin(self.yaw)
        colours = material(nx * c - nz * s, -ny, nx * s + nz * c)
        self._blend(patch, cover, colours, nx, ny, nz)

    def shadow(self) -> None:
        """A soft ellipse on the ground, away from the light."""
        rx, ry = 0.24 * self.unit, 0.045 * self.unit
        cx, cy = self.feet[0] - self.light.direction[0] * 0.16 * self.unit, self.feet[1]
        window = self._window(cx - 2 * rx, cy - 2 * ry, cx + 2 * rx, cy + 2 * ry)
        if window is not None:
            patch, xs, ys = window
            distance = ((xs - cx) / rx) ** 2 + ((ys - cy) / ry) ** 2
            patch *= 1 - self.light.shadow * np.exp(-1.5 * distance)[..., None]

    def _window(
        self, x0: float, y0: float, x1: float, y1: float
    ) -> tuple[Array, Array, Array] | None:
        """The visible part of a rectangle as (view, x row, y column); None if there is none."""
        height, width = self.canvas.shape[:2]
        left, top = max(int(x0), 0), max(int(y0), 0)
        right, bottom = min(int(x1) + 2, width), min(int(y1) + 2, height)
        if left >= right or top >= bottom:
            return None
        xs = np.arange(left, right, dtype=np.float32)[None, :]
        ys = np.arange(top, bottom, dtype=np.float32)[:, None]
        return self.canvas[top:bottom, left:right], xs, ys

    def _blend(self, patch: Array, cover: Array, colours: Array, nx: Any, ny: Any, nz: Any) -> None:
        """Shade by the normal (right, down, towards the camera) and paint where there is cover."""
        lx, ly, lz = self.light.direction
        lambert = np.maximum(nx * lx - ny * ly + nz * lz, 0)
        shade = (self.light.ambient + self.light.sun * lambert) * (0.72 + 0.28 * nz)
        patch += (colours * shade[..., None] - patch) * cover[..., None]


def draw_person(easel: Easel, who: Appearance, pose: Pose) -> None:
    """Paint a person, the far parts first. Heights are fractions of the stature."""
    easel.shadow()
    swing = pose.stride * sin(pose.phase)
    legs = {
        side: _leg_joints(who, side * swing, side * pose.stride * cos(pose.phase), side)
        for side in (1, -1)
    }
    lift = 0.045 - min(ankle[1] for _, _, ankle, _ in legs.values())  # the lower foot is down
    parts: list[
        tuple[float, Callable[..., None], tuple[Any, ...]]
    ] = []  # depth, painter, arguments

    def add(depth: float, painter: Callable[..., None], *arguments: Any) -> float:
        parts.append((depth, painter, arguments))
        return depth

    def leg_depth(side: int) -> float:
        return 0.5 * easel.project(legs[side][1])[2]

    near_leg = max(add(leg_depth(side), _draw_leg, legs[side], side, lift) for side in (1, -1))
    add(near_leg + 0.001, _draw_lower, lift, swing)
    body = add(near_leg + 0.002, _draw_torso, lift)
    add(body + 0.001, _draw_head, lift)

    # What is on the back comes before everything if we see the front, after the head otherwise.
    front = cos(easel.yaw) > 0
    add(-1.0 if front else body + 0.002, _draw_tail, lift)
    if who.bag == "rucksack":
        add(-0.9 if front else body + 0.003, _draw_rucksack, lift)
    for side in (1, -1):
        bag_side = side == (1 if who.left_handed else -1)
        calls = pose.phone and not bag_side
        arm = _arm_joints(who, pose, -side * swing * 0.9, side, lift, calls)
        depth = sum(easel.project(joint)[2] for joint in arm) / 3
        add(body + 0.01 if calls else depth, _draw_arm, arm)
        if who.bag == "handbag" and bag_side:
            add(depth - 0.001, _draw_handbag, arm[2])
        if who.bag == "shoulder" and bag_side:  # the strap crosses the chest, the bag is opposite
            hip = -side * 0.13 * who.girth
            add(body + easel.project((hip, 0.5, -0.02))[2], _draw_satchel, hip, lift)

    for _, painter, arguments in sorted(parts, key=lambda part: part[0]):
        painter(easel, who, *arguments)


def _leg_joints(who: Appearance, pitch: float, speed: float, side: int) -> list[Point]:
    """Hip, knee, ankle, toe of a leg; the knee bends while the leg swings forward."""
    shin = pitch - 0.12 - 1.3 * max(speed, 0.0)
    x = side * 0.047 * who.girth
    knee = (x, 0.50 - 0.235 * cos(pitch), 0.235 * sin(pitch))
    ankle = (x * 0.9, knee[1] - 0.225 * cos(shin), knee[2] + 0.225 * sin(shin))
    toe = (x + side * 0.01, ankle[1] - 0.02 + 0.06 * sin(shin), ankle[2] + 0.075 * cos(shin))
    return [(x, 0.50, 0.0), knee, ankle, toe]


def _arm_joints(
    who: Appearance, pose: Pose, pitch: float, side: int, lift: float, calls: bool
) -> tuple[Point, Point, Point]:
    """Shoulder, elbow, wrist of an arm; `calls`: the hand is at the ear."""
    x = side * 0.103 * who.girth
    shoulder = (x, 0.785 + lift, 0.0)
    if calls:
        return shoulder, (x * 1.5, 0.66 + lift, 0.07), (x * 0.75, 0.865 + lift, 0.07)
    elbow = (x + side * 0.03, shoulder[1] - 0.165 * cos(pitch), 0.165 * sin(pitch))
    fore = pitch + pose.elbow
    wrist = (x + side * 0.035, elbow[1] - 0.15 * cos(fore), elbow[2] + 0.15 * sin(fore))
    return shoulder, elbow, wrist


def _draw_leg(
    easel: Easel, who: Appearance, joints: Sequence[Point], side: int, lift: float
) -> None:
    hip, knee, ankle, toe = ((x, y + lift, z) for x, y, z in joints)
    cloth = who.lower in ("trousers", "shorts")
    wide, g = (who.cut if cloth else 0.92), who.girth
    easel.tube(ankle, toe, (0.024, 0.019), _plain(who.shoe_colour))
    calf = 0.031 if who.lower != "trousers" else 0.033 * wide
    cuff = 0.019 if who.lower != "trousers" else 0.028 * wide
    outside = side * pi / 2
    easel.tube(knee, ankle, (0.034 * g * wide, calf * g, cuff), _leg(who, outside, 0.5, 1))
    easel.tube(hip, knee, (0.052 * g * wide, 0.037 * g * wide), _leg(who, outside, 0, 0.5))


def _draw_lower(easel: Easel, who: Appearance, lift: float, swing: float) -> None:
    """The pelvis, or a skirt that widens with the step."""
    cloth = _skirt(who) if "skirt" in who.lower else _plain(who.lower_colour)
    hem = {"skirt": 0.30, "long skirt": 0.14}.get(who.lower, 0.45)
    waist = easel.girth(0.085 * who.girth, 0.06 * who.girth)
    flare = easel.girth(0.105 * who.girth, 0.085 + 0.10 * abs(swing))
    radii = (waist, flare, flare * 1.12) if "skirt" in who.lower else (waist, waist, waist * 0.8)
    easel.tube((0, 0.57 + lift, 0), (0, hem + lift, 0), radii, cloth, flat=True)


def _draw_torso(easel: Easel, who: Appearance, lift: float) -> None:
    hem = {"coat": 0.33, "jacket": 0.46, "hoodie": 0.47}.get(who.upper, 0.49)
    bulk = who.girth * (1.08 if who.upper in ("coat", "jacket", "hoodie") else 1.0)
    chest = easel.girth(0.112 * bulk, 0.072 * bulk)
    collar = easel.girth(0.045, 0.04)
    hips = chest * (1.0 if hem < 0.4 else 0.9)
    # Shoulders must keep their height when the coat is longer: knots at fixed heights.
    heights = np.array([0.845, 0.832, 0.812, 0.785, 0.74, 0.60, hem])
    radii = (collar, collar * 1.25, chest * 0.82, chest * 0.97, chest, chest * who.waist, hips)
    knots = (heights[0] - heights) / (heights[0] - hem)
    if who.upper == "hoodie":
        y, hood = 0.835 + lift, _plain(who.upper_colour)
        easel.tube((0.03, y, -0.03), (-0.03, y, -0.03), (0.04, 0.04), hood)
    easel.tube((0, 0.90 + lift, 0.01), (0, 0.82 + lift, 0), (0.027, 0.032), _plain(who.skin))
    cloth = _dressed_torso(who, (0.845 - hem) / 0.355)
    easel.tube((0, 0.845 + lift, 0), (0, hem + lift, 0), radii, cloth, knots=knots, flat=True)


def _draw_arm(easel: Easel, who: Appearance, joints: tuple[Point, Point, Point]) -> None:
    shoulder, elbow, wrist = joints
    g = who.girth * (0.9 if who.upper in ("tshirt", "sleeveless") else 1.08)
    easel.tube(elbow, wrist, (0.027 * g, 0.020), _sleeve(who, 0.5, 1))
    easel.tube(shoulder, elbow, (0.034 * g, 0.028 * g), _sleeve(who, 0, 0.5))


def _draw_head(easel: Easel, who: Appearance, lift: float) -> None:
    top = who.hat_colour if who.hair in ("cap", "scarf") else who.hair_colour
    edge = {"short": 0.25, "afro": 0.2, "bun": 0.15, "cap": 0.3}.get(who.hair, 0.05)

    def hair(left: Array, up: Array, forward: Array) -> Array:
        return np.asarray(top, np.float32)

    def head(left: Array, up: Array, forward: Array) -> Array:
        eyes = (np.abs(np.abs(left) - 0.36) < 0.15) & (np.abs(up - 0.06) < 0.1) & (forward > 0)
        face = mix(who.skin, np.multiply(who.skin, 0.35), eyes)
        if who.hair == "bald":
            return face
        # Hair grows above the forehead, and behind a plane from the forehead to the nape.
        covered = (up > (0.42 if who.hair == "cap" else 0.6)) | (forward < 0.95 * up - edge)
        if who.hair in ("bob", "long", "scarf"):
            covered |= np.abs(left) > 0.72
        return mix(face, top, covered)

    if who.hair == "afro":
        easel.ball((0, 0.95 + lift, -0.01), (0.08, 0.077), hair)
    if who.hair == "bun":
        easel.ball((0, 0.995 + lift, -0.04), (0.031, 0.031), hair)
    easel.ball((0, 0.928 + lift, 0.012), (easel.girth(0.054, 0.061), 0.073), head)
    if who.hair == "cap":
        y, visor = 0.962 + lift, _plain(darker(top, 0.85))
        easel.tube((0.034, y, 0.058), (-0.034, y, 0.058), (0.011, 0.013, 0.011), visor)
        easel.tube((0, y, 0.05), (0, y - 0.006, 0.105), (0.015, 0.011), visor)


def _draw_tail(easel: Easel, who: Appearance, lift: float) -> None:
    """Hair, or the end of a scarf, that hangs down behind."""
    top = who.hat_colour if who.hair == "scarf" else who.hair_colour
    end, radii = {
        "bob": (0.865, (0.055, 0.06)),
        "long": (0.74, (0.055, 0.066, 0.05)),
        "scarf": (0.82, (0.058, 0.075)),
        "ponytail": (0.76, (0.018, 0.026, 0.01)),
    }.get(who.hair, (0.0, ()))
    if radii:
        back = -0.055 if who.hair == "ponytail" else -0.03
        easel.tube((0, 0.93 + lift, back), (0, end + lift, back - 0.015), radii, _plain(top))


def _draw_rucksack(easel: Easel, who: Appearance, lift: float) -> None:
    width = easel.girth(0.082, 0.05)

    def pack(t: Array, azimuth: Array) -> Array:
        pocket = (t > 0.55) & (t < 0.92) & (np.abs(np.abs(azimuth) - pi) < 0.7)
        return mix(who.bag_colour, np.multiply(who.bag_colour, 0.65), pocket)

    back = -0.055 * who.girth - 0.055
    easel.tube((0, 0.80 + lift, back), (0, 0.58 + lift, back), (width * 0.8, width, width), pack)


def _draw_satchel(easel: Easel, who: Appearance, hip: float, lift: float) -> None:
    width = easel.girth(0.03, 0.07)
    radii = (width, width)
    bag = _plain(who.bag_colour)
    easel.tube((hip, 0.53 + lift, -0.02), (hip, 0.43 + lift, -0.02), radii, bag, flat=True)


def _draw_handbag(easel: Easel, who: Appearance, wrist: Point) -> None:
    x, y, z = wrist
    width = easel.girth(0.025, 0.062)
    bag = _plain(who.bag_colour)
    easel.tube((x, y, z), (x, y - 0.07, z), (0.008, 0.008), bag)
    easel.tube((x, y - 0.06, z), (x, y - 0.15, z), (width * 0.85, width), bag, flat=True)
