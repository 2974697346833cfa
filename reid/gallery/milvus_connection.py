"""A connection to Milvus: each call with its timeout, and its errors as OSError with a remedy."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.address import TOKEN_VARIABLE, Address

LIMIT = 16384  # rows of an answer; Milvus refuses more
_CONNECT_SECONDS = 10.0
_CALL_SECONDS = 60.0
_LITE_ROWS = 1000  # milvus-lite searches what it holds in memory a hundred times as slowly
_STRONG = {"consistency_level": "Strong"}


class Connection:
    """pymilvus's client, with what a gallery needs of it.

    Raises, in every method: OSError: the server is not reached, does not answer in time or refuses.
    ValueError: the connection was closed.
    """

    def __init__(self, address: Address) -> None:
        pymilvus = _pymilvus(address.lite)
        self.address = address
        self._pymilvus = pymilvus
        if address.lite:
            _use_lite(address.uri)
        try:
            self._client = self._call(
                "connecting",
                pymilvus.MilvusClient,
                uri=address.uri,
                token=address.token,
                timeout=_CONNECT_SECONDS,
                dedicated=True,
            )
        except BaseException:
            if address.lite:
                _leave_lite(address.uri)
            raise
        self._open = True
        self._unflushed = 0

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._client.close()
        if self.address.lite:
            _leave_lite(self.address.uri)

    def version(self) -> str:
        return str(self._do("asking for its version", "get_server_version"))

    def has(self, name: str) -> bool:
        return bool(self._do("looking for a collection", "has_collection", name))

    def columns(self, name: str) -> set[str]:
        described = self._do("describing a collection", "describe_collection", name)
        return {field["name"] for field in described["fields"]}

    def create(
        self, name: str, fields: Sequence[dict[str, Any]], index: tuple[str, dict[str, int], str]
    ) -> None:
        types = self._pymilvus.DataType
        schema = self._pymilvus.MilvusClient.create_schema(
            auto_id=False, enable_dynamic_field=False
        )
        for field in fields:
            given = dict(field)
            for key in ("datatype", "element_type"):
                if key in given:
                    given[key] = types[given[key]]
            schema.add_field(**given)
        parameters = self._pymilvus.MilvusClient.prepare_index_params()
        kind, build, metric = index
        parameters.add_index("vector", index_type=kind, metric_type=metric, params=build)
        self._do(
            "making a collection",
            "create_collection",
            name,
            schema=schema,
            index_params=parameters,
            **_STRONG,
        )

    def load(self, name: str) -> None:
        self._do("loading a collection", "load_collection", name)

    def drop(self, name: str) -> None:
        self._do("dropping a collection", "drop_collection", name)

    def count(self, name: str, filter_: str) -> int:
        found = self.query(name, filter_, ["count(*)"])
        return int(found[0]["count(*)"])

    def query(
        self, name: str, filter_: str, columns: Sequence[str], limit: int | None = None
    ) -> list[dict[str, Any]]:
        options = {} if limit is None else {"limit": limit}
        found = self._do(
            "reading rows",
            "query",
            name,
            filter=filter_,
            output_fields=list(columns),
            **options,
            **_STRONG,
        )
        return list(found)

    def search(
        self,
        name: str,
        queries: NDArray[np.float32],
        limit: int,
        filter_: str,
        parameters: dict[str, Any],
    ) -> Sequence[Any]:
        found: Sequence[Any] = self._do(
            "searching",
            "search",
            name,
            data=list(queries),
            limit=limit,
            filter=filter_,
            anns_field="vector",
            search_params={"params": parameters},
            output_fields=["vector", "record"],
            **_STRONG,
        )
        return found

    def upsert(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        self._do("writing rows", "upsert", name, data=list(rows))
        self._unflushed += len(rows)
        if self.address.lite and self._unflushed >= _LITE_ROWS:
            self._do("writing what is in memory", "flush", name)
            self._unflushed = 0

    def delete(self, name: str, filter_: str) -> None:
        self._do("removing rows", "delete", name, filter=filter_)

    def compact(self, name: str) -> None:
        self._do("writing what is in memory", "flush", name)
        self._do("compacting", "compact", name)

    def _do(self, what: str, method: str, *given: Any, **named: Any) -> Any:
        if not self._open:
            raise ValueError(f"The gallery {self.address.text} was closed.")
        return self._call(
            what, getattr(self._client, method), *given, timeout=_CALL_SECONDS, **named
        )

    def _call(self, what: str, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except self._pymilvus.MilvusException as error:
            raise OSError(
                f"Milvus at {self.address.text} failed while {what}: {_plain(error)} "
                f"{self._remedy(str(error))}"
            ) from None  # pymilvus's own trace holds what it was called with

    def _remedy(self, message: str) -> str:
        if self.address.lite:
            return "Is the file open in another process? One at a time may have it."
        if re.search(r"auth|permission|privilege|token", message, re.IGNORECASE):
            return f"Set {TOKEN_VARIABLE} to USER:PASSWORD, or to an API key."
        return (
            f"Is the server running and reached from here? A connection is waited for "
            f"{_CONNECT_SECONDS:g} s, an answer {_CALL_SECONDS:g} s."
        )


def _plain(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


_lite_users: dict[str, int] = defaultdict(int)
_lite_lock = threading.Lock()


def _use_lite(path: str) -> None:
    with _lite_lock:
        _lite_users[path] += 1


def _leave_lite(path: str) -> None:
    """Stop what milvus-lite runs for a file once nobody here uses it: others may have it then."""
    with _lite_lock:
        _lite_users[path] -= 1
        if not _lite_users[path]:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(path)


def _pymilvus(lite: bool) -> Any:
    try:
        import pymilvus

        if lite:
            import milvus_lite  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"A gallery in Milvus needs {error.name or 'pymilvus'}: "
            "pip install -c constraints.txt -e '.[milvus]'"
        ) from error
    return pymilvus
