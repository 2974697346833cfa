"""What is painted before it has colours: an index of parts per pixel, and a table of the parts.

Every polygon belongs to a *part*: one label, one material, one plane. The canvas keeps only the
part's number per pixel, at `SUPERSAMPLING` times the size of the image. Labels, depths, texture
coordinates and light all follow from the table by look-up, so that the same painted street is
shown in any style, and its label map never mixes two labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .camera import GROUND_SURFACE, NEAR, Array, Camera, Surface, Vector, facing
from .labels import SKY

SUPERSAMPLING = 2
_SHIFT = 4  # fractional bits of the corners that OpenCV gets
_FAR_OUT = 60000.0  # pixels; corners outside the image are kept this near to it
_OCTAGON = np.array(
    [(1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0), (-0.7, -0.7), (0, -1), (0.7, -0.7)]
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The table of a painted street, one row a part. Part 0 is the sky."""

    label: Array  # (n,) uint8 Cityscapes label ids
    material: Array  # (n,) names
    tone: Array  # (n, 2) in 0..1: which colour of the material, and how bright
    normal: Array  # (n, 3)
    depth: Array  # (n, 3): Camera.inverse_depth of the plane


@dataclass(frozen=True, slots=True)
class Frame:
    """An upright plane with its own coordinates: s metres along, y metres up from its origin."""

    origin: Vector
    along: Vector = (1.0, 0.0, 0.0)  # horizontal, of length 1

    def __call__(self, points: Any) -> Array:
        """(..., 2) points (s, y) -> (..., 3) world points."""
        points = np.asarray(points, float)
        s = points[..., 0]
        (x0, y0, z0), (ex, _, ez) = self.origin, self.along
        world = np.empty((*s.shape, 3))
        world[..., 0] = x0 + s * ex
        world[..., 1] = y0 + points[..., 1]
        world[..., 2] = z0 + s * ez
        return world

    @property
    def surface(self) -> Surface:
        """Its normal looks to the left of `along`: towards the camera for along = +x."""
        ex, _, ez = self.along
        return Surface.through(self.origin, (ez, 0.0, -ex))


class Canvas:
    """Paints parts over each other, the later over the earlier."""

    def __init__(self, camera: Camera, sun: Vector) -> None:
        self.camera = camera  # of the image
        self.sun = sun  # unit vector towards the sun
        self.fine = camera.scaled(SUPERSAMPLING)  # of the canvas
        shape = camera.height, camera.width
        self.ids = np.zeros((self.fine.height, self.fine.width), np.int32)
        self.shadow = np.zeros(shape, np.uint8)  # of the sun on the ground
        self.contact = np.zeros(shape, np.uint8)  # where things stand on the ground
        self._rows: list[tuple[int, str, float, float, Vector, Vector]] = []
        self.part(SKY, "sky", (0.5, 0.5), facing(1e9))

    def part(
        self,
        label: int,
        material: str,
        tone: tuple[float, float],
        surface: Surface = GROUND_SURFACE,
    ) -> int:
        """A new part to paint with."""
        depth = self.fine.inverse_depth(surface)
        self._rows.append((label, material, tone[0], tone[1], surface.normal, depth))
        return len(self._rows) - 1

    def parts(self) -> Parts:
        label, material, first, second, normal, depth = zip(*self._rows, strict=True)
        return Parts(
            np.array(label, np.uint8),
            np.array(material),
            np.array([first, second]).T,
            np.array(normal, np.float32),
            np.array(depth, np.float32),
        )

    def label_map(self) -> Array:
        """(height, width) uint8 label ids: the label of the part at each pixel's centre."""
        table = np.array([row[0] for row in self._rows], np.uint8)
        return table[self.centre_ids()]

    def centre_ids(self) -> Array:
        """(height, width): the part at each pixel's centre."""
        start = SUPERSAMPLING // 2
        return np.ascontiguousarray(self.ids[start::SUPERSAMPLING, start::SUPERSAMPLING])

    # ------------------------------------------------------------------------------- world points

    def fill(self, part: int, points: Any) -> None:
        """A flat polygon with corners (n, 3)."""
        pixels = self.fine.polygon(np.asarray(points, float))
        if pixels is not None:
            cv2.fillPoly(self.ids, [_fixed(pixels)], part, shift=_SHIFT)

    def rectangles(self, part: int, frame: Frame, boxes: Any) -> None:
        """Boxes (n, 4) of s0, y0, s1, y1 in a frame, which must not overlap each other."""
        boxes = np.asarray(boxes, float).reshape(-1, 4)
        if not len(boxes):
            return
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        view = self.fine.to_view(frame(corners))
        visible = view[..., 2].min(axis=1) >= NEAR
        if not visible.all():
            for corner in corners[~visible]:
                self.fill(part, frame(corner))
        pixels = _fixed(self.fine.to_pixels(view[visible]))
        if len(pixels):
            cv2.fillPoly(self.ids, list(pixels), part, shift=_SHIFT)

    def stroke(
        self, part: int, frame: Frame, points: Sequence[tuple[float, float]], width: float
    ) -> None:
        """A line with round ends through points (s, y) of a frame, `width` metres thick."""
        places = frame(points).tolist()
        found = self.fine.few_pixels(places)
        if found is None:
            return
        depth = (self.depth_of(places[0]) + self.depth_of(places[-1])) / 2
        thickness = max(1, round(width * self.fine.focal / depth))
        pixels = _fixed(np.array(found))
        cv2.polylines(self.ids, [pixels], False, part, min(thickness, 250), shift=_SHIFT)

    def disc(
        self, part: int, frame: Frame, centre: tuple[float, float], radius: float, tall: float = 1.0
    ) -> None:
        """An ellipse in a frame; `tall` is its height to width."""
        steps = _circle(radius / self.depth_of(frame.origin) * self.fine.focal)
        self.fill(part, frame(np.asarray(centre) + steps * (radius, radius * tall)))

    def blobs(self, part: int, pixels: Array, radii: Array) -> None:
        """Round blotches at pixel positions (n, 2) of the canvas, with radii in its pixels."""
        centres = np.rint(pixels).astype(int).tolist()
        for centre, radius in zip(centres, np.rint(radii).astype(int).tolist(), strict=True):
            cv2.circle(self.ids, centre, max(radius, 1), part, -1)

    def fill_pixels(self, part: int, outline: Array) -> None:
        """All from an outline (n, 2), in pixels of the image, down to the image's lower edge."""
        low = self.camera.height + 1.0
        corners = np.concatenate((outline, [(outline[-1, 0], low), (outline[0, 0], low)]))
        cv2.fillPoly(self.ids, [_fixed(corners * SUPERSAMPLING)], part, shift=_SHIFT)

    def relabel(self, label: int, points: Any) -> None:
        """Give a flat polygon another label and leave its looks: between spokes, through a fence.

        Data sets label a bicycle or a fence as a whole, with what is seen through it.
        """
        pixels = self.fine.polygon(np.asarray(points, float))
        if pixels is None:
            return
        left, top = np.maximum(np.floor(pixels.min(axis=0)), 0).astype(int)
        right, bottom = np.ceil(pixels.max(axis=0)).astype(int) + 1
        window = self.ids[top : max(bottom, 0), left : max(right, 0)]
        if not window.size:
            return
        inside = np.zeros(window.shape, np.uint8)
        cv2.fillPoly(inside, [_fixed(pixels - (left, top))], 1, shift=_SHIFT)
        mask = inside.astype(bool)
        table = np.arange(len(self._rows), dtype=np.int32)
        for old in np.unique(window[mask]).tolist():
            table[old] = len(self._rows)
            self._rows.append((label, *self._rows[old][1:]))
        window[mask] = table[window[mask]]

    def misses(self, points: Any) -> bool:
        """Whether all points (n, 3) are beyond the same side of the image, or behind the camera."""
        view = self.fine.to_view(np.asarray(points, float))
        deep = np.maximum(view[:, 2], 0.0) / self.fine.focal
        left, right = self.fine.centre * deep, (self.fine.width - self.fine.centre) * deep
        behind = bool((view[:, 2] < NEAR).all())
        return behind or bool((view[:, 0] < -left).all()) or bool((view[:, 0] > right).all())

    def depth_of(self, point: Any) -> float:
        x, _, z = (float(v) for v in point)
        return max(x * math.sin(self.fine.yaw) + z * math.cos(self.fine.yaw), NEAR)

    def pixels_per_metre(self, point: Any) -> float:
        """On the canvas, for things at the depth of a point."""
        return self.fine.focal / self.depth_of(point)

    # ------------------------------------------------------------------------------------- shadows

    def cast(self, footprint: Any, height: float, base: float = 0.0, floor: float = 0.0) -> None:
        """The sun's shadow of an upright prism over corners (n, 2) of x, z.

        The prism is from `base` to `height`; the shadow falls on a ground at height `floor`.
        """
        points = np.asarray(footprint, float)
        lean = np.array([-self.sun[0], -self.sun[2]]) / max(self.sun[1], 0.2)
        both = np.concatenate((points + lean * base, points + lean * height)).astype(np.float32)
        self._on_ground(self.shadow, cv2.convexHull(both)[:, 0], floor)

    def touch(self, footprint: Any, floor: float = 0.0) -> None:
        """Darken the ground below something that stands on corners (n, 2) of x, z."""
        self._on_ground(self.contact, np.asarray(footprint, float), floor)

    def _on_ground(self, mask: Array, corners: Array, floor: float) -> None:
        points = np.empty((len(corners), 3))
        points[:, 0], points[:, 1], points[:, 2] = corners[:, 0], floor, corners[:, 1]
        pixels = self.camera.polygon(points)
        if pixels is not None:
            cv2.fillPoly(mask, [_fixed(pixels)], 255, cv2.LINE_AA, shift=_SHIFT)


def _fixed(pixels: Array) -> Array:
    """Pixel positions (corners of pixels are whole numbers) -> OpenCV's fixed point."""
    near = np.minimum(np.maximum(pixels, -_FAR_OUT), _FAR_OUT)
    return np.rint((near - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _circle(radius: float) -> Array:
    """A unit circle with as many corners as `radius` pixels deserve."""
    if radius < 4:
        return _OCTAGON
    angle = np.linspace(0, 2 * np.pi, 12 if radius < 12 else 28, endpoint=False)
    return np.stack((np.cos(angle), np.sin(angle)), axis=-1)
