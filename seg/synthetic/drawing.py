"""One image and its label map as files. This is what worker processes do, and all they import."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .appearance import develop
from .camera import Array
from .labels import PALETTE, train_ids
from .street import paint_street

_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def draw_street(
    style: str, number: int, *, seed: int = 0, size: tuple[int, int] = (512, 256)
) -> tuple[Array, Array]:
    """Street `number` of the world `seed`, seen in a style ("game" or "real").

    Returns:
        the image, (height, width, 3) uint8 RGB, and the label map, (height, width) uint8 label ids
        of Cityscapes. The label map does not depend on the style.
    """
    canvas = paint_street(seed, number, size)
    return develop(canvas, style, seed, number), canvas.label_map()


@dataclass(frozen=True, slots=True)
class Job:
    """An image to draw and the files that it becomes."""

    style: str
    number: int
    seed: int
    size: tuple[int, int]
    image: str
    label: str
    train_label: str | None  # a second label map, of trainIds
    palette: bool  # whether the label map is a palette PNG

    @property
    def files(self) -> list[str]:
        return [self.image, self.label, *([self.train_label] if self.train_label else [])]


def draw(job: Job) -> list[str]:
    """Write the files of a job; returns their sha256 in hexadecimal."""
    image, labels = draw_street(job.style, job.number, seed=job.seed, size=job.size)
    content = [png(image), png(labels, palette=job.palette)]
    if job.train_label:
        content.append(png(train_ids()[labels]))
    for path, data in zip(job.files, content, strict=True):
        _write(Path(path), data)
    return [hashlib.sha256(data).hexdigest() for data in content]


def start_worker() -> None:
    """Every worker is one thread: there are as many workers as cores."""
    cv2.setNumThreads(1)


def png(pixels: Array, *, palette: bool = False) -> bytes:
    """A PNG of (H, W, 3) RGB, (H, W) grey values or palette indices of Cityscapes' colours."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette:
        image.putpalette([value for colour in PALETTE for value in colour])  # mode L becomes P
    data = io.BytesIO()
    options: Any = {"compress_level": 1}  # several times as fast as the default, 5 % larger
    image.save(data, "PNG", **options)
    return data.getvalue()


def is_whole(path: Path) -> bool:
    """Whether a PNG is there and complete: its last bytes are those of every PNG."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:
        return False


def _write(path: Path, data: bytes) -> None:
    """In one piece, but not synced: a file that a power cut has cut short is drawn again."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
