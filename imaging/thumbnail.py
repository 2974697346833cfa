"""Small pictures of images, to be kept and shown where the images themselves may be gone."""

import cv2
import numpy as np

__all__ = ["THUMBNAIL_SIDE", "encode_thumbnail"]

THUMBNAIL_SIDE = 256
_QUALITY = 85


def encode_thumbnail(image: np.ndarray, side: int = THUMBNAIL_SIDE) -> bytes:
    """An image as a JPEG of at most ``side`` pixels each way; a smaller one keeps its size.

    It holds the pixels alone, nothing of what else the image's file said (place, camera, owner).

    Args:
        image: (H, W, 3) uint8 RGB with at least one pixel.

    Raises:
        ValueError: something else.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"a thumbnail is made of an (H, W, 3) uint8 RGB image, got {image.dtype} {image.shape}"
        )
    scale = side / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    whole, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not whole:
        raise ValueError(f"OpenCV cannot write an image of shape {image.shape} as JPEG")
    return bytes(data)
