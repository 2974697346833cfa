"""Features on disk: one list of images, one model, in shards that appear whole or not at all.

A folder of features holds

- ``manifest.json``: the model, the list, the form of the files, and how it was made;
- ``shard-00000.safetensors`` with ``features`` (rows, D) float32 or float16 and, row by row,
  ``shard-00000.jsonl`` with their records; or ``shard-00000.parquet`` with both;
- ``failed.csv``: what could not be read, and why, once all shards are there.

Shard i is of the entries i * shard_size .. of the list, in their order, without those that failed.
So a shard depends on nothing but list and model: any process may write any of them, in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.atomic import replace_file, write_bytes, write_csv, write_json
from engine.wording import counted

__all__ = [
    "FORMATS",
    "FeatureFolder",
    "Shard",
    "column_types",
    "iterate_features",
    "read_features",
]

FORMATS = ("safetensors", "parquet")
DTYPES = ("float32", "float16")
_FORMAT = "reidseg features 1"
_KINDS = {int: "int", float: "float", str: "text"}


class Shard(NamedTuple):
    """Rows of one shard."""

    features: np.ndarray
    """(rows, D) float32 or float16."""
    records: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    """Of entries without a row: ``position`` in the list, ``name``, ``reason``."""


class FeatureFolder:
    """A folder of features, being filled or full.

    Attributes:
        manifest: what ``manifest.json`` says. Of its entries ``model``, ``list``, ``entries``,
            ``dim``, ``dtype``, ``format`` and ``precision`` decide what a row is: a folder is gone
            on with by the same only. ``columns`` are the fields of the records with their types.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> FeatureFolder:
        """An existing folder.

        Raises:
            FileNotFoundError: there is none. ValueError: its manifest is not one.
        """
        file = Path(path) / "manifest.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"no features at {path}: there is no manifest.json; tools/extract_features.py "
                "makes such a folder"
            )
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            if manifest["format_version"] != _FORMAT:
                raise ValueError(f"its format is {manifest['format_version']!r}")
            for name in ("entries", "shard_size", "dim"):
                manifest[name] = int(manifest[name])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is not the manifest of a folder of features: {error}") from (
                error
            )
        return cls(Path(path), manifest)

    @classmethod
    def start(cls, path: str | Path, manifest: Mapping[str, Any]) -> FeatureFolder:
        """Make a folder, or go on with what was begun in it.

        Raises:
            FileExistsError: the folder holds other files. ValueError: features of another model,
            list or form; the message says which.
        """
        path = Path(path)
        if manifest["format"] not in FORMATS or manifest["dtype"] not in DTYPES:
            raise ValueError(
                f"expected a format of {', '.join(FORMATS)} and a dtype of {', '.join(DTYPES)}, "
                f"got {manifest['format']!r} and {manifest['dtype']!r}"
            )
        if manifest["format"] == "parquet" and "features" in manifest["columns"]:
            raise ValueError(
                "a field of the records is called 'features', as the column of features is in a "
                "Parquet file; rename it, or write safetensors"
            )
        if manifest["shard_size"] is not None and manifest["shard_size"] < 1:
            raise ValueError(f"a shard holds 1 row or more, got {manifest['shard_size']}")
        if (path / "manifest.json").exists():
            folder = cls.open(path)
            folder._compare(manifest)
            return folder
        if path.exists() and any(path.iterdir()):
            raise FileExistsError(f"{path} is not empty and holds no features; choose a new folder")
        content = {"format_version": _FORMAT, **manifest}
        content["shard_size"] = content["shard_size"] or 4096
        write_json(path / "manifest.json", content)
        return cls(path, content)

    def _compare(self, wanted: Mapping[str, Any]) -> None:
        reasons = {
            "model": "features of another model",
            "list": "features of another list of images",
            "dim": "features of another dimension",
            "precision": "a model that computed in another type",
            "dtype": "features of another type",
            "format": "files of another format",
            "shard_size": "shards of another size",
        }
        for key, reason in reasons.items():
            if wanted[key] == self.manifest.get(key) or wanted[key] is None:
                continue
            held, now = (
                f"{m['entries']:,} entries, {str(m['list'])[:12]}" if key == "list" else m.get(key)
                for m in (self.manifest, wanted)
            )
            raise ValueError(
                f"{self.path} holds {reason} ({held}; now {now}): they do not belong together. "
                "Give the same as before to go on, or another folder to begin anew"
            )

    @property
    def shards(self) -> list[range]:
        """Positions in the list of every shard's entries."""
        size, entries = self.manifest["shard_size"], self.manifest["entries"]
        return [range(i, min(i + size, entries)) for i in range(0, entries, size)]

    def file(self, number: int) -> Path:
        return self.path / f"shard-{number:05d}.{self.manifest['format']}"

    def records_file(self, number: int) -> Path:
        return self.path / f"shard-{number:05d}.jsonl"

    @property
    def missing(self) -> list[int]:
        """Numbers of the shards that are not there yet."""
        names = {file.name for file in self.path.glob("shard-*")}
        return [i for i in range(len(self.shards)) if self.file(i).name not in names]

    def write(
        self,
        number: int,
        features: np.ndarray,
        records: Sequence[Mapping[str, Any]],
        failed: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write one shard; once its file of features is there, all of it is.

        Args:
            features: (rows, D), written as the manifest's dtype.
            records: one a row. failed: see :class:`Shard`.
        """
        rows = len(self.shards[number]) - len(failed)
        if features.shape != (rows, self.manifest["dim"]) or len(records) != rows:
            raise ValueError(
                f"shard {number} has {rows} rows of {self.manifest['dim']}; got features of shape "
                f"{features.shape} and {len(records)} records"
            )
        features = np.ascontiguousarray(features, self.manifest["dtype"])
        about = {"failed": json.dumps(list(failed))}
        if self.manifest["format"] == "parquet":
            self._write_parquet(self.file(number), features, records, about)
            return
        from safetensors.numpy import save

        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        write_bytes(self.records_file(number), lines.encode())
        write_bytes(self.file(number), save({"features": features}, about))

    def read(self, number: int) -> Shard:
        """One shard.

        Raises:
            ValueError: it is not there yet, or not what was written.
        """
        if not self.file(number).is_file():
            raise ValueError(self._unfinished())
        if self.manifest["format"] == "parquet":
            shard = self._read_parquet(self.file(number))
        else:
            features, about = _map_safetensors(self.file(number))
            lines = self.records_file(number).read_text(encoding="utf-8").splitlines()
            shard = Shard(features, list(map(json.loads, lines)), json.loads(about["failed"]))
        if len(shard.records) != len(shard.features):
            raise ValueError(
                f"{self.file(number)} has {len(shard.features)} rows and {len(shard.records)} "
                "records: one of its files was changed; delete it and extract again"
            )
        return shard

    def failed(self) -> Iterator[dict[str, Any]]:
        """What could not be read, of all shards."""
        for number in range(len(self.shards)):
            if self.manifest["format"] == "parquet":
                about = _parquet()[1].read_schema(self.file(number)).metadata
                yield from json.loads(about[b"failed"])
            else:
                yield from json.loads(_map_safetensors(self.file(number))[1]["failed"])

    def finish(self) -> int:
        """Write ``failed.csv`` and tidy up; how many entries have no row.

        Raises:
            ValueError: shards are missing.
        """
        if self.missing:
            raise ValueError(self._unfinished())
        names = ("position", "name", "reason")
        rows = [[entry[name] for name in names] for entry in self.failed()]
        write_csv(self.path / "failed.csv", [names, *rows])
        for partial in self.path.glob(".*.partial"):  # of a process that was killed
            partial.unlink(missing_ok=True)
        return len(rows)

    def _unfinished(self) -> str:
        done = len(self.shards) - len(self.missing)
        return (
            f"the features in {self.path} are not complete: {done} of "
            f"{counted(len(self.shards), 'shard')} are there; run the same "
            "tools/extract_features.py command again, it goes on where it was"
        )

    def _write_parquet(
        self,
        path: Path,
        features: np.ndarray,
        records: Sequence[Mapping[str, Any]],
        about: Mapping[str, str],
    ) -> None:
        pyarrow, parquet = _parquet()
        kinds = {"int": pyarrow.int64(), "float": pyarrow.float64(), "text": pyarrow.string()}
        columns, fields = [], []
        for name, kind in self.manifest["columns"].items():
            cells = [record.get(name) for record in records]
            if kind == "text":
                cells = [c if c is None or isinstance(c, str) else json.dumps(c) for c in cells]
            columns.append(pyarrow.array(cells, kinds[kind]))
            fields.append(pyarrow.field(name, kinds[kind]))
        values = pyarrow.array(features.reshape(-1))
        columns.append(pyarrow.FixedSizeListArray.from_arrays(values, self.manifest["dim"]))
        fields.append(pyarrow.field("features", columns[-1].type))
        schema = pyarrow.schema(fields, metadata=dict(about))
        partial = path.with_name(f".{path.name}.partial")
        parquet.write_table(
            pyarrow.Table.from_arrays(columns, schema=schema),
            partial,
            # features do not compress; names do
            compression={**dict.fromkeys(self.manifest["columns"], "zstd"), "features": "none"},
            use_dictionary=list(self.manifest["columns"]),
        )
        replace_file(partial, path)

    def _read_parquet(self, path: Path) -> Shard:
        _, parquet = _parquet()
        table = parquet.read_table(path)
        flat = table.column("features").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        rows = table.drop_columns(["features"]).to_pylist()
        records = [{k: v for k, v in row.items() if v is not None} for row in rows]
        features = flat.reshape(table.num_rows, self.manifest["dim"])
        return Shard(features, records, json.loads(table.schema.metadata[b"failed"]))


def read_features(path: str | Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """All features of a folder, with their records.

    Returns:
        (N, D) float32 or float16, in the order of the list: mapped from the file where that is one
        safetensors file, else in memory. N records. :func:`iterate_features` holds one shard at a
        time instead.

    Raises:
        FileNotFoundError: no such folder. ValueError: it is not complete.
    """
    parts = list(iterate_features(path))
    if len(parts) == 1:
        return parts[0]
    folder = FeatureFolder.open(path)
    rows = sum(len(features) for features, _ in parts)
    features = np.empty((rows, folder.manifest["dim"]), folder.manifest["dtype"])
    records: list[dict[str, Any]] = []
    for part, described in parts:  # a mapped part takes memory only while it is copied
        features[len(records) : len(records) + len(part)] = part
        records += described
    return features, records


def iterate_features(path: str | Path) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """(features, records) of a folder, shard by shard; see :func:`read_features`."""
    folder = FeatureFolder.open(path)
    if folder.missing:
        raise ValueError(folder._unfinished())
    for number in range(len(folder.shards)):
        features, records, _ = folder.read(number)
        yield features, records


def column_types(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The fields of records, in order of appearance: 'int', 'float' or 'text'.

    A field of several kinds, or of another kind, is text: numbers beside words, lists as JSON.
    """
    kinds: dict[str, str | None] = {}
    for record in records:
        for name, value in record.items():
            kind = None if value is None else _KINDS.get(type(value), "text")
            known = kinds.setdefault(name, kind)
            if kind is None or known == kind:
                continue
            numbers = {known, kind} == {"int", "float"}
            kinds[name] = kind if known is None else "float" if numbers else "text"
    return {name: kind or "text" for name, kind in kinds.items()}


def _map_safetensors(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """``features`` of a file, mapped, and the file's metadata.

    The format: 8 bytes length of the header (little-endian), the header as JSON, the data.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        entry = header["features"]
        dtype = {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]
        start, stop = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if path.stat().st_size != 8 + length + stop:
            raise ValueError("it is cut short")
        if start == stop:  # no rows: nothing can be mapped
            return np.empty(shape, dtype), header["__metadata__"]
        mapped = np.memmap(path, dtype, "r", 8 + length + start, shape)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{path} is no whole file of features ({error}); delete it and extract again"
        ) from error
    return mapped, header["__metadata__"]


def _parquet() -> tuple[Any, Any]:
    import pyarrow
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet
