"""Ids of rows: the next ones to give, and where those that were given lie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid.gallery.manifest import Manifest
from reid.gallery.snapshot import Snapshot
from reid.gallery.where import unknown_ids

_LAST_ID = 2**62  # far from what int64 holds, so that counting on from it is safe


def new_ids(manifest: Manifest, count: int, ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The ids of ``count`` new rows: counted on, or those given, checked."""
    if ids is None:
        return np.arange(manifest.next_id, manifest.next_id + count)
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu" or (len(ids) and int(ids.max()) > _LAST_ID):
        raise ValueError(f"ids must be ints of at most {_LAST_ID}. Nothing was added.")
    ids = ids.astype(np.int64)
    if ids.shape != (count,):
        raise ValueError(f"add needs one id per feature; got {ids.shape} for {count} features.")
    if (np.diff(ids) <= 0).any() or ids[0] < manifest.next_id:
        raise ValueError(
            f"ids must ascend, and begin at {manifest.next_id} or above, the next free one; got "
            f"{ids[:5].tolist()}{' ...' if count > 5 else ''}. Nothing was added."
        )
    return ids


def places(snapshot: Snapshot, ids: Sequence[int]) -> NDArray[np.int64]:
    """Row numbers; -1 for an id that is not there."""
    return snapshot.table.rows_of(_fitting(ids))


def rows_of(snapshot: Snapshot, ids: Sequence[int]) -> NDArray[np.int64]:
    """Row numbers; KeyError for an id that is not there."""
    rows = places(snapshot, ids)
    if (missing := np.flatnonzero(rows < 0)).size:
        raise KeyError(ids[int(missing[0])])
    return rows


def known_rows(snapshot: Snapshot, ids: Sequence[int], done: str) -> NDArray[np.int64]:
    """Row numbers; ValueError names ids that are not there."""
    rows = places(snapshot, ids)
    if (rows < 0).any():
        unknown = [ids[number] for number in np.flatnonzero(rows < 0).tolist()]
        raise unknown_ids(unknown, len(ids), done)
    return rows


def _fitting(ids: Sequence[int]) -> NDArray[np.int64]:
    """As an array; -1, which is no id, for what no int64 holds."""
    return np.array([row_id if 0 <= row_id < 2**63 else -1 for row_id in ids], np.int64)
