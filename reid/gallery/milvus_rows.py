"""What a gallery in Milvus is made of: collections, their columns, and the rows in them."""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.milvus_connection import Connection
from reid.gallery.milvus_filter import COLUMNS, KEY_LENGTH, MAX_FIELDS, key_columns
from reid.gallery.records import check_records
from reid.gallery.store import DTYPES, METRICS, StoreInfo
from reid.gallery.where import Record

FORMAT = 1
BLOCK_BYTES = 16 << 20  # of vectors, in one message
_TEXT = 65535  # characters of a text column, at most
_INDEX = re.compile(r"Flat|IVF(\d+),Flat|HNSW(\d+)(?:,Flat)?")

META_FIELDS: list[dict[str, Any]] = [
    {"field_name": "key", "datatype": "VARCHAR", "max_length": 64, "is_primary": True},
    {"field_name": "value", "datatype": "VARCHAR", "max_length": _TEXT},
    {"field_name": "vector", "datatype": "FLOAT_VECTOR", "dim": 2},  # Milvus wants one
]


def gallery_fields(dim: int) -> list[dict[str, Any]]:
    text = {"datatype": "VARCHAR", "max_length": _TEXT}
    key = {"datatype": "VARCHAR", "max_length": KEY_LENGTH}
    array = {"datatype": "ARRAY", "element_type": "VARCHAR", "max_length": KEY_LENGTH}
    return [
        {"field_name": "id", "datatype": "INT64", "is_primary": True},
        {"field_name": "vector", "datatype": "FLOAT_VECTOR", "dim": dim},
        {"field_name": "record", **text},
        {"field_name": "thumbnail", **text},
        *({"field_name": name, **key} for name in COLUMNS),
        {"field_name": "fields", "datatype": "JSON"},
        {"field_name": "keys", **array, "max_capacity": 2 * MAX_FIELDS},
    ]


def meta_name(collection: str) -> str:
    return f"{collection}_reidseg"


def meta_row(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": value, "vector": [0.0, 0.0]}


def read_info(connection: Connection) -> StoreInfo:
    """What is written about a gallery; refuses a collection that is none of ours."""
    address = connection.address
    name, meta = address.collection, meta_name(address.collection)
    if not connection.has(name):
        raise FileNotFoundError(
            f"There is no gallery at {address.text}. Make one with Gallery.create."
        )
    foreign = ValueError(
        f"The collection at {address.text} was not made by Gallery.create and cannot be opened as "
        "a gallery. Choose another name."
    )
    wanted = {field["field_name"] for field in gallery_fields(1)}
    if not connection.has(meta) or connection.columns(name) != wanted:
        raise foreign
    connection.load(meta)
    rows = connection.query(meta, 'key == "gallery"', ["key", "value"])
    try:
        about = json.loads(rows[0]["value"])
        version = about.pop("format")
        info = StoreInfo(location=address.text, **about)
        if info.metric not in METRICS or info.dtype not in DTYPES or int(info.dim) < 1:
            raise ValueError("not what create writes")
    except (IndexError, KeyError, TypeError, ValueError):
        raise foreign from None
    if version != FORMAT:
        raise ValueError(
            f"The gallery at {address.text} is of format {version}; this program knows {FORMAT}. "
            "Open it with the program that made it."
        )
    return info


def index_type(index: str) -> tuple[str, dict[str, int]]:
    """Milvus's name of an index, and how it is built."""
    match = _INDEX.fullmatch(index)
    if match is None:
        raise ValueError(
            f"index {index!r} cannot be had in Milvus; there are 'Flat' (exact), 'IVF1024,Flat' "
            "and 'HNSW32' (approximate), with other numbers, too."
        )
    lists, links = match.groups()
    if lists is not None and not 1 <= int(lists) <= 65536:
        raise ValueError(f"index {index!r}: Milvus takes 1..65,536 lists.")
    if links is not None and not 4 <= int(links) <= 64:
        raise ValueError(f"index {index!r}: Milvus takes 4..64 links.")
    if lists is not None:
        return "IVF_FLAT", {"nlist": int(lists)}
    if links is not None:
        return "HNSW", {"M": int(links), "efConstruction": 200}
    return "FLAT", {}


def search_parameters(index: str, wanted: int) -> dict[str, int]:
    kind, build = index_type(index)
    if kind == "IVF_FLAT":
        return {"nprobe": min(build["nlist"], max(16, build["nlist"] // 16))}
    return {"ef": max(128, 2 * wanted)} if kind == "HNSW" else {}


def new_row(
    number: int, vector: NDArray[np.float32], record: Record, thumbnail: bytes | None
) -> dict[str, Any]:
    picture = "" if thumbnail is None else base64.b64encode(thumbnail).decode()
    if len(picture) > _TEXT:
        raise ValueError(
            f"thumbnail {number} has {len(thumbnail or b'')} bytes; Milvus takes {_TEXT // 4 * 3}. "
            "Make it smaller."
        )
    return {"vector": vector, "thumbnail": picture, **record_columns(number, record)}


def record_columns(number: int, record: Record) -> dict[str, Any]:
    text = json.dumps(record)
    try:
        if len(text) > _TEXT:
            raise ValueError(f"as JSON it has {len(text)} characters; Milvus takes {_TEXT}")
        return {"record": text, **key_columns(record)}
    except ValueError as error:
        raise ValueError(f"record {number}: {error}. Nothing was written.") from error


def is_sound(row: Mapping[str, Any]) -> bool:
    """Whether a record reads, and its keys are its own."""
    try:
        (record,) = check_records([json.loads(row["record"])])
        keys = key_columns(record)
    except ValueError:
        return False
    same = all(row[name] == keys[name] for name in COLUMNS)
    return same and dict(row["fields"]) == keys["fields"] and list(row["keys"]) == keys["keys"]


def picture_of(row: Mapping[str, Any]) -> bytes | None:
    return base64.b64decode(row["thumbnail"]) if row["thumbnail"] else None


def parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))
