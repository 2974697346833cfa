"""A long list of images -> a folder of features: in shards, by any number of processes.

Each process takes a run of the shards that are missing; a shard's batches are always the same ones,
so the files do not depend on how many processes there are or on how often the work was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.main_process import on_main_process
from engine.wording import counted
from imaging.files import UnreadableImageError

from .features import FeatureFolder, column_types
from .image_loading import batch_ranges, default_workers
from .image_sources import Item, fingerprint
from .inference import FeatureExtractor

__all__ = ["Extraction", "extract_features"]


@dataclass(frozen=True)
class Extraction:
    """What a folder of features holds at the end.

    ``entries`` of the list, of which ``failed`` could not be read; ``done_before`` were there
    already, ``repeated`` stand in the list more than once.
    """

    folder: Path
    entries: int
    failed: int
    done_before: int
    repeated: int


def extract_features(
    extractor: FeatureExtractor,
    items: Sequence[Item],
    path: str | Path,
    *,
    dtype: str = "float32",
    file_format: str = "safetensors",
    shard_size: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    about: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Embed items and write their features to a folder; go on where an earlier call was stopped.

    With torch.distributed initialised every process takes a part, and all of them must call this.

    Args:
        path: the folder, made if absent; see :mod:`reid.features`.
        dtype: of the features on disk, 'float32' or 'float16'.
        file_format: 'safetensors' or 'parquet'.
        shard_size: entries a shard, by default what the folder has, or 4096: at most one shard a
            process is lost by a kill.
        workers: processes that read images, for each process that embeds them.
        strict: raise at the first image that cannot be read, instead of listing it.
        about: what else the manifest is to say.
        progress: called as ``progress(done, total)`` of this process.

    Raises:
        UnreadableImageError: with ``strict``; or when not one image can be read.
        ValueError: nothing to embed; the folder holds features of another model or list; an
            embedding that is not finite.
    """
    from mmengine.dist import barrier, get_rank, get_world_size

    if not items:
        raise ValueError("nothing to embed: the list is empty")
    manifest = {
        "model": extractor.fingerprint,
        "list": fingerprint(items),
        "entries": len(items),
        "dim": extractor.dim,
        "precision": extractor.dtype,
        "dtype": dtype,
        "format": file_format,
        "shard_size": shard_size,
        "columns": column_types([item.record for item in items]),
        **(about or {}),
    }
    folder = FeatureFolder(Path(path), on_main_process(_starting(path, manifest)))
    missing = on_main_process(lambda: folder.missing)
    mine = np.array_split(missing, get_world_size())[get_rank()].tolist()
    if workers is None:
        workers = default_workers(extractor.device.type)
    _fill(folder, mine, extractor, items, workers, strict, progress)
    barrier()
    failed = on_main_process(folder.finish)
    if failed == len(items):
        first = next(folder.failed())
        raise UnreadableImageError(
            f"not one of {counted(failed, 'image')} can be read; the first: {first['name']}: "
            f"{first['reason']}"
        )
    shards = folder.shards
    return Extraction(
        folder=folder.path,
        entries=len(items),
        failed=failed,
        done_before=len(items) - sum(len(shards[number]) for number in missing),
        repeated=len(items) - len({(item.path, item.frame, item.box) for item in items}),
    )


def _starting(path: str | Path, manifest: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def start() -> dict[str, Any]:
        try:
            return FeatureFolder.start(path, manifest).manifest
        except OSError as error:  # all processes must hear of it
            raise ValueError(str(error)) from error

    return start


def _fill(
    folder: FeatureFolder,
    numbers: Sequence[int],
    extractor: FeatureExtractor,
    items: Sequence[Item],
    workers: int,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make these shards; one is in memory at a time."""
    shards = [folder.shards[number] for number in numbers]
    total, done = sum(map(len, shards)), 0
    ranges = [r for s in shards for r in batch_ranges(s.start, s.stop, extractor.batch_size)]
    embedded = extractor.embed(
        extractor.load(items, ranges, workers), lambda position: items[position].name
    )
    for number, shard in zip(numbers, shards, strict=True):
        rows: list[np.ndarray] = []
        positions: list[int] = []
        failed: list[dict[str, Any]] = []
        while len(positions) + len(failed) < len(shard):
            batch, features = next(embedded)
            for position, reason in batch.failed:
                if strict:
                    raise UnreadableImageError.of(items[position].name, reason)
                name = items[position].name
                failed.append({"position": position, "name": name, "reason": reason})
            rows.append(features)
            positions += batch.positions
            done += len(batch.positions) + len(batch.failed)
            if progress is not None:
                progress(done, total)
        features = np.concatenate(rows)
        folder.write(number, features, [dict(items[p].record) for p in positions], failed)
