"""One writer at a time: an advisory lock on a file, released by the system when its holder dies."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reid.gallery.errors import GalleryLockedError

if sys.platform != "win32":
    import fcntl

_POLL_SECONDS = 0.02
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # what a link points to is not ours to write


@contextmanager
def writer_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock file ``path``; wait at most ``timeout`` seconds for another holder.

    ``flock`` belongs to the open file, so it also keeps apart two galleries opened on the same
    folder by one process. Where the system has no ``fcntl`` (Windows) nothing is locked: keep to
    one writer there.

    Raises:
        GalleryLockedError: still held by another writer after ``timeout`` seconds.
        OSError: the lock file cannot be opened (for instance a read-only folder).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
    try:
        _acquire(descriptor, path, timeout)
        _note_holder(descriptor)
        yield
    finally:
        os.close(descriptor)  # closing releases the lock


def _acquire(descriptor: int, path: Path, timeout: float) -> None:
    if sys.platform == "win32":
        return
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise GalleryLockedError(
                    f"The gallery {path.parent} is being written by {_holder(descriptor)}; waited "
                    f"{timeout:g} s. A gallery has one writer at a time: wait until it has "
                    "finished, or open the gallery with a longer lock_timeout."
                ) from None
            time.sleep(_POLL_SECONDS)


def _note_holder(descriptor: int) -> None:
    """Leave a name for the message of whoever waits; a full disk must not stop the holder here."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps([os.getpid(), socket.gethostname()]).encode())


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        pid, host = json.loads(os.read(descriptor, 4096))
    except (OSError, ValueError, TypeError):
        return "another process"
    return f"process {pid} on {host}"
