"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def replace_file(partial: Path, target: Path) -> None:
    """Put ``partial`` in the place of ``target``: a power cut leaves one of the two whole."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Make renames, creations and deletions in ``path`` durable."""
    if os.name == "nt":  # Windows cannot open directories; NTFS journals its own renames
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` atomically, into a folder that exists; a failure leaves what was there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        replace_file(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_file(path: str | Path, data: bytes) -> Path:
    """Write ``data`` atomically; folders are made as needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    return path


def write_csv(path: str | Path, rows: Iterable[Iterable[object]]) -> Path:
    """Write a table, its head first, atomically; folders are made as needed.

    Names of files that are no UTF-8 keep their bytes.
    """
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return write_file(path, text.getvalue().encode("utf-8", "surrogateescape"))


def write_json(path: str | Path, content: Any) -> Path:
    """Write JSON, indented, atomically; folders are made as needed."""
    return write_file(path, f"{json.dumps(content, indent=2, default=str)}\n".encode())
