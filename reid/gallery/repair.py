"""Make a damaged gallery whole again, of all that is whole."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.atomic import sync_directory, write_json
from reid.gallery.durable import make_directory, sync_file
from reid.gallery.errors import DamagedGalleryError, OtherVersionError
from reid.gallery.inspection import GalleryState, SavedRows, SegmentState, inspect
from reid.gallery.manifest import Manifest, Segment, decode
from reid.gallery.segment import read_records
from reid.gallery.storage import GalleryStorage, successor
from reid.gallery.tombstones import NO_RANGES, live_mask, make_ranges, range_ids
from reid.gallery.where import Record


@dataclass(frozen=True, slots=True)
class LostRow:
    """A row that could not be saved; ``record`` is None where that was damaged, too."""

    id: int
    record: Record | None

    @property
    def image(self) -> str | None:
        """What to embed again."""
        return None if self.record is None else self.record.get("image")


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair found and did.

    Attributes:
        location: the gallery.
        damaged: sentences naming what was damaged; empty where nothing was, and nothing was done.
        kept: rows that the gallery holds now.
        lost: rows that it no longer holds.
        without_thumbnail: ids of rows whose thumbnails were lost.
        notes: what to do now.
        set_aside: files in ``damaged/`` of the gallery, as they were found; nothing was deleted.
    """

    location: str
    damaged: tuple[str, ...] = ()
    kept: int = 0
    lost: tuple[LostRow, ...] = ()
    without_thumbnail: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.damaged:
            return f"The gallery {self.location} is whole: {self.kept} rows. Nothing was done."
        lines = [f"The gallery {self.location} was damaged:"]
        lines += [f"  {sentence}" for sentence in self.damaged]
        lines.append(f"Rows kept: {self.kept}. Rows lost: {len(self.lost)}.")
        lines += [f"  id {row.id}: {row.image or 'image unknown'}" for row in self.lost]
        if self.without_thumbnail:
            lines.append(f"Rows without their thumbnails: {len(self.without_thumbnail)}.")
        lines += self.notes
        if self.set_aside:
            lines.append(f"Set aside in {Path(self.location) / 'damaged'}:")
            lines += [f"  {name}" for name in self.set_aside]
        return "\n".join(lines)


def repair(path: str | os.PathLike[str], *, lock_timeout: float = 10.0) -> RepairReport:
    """Put right a damaged gallery, also one that does not open.

    A damaged manifest is taken from its twin. Of a damaged file of vectors the rows whose own
    checksum fits are kept; of a damaged file of records none of its rows can be, as nobody knows
    whose vectors they are; damaged thumbnails are dropped, and so is a damaged index, and one over
    rows of which some are gone. Every file in question is first copied (linked) to ``damaged/``,
    with a report in JSON, and the new state is committed as any change is.

    Raises:
        FileNotFoundError: there is no gallery.
        DamagedGalleryError: the manifest and its twin are both damaged.
        OtherVersionError: the gallery is of a format that this program does not read.
        GalleryLockedError: a writer holds the gallery.
        OSError: the disk refused; the gallery is what it was.
    """
    storage = GalleryStorage(Path(path))
    if not storage.manifest_path.exists() and not storage.backup_path.exists():
        storage.read_manifest()  # says that there is no gallery
    with storage.lock(lock_timeout):
        return _repair(storage)


def _repair(storage: GalleryStorage) -> RepairReport:
    manifest, manifest_damage = _manifest(storage)
    storage.make_folders()
    state = inspect(storage, manifest)
    damage = (*manifest_damage, *state.sentences)
    if not damage:
        return RepairReport(str(storage.root), kept=manifest.live_rows)
    aside = _doubtful(storage, manifest, state, bool(manifest_damage))
    _set_aside(storage, aside)
    notes: list[str] = []
    lost = _lost(state, notes)
    new = _rewritten(storage, manifest, state, notes)
    report = RepairReport(
        str(storage.root),
        damage,
        new.live_rows,
        lost,
        _without_thumbnail(state),
        tuple(notes),
        tuple(sorted(path.relative_to(storage.root).as_posix() for path in aside)),
    )
    write_json(storage.damaged_path / f"report-{new.generation:08x}.json", asdict(report))
    sync_directory(storage.damaged_path)
    storage.commit(manifest, new)
    storage.clean(new)
    return report


def _manifest(storage: GalleryStorage) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest or, where that is damaged, its twin, and what is wrong."""
    try:
        return storage.read_manifest(), ()
    except OtherVersionError:
        raise
    except DamagedGalleryError as error:
        try:
            twin = decode(storage.backup_path.read_bytes(), storage.backup_path)
        except (OSError, DamagedGalleryError):
            raise DamagedGalleryError(
                f"The gallery {storage.root} cannot be repaired: {storage.manifest_path.name} and "
                f"its twin {storage.backup_path.name} are both damaged. Restore one of them from a "
                "copy, or build the gallery anew."
            ) from error
        missing = not storage.manifest_path.exists()
        fault = "missing" if missing else "not a whole manifest"
        return twin, (f"{storage.manifest_path.name}: {fault}",)


def _doubtful(
    storage: GalleryStorage, manifest: Manifest, state: GalleryState, manifest_damaged: bool
) -> list[Path]:
    """Files to set aside: those of damaged segments, and whatever else is not as it should be."""
    found = [
        storage.segments_path / file.name
        for segment in state.segments
        if segment.damage
        for file in segment.entry.files
    ]
    if state.damage:
        found += [path for path in storage.named(manifest) if "tombstones" in path.name]
        found.append(storage.backup_path)
    if state.index_damage and manifest.built is not None:
        found += storage.index_folder(manifest.built).glob("*")
    if manifest_damaged:
        # The twin may be older than what was lost: what it does not name may be rows.
        found.append(storage.manifest_path)
        named = set(storage.named(manifest))
        found += [path for path in storage.segments_path.iterdir() if path not in named]
    return [path for path in found if path.is_file()]


def _set_aside(storage: GalleryStorage, paths: Sequence[Path]) -> None:
    """Make sure that files stay, whatever happens to their names from now on."""
    if not paths:
        return
    for path in paths:
        target = storage.damaged_path / path.relative_to(storage.root)
        make_directory(target.parent)
        while target.exists():  # from an earlier repair
            target = target.with_name(target.name + "~")
        try:
            os.link(path, target)
        except OSError:  # a file system without links
            shutil.copyfile(path, target)
            sync_file(target)
        sync_directory(target.parent)


def _lost(state: GalleryState, notes: list[str]) -> tuple[LostRow, ...]:
    """The rows that go, those that had been removed not counted."""
    lost: list[LostRow] = []
    tombstones = NO_RANGES if state.tombstones is None else state.tombstones
    for segment in state.segments:
        entry = segment.entry
        if segment.columns is not None:
            gone = segment.columns.take(segment.lost)
            pairs = zip(gone.ids.tolist(), gone.records(), strict=True)
            rows = [LostRow(row_id, record) for row_id, record in pairs]
        else:
            rows = [LostRow(row_id, None) for row_id in range(entry.first_id, entry.last_id + 1)]
            if len(rows) != entry.rows:
                notes.append(
                    f"Of the ids {entry.first_id} to {entry.last_id} only {entry.rows} had rows; "
                    "which, is not known, as their records are lost."
                )
        if rows:
            live = live_mask(np.array([row.id for row in rows], np.int64), tombstones)
            lost += [row for row, there in zip(rows, live.tolist(), strict=True) if there]
    if lost:
        notes.append("Embed the images of the lost rows again, and add them: they get new ids.")
    return tuple(lost)


def _without_thumbnail(state: GalleryState) -> tuple[int, ...]:
    found = [np.empty(0, np.int64)]
    for segment in state.segments:
        if segment.columns is not None:
            lost = np.setdiff1d(segment.lost_pictures, segment.lost)
            found.append(segment.columns.ids[lost])
    ids = np.concatenate(found)
    tombstones = NO_RANGES if state.tombstones is None else state.tombstones
    return tuple(ids[live_mask(ids, tombstones)].tolist())


def _rewritten(
    storage: GalleryStorage, manifest: Manifest, state: GalleryState, notes: list[str]
) -> Manifest:
    """The next state, whose files are written here: that of all rows that are whole."""
    segments: list[Segment] = []
    rows_gone = False
    for segment in state.segments:
        kept = _saved(storage, manifest, segment)
        rows_gone |= kept is None or kept.rows != segment.entry.rows
        segments += [] if kept is None else [kept]
    tombstones = state.tombstones
    if tombstones is None:
        tombstones = NO_RANGES
        notes.append(
            f"The list of removed rows is lost, with its copy: {manifest.removed_rows} rows that "
            "had been removed are back. Remove them again."
        )
    removed = [np.empty(0, np.int64)]
    for entry in segments:
        ids = read_records(storage.segments_path, entry)[0].ids
        removed.append(ids[~live_mask(ids, tombstones)])
    gone = np.concatenate(removed)
    file = manifest.tombstones
    if state.damage or len(gone) != len(range_ids(tombstones)):
        file = storage.write_tombstones(manifest.generation + 1, make_ranges(gone))
    built = manifest.built
    if built is not None and (rows_gone or state.index_damage):
        built = None
        notes.append("The approximate index is gone: build it again. Until then search is exact.")
    return successor(
        manifest,
        segments=tuple(segments),
        tombstones=file,
        removed_rows=len(gone),
        numbering=manifest.numbering + rows_gone,
        built=built,
    )


def _saved(storage: GalleryStorage, manifest: Manifest, segment: SegmentState) -> Segment | None:
    if not segment.damage:
        return segment.entry
    if segment.columns is None:
        return None
    rows = SavedRows(storage.segments_path, segment, manifest.dim, manifest.dtype)
    if not len(rows):
        return None
    generation = manifest.generation + 1
    return storage.write_segment(generation, [rows], manifest.dim, manifest.dtype)
