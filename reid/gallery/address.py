"""Addresses of galleries that are no folder."""

import os

_SCHEMES = ("milvus://", "milvus+tls://", "milvus-lite:")


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a Milvus collection, and not a folder."""
    return isinstance(path, str) and path.startswith(_SCHEMES)
