"""The gallery, worked with by threads: the event loop never waits for a disk or a product.

Searches and reads share some threads; changes take turns in one of their own, so that no search
waits for a disk. What other processes write is seen after ``refresh_seconds`` at the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from reid.gallery import Gallery
from reid.gallery.address import is_address
from reid.gallery.where import extent

from .errors import ServiceError, gallery_error
from .metrics import Metrics
from .settings import Settings

__all__ = ["GalleryAccess"]

LOG = logging.getLogger(__name__)

T = TypeVar("T")
_GONE = "The gallery's folder is gone. Searches are answered from what was read before."
_MOST_CAMERAS = 1000
_LOOK_AGAIN = 0.1


class GalleryAccess:
    """An open gallery as coroutines see it.

    Attributes:
        trouble: why the service is degraded, a sentence; None where it is not.
    """

    def __init__(self, gallery: Gallery, settings: Settings, metrics: Metrics) -> None:
        self.gallery = gallery
        self.trouble: str | None = None
        self._settings = settings
        self._metrics = metrics
        self._readers = ThreadPoolExecutor(settings.threads, "gallery-reader")
        self._writer = ThreadPoolExecutor(1, "gallery-writer")
        self._jobs = 0
        self._counting = threading.Lock()
        self._looking = asyncio.Lock()
        self._looked = -_LOOK_AGAIN
        self._overview: dict[str, Any] | None = None
        self._folder = None if is_address(gallery.location) else gallery.path
        self._see()

    async def read(self, function: Callable[[Gallery], T]) -> T:
        """Run a search, or read.

        Raises:
            ServiceError: the gallery refused; or 503 where it took too long, or too many wait.
        """
        waiter = asyncio.wrap_future(self._submit(self._readers, function))
        done, _ = await asyncio.wait([waiter], timeout=self._settings.wait_seconds)
        if not done:
            waiter.cancel()  # and the job, if it has not begun
            raise self._busy()
        try:
            return waiter.result()
        except Exception as error:
            raise self._translated(error) from error

    async def change(self, function: Callable[[Gallery], T]) -> T:
        """Run a change; one that has begun is waited for, however long it takes."""
        if self.trouble is not None:
            raise ServiceError(503, "degraded", self.trouble, retry_after=30)
        job = self._submit(self._writer, function)
        waiter = asyncio.wrap_future(job)
        done, _ = await asyncio.wait([waiter], timeout=self._settings.wait_seconds)
        if not done and job.cancel():
            raise self._busy()
        try:
            return await waiter
        except Exception as error:
            raise self._translated(error) from error
        finally:
            self._overview = None
            self._see()

    async def overview(self) -> dict[str, Any]:
        """Cameras, fields and times of the rows; made anew where they have changed."""
        if self._overview is None:
            self._overview = await self.read(_make_overview)
        return self._overview

    async def keep_fresh(self) -> None:
        """See what others write, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.refresh_seconds)
            await self.look()

    async def look(self) -> None:
        """See now what others have written, and whether the gallery is still there."""
        async with self._looking:  # a flood of questions is answered by one look
            if time.monotonic() - self._looked >= _LOOK_AGAIN:
                await self._look()
                self._looked = time.monotonic()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        trouble = None
        try:
            if await loop.run_in_executor(self._readers, self._refresh):
                self._overview = None
        except _FolderGone:
            trouble = _GONE
        except Exception as error:
            answer = gallery_error(error, self.gallery)
            trouble = str(answer.detail) if answer else "The gallery cannot be read anew."
            if self.trouble is None:
                LOG.error("the gallery cannot be refreshed", exc_info=error)
        if trouble != self.trouble:
            LOG.log(logging.WARNING if trouble else logging.INFO, "%s", trouble or "all is well")
        self.trouble = trouble
        self._see()

    def close(self) -> None:
        """Wait for what runs, and close the gallery."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._writer.shutdown(wait=True)
        self.gallery.close()

    def _refresh(self) -> bool:
        if self._folder is not None and not self._folder.is_dir():
            raise _FolderGone
        return self.gallery.refresh()

    def _submit(self, pool: ThreadPoolExecutor, function: Callable[[Gallery], T]) -> Future[T]:
        with self._counting:
            if self._jobs >= self._settings.threads + self._settings.waiting:
                raise self._busy()
            self._jobs += 1
            self._metrics.gallery_waiting.set(self._jobs)
        try:
            job = pool.submit(function, self.gallery)
        except RuntimeError:  # the service is stopping
            self._ended(None)
            raise self._busy() from None
        job.add_done_callback(self._ended)
        return job

    def _ended(self, _: object) -> None:
        with self._counting:
            self._jobs -= 1
            self._metrics.gallery_waiting.set(self._jobs)

    def _busy(self) -> ServiceError:
        return ServiceError(503, "busy", "The gallery is busy. Try again later.", retry_after=1)

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, ServiceError):
            return error
        answer = gallery_error(error, self.gallery)
        if answer is not None and answer.status_code >= 500:
            LOG.error("the gallery failed", exc_info=error)
        return answer or error

    def _see(self) -> None:
        with contextlib.suppress(Exception):  # a number for a chart is not worth a failure
            self._metrics.rows.set(len(self.gallery))
        self._metrics.degraded.set(self.trouble is not None)


class _FolderGone(Exception):
    pass


def _make_overview(gallery: Gallery) -> dict[str, Any]:
    columns = gallery.columns("camera", "time")
    cameras = Counter(camera for camera in columns["camera"] if camera is not None)
    times = extent(columns["time"])
    return {
        "cameras": [
            {"value": camera, "rows": rows}
            for camera, rows in sorted(
                cameras.most_common(_MOST_CAMERAS), key=lambda item: (str(type(item[0])), item[0])
            )
        ],
        "fields": list(gallery.fields()),
        "time": None if times is None else {"min": times[0], "max": times[1]},
    }
