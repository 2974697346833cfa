"""An uploaded file -> pixels, by way of a decoder process; how many are in memory is bounded."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from fastapi import UploadFile

from .decoding import BadImage, Decoded, DecoderPool, DecodingLimits
from .errors import ServiceError
from .metrics import Metrics
from .settings import Settings

__all__ = ["Upload", "Uploads", "parse_crop"]

Crop = tuple[int, int, int, int]

_STATUS = {"unsupported": 415, "too_many_pixels": 413}
_NUMBER = re.compile(r"-?\d{1,7}(\.\d{1,6})?\Z")


@dataclass(frozen=True)
class Upload:
    """``sha256`` is of the file as it was sent, in hex; for the others see :class:`Decoded`."""

    sha256: str
    pixels: np.ndarray
    width: int
    height: int
    crop: Crop | None
    thumbnail: bytes


def parse_crop(text: str | None) -> Crop | None:
    """``"10,20,64,128"`` -> x, y, w, h, rounded to pixels.

    Raises:
        ServiceError: 422 for anything else.
    """
    if text is None or not text.strip():
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 4 and all(map(_NUMBER.match, parts)):
        x, y, w, h = (round(float(part)) for part in parts)
        if w > 0 and h > 0:
            return x, y, w, h
    raise ServiceError(
        422,
        "bad_crop",
        "crop must be four numbers x,y,w,h in pixels of the image, w and h at least 1.",
    )


class Uploads:
    """Takes uploads in."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        limits = DecodingLimits(
            settings.upload_pixels, settings.upload_side, settings.decoder_bytes
        )
        self.decoders = DecoderPool(settings.decoders, settings.decode_seconds, limits)
        self._threads = ThreadPoolExecutor(settings.uploads, "upload")
        self._settings = settings
        self._metrics = metrics
        self._held = 0

    @asynccontextmanager
    async def take(
        self, file: UploadFile, crop: Crop | None = None, *, thumbnail: bool = False
    ) -> AsyncIterator[Upload]:
        """The image, which counts as held in memory until the block ends.

        Raises:
            ServiceError: it is too long, no acceptable image, or too many are held.
        """
        if self._held >= self._settings.uploads:
            raise self._busy()
        self._held += 1
        try:
            data = await file.read(self._settings.upload_bytes + 1)
            if len(data) > self._settings.upload_bytes:
                raise self._rejected(
                    413,
                    "too_large",
                    f"The image file is longer than {self._settings.upload_bytes:,} bytes.",
                )
            loop = asyncio.get_running_loop()
            yield await loop.run_in_executor(self._threads, self._decode, data, crop, thumbnail)
        finally:
            self._held -= 1

    def close(self) -> None:
        """End the decoders."""
        self.decoders.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _decode(self, data: bytes, crop: Crop | None, thumbnail: bool) -> Upload:
        wait = self._settings.wait_seconds
        try:
            found: Decoded = self.decoders.decode(data, crop, thumbnail=thumbnail, wait=wait)
        except BadImage as error:
            raise self._rejected(_STATUS.get(error.code, 422), error.code, str(error)) from None
        except TimeoutError:
            raise self._busy() from None
        finally:
            self._metrics.replaced.set(self.decoders.replaced)
        digest = hashlib.sha256(data).hexdigest()
        return Upload(digest, found.pixels, found.width, found.height, found.crop, found.thumbnail)

    def _rejected(self, status: int, code: str, message: str) -> ServiceError:
        self._metrics.rejected.labels(code).inc()
        return ServiceError(status, code, message)

    def _busy(self) -> ServiceError:
        return ServiceError(
            503, "busy", "Too many images are being read. Try again later.", retry_after=1
        )
