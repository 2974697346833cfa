"""A service as a real process: it ends in order, and says what is wrong with an address."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from reid.gallery import Gallery
from reid.service.serving import bind, is_loopback

from .service_world import AUTH, encoded, make_gallery, picture

SCRIPT = Path(__file__).with_name("service_process.py")


@contextlib.contextmanager
def running(folder: Path, seconds: float = 0.0, shutdown: float = 10.0) -> Iterator[tuple]:
    """(process, base address, pids of decoders)"""
    make_gallery(folder).close()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, folder, str(seconds), str(shutdown)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        port, *pids = map(int, line.split())
        yield process, f"http://127.0.0.1:{port}", pids
    finally:
        process.kill()
        process.communicate()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_request_in_flight_is_answered_and_no_new_one_taken(tmp_path, number) -> None:
    with running(tmp_path / "g", seconds=1.0) as (process, address, decoders):
        check_odd_requests(address)
        answers = []

        def ask() -> None:
            files = {"image": ("q", encoded(picture(3)))}
            answers.append(httpx.post(f"{address}/api/search/image", files=files, timeout=30))

        thread = threading.Thread(target=ask)
        thread.start()
        while 'route="/api/search/image"' not in (numbers := httpx.get(f"{address}/metrics").text):
            if "reidseg_embedding_batch_size_count 1.0" in numbers:
                break  # it is with the embedding now, which takes a second
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        thread.join()
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert answers[0].status_code == 200 and answers[0].json()["hits"][0]["id"] == 3
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/healthz")
        assert decoders and not any(map(alive, decoders))


@pytest.mark.slow
def test_a_request_that_takes_too_long_does_not_hold_up_the_end(tmp_path) -> None:
    with running(tmp_path / "g", seconds=4.0, shutdown=1.0) as (process, address, decoders):
        sent = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        sent.sendall(
            b"POST /api/search/id HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
        )
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
        sent.close()
        assert not any(map(alive, decoders))


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path) -> None:
    with running(tmp_path / "g") as (process, address, decoders):
        files = {"image": ("new", encoded(picture(70)))}
        new = httpx.post(f"{address}/api/rows", files=files, headers=AUTH, timeout=30).json()["id"]
        httpx.delete(f"{address}/api/rows/2", headers=AUTH)
        process.kill()
        process.communicate()
        with Gallery.open(tmp_path / "g") as gallery:
            assert new in gallery.records and 2 not in gallery.records
        until = time.monotonic() + 10
        while any(map(alive, decoders)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(alive, decoders))  # they end with the service, even so


def check_odd_requests(address: str) -> None:
    """They are refused, and the service lives on."""
    port = int(address.rpartition(":")[2])

    def status(request: bytes) -> int:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            with contextlib.suppress(OSError):  # it may hang up on us
                connection.sendall(request)
            answer = connection.makefile("rb").readline()
        return int(answer.split()[1]) if answer else 0

    get = b"GET /api/gallery HTTP/1.1\r\n"
    assert status(get + b"Host: localhost\r\n\r\n") == 200
    for request in (
        get + b"\r\n",
        get + b"Host: localhost\r\nHost: localhost\r\n\r\n",
        get + b"Host: localhost\r\nContent-Length: -1\r\n\r\n",
        get + b"Host: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        get + b"Host: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        get + b"Host: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ):
        assert status(request) in (400, 431), request[:80]
    huge = b"POST /api/search/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
    assert status(huge + b"\r\n") == 413
    assert (
        status(get + b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n") == 200
    )
    assert httpx.get(f"{address}/healthz").json()["status"] == "ok"


def test_a_port_that_is_none() -> None:
    for port in (-1, 65_536, 70_000):
        with pytest.raises(ValueError, match="0 to 65535"):
            bind("127.0.0.1", port)


def test_an_address_that_is_taken() -> None:
    with bind("127.0.0.1", 0) as taken:
        assert is_loopback(taken)
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port}.*Choose another --port"):
            bind("127.0.0.1", port)
    for host, number in (("no.such.host.invalid", 80), ("192.0.2.1", 0)):
        with pytest.raises(ValueError, match="cannot listen"):
            bind(host, number)


def test_every_address_is_not_loopback() -> None:
    with bind("0.0.0.0", 0) as everywhere:
        assert not is_loopback(everywhere)
