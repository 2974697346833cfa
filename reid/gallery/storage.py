"""The files of a gallery: segments that never change and one manifest that is replaced atomically.

    <path>/manifest.json            what the gallery holds; the only file whose content changes
    <path>/manifest.backup.json     its twin, to repair it from
    <path>/segments/<name>.npy          vectors (rows, dim), C order, never pickled
    <path>/segments/<name>.parquet      id, crc32 of each row's vector, and record.<field> columns
    <path>/segments/<name>.thumbnails   encoded images, one after another
    <path>/segments/<name>.tombstones   ranges of removed ids (R, 2), and a twin (.twin)
    <path>/index/<name>/                an approximate index
    <path>/damaged/                     what a repair set aside
    <path>/lock                         held by the writer

A file that the manifest does not name does not exist: it is what a crash left behind, and the next
writer deletes it.
"""

import logging
import secrets
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.atomic import sync_directory
from reid.gallery.durable import (
    TEMPORARY_SUFFIX,
    make_directory,
    replacing,
    sum_bytes,
    sum_file,
    sync_file,
)
from reid.gallery.errors import DamagedGalleryError, UndecidedWriteError
from reid.gallery.lock import writer_lock
from reid.gallery.manifest import (
    REPAIR_HINT,
    BuiltIndex,
    DataFile,
    Manifest,
    Segment,
    decode,
    encode,
)
from reid.gallery.segment import Source, write_segment
from reid.gallery.tombstones import NO_RANGES, Ranges, decode_ranges, encode_ranges

logger = logging.getLogger(__name__)

TOMBSTONES, TWIN = ".tombstones", ".twin"
_OWN_NAMES = {"lock", "segments", "manifest.json.tmp"}
"""What a crash within the making of a gallery may leave."""


class GalleryStorage:
    """The files of one gallery; knows nothing of searching."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest_path = root / "manifest.json"
        self.backup_path = root / "manifest.backup.json"
        self.segments_path = root / "segments"
        self.index_path = root / "index"
        self.damaged_path = root / "damaged"

    # -- reading ------------------------------------------------------------------------------

    def read_manifest(self) -> Manifest:
        """Raises FileNotFoundError where no gallery is, DamagedGalleryError for a bad manifest."""
        try:
            data = self.manifest_path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if self.backup_path.exists():
                raise DamagedGalleryError(
                    f"The gallery {self.root} is damaged: {self.manifest_path.name} is missing, "
                    f"but its twin is there. {REPAIR_HINT}"
                ) from None
            raise FileNotFoundError(
                f"No gallery at {self.root}: {self.manifest_path.name} is missing. Make one with "
                "Gallery.create(path, dim)."
            ) from None
        return decode(data, self.manifest_path)

    def read_tombstones(self, manifest: Manifest) -> Ranges:
        """Ranges of removed ids; DamagedGalleryError or FileNotFoundError naming a bad file."""
        if manifest.tombstones is None:
            return NO_RANGES
        return read_ranges(self.segments_path / manifest.tombstones.name, manifest.tombstones)

    def index_folder(self, built: BuiltIndex) -> Path:
        return self.index_path / built.folder

    def index_damage(self, built: BuiltIndex) -> list[str]:
        """What is wrong with the files of an approximate index."""
        folder = self.index_folder(built)
        return [fault for file in built.files if (fault := damage_of(folder / file.name, file))]

    # -- writing: only between ``with lock(...)`` ---------------------------------------------

    def make_folders(self) -> None:
        make_directory(self.segments_path)

    def lock(self, timeout: float) -> AbstractContextManager[None]:
        return writer_lock(self.root / "lock", timeout)

    def write_segment(
        self, generation: int, sources: Sequence[Source], dim: int, dtype: str
    ) -> Segment:
        """Write rows and make them durable. They count once committed."""
        segment = write_segment(self.segments_path, new_stem(generation), sources, dim, dtype)
        self.sync_segments(segment.files)
        return segment

    def write_tombstones(self, generation: int, ranges: Ranges) -> DataFile | None:
        """The same for ranges of removed ids, twice: were they lost, all the rows would be back."""
        if not len(ranges):
            return None
        name, data = new_stem(generation) + TOMBSTONES, encode_ranges(ranges)
        sum_ = sum_bytes(data)
        file = DataFile(name, sum_.bytes, sum_.sha256)
        for twin in (name, name + TWIN):
            with replacing(self.segments_path / twin) as target:
                target.write(data)
        self.sync_segments((file, replace(file, name=name + TWIN)))
        return file

    def adopt_index(self, generation: int, write: Any) -> tuple[str, tuple[DataFile, ...]]:
        """A durable folder in ``index/`` that ``write(folder)`` fills: its name and its files."""
        name = new_stem(generation)
        folder = self.index_path / name
        make_directory(folder)
        try:
            write(folder)
            files = []
            for path in sorted(folder.iterdir()):
                sync_file(path)
                sum_ = sum_file(path)
                files.append(DataFile(path.name, sum_.bytes, sum_.sha256))
            sync_directory(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return name, tuple(files)

    def commit(self, old: Manifest | None, new: Manifest) -> None:
        """Replace the manifest. When this returns, ``new`` is what any later opening finds.

        When it raises, ``old`` is there: if only the last fsync failed, so that nobody knows
        whether ``new`` would survive a power cut, the replacement is taken back. What comes after
        that is no more than good housekeeping: the twin is written, and what only ``old`` named is
        deleted.

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
        if self.back_up() and old is not None and not self.owned(old) <= self.owned(new):
            with suppress(OSError):
                self._delete_unnamed(new)

    def back_up(self) -> bool:
        """Make the twin equal to the committed manifest; a failure is logged, and no more."""
        try:
            data = self.manifest_path.read_bytes()
            if self.backup_path.exists() and self.backup_path.read_bytes() == data:
                return True
            with replacing(self.backup_path) as file:
                file.write(data)
        except OSError as error:
            logger.warning("the twin of %s could not be written: %s", self.manifest_path, error)
            return False
        return True

    def clean(self, manifest: Manifest | None) -> None:
        """Delete what ``manifest``, the committed one, does not name."""
        if self._unnamed(manifest):
            sync_directory(self.root)  # first be sure that the manifest just read is there to stay
            self._delete_unnamed(manifest)

    def named(self, manifest: Manifest) -> list[Path]:
        """The files in ``segments/`` that a manifest names."""
        names = [file.name for segment in manifest.segments for file in segment.files]
        if manifest.tombstones is not None:
            names += [manifest.tombstones.name, manifest.tombstones.name + TWIN]
        return [self.segments_path / name for name in names]

    def names(self, manifest: Manifest) -> set[str]:
        """The names of all files that belong to a gallery of this manifest."""
        built = () if manifest.built is None else manifest.built.files
        found = {path.name for path in self.named(manifest)} | {file.name for file in built}
        return found | {self.manifest_path.name, self.backup_path.name}

    def owned(self, manifest: Manifest) -> set[Path]:
        """The same, and the folder of the index."""
        built = manifest.built
        return {*self.named(manifest), *([] if built is None else [self.index_folder(built)])}

    # -- parts --------------------------------------------------------------------------------

    def _unnamed(self, manifest: Manifest | None) -> list[Path]:
        owned = set() if manifest is None else self.owned(manifest)
        found = [path for path in self.segments_path.iterdir() if path not in owned]
        if self.index_path.is_dir():
            found += [path for path in self.index_path.iterdir() if path not in owned]
        return [*found, *self.root.glob("*" + TEMPORARY_SUFFIX)]

    def _delete_unnamed(self, manifest: Manifest | None) -> None:
        for path in self._unnamed(manifest):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                unlink(path)

    def sync_segments(self, files: Sequence[DataFile]) -> None:
        try:
            sync_directory(self.segments_path)
        except BaseException:
            unlink(*(self.segments_path / file.name for file in files))
            raise

    def _restore(self, manifest: Manifest | None) -> None:
        if manifest is None:
            self.manifest_path.unlink()
        else:
            self._replace_manifest(manifest)
        sync_directory(self.root)

    def _replace_manifest(self, manifest: Manifest) -> None:
        with replacing(self.manifest_path) as file:
            file.write(encode(manifest))


def refuse_occupied(storage: GalleryStorage) -> None:
    root = storage.root
    if storage.manifest_path.exists():
        raise FileExistsError(
            f"There is a gallery at {root} already. Open it with Gallery.open(path), or choose "
            "another path."
        )
    if root.exists() and (
        not root.is_dir() or any(child.name not in _OWN_NAMES for child in root.iterdir())
    ):
        raise FileExistsError(f"{root} holds other files. Choose a new or empty folder.")


def successor(manifest: Manifest, **changes: Any) -> Manifest:
    """The next generation of ``manifest``."""
    return replace(manifest, generation=manifest.generation + 1, **changes)


def new_stem(generation: int) -> str:
    """A name for files of a generation.

    The random part keeps a name from ever meaning two things, even after an undone commit.
    """
    return f"{generation:08x}-{secrets.token_hex(4)}"


def read_ranges(path: Path, file: DataFile) -> Ranges:
    """A file of tombstones; DamagedGalleryError naming it where it is not what it was."""
    data = path.read_bytes()
    if sum_bytes(data) != file.sum:
        raise DamagedGalleryError(f"{path.name}: content changed (sha256 differs)")
    try:
        return decode_ranges(data)
    except ValueError as error:
        raise DamagedGalleryError(f"{path.name}: {error}") from error


def damage_of(path: Path, file: DataFile) -> str:
    """What is wrong with a file, read whole; an empty string for nothing."""
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"{path.name}: {size} bytes, expected {file.bytes}"
        if sum_file(path) != file.sum:
            return f"{path.name}: content changed (sha256 differs)"
    except FileNotFoundError:
        return f"{path.name}: missing"
    except OSError as error:  # a bad sector
        return f"{path.name}: cannot be read ({error.strerror or error})"
    return ""


def damaged(root: Path, damage: Sequence[str]) -> DamagedGalleryError:
    shown = [*damage[:10], *([f"... and {len(damage) - 10} more"] if len(damage) > 10 else [])]
    return DamagedGalleryError(f"The gallery {root} is damaged: {'; '.join(shown)}. {REPAIR_HINT}")


def unlink(*paths: Path) -> None:
    """Delete files as far as that goes; the next writer tries again (Windows keeps mapped ones)."""
    for path in paths:
        with suppress(OSError):
            path.unlink()
