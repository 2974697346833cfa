"""Tiny trees of files in the layouts of the public data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """``tree(names, value=7, size=(6, 8), folder="data")`` writes a small file for each name.

    Names below a folder of labels, or with an ending of labels, become grey PNGs of ``value``; the
    others small RGB images in the format of their ending.
    """

    def write(
        names: Iterable[str],
        value: int = 7,
        size: tuple[int, int] = (6, 8),
        folder: str = "data",
    ) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            is_label = any(w in name.lower() for w in ("label", "gtfine", "gt/", "gt_"))
            if "GT/LABELS" in name:
                pixels = np.full((*size, 3), 99, np.uint16)
                pixels[..., 2] = value  # OpenCV's last channel is red, the file's first
                cv2.imwrite(str(path), pixels)
            elif is_label and path.suffix == ".png":
                Image.fromarray(np.full(size, value, np.uint8)).save(path)
            elif path.suffix in (".png", ".jpg"):
                number = sum(map(ord, name)) % 200
                Image.new("RGB", size[::-1], (number, 100, 50)).save(path)
            else:
                path.write_text("not an image")
        return root

    return write
