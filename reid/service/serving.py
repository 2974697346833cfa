"""Run an application until it is told to stop: SIGTERM and SIGINT end it in order, with code 0."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from .settings import Settings

__all__ = ["bind", "is_loopback", "serve"]

_LONGEST_HEADERS = 32 * 1024
_CONNECTIONS = 512
_KEEP_ALIVE = 15


def serve(
    app: FastAPI,
    listening: socket.socket,
    settings: Settings,
    *,
    trusted_proxies: Sequence[str] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until SIGTERM or SIGINT; those in flight then have some seconds to finish.

    Args:
        listening: of :func:`bind`.
        trusted_proxies: addresses whose X-Forwarded-For is believed; of nobody else.
        ready: called once requests are answered.

    Raises:
        RuntimeError: the application did not start; its log says why.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=_LONGEST_HEADERS,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
    )
    server = _Server(config, ready)
    with _stopped_by_signals(server):
        asyncio.run(server.serve(sockets=[listening]))
    if server.failed:
        raise RuntimeError("the service did not start; the message above says why")


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes any that is free.

    Raises:
        ValueError: the address cannot be had; says why, and what to do.
    """
    if not 0 <= port <= 65_535:  # else getaddrinfo takes it modulo 65,536
        raise ValueError(f"cannot listen at port {port}: a port is a number from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Without the protocol asyncio does not know it for TCP and leaves Nagle's algorithm on:
        # every answer then waits 40 ms for an acknowledgement.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"cannot listen at {host} port {port}: {why}. Choose another --port or --host, or stop "
            "the program that has it."
        ) from None
    listening.setblocking(False)
    return listening


def is_loopback(listening: socket.socket) -> bool:
    """Whether only programs on this machine reach it."""
    host = str(listening.getsockname()[0])
    return host == "::1" or host.startswith("127.")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self.failed = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.failed = not self.started
        if self.started:
            self._ready()


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Uvicorn handles the signals while it serves, and raises them again after: to no effect."""

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
