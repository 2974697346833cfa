"""Files that survive a kill and a power cut: temporary name, fsync, rename, fsync the directory."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.atomic import sync_directory

TEMPORARY_SUFFIX = ".tmp"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileSum:
    """Size in bytes and sha256 (hex) of a file."""

    bytes: int
    sha256: str


class HashingWriter:
    """Binary file that counts and hashes what passes through, so that a write is one pass."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        self._digest.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def sync(self) -> None:
        """Push everything down to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    @property
    def sum(self) -> FileSum:
        return FileSum(self._bytes, self._digest.hexdigest())


@contextmanager
def replacing(path: Path) -> Iterator[HashingWriter]:
    """Write ``path`` whole or not at all: the old content stays until the new one is on disk.

    The rename itself is durable only after ``sync_directory`` of the parent.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    writer = HashingWriter(temporary)
    try:
        try:
            yield writer
            writer.sync()
        finally:
            writer.close()
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_directory(path: Path) -> None:
    """``mkdir -p`` whose result survives a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        try:
            sync_directory(folder.parent)
        except OSError:  # a second try must not take it for an old, durable folder
            with suppress(OSError):
                folder.rmdir()
            raise


def sum_bytes(data: bytes | memoryview) -> FileSum:
    """Size and sha256 of bytes in memory."""
    return FileSum(len(data), hashlib.sha256(data).hexdigest())


def sync_file(path: Path) -> None:
    """Push a file that something else has written down to the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sum_file(path: Path) -> FileSum:
    """Size and sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
            size += len(block)
    return FileSum(size, digest.hexdigest())
