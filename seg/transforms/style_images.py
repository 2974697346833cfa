"""Images whose style is borrowed: a folder or a list of files, read when needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class StyleImages:
    """Unlabelled images of a target domain.

    Args:
        source: a folder (searched with its sub-folders), one image file, or a list of files.

    Raises:
        FileNotFoundError: no such folder or file; ValueError: no image in it.
    """

    def __init__(self, source: str | Path | Sequence[str | Path]) -> None:
        if isinstance(source, (str, Path)):
            root = Path(source)
            if root.is_dir():
                files = (p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS)
                self.paths = sorted(str(p) for p in files if p.is_file())
            elif root.is_file():
                self.paths = [str(root)]
            else:
                raise FileNotFoundError(f"no folder or file of style images at {root}")
        else:
            self.paths = [str(p) for p in source]
            if missing := next((p for p in self.paths if not Path(p).is_file()), None):
                raise FileNotFoundError(f"no style image at {missing}")
        if not self.paths:
            raise ValueError(
                f"no style images in {source}: expected files that end in {', '.join(EXTENSIONS)}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 BGR.

        Raises:
            ValueError: not an image, or a single-channel or palette file, i.e. a label map.
        """
        import cv2

        path = self.paths[index]
        data = np.fromfile(path, np.uint8)
        palette = data[:4].tobytes() == b"\x89PNG" and len(data) > 25 and data[25] == 3
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
        if image is None:
            raise ValueError(f"style image {path} cannot be read: it is damaged or not an image")
        if palette or image.ndim == 2:
            raise ValueError(
                f"style image {path} has one channel or a palette, like a label map: point "
                "target at the folder of the colour images"
            )
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
