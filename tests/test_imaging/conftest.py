"""Tiny pictures, made where a test needs them."""

import cv2
import numpy as np


def picture(seed: int = 0, size: tuple[int, int] = (48, 24)) -> np.ndarray:
    """A smooth (H, W, 3) uint8 RGB picture that no other seed has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def encode(image: np.ndarray, extension: str = ".jpg") -> bytes:
    """RGB (or grey) array -> file bytes."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    done, data = cv2.imencode(extension, np.ascontiguousarray(bgr))
    assert done
    return data.tobytes()
