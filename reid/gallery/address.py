"""Addresses of galleries that are no folder: collections of Milvus.

``milvus://HOST:PORT/COLLECTION``
    a server; ``milvus+tls://`` over TLS. The port may be left out (19530). A user and a password
    may stand before the host (``milvus://USER:PASSWORD@HOST/...``, percent-encoded), but are seen
    by all who can list this machine's processes: better in the environment variable MILVUS_TOKEN,
    as ``USER:PASSWORD`` or an API key. Neither is ever shown again.

``milvus-lite:FILE.db/COLLECTION``
    a file of milvus-lite's own, which runs inside this process.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN_VARIABLE = "MILVUS_TOKEN"

_LITE = "milvus-lite:"
_SERVERS = {"milvus://": "http", "milvus+tls://": "https"}
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FORMS = (
    "Addresses are milvus://HOST:PORT/COLLECTION, milvus+tls://HOST:PORT/COLLECTION and "
    "milvus-lite:FILE.db/COLLECTION; a collection's name has letters, digits and _, and does not "
    "begin with a digit."
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a collection is.

    Attributes:
        text: the address, without a password: what may be shown, and opened again.
        uri: what pymilvus connects to.
        collection: the name.
        lite: whether it is a file of milvus-lite.
        token: ``USER:PASSWORD``, an API key, or ''.
    """

    text: str
    uri: str
    collection: str
    lite: bool
    token: str = field(default="", repr=False)


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a Milvus collection, and not a folder.

    Raises:
        ValueError: another address, which would otherwise be taken for a strange folder.
    """
    if not isinstance(path, str):
        return False
    known = path.startswith((*_SERVERS, _LITE))
    if not known and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise ValueError(f"{path.split('://')[0]}:// is no address of a gallery. {_FORMS}")
    return known


def parse_address(text: str) -> Address:
    """The parts of an address.

    Raises:
        ValueError: it is none; the message says what addresses look like, and shows no password.
    """
    if text.startswith(_LITE):
        file, _, collection = text.removeprefix(_LITE).rpartition("/")
        if not file.endswith(".db") or not _COLLECTION.fullmatch(collection):
            raise ValueError(f"{text} is no address of a collection. {_FORMS}")
        return Address(text, str(Path(file).absolute()), collection, lite=True)
    scheme = next((scheme for scheme in _SERVERS if text.startswith(scheme)), None)
    if scheme is None:
        raise ValueError(f"This is no address of a collection. {_FORMS}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port or 19530
    except ValueError:
        host, port = None, 0
    if host is None or not host:
        raise ValueError(f"An address that begins with {scheme} has no host or port. {_FORMS}")
    collection = parts.path.removeprefix("/")
    place = f"{f'[{host}]' if ':' in host else host}:{port}"
    if not _COLLECTION.fullmatch(collection) or parts.query or parts.fragment:
        raise ValueError(f"{scheme}{place}{parts.path} is no address of a collection. {_FORMS}")
    token = os.environ.get(TOKEN_VARIABLE, "")
    if parts.username:
        token = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Address(
        f"{scheme}{place}/{collection}",
        f"{_SERVERS[scheme]}://{place}",
        collection,
        lite=False,
        token=token,
    )
