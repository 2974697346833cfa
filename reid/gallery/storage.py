"""A gallery on disk: segments that never change and one manifest that is replaced atomically.

    <path>/manifest.json                what the gallery holds; the only file ever replaced
    <path>/segments/<name>.npy          (rows, dim) float32, C order, never pickled
    <path>/segments/<name>.jsonl        one {"id": ..., "record": {...}} a line, ascending ids
    <path>/lock                         held by the writer

A file that the manifest does not name does not exist: it is what a crash left behind, and the next
writer deletes it.
"""

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.atomic import sync_directory
from reid.gallery.durable import (
    TEMPORARY_SUFFIX,
    FileSum,
    make_directory,
    replacing,
    sum_file,
)
from reid.gallery.errors import DamagedGalleryError, UndecidedWriteError
from reid.gallery.lock import writer_lock
from reid.gallery.manifest import Manifest, Segment, decode, encode

_VECTORS, _RECORDS = ".npy", ".jsonl"

Rows = tuple[NDArray[np.float32], list[tuple[int, dict[str, Any]]]]
"""A block of rows: (n, dim) vectors, and n pairs of id and record."""


class GalleryStorage:
    """The files of one gallery; knows nothing of searching."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest_path = root / "manifest.json"
        self.segments_path = root / "segments"

    # -- reading ----------------------------------------------------------------------------

    def read_manifest(self) -> Manifest:
        """Raises FileNotFoundError where no gallery is, DamagedGalleryError for a bad manifest."""
        try:
            data = self.manifest_path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"No gallery at {self.root}: {self.manifest_path.name} is missing. Make one with "
                "Gallery.create(path, dim)."
            ) from None
        return decode(data, self.manifest_path)

    def check_sizes(self, manifest: Manifest) -> None:
        """Cheap look at all segments: files exist with the right size and shape.

        Raises:
            DamagedGalleryError: naming every file that is missing or cut short.
        """
        damage = []
        for segment in manifest.segments:
            damage += [fault for path, want in self._files(segment) if (fault := _size(path, want))]
        if damage:
            raise _damaged(self.root, damage)

    def verify(self, manifest: Manifest) -> None:
        """Read everything and compare it with the sha256 sums of the manifest.

        Raises:
            DamagedGalleryError: naming every file that is missing, cut short or changed.
        """
        damage = []
        for segment in manifest.segments:
            damage += self._segment_damage(segment)
        if damage:
            raise _damaged(self.root, damage)

    def vectors(self, segment: Segment, dim: int) -> NDArray[np.float32]:
        """(rows, dim) float32, memory-mapped read-only."""
        path = self._path(segment, _VECTORS)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise _damaged(self.root, [f"{path.name}: {error}"]) from error
        if array.shape != (segment.rows, dim) or array.dtype != np.float32:
            fault = f"{path.name}: holds {array.dtype} {array.shape}, not float32 "
            raise _damaged(self.root, [f"{fault}{(segment.rows, dim)}"])
        return array  # type: ignore[no-any-return]

    def records(self, segment: Segment) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """Ids (rows,) int64, ascending, and the rows' records."""
        path = self._path(segment, _RECORDS)
        ids, records = [], []
        try:
            with path.open("rb") as file:
                for line in file:
                    row = json.loads(line)
                    ids.append(row["id"])
                    records.append(row["record"])
        except (ValueError, KeyError, TypeError) as error:
            fault = f"{path.name}: line {len(ids) + 1} is no record ({error!r})"
            raise _damaged(self.root, [fault]) from error
        if len(ids) != segment.rows:
            fault = f"{path.name}: holds {len(ids)} records, expected {segment.rows}"
            raise _damaged(self.root, [fault])
        return np.asarray(ids, dtype=np.int64), records

    # -- writing: only between ``with lock(...)`` -----------------------------------------------

    def make_folders(self) -> None:
        make_directory(self.segments_path)

    def lock(self, timeout: float) -> AbstractContextManager[None]:
        return writer_lock(self.root / "lock", timeout)

    def write_segment(
        self, generation: int, rows: int, dim: int, blocks: Iterable[Rows]
    ) -> Segment:
        """Write ``rows`` rows, block by block, and make them durable. They count once committed."""
        # The random part keeps a name from ever meaning two things, even after an undone commit.
        name = f"{generation:08x}-{secrets.token_hex(4)}"
        vectors_path = self.segments_path / (name + _VECTORS)
        records_path = self.segments_path / (name + _RECORDS)
        try:
            with replacing(vectors_path) as vectors_file, replacing(records_path) as records_file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
                np.lib.format.write_array_header_1_0(vectors_file, header)
                for vectors, records in blocks:
                    vectors_file.write(np.ascontiguousarray(vectors, dtype="<f4").data.cast("B"))
                    for row_id, record in records:
                        line = json.dumps({"id": row_id, "record": record}, separators=(",", ":"))
                        records_file.write(line.encode("ascii") + b"\n")
            sync_directory(self.segments_path)
        except BaseException:
            _unlink(vectors_path, records_path)
            raise
        return Segment(name, rows, vectors=vectors_file.sum, records=records_file.sum)

    def commit(self, old: Manifest | None, new: Manifest) -> None:
        """Replace the manifest. When this returns, ``new`` is what any later opening finds.

        When it raises, ``old`` is there: if only the last fsync failed, so that nobody knows
        whether ``new`` would survive a power cut, the replacement is taken back.

        Raises:
            OSError: the disk refused.
            UndecidedWriteError: it refused the last fsync, and the taking back too.
        """
        self._replace_manifest(new)
        try:
            sync_directory(self.root)
        except BaseException as error:
            try:
                self._restore(old)
            except OSError as second:
                raise UndecidedWriteError(
                    second.errno,
                    f"The disk failed while a change of the gallery {self.root} was made final, "
                    f"and again while it was undone ({second.strerror or second}). The gallery is "
                    "whole, with or without that change: see to the disk, open it again and look",
                ) from error
            raise

    def clean(self, manifest: Manifest | None) -> None:
        """Delete what ``manifest``, the committed one, does not name."""
        named = {
            path
            for segment in (manifest.segments if manifest else ())
            for path, _ in self._files(segment)
        }
        leftovers = [path for path in self.segments_path.iterdir() if path not in named]
        leftovers += self.root.glob("*" + TEMPORARY_SUFFIX)
        if leftovers:
            sync_directory(self.root)  # first be sure that the manifest just read is there to stay
            _unlink(*leftovers)

    def live_blocks(
        self, manifest: Manifest, live: NDArray[np.bool_], block_rows: int = 4096
    ) -> Iterator[Rows]:
        """All rows with ``live`` set, in id order; ``live`` (rows of all segments,) bool.

        Every segment is checked against its sha256 first: copying must not give damaged rows a
        new, valid sum.
        """
        start = 0
        for segment in manifest.segments:
            if damage := self._segment_damage(segment):
                raise _damaged(self.root, damage)
            vectors = self.vectors(segment, manifest.dim)
            ids, records = self.records(segment)
            keep = np.flatnonzero(live[start : start + segment.rows])
            for first in range(0, len(keep), block_rows):
                block = keep[first : first + block_rows]
                yield vectors[block], [(int(ids[row]), records[row]) for row in block]
            start += segment.rows

    # -- parts --------------------------------------------------------------------------------

    def _path(self, segment: Segment, suffix: str) -> Path:
        return self.segments_path / (segment.name + suffix)

    def _files(self, segment: Segment) -> list[tuple[Path, FileSum]]:
        return [
            (self._path(segment, _VECTORS), segment.vectors),
            (self._path(segment, _RECORDS), segment.records),
        ]

    def _segment_damage(self, segment: Segment) -> list[str]:
        damage = []
        for path, want in self._files(segment):
            fault = _size(path, want)
            if not fault and sum_file(path) != want:
                fault = f"{path.name}: content changed (sha256 differs)"
            damage += [fault] if fault else []
        return damage

    def _restore(self, manifest: Manifest | None) -> None:
        if manifest is None:
            self.manifest_path.unlink()
        else:
            self._replace_manifest(manifest)
        sync_directory(self.root)

    def _replace_manifest(self, manifest: Manifest) -> None:
        with replacing(self.manifest_path) as file:
            file.write(encode(manifest))


def successor(manifest: Manifest, **changes: Any) -> Manifest:
    """The next generation of ``manifest``."""
    return replace(manifest, generation=manifest.generation + 1, **changes)


def _size(path: Path, want: FileSum) -> str:
    """What is wrong with a file's size, or an empty string."""
    try:
        size = os.stat(path).st_size  # noqa: PTH116
    except FileNotFoundError:
        return f"{path.name}: missing"
    if size != want.bytes:
        return f"{path.name}: {size} bytes, expected {want.bytes}"
    return ""


def _damaged(root: Path, damage: list[str]) -> DamagedGalleryError:
    shown = damage[:10] + ([f"... and {len(damage) - 10} more"] if len(damage) > 10 else [])
    return DamagedGalleryError(
        f"The gallery {root} is damaged: {'; '.join(shown)}. Restore these files (in segments/) "
        "from a copy, or build the gallery anew."
    )


def _unlink(*paths: Path) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
