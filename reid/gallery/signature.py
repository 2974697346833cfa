"""A mark on files that only this user on this machine could have made.

A FAISS index file is as good as code: reading one from a stranger may run what the stranger wants.
So an index is signed (HMAC-SHA256) with a key that lies with the user, outside any gallery, and a
file whose signature does not fit is not read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path


class UntrustedIndexError(ValueError):
    """An index was not made by this user on this machine, or has changed since."""


def key() -> bytes:
    """The key of this user, made at the first use: 32 random bytes, readable by nobody else."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    path = Path(base, "reidseg", "index.key")
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # whoever comes first: two processes must not make two keys
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        found = path.read_bytes()
    if len(found) != 32:
        raise OSError(
            f"{path} should hold a key of 32 bytes and holds {len(found)}. Delete it: a new one is "
            "made, and approximate indexes have to be built anew (gallery.py index)."
        )
    return found


def sign(description: bytes, file: Path) -> str:
    """The signature of a description and the content of a file."""
    with file.open("rb") as content:
        checksum = _sha256(content)
    return hmac.new(key(), checksum + description, hashlib.sha256).hexdigest()


def fits(signature: object, description: bytes, file: Path) -> bool:
    """Whether :func:`sign` of this user made the signature of just this content."""
    return isinstance(signature, str) and hmac.compare_digest(
        signature.encode(), sign(description, file).encode()
    )


def _sha256(content: object) -> bytes:
    digest = hashlib.sha256()
    while block := content.read(1 << 20):  # type: ignore[attr-defined]
        digest.update(block)
    return digest.digest()
