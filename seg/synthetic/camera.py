"""A pinhole camera above the street, and the flat surfaces it sees.

World axes: x right, y up, z along the street; metres, with the ground at y = 0 and the camera
above the origin. The camera turns about y only and its horizon is a shift of the principal point,
so that verticals stay vertical.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector = tuple[float, float, float]

NEAR = 0.4  # metres; what lies before it is cut off
_FEW = 20  # points


@dataclass(frozen=True, slots=True)
class Surface:
    """The plane ``normal . p = offset`` that a painted part lies in, in world axes."""

    normal: Vector
    offset: float

    @classmethod
    def through(cls, point: Any, normal: Vector) -> Surface:
        x, y, z = (float(v) for v in point)
        return cls(normal, normal[0] * x + normal[1] * y + normal[2] * z)


GROUND_SURFACE = Surface((0.0, 1.0, 0.0), 0.0)


def facing(z: float) -> Surface:
    """The upright plane at depth z that looks back down the street."""
    return Surface((0.0, 0.0, -1.0), -z)


@dataclass(frozen=True, slots=True)
class Camera:
    """Projects world points to pixels of a (height, width) image."""

    width: int
    height: int
    focal: float  # pixels
    centre: float  # column of the optical axis, pixels
    horizon: float  # row of the horizon, pixels
    yaw: float  # radians, positive looks to the right
    elevation: float  # metres above the ground

    def scaled(self, factor: int) -> Camera:
        """The same view with `factor` times as many pixels along either side."""
        return Camera(
            self.width * factor,
            self.height * factor,
            self.focal * factor,
            self.centre * factor,
            self.horizon * factor,
            self.yaw,
            self.elevation,
        )

    def to_view(self, points: Array) -> Array:
        """(..., 3) world points -> (..., 3) in camera axes: right, up, depth."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x, z = points[..., 0], points[..., 2]
        view = np.empty(points.shape)
        view[..., 0] = x * cos - z * sin
        view[..., 1] = points[..., 1] - self.elevation
        view[..., 2] = x * sin + z * cos
        return view

    def to_pixels(self, view: Array) -> Array:
        """(..., 3) points in camera axes, all deeper than `NEAR` -> (..., 2) columns and rows."""
        scale = self.focal / view[..., 2]
        pixels = np.empty((*view.shape[:-1], 2))
        pixels[..., 0] = self.centre + view[..., 0] * scale
        pixels[..., 1] = self.horizon - view[..., 1] * scale
        return pixels

    def polygon(self, points: Array) -> Array | None:
        """(n, 3) corners of a flat polygon -> (m, 2) pixels, or None if it is behind the camera."""
        if len(points) <= _FEW and (pixels := self.few_pixels(points.tolist())) is not None:
            return np.array(pixels)
        view = self.to_view(points)
        if view[:, 2].min() < NEAR:
            view = _cut_at_near(view)
            if len(view) < 3:
                return None
        return self.to_pixels(view)

    def few_pixels(self, points: list[list[float]]) -> list[tuple[float, float]] | None:
        """`to_view` and `to_pixels`, or None if a point is not deeper than `NEAR`.

        For a few points, plain numbers are several times as fast as arrays.
        """
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        pixels = []
        for x, y, z in points:
            depth = x * sin + z * cos
            if depth < NEAR:
                return None
            scale = self.focal / depth
            pixels.append(
                (
                    self.centre + (x * cos - z * sin) * scale,
                    self.horizon - (y - self.elevation) * scale,
                )
            )
        return pixels

    def inverse_depth(self, surface: Surface) -> Vector:
        """(a, b, c) with 1 / depth = a * right + b * up + c for the rays (right, up, 1)."""
        nx, ny, nz = surface.normal
        distance = surface.offset - ny * self.elevation
        if abs(distance) < 1e-6:  # seen edge-on: it covers no pixel
            return 0.0, 0.0, 0.0
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return (nx * cos - nz * sin) / distance, ny / distance, (nx * sin + nz * cos) / distance


def _cut_at_near(view: Array) -> Array:
    """The part of a polygon that is deeper than `NEAR` (Sutherland and Hodgman, 1974)."""
    kept: list[Array] = []
    for start, end in zip(view, np.roll(view, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            share = (NEAR - start[2]) / (end[2] - start[2])
            kept.append(start + share * (end - start))
    return np.array(kept).reshape(-1, 3)
