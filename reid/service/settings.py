"""What can be set about the service, with defaults that suit one gallery on one machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from reid.threshold import Threshold

__all__ = ["LOOPBACK_HOSTS", "Settings"]

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_SHORTEST_TOKEN = 16
_MAY_BE_ZERO = {"rate", "batch_wait_seconds", "waiting"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits are per application; sizes in bytes, times in seconds.

    Attributes:
        name: what the page calls the gallery.
        token: the bearer token of those who may change rows; None: nobody may.
        read_needs_token: whether searching and reading need the token as well.
        writable: False refuses every change, with a token or without.
        show_paths: show the ``image`` of a record whole, instead of its last part.
        threshold: from which score on two images count as the same identity; shown by the page.
        allowed_hosts: names by which the service may be called (without port). Others are refused:
            that is what stops a hostile page whose name was re-bound to this address.
        allowed_origins: further origins (``https://reid.example.org``) of the service's own page,
            where a proxy shows it under another name than the Host header says.
        upload_bytes, upload_pixels, upload_side: largest image file, and its largest picture.
        upload_seconds: a body must be here whole after so long.
        uploads: images that are held in memory at once; more are told to come back.
        decoders: processes that decode images; decode_seconds: after which one is replaced;
            decoder_bytes: address space of one.
        batch_size, batch_wait_seconds: queries that go through the network together, and how long
            the first of them waits for others.
        embed_waiting: queries that may wait for the network.
        wait_seconds: how long a query waits at most for the network, and again for the search.
        threads: searches that run at once; waiting: those that may wait for one of them.
        refresh_seconds: between looks at what other processes have written.
        max_k, max_window, max_rerank, max_expand: largest ``k``, ``offset + k``, ``rerank`` and
            ``expand`` of a search; max_page: rows of a listing, and ids of a removal.
        record_bytes: longest record, as JSON.
        rate: requests a second of one client over a longer time, 0 for no limit; burst: at once.
            Reading a row counts a tenth of a request.
        clients: clients whose rate is remembered.
        shutdown_seconds: how long requests may still run after the service was told to stop.
    """

    name: str = "gallery"
    token: str | None = field(default=None, repr=False)
    read_needs_token: bool = False
    writable: bool = True
    show_paths: bool = False
    threshold: Threshold | None = None
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    allowed_origins: tuple[str, ...] = ()
    upload_bytes: int = 10 * 2**20
    upload_pixels: int = 25_000_000
    upload_side: int = 16_384
    upload_seconds: float = 30.0
    uploads: int = 16
    decoders: int = 1
    decode_seconds: float = 10.0
    decoder_bytes: int = 2 * 2**30
    batch_size: int = 32
    batch_wait_seconds: float = 0.002
    embed_waiting: int = 64
    wait_seconds: float = 10.0
    threads: int = 2
    waiting: int = 64
    refresh_seconds: float = 2.0
    max_k: int = 200
    max_window: int = 1000
    max_rerank: int = 500
    max_expand: int = 50
    max_page: int = 500
    record_bytes: int = 16_384
    rate: float = 20.0
    burst: float = 60.0
    clients: int = 10_000
    shutdown_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.token is not None and (
            len(self.token) < _SHORTEST_TOKEN or not self.token.isascii() or " " in self.token
        ):
            raise ValueError(
                f"a token is {_SHORTEST_TOKEN} or more ASCII characters without spaces; make one: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        if self.read_needs_token and self.token is None:
            raise ValueError("read_needs_token without a token would lock everybody out")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            lowest = 0 if item.name in _MAY_BE_ZERO else math.ulp(0.0)
            if not (lowest <= value < math.inf):
                raise ValueError(f"{item.name}: expected a number above 0, got {value!r}")
