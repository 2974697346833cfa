"""A Milvus server of the wheel ``milvus`` for the time of a test session, seen by nobody else.

The server listens on all interfaces, whatever it is told. So it runs in a network namespace of its
own, which has nothing but a loopback, and in a process namespace that ends with it; a Unix socket
leads in, and a port of 127.0.0.1 to that. As a program (``milvus_server.py FOLDER``) this file is
what runs inside.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS = 90.0
_SOCKET, _READY = "in.sock", "ready"


class CannotStart(Exception):
    """Why there is no server here."""


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """``HOST:PORT`` of a server whose data are in ``folder``; it is gone at the end."""
    try:
        import milvus  # noqa: F401
    except ImportError:
        raise CannotStart("the wheel milvus==2.3.5 is not installed") from None
    unshare = shutil.which("unshare")
    if unshare is None:
        raise CannotStart("unshare is not installed, and without it the server would be exposed")
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = [*rights, "--net", "--pid", "--fork", "--kill-child=KILL"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [unshare, *spaces, sys.executable, str(Path(__file__)), str(folder)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, folder)
        with _relay(folder / _SOCKET) as port:
            yield f"127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not (folder / _READY).exists():
        if process.poll() is not None:
            words = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
            raise CannotStart(f"it ended at once: {words[-1] if words else process.returncode}")
        if time.monotonic() > end:
            raise CannotStart(f"it did not start within {START_SECONDS:g} s")
        time.sleep(0.05)


@contextmanager
def _relay(path: Path) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to a Unix socket."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        target = (socket.AF_UNIX, str(path))
        threading.Thread(target=_accept, args=(listener, target), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, target: tuple[int, object]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed at the end
            return
        server = socket.socket(target[0])
        server.connect(target[1])
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 18):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def listening_elsewhere() -> list[str]:
    """Local addresses in this network namespace, other than loopbacks, that Milvus's ports have."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            port = int(address.rsplit(":", 1)[1], 16)
            if state == "0A" and port in (19529, 19530, 19531, 9091, 53100):
                found.append(address)
    return found


def _main(folder: Path) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the test session
    with socket.socket() as any_socket:  # ip link set lo up
        request = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS
    from milvus import MilvusServer, MilvusServerConfig

    server = MilvusServer(MilvusServerConfig(), data_dir=str(folder / "server"))
    server.config.set("proxy.timeTickInterval", 20)  # ms: how long a Strong read may wait
    server.start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / _SOCKET))
        listener.listen()
        (folder / _READY).touch()
        _accept(listener, (socket.AF_INET, ("127.0.0.1", server.listen_port)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
