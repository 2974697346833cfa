"""Boxes of a video as images: its frames are decoded once, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from .image_sources import Box

__all__ = ["UnreadableVideoError", "clip_box", "read_crops"]


class UnreadableVideoError(ValueError):
    """A file that is missing, or that no decoder of this OpenCV reads a frame of."""


def read_crops(path: str, boxes: Iterable[tuple[int, Box]]) -> Iterator[np.ndarray | str]:
    """Cut boxes out of a video, clipped to the frame.

    Args:
        path: the video's file.
        boxes: (number of the frame, from 0; box), ascending by frame.

    Yields:
        for each box an (h, w, 3) uint8 RGB array, or in words why there is none.

    Raises:
        UnreadableVideoError: not even the first frame can be read.
    """
    if not Path(path).is_file():
        raise UnreadableVideoError(f"no video at {path}")
    capture = cv2.VideoCapture(path)
    try:
        following = 0  # the frame that the next grab() brings
        for number, group in groupby(boxes, key=lambda entry: entry[0]):
            if number < following - 1:
                raise ValueError(f"boxes must be sorted by frame: {number} after {following - 1}")
            # The decoder must see every frame, but only wanted ones become pixels. Jumping instead
            # lands beside the frame in many formats.
            while following <= number and capture.grab():
                following += 1
            image = None
            if following > number:
                decoded, image = capture.retrieve()
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if decoded else None
            if image is None and following == 0:
                raise UnreadableVideoError(
                    f"cannot read a frame of the video {path}: it is empty, cut short, or in a "
                    "format that this OpenCV does not decode; convert it, e.g. with "
                    f"`ffmpeg -i {Path(path).name} -c:v libx264 out.mp4`"
                )
            for _, box in group:
                if following <= number:
                    yield f"the video ends after {following} frames, the last is {following - 1}"
                elif image is None:
                    yield f"frame {number} cannot be decoded"
                else:
                    yield _crop(image, box)
    finally:
        capture.release()


def clip_box(box: Box, height: int, width: int) -> tuple[int, int, int, int] | None:
    """The box as whole pixels (left, top, right, bottom) inside the frame; None if none are left.

    Corners are rounded to the nearest pixel; right and bottom are exclusive.
    """
    x, y, w, h = box
    left, right = (min(max(round(v), 0), width) for v in (x, x + w))
    top, bottom = (min(max(round(v), 0), height) for v in (y, y + h))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _crop(image: np.ndarray, box: Box) -> np.ndarray | str:
    height, width = image.shape[:2]
    inside = clip_box(box, height, width)
    if inside is None:
        return f"the box has no pixel inside the frame of {width}x{height}"
    left, top, right, bottom = inside
    return image[top:bottom, left:right]
