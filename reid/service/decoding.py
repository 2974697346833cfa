"""Strangers' images are decoded by other processes, which may die of them.

A decoder reads one image from a pipe, checks the header before it decodes, and answers with
pixels. It has a limit of memory, cannot write files, and is replaced when it dies or takes too
long. What it answers is a line of JSON and raw bytes: nothing that a process taken over by a
hostile image says is unpickled.

The pixels are those of :func:`imaging.files.decode_image`, by which galleries are filled: an image
uploaded again is embedded as it was the first time.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .image_header import UnknownFormatError, read_header

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["BadImage", "Decoded", "DecoderPool", "DecodingLimits"]

_START_SECONDS = 60.0


class BadImage(ValueError):
    """An upload that is no acceptable image; ``code`` says why in a word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Decoded:
    """An image as a person sees it.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, of the crop if there was one.
        width, height: of the whole image. crop: x, y, w, h inside it, or None for all of it.
        thumbnail: of ``pixels``, a JPEG; empty where none was asked for.
    """

    pixels: np.ndarray
    width: int
    height: int
    crop: tuple[int, int, int, int] | None
    thumbnail: bytes


@dataclass(frozen=True)
class DecodingLimits:
    """Of the picture in pixels and of its side; of the memory for one image in bytes."""

    pixels: int
    side: int
    memory: int


def decode(
    data: bytes, crop: tuple[int, int, int, int] | None, thumbnail: bool, limits: DecodingLimits
) -> Decoded:
    """Encoded bytes -> :class:`Decoded`, in this process.

    Args:
        crop: x, y, w, h in pixels of the image as it is seen; what lies outside is cut off.

    Raises:
        BadImage: what is wrong with it.
    """
    from imaging.files import decode_image
    from imaging.thumbnail import encode_thumbnail

    if not data:
        raise BadImage("empty", "The image file is empty.")
    try:
        header = read_header(data)
    except ValueError as error:
        code = "unsupported" if isinstance(error, UnknownFormatError) else "bad_image"
        raise BadImage(code, str(error)) from None
    if header.animated:
        raise BadImage("animated", "It is an animation. Send one of its pictures.")
    size = f"{header.width} x {header.height}"
    if header.width * header.height > limits.pixels or max(header[1:3]) > limits.side:
        raise BadImage(
            "too_many_pixels",
            f"The picture has {size} pixels; at most {limits.pixels:,} in all and {limits.side:,} "
            "a side are accepted. Make it smaller, or cut out the part that matters.",
        )
    try:
        pixels = decode_image(data)
    except MemoryError:
        raise BadImage(
            "too_many_pixels", f"{size} pixels need more memory than there is for one image."
        ) from None
    except ValueError:
        raise BadImage(
            "bad_image", f"The {header.format.upper()} data is damaged or cut short."
        ) from None
    height, width = pixels.shape[:2]
    if sorted((width, height)) != sorted((header.width, header.height)):
        raise BadImage("bad_image", f"The header says {size} pixels, the data something else.")
    if crop is not None:
        x, y, w, h = crop
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + w, width), min(y + h, height)
        if left >= right or top >= bottom:
            raise BadImage(
                "bad_crop", f"The crop lies outside the image, which has {width} x {height} pixels."
            )
        crop = (left, top, right - left, bottom - top)
        pixels = np.ascontiguousarray(pixels[top:bottom, left:right])
    return Decoded(pixels, width, height, crop, encode_thumbnail(pixels) if thumbnail else b"")


class DecoderPool:
    """Some processes that decode, one image each at a time. Methods may be called from any thread.

    Args:
        processes: how many; they start in the background.
        seconds: after which a decoder is taken for hung, and replaced.
    """

    def __init__(self, processes: int, seconds: float, limits: DecodingLimits) -> None:
        self._seconds = seconds
        self._limits = limits
        self._idle: queue.Queue[_Decoder | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._all: set[_Decoder] = set()
        self.replaced = 0
        for _ in range(processes):
            self._idle.put(self._start())

    def decode(
        self,
        data: bytes,
        crop: tuple[int, int, int, int] | None = None,
        *,
        thumbnail: bool = False,
        wait: float = 30.0,
    ) -> Decoded:
        """As :func:`decode`, in one of the processes.

        Raises:
            BadImage: what is wrong with the image, also where it killed its decoder.
            TimeoutError: no decoder was free for ``wait`` seconds.
        """
        try:
            decoder = self._idle.get(timeout=max(wait, 0))
        except queue.Empty:
            raise TimeoutError("no decoder became free in time") from None
        if decoder is None:  # closed: the next one who waits is to hear of it, too
            self._idle.put(None)
            raise TimeoutError("the decoders are stopped")
        fresh: _Decoder | None = None
        try:
            if not decoder.alive:  # it died of something else than an image
                fresh = decoder = self._replace(decoder)
            return decoder.decode(data, crop, thumbnail, self._seconds)
        except (EOFError, OSError) as error:
            fresh = self._replace(decoder)
            late = isinstance(error, TimeoutError)
            raise BadImage(
                "too_slow" if late else "bad_image",
                "The image takes too long to decode." if late else "The image cannot be decoded.",
            ) from None
        finally:
            self._idle.put(fresh or decoder)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._closed = True
            decoders, self._all = self._all, set()
        self._idle.put(None)
        for decoder in decoders:
            decoder.stop()

    @property
    def pids(self) -> list[int]:
        """Of the processes as they are now."""
        return [decoder.pid for decoder in self._all]

    def _start(self) -> _Decoder:
        decoder = _Decoder(self._limits)
        with self._lock:
            if not self._closed:
                self._all.add(decoder)
                return decoder
        decoder.stop()
        return decoder

    def _replace(self, decoder: _Decoder) -> _Decoder:
        with self._lock:
            self._all.discard(decoder)
            self.replaced += 1
        decoder.stop()
        return self._start()


class _Decoder:
    """One process, from this side."""

    def __init__(self, limits: DecodingLimits) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, limits), name="decoder", daemon=True
        )
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid or 0
        self._ready = False

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def decode(
        self,
        data: bytes,
        crop: tuple[int, int, int, int] | None,
        thumbnail: bool,
        seconds: float,
    ) -> Decoded:
        if not self._ready:
            self._receive(_START_SECONDS)
            self._ready = True
        self._pipe.send_bytes(json.dumps({"crop": crop, "thumbnail": thumbnail}).encode())
        self._pipe.send_bytes(data)
        answer = json.loads(self._receive(seconds))
        if "code" in answer:
            raise BadImage(answer["code"], answer["message"])
        shape = tuple(int(size) for size in answer["shape"])
        pixels = np.frombuffer(self._receive(seconds), np.uint8).reshape(shape)
        crop = None if answer["crop"] is None else tuple(answer["crop"])
        return Decoded(pixels, answer["width"], answer["height"], crop, self._receive(seconds))

    def _receive(self, seconds: float) -> bytes:
        if not self._pipe.poll(seconds):
            raise TimeoutError("the decoder does not answer")
        return self._pipe.recv_bytes()

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, limits: DecodingLimits) -> None:
    """The life of a decoder process: it ends when the other end of the pipe does."""
    import cv2

    import imaging.files
    import imaging.thumbnail  # noqa: F401 - before the first image, whose time is limited

    cv2.setNumThreads(1)
    _confine(limits.memory)
    pipe.send_bytes(b"ready")
    with contextlib.suppress(EOFError, OSError):
        while True:
            asked = json.loads(pipe.recv_bytes())
            data = pipe.recv_bytes()
            crop = None if asked["crop"] is None else tuple(asked["crop"])
            _answer(pipe, data, crop, asked["thumbnail"], limits)


def _answer(
    pipe: Connection, data: bytes, crop: Any, thumbnail: bool, limits: DecodingLimits
) -> None:
    try:
        decoded = decode(data, crop, thumbnail, limits)
    except BadImage as error:
        pipe.send_bytes(json.dumps({"code": error.code, "message": str(error)}).encode())
        return
    except Exception:  # whatever a decoder raises on whatever bytes
        message = "The image cannot be decoded."
        pipe.send_bytes(json.dumps({"code": "bad_image", "message": message}).encode())
        return
    about = {name: value for name, value in vars(decoded).items() if name in _ABOUT}
    pipe.send_bytes(json.dumps({**about, "shape": decoded.pixels.shape}).encode())
    pipe.send_bytes(decoded.pixels.tobytes())
    pipe.send_bytes(decoded.thumbnail)


_ABOUT = ("width", "height", "crop")


def _confine(memory: int) -> None:
    """Give up what decoding does not need. The terminal's Ctrl-C is the service's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)  # libraries write warnings there, by the image
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        # Beyond what is there: a new process brings its parent's main module with it, whose
        # libraries may take any room.
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
