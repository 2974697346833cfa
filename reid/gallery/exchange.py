"""Galleries as files that anybody can read, and from one place to another.

Parquet
    one file: columns ``id``, ``vector``, ``record`` (all of it, as JSON), ``thumbnail``, and, to be
    read by others, one column for each field of the records. The metadata ``reidseg.gallery`` is
    JSON: what the gallery is, and a checksum of ``id``, ``vector``, ``record`` and ``thumbnail``.
safetensors
    a folder: ``vectors.safetensors`` with the tensors ``vectors`` (N, dim) and ``ids`` (N,),
    ``records.jsonl`` with a line ``{"id": ..., "record": {...}, "thumbnail": base64}`` a row, and
    ``manifest.json``: what the gallery is, and checksums of both.

Rows go block by block, so that memory does not grow with the gallery. Ids stay; those that were
removed above the last row may be given again in the new gallery. What is read back is not
trusted: nothing is unpickled, and everything is looked at before a gallery is made of it.
"""

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.atomic import replace_file, sync_directory
from reid.gallery.durable import sum_file, sync_file
from reid.gallery.errors import DamagedGalleryError
from reid.gallery.gallery import Gallery
from reid.gallery.records import check_records, is_picture
from reid.gallery.store import DTYPES, METRICS, Rows
from reid.gallery.where import Record

FORMATS = ("parquet", "safetensors")
Progress = Callable[[int, int], None]
"""(rows done, rows in all) after each block."""

_FORMAT = 1
_KEY = b"reidseg.gallery"
_BLOCK = 4096
_HEADER = 512  # bytes of a safetensors header, spaces at its end
_LINE_BYTES = 8 << 20  # of a record with its thumbnail, at most
_OWN = ("id", "vector", "record", "thumbnail")
_NUMPY = {"float32": "<f4", "float16": "<f2"}
_TENSOR = {"float32": "F32", "float16": "F16"}


def export_gallery(
    gallery: Gallery,
    path: str | os.PathLike[str],
    format: str = "parquet",
    progress: Progress | None = None,
) -> Path:
    """Write a gallery to a file (or, as safetensors, a folder) that appears whole or not at all.

    Raises:
        FileExistsError: there is something already.
        ValueError: another format than ``FORMATS``, or records changed while they were written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {format!r}.")
    target = Path(path)
    if target.exists():
        raise FileExistsError(f"{target} is there already; choose another name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if format == "parquet":
            _write_parquet(gallery, partial, progress)
            replace_file(partial, target)
        else:
            partial.mkdir()
            _write_safetensors(gallery, partial, progress)
            partial.rename(target)
            sync_directory(target.parent)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
    return target


def import_gallery(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    index: str | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> Gallery:
    """Make a gallery of what :func:`export_gallery` wrote: ids, metric and model stay.

    Everything is read and looked at once before anything is written.

    Args:
        target: a folder, or an address of Milvus.
        index, dtype: of the new gallery; those of the old one by default.

    Raises:
        FileNotFoundError: there is no such file. FileExistsError: the target is there already.
        ValueError: it is no exported gallery. DamagedGalleryError: it is one, and damaged.
    """
    exported = open_export(source)
    for _ in exported.blocks():
        pass
    gallery = Gallery.create(
        target,
        exported.dim,
        exported.index if index is None else index,
        exported.metric,
        dtype=exported.dtype if dtype is None else dtype,
        model=exported.model,
    )
    _copy(exported.blocks(), exported.rows, gallery, progress)
    return gallery


def copy_gallery(source: Gallery, target: Gallery, progress: Progress | None = None) -> int:
    """Copy all rows, with their ids, into a gallery that is empty or holds a beginning of them.

    A copy that was broken off goes on: rows come by ascending id, and those up to the highest id in
    the target are skipped. That the target holds a beginning of the source is looked at first: its
    ids must be all that the source has up to there, and its last rows must be equal.

    Returns:
        the number of rows copied.

    Raises:
        ValueError: galleries of another dimension, metric or model, or a target with other rows.
    """
    if source.location == target.location:
        raise ValueError(f"{source.location} would be copied into itself. Name another place.")
    for name in ("dim", "metric", "model"):
        ours, theirs = getattr(source, name), getattr(target, name)
        if ours != theirs:
            raise ValueError(
                f"{source.location} and {target.location} are of another {name}: {ours!r} and "
                f"{theirs!r}. Copy into a gallery made with the same."
            )
    if source.dtype == "float32" and target.dtype == "float16":
        raise ValueError(
            f"{source.location} is float32, {target.location} float16: a copy would not be equal. "
            "Copy into a float32 gallery."
        )
    done = np.array(target.ids(), np.int64)
    last = int(done[-1]) if len(done) else -1
    if len(done):
        _check_beginning(source, target, done)
    rest = (_above(block, last) for block in source.blocks(_BLOCK))
    return _copy(rest, len(source) - len(done), target, progress)


@dataclass(frozen=True)
class Export:
    """An exported gallery: what it says of itself, and its rows."""

    path: Path
    dim: int
    metric: str
    index: str
    dtype: str
    model: str | None
    rows: int
    read: Callable[["Export"], Iterator[Rows]]

    def blocks(self) -> Iterator[Rows]:
        """All rows by ascending id, looked at.

        Raises:
            DamagedGalleryError: a row that no gallery wrote, or another number of rows.
        """
        last, count = -1, 0
        for block in self.read(self):
            self._check(block, last)
            last, count = int(block.ids[-1]), count + len(block.ids)
            yield block
        if count != self.rows:
            raise self.damaged(f"it has {count} rows, and should have {self.rows}")

    def damaged(self, what: str) -> DamagedGalleryError:
        return DamagedGalleryError(f"{self.path} is damaged: {what}. Export the gallery again.")

    def _check(self, block: Rows, last: int) -> None:
        if block.ids[0] <= last or np.any(np.diff(block.ids) <= 0):
            raise self.damaged(f"ids do not ascend after {last}")
        lengths = np.linalg.norm(block.vectors.astype(np.float64), axis=1)
        wrong = ~np.isfinite(lengths)
        if self.metric == "cosine":
            wrong |= np.abs(lengths - 1) > (1e-3 if self.dtype == "float32" else 1e-2)
        if wrong.any():
            raise self.damaged(f"the vector of id {block.ids[int(np.argmax(wrong))]} is none")
        for row_id, picture in zip(block.ids, block.thumbnails, strict=True):
            if picture is not None and not is_picture(picture):
                raise self.damaged(f"the thumbnail of id {row_id} is no picture")

    def checked_records(self, records: Any) -> list[Record]:
        try:
            return check_records(records)
        except ValueError as error:
            raise self.damaged(str(error).rstrip(".")) from error


def open_export(path: str | os.PathLike[str]) -> Export:
    """What :func:`export_gallery` wrote, without its rows.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no exported gallery.
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"There is no {source}.")
    try:
        if source.is_dir():
            about, read = json.loads((source / "manifest.json").read_text("utf-8")), _read_folder
        else:
            about, read = _parquet_about(source), _read_parquet
        if about["format"] != _FORMAT:
            raise ValueError(f"it is of format {about['format']!r}, this program reads {_FORMAT}")
        dim, rows, model = about["dim"], about["rows"], about["model"]
        sizes = (type(dim) is int and 1 <= dim <= 1 << 20, type(rows) is int and rows >= 0)
        names = (about["metric"] in METRICS, about["dtype"] in DTYPES, type(about["index"]) is str)
        if not all((*sizes, *names)) or not isinstance(model, str | None):
            raise ValueError("its metadata are not those of a gallery")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source} is no gallery that was exported: {error}") from error
    return Export(source, dim, about["metric"], about["index"], about["dtype"], model, rows, read)


# -- copying ----------------------------------------------------------------------------------


def _copy(blocks: Iterator[Rows], total: int, target: Gallery, progress: Progress | None) -> int:
    done = 0
    for ids, vectors, records, thumbnails in blocks:
        if not len(ids):
            continue
        pictures = thumbnails if any(t is not None for t in thumbnails) else None
        target.store.add(vectors, records, pictures, ids)
        done += len(ids)
        if progress is not None:
            progress(done, total)
    return done


def _above(block: Rows, last: int) -> Rows:
    start = int(np.searchsorted(block.ids, last, side="right"))
    ids, vectors, records, thumbnails = block
    return Rows(ids[start:], vectors[start:], records[start:], thumbnails[start:])


def _check_beginning(source: Gallery, target: Gallery, done: NDArray[np.int64]) -> None:
    """Refuse a target that holds anything but the first rows of the source."""
    known = np.array(source.ids(), np.int64)
    sample = done[-100:].tolist()
    same = np.array_equal(known[: len(done)], done)
    if same:
        same = np.array_equal(source.vectors(sample), target.vectors(sample)) and source.records_of(
            sample
        ) == target.records_of(sample)
    if not same:
        raise ValueError(
            f"{target.location} holds rows that are not a beginning of {source.location}. Copy "
            "into an empty gallery."
        )


# -- Parquet ----------------------------------------------------------------------------------


def _write_parquet(gallery: Gallery, path: Path, progress: Progress | None) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = _kinds(gallery)
    arrow = {
        "bool": pyarrow.bool_(),
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "text": pyarrow.string(),
    }
    number = pyarrow.float16() if gallery.dtype == "float16" else pyarrow.float32()
    schema = pyarrow.schema(
        [
            pyarrow.field("id", pyarrow.int64(), nullable=False),
            pyarrow.field("vector", pyarrow.list_(number, gallery.dim)),
            pyarrow.field("record", pyarrow.string()),
            pyarrow.field("thumbnail", pyarrow.binary()),
            *(pyarrow.field(name, arrow[kind]) for name, kind in kinds.items()),
        ]
    )
    checksum, rows, total = hashlib.sha256(), 0, len(gallery)
    with parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for block in gallery.blocks(_BLOCK):
            vectors = block.vectors.astype(_NUMPY[gallery.dtype])
            texts = [json.dumps(record) for record in block.records]
            _digest(checksum, block.ids, vectors, texts, block.thumbnails)
            flat = pyarrow.array(vectors.reshape(-1), number)
            columns = [
                pyarrow.array(block.ids),
                pyarrow.FixedSizeListArray.from_arrays(flat, gallery.dim),
                pyarrow.array(texts, pyarrow.string()),
                pyarrow.array(block.thumbnails, pyarrow.binary()),
                *(
                    pyarrow.array([_cell(r.get(name), kind) for r in block.records], arrow[kind])
                    for name, kind in kinds.items()
                ),
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            rows += len(block.ids)
            if progress is not None:
                progress(rows, total)
        about = _about(gallery, rows, sha256=checksum.hexdigest())
        writer.add_key_value_metadata({_KEY: json.dumps(about).encode()})


def _parquet_about(path: Path) -> Any:
    from pyarrow import parquet

    metadata = parquet.read_metadata(path).metadata or {}
    return json.loads(metadata[_KEY])


def _read_parquet(export: Export) -> Iterator[Rows]:
    import pyarrow
    from pyarrow import parquet

    checksum = hashlib.sha256()
    types = pyarrow.types
    try:
        with parquet.ParquetFile(export.path) as file:
            kind = file.schema_arrow.field("vector").type
            number = types.is_float16 if export.dtype == "float16" else types.is_float32
            fits = types.is_fixed_size_list(kind) and number(kind.value_type)
            if not fits or kind.list_size != export.dim:
                raise export.damaged(f"its vectors are {kind}")
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(_BLOCK, [group], columns=list(_OWN)):
                    nulls = [batch.column(name).null_count for name in ("id", "vector", "record")]
                    flat = batch.column("vector").flatten()
                    if any(nulls) or flat.null_count or len(flat) != len(batch) * export.dim:
                        raise export.damaged("values are missing")
                    vectors = flat.to_numpy(zero_copy_only=False).reshape(-1, export.dim)
                    ids = batch.column("id").to_numpy().astype(np.int64)
                    texts = batch.column("record").to_pylist()
                    pictures = batch.column("thumbnail").to_pylist()
                    _digest(checksum, ids, vectors, texts, pictures)
                    records = export.checked_records(list(map(json.loads, texts)))
                    yield Rows(ids, vectors.astype(np.float32), records, pictures)
    except DamagedGalleryError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise export.damaged(str(error).splitlines()[0]) from error
    if _parquet_about(export.path).get("sha256") != checksum.hexdigest():
        raise export.damaged("its rows are not those of its checksum")


def _digest(
    checksum: Any,
    ids: NDArray[np.int64],
    vectors: NDArray[Any],
    texts: list[str],
    thumbnails: list[bytes | None],
) -> None:
    """Row by row, so that it does not depend on how rows are cut into blocks."""
    for row_id, vector, text, picture in zip(ids, vectors, texts, thumbnails, strict=True):
        picture_bytes = b"" if picture is None else picture
        record = text.encode()
        sizes = np.array([row_id, len(record), len(picture_bytes)], "<i8")
        checksum.update(sizes.tobytes() + vector.tobytes() + record + picture_bytes)


def _kinds(gallery: Gallery) -> dict[str, str]:
    """Of each field, what its column holds; fields named like a column of ours have none."""
    kinds: dict[str, str] = {}
    for block in gallery.blocks(_BLOCK):
        for record in block.records:
            for name, value in record.items():
                kind = _kind(value)
                before = kinds.setdefault(name, kind)
                if before != kind:
                    kinds[name] = "float" if {before, kind} == {"int", "float"} else "text"
    names = sorted(name for name in kinds if name not in _OWN and _plain(name) == name)
    return {name: kinds[name] for name in names}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "text"
    return "float" if isinstance(value, float) else "text"


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "text":
        return _plain(value if isinstance(value, str) else json.dumps(value))
    fits = _kind(value) == kind or (kind == "float" and _kind(value) == "int")
    if not fits:
        raise ValueError("records were changed while they were exported; export them again.")
    return float(value) if kind == "float" else value


def _plain(text: str) -> str:
    """Without halves of surrogate pairs, which UTF-8 cannot say; the record has them."""
    return text.encode("utf-8", "replace").decode()


# -- safetensors ------------------------------------------------------------------------------


def _write_safetensors(gallery: Gallery, folder: Path, progress: Progress | None) -> None:
    all_ids: list[NDArray[np.int64]] = []
    rows, total = 0, len(gallery)
    vectors_file, records_file = folder / "vectors.safetensors", folder / "records.jsonl"
    with vectors_file.open("wb") as out, records_file.open("w", encoding="utf-8") as lines:
        out.write(bytes(8 + _HEADER))
        for block in gallery.blocks(_BLOCK):
            out.write(block.vectors.astype(_NUMPY[gallery.dtype]).tobytes())
            for row_id, record, picture in zip(
                block.ids.tolist(), block.records, block.thumbnails, strict=True
            ):
                line = {"id": row_id, "record": record}
                if picture is not None:
                    line["thumbnail"] = base64.b64encode(picture).decode()
                lines.write(f"{json.dumps(line)}\n")
            all_ids.append(block.ids)
            rows += len(block.ids)
            if progress is not None:
                progress(rows, total)
        ids = np.concatenate([np.empty(0, np.int64), *all_ids])
        out.write(ids.astype("<i8").tobytes())
        out.seek(0)
        header = json.dumps(_layout(rows, gallery.dim, gallery.dtype)).encode()
        out.write(_HEADER.to_bytes(8, "little") + header.ljust(_HEADER))
        for file in (out, lines):
            file.flush()
            os.fsync(file.fileno())
    sums = {file.name: sum_file(file).sha256 for file in (vectors_file, records_file)}
    about = _about(gallery, rows, sha256=sums)
    manifest = folder / "manifest.json"
    manifest.write_text(f"{json.dumps(about, indent=2)}\n", encoding="utf-8")
    sync_file(manifest)
    sync_directory(folder)


def _read_folder(export: Export) -> Iterator[Rows]:
    vectors_file, records_file = export.path / "vectors.safetensors", export.path / "records.jsonl"
    about = json.loads((export.path / "manifest.json").read_text("utf-8"))
    sums = dict(about.get("sha256") or {})
    for file in (vectors_file, records_file):
        if not file.is_file() or sums.get(file.name) != sum_file(file).sha256:
            raise export.damaged(f"{file.name} is not that of its checksum")
    if not export.rows:
        return
    width = np.dtype(_NUMPY[export.dtype]).itemsize * export.dim
    with vectors_file.open("rb") as vectors, records_file.open("rb") as lines:
        size = int.from_bytes(vectors.read(8), "little")
        header = vectors.read(size) if size <= 1 << 20 else b""
        layout = _layout(export.rows, export.dim, export.dtype)
        try:
            whole = json.loads(header) == layout
        except ValueError:
            whole = False
        if not whole or vectors_file.stat().st_size != 8 + size + export.rows * (width + 8):
            raise export.damaged(f"{vectors_file.name} does not hold what the manifest says")
        vectors.seek(8 + size + export.rows * width)
        all_ids = np.frombuffer(vectors.read(8 * export.rows), "<i8").astype(np.int64)
        vectors.seek(8 + size)
        for start in range(0, export.rows, _BLOCK):
            ids = all_ids[start : start + _BLOCK]
            block = np.frombuffer(vectors.read(len(ids) * width), _NUMPY[export.dtype])
            rows = [_read_line(export, lines.readline(_LINE_BYTES), i) for i in ids.tolist()]
            yield Rows(
                ids,
                block.reshape(len(ids), export.dim).astype(np.float32),
                export.checked_records([record for record, _ in rows]),
                [picture for _, picture in rows],
            )
        if lines.read(1):
            raise export.damaged("there are more records than vectors")


def _read_line(export: Export, line: bytes, row_id: int) -> tuple[Any, bytes | None]:
    try:
        content = json.loads(line)
        if content["id"] != row_id:
            raise ValueError(f"it is of id {content['id']}")
        picture = content.get("thumbnail")
        return content["record"], None if picture is None else base64.b64decode(picture, None, True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise export.damaged(f"the line of id {row_id} in records.jsonl: {error}") from error


def _layout(rows: int, dim: int, dtype: str) -> dict[str, Any]:
    end = rows * dim * np.dtype(_NUMPY[dtype]).itemsize
    return {
        "vectors": {"dtype": _TENSOR[dtype], "shape": [rows, dim], "data_offsets": [0, end]},
        "ids": {"dtype": "I64", "shape": [rows], "data_offsets": [end, end + 8 * rows]},
    }


def _about(gallery: Gallery, rows: int, **sums: Any) -> Mapping[str, Any]:
    return {
        "format": _FORMAT,
        "dim": gallery.dim,
        "metric": gallery.metric,
        "index": gallery.index,
        "dtype": gallery.dtype,
        "model": gallery.model,
        "rows": rows,
        **sums,
    }
