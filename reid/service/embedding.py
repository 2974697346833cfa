"""Queries that arrive together go through the network together.

One thread owns the embedding function. It takes the first query that waits, and those that come
within a few milliseconds after it, up to a batch. The event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .errors import ServiceError
from .metrics import Metrics
from .settings import Settings

__all__ = ["Embed", "Embedding"]

LOG = logging.getLogger(__name__)

Embed: TypeAlias = Callable[[Sequence[np.ndarray]], np.ndarray]
"""N images (h, w, 3) uint8 RGB, whose sizes may differ -> (N, D) float32."""


@dataclass
class _Query:
    pixels: np.ndarray
    answer: asyncio.Future[np.ndarray]
    loop: asyncio.AbstractEventLoop

    def resolve(self, feature: np.ndarray | None, error: Exception | None = None) -> None:
        """Tell the event loop that waits, unless it no longer does."""

        def tell() -> None:
            if self.answer.done():
                return
            if error is not None:
                self.answer.set_exception(error)
            else:
                assert feature is not None
                self.answer.set_result(feature)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(tell)


class Embedding:
    """The thread that embeds.

    Args:
        embed: the function; dim: the D that it must give.
    """

    def __init__(self, embed: Embed, dim: int, settings: Settings, metrics: Metrics) -> None:
        self._embed = embed
        self._dim = dim
        self._settings = settings
        self._metrics = metrics
        self._queries: queue.Queue[_Query | None] = queue.Queue(settings.embed_waiting)
        metrics.embed_waiting.set_function(self._queries.qsize)
        self._thread = threading.Thread(target=self._run, name="embedding", daemon=True)
        self._thread.start()

    async def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 RGB -> (D,) float32.

        Raises:
            ServiceError: 503 where too many wait, or it takes too long; 422 where this image has
                no embedding.
        """
        loop = asyncio.get_running_loop()
        query = _Query(pixels, loop.create_future(), loop)
        try:
            self._queries.put_nowait(query)
        except queue.Full:
            raise _busy(self._settings.wait_seconds) from None
        try:
            return await asyncio.wait_for(query.answer, self._settings.wait_seconds)
        except asyncio.TimeoutError:
            raise _busy(self._settings.wait_seconds) from None

    def close(self) -> None:
        """End the thread, after the batch at hand."""
        while True:
            try:
                self._queries.put_nowait(None)
                break
            except queue.Full:
                waiting = self._queries.get_nowait()
                if waiting is not None:
                    waiting.resolve(None, _busy(1))
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            wanted = [query for query in batch if not query.answer.done()]
            if wanted:
                self._metrics.batch_size.observe(len(wanted))
                self._answer(wanted)

    def _take(self) -> list[_Query]:
        """The next batch; empty at the end."""
        first = self._queries.get()
        if first is None:
            return []
        batch = [first]
        until = time.monotonic() + self._settings.batch_wait_seconds
        while len(batch) < self._settings.batch_size:
            try:
                left = until - time.monotonic()
                query = self._queries.get(timeout=left) if left > 0 else self._queries.get_nowait()
            except queue.Empty:
                break
            if query is None:
                self._queries.put(None)  # to be met again, after this batch
                break
            batch.append(query)
        return batch

    def _answer(self, queries: list[_Query]) -> None:
        """Embed; an image that spoils its batch is found by embedding each alone."""
        try:
            features = self._features([query.pixels for query in queries])
        except Exception as error:
            if len(queries) > 1:
                for query in queries:
                    self._answer([query])
                return
            queries[0].resolve(None, _failed(error))
            return
        for query, feature in zip(queries, features, strict=True):
            query.resolve(feature)

    def _features(self, images: list[np.ndarray]) -> np.ndarray:
        features = np.asarray(self._embed(images), np.float32)
        if features.shape != (len(images), self._dim):
            raise RuntimeError(
                f"the embedding function gave shape {features.shape}, expected "
                f"{(len(images), self._dim)}"
            )
        if not np.isfinite(features).all():
            raise ValueError("an embedding is not finite")
        return features


def _busy(seconds: float) -> ServiceError:
    return ServiceError(
        503, "busy", "Too many images are waiting. Try again later.", retry_after=min(seconds, 5)
    )


def _failed(error: Exception) -> ServiceError:
    if isinstance(error, ValueError):
        return ServiceError(422, "not_embedded", "The model gives no embedding for this image.")
    LOG.error("the embedding function failed", exc_info=error)
    return ServiceError(500, "internal", "The model failed on this image; the log says more.")
