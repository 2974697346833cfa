"""Official weights: where they are published, and a download that survives bad networks.

A cut connection is resumed where it stopped, a file is put in place only once its sha256 is right,
and several processes may ask for the same file at the same time.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import http.client
import logging
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["OFFICIAL_WEIGHTS", "DownloadError", "OfficialWeights", "download", "official_weights"]

logger = logging.getLogger(__name__)


class DownloadError(RuntimeError):
    """A file could not be fetched; the message says why and how to provide it by hand."""


@dataclass(frozen=True)
class OfficialWeights:
    """A published file: its address and the first hex digits of its sha256."""

    url: str
    sha256_prefix: str

    @property
    def file_name(self) -> str:
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)).name


def _ibn_net(name: str, sha256_prefix: str) -> OfficialWeights:
    base = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"
    return OfficialWeights(f"{base}/{name}-{sha256_prefix}.pth", sha256_prefix)


OFFICIAL_WEIGHTS: dict[str, OfficialWeights] = {
    # IBN-Net, ImageNet-1k, by the paper's authors: https://github.com/XingangPan/IBN-Net
    name: _ibn_net(name, sha256_prefix)
    for name, sha256_prefix in {
        "resnet18_ibn_a": "2f571257",
        "resnet34_ibn_a": "94bc1577",
        "resnet50_ibn_a": "d9d0bb7b",
        "resnet101_ibn_a": "59ea0ac6",
        "resnet18_ibn_b": "bc2f3c11",
        "resnet34_ibn_b": "04134c37",
        "resnet50_ibn_b": "9ca61e85",
        "resnet101_ibn_b": "c55f6dba",
        "resnext101_ibn_a": "6ace051d",
        "se_resnet101_ibn_a": "fabed4e2",
        "densenet121_ibn_a": "e4af5cc1",
        "densenet169_ibn_a": "9f32c161",
    }.items()
}


def official_weights(name: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Path of the official weights of a network; the first call downloads them.

    Args:
        name: a key of :data:`OFFICIAL_WEIGHTS`, e.g. ``"resnet50_ibn_a"``.
        cache_dir: where files are kept. Default: the folder in the environment variable
            ``REIDSEG_CACHE``, else the one that ``torch.hub`` uses for checkpoints.

    Raises:
        ValueError: no official weights are known under this name.
        DownloadError: the file could not be fetched, or is not the published one.
    """
    if name not in OFFICIAL_WEIGHTS:
        close = difflib.get_close_matches(name, OFFICIAL_WEIGHTS, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(
            f"no official weights are known for {name!r}.{hint} "
            f"Known: {', '.join(sorted(OFFICIAL_WEIGHTS))}."
        )
    entry = OFFICIAL_WEIGHTS[name]
    folder = Path(cache_dir).expanduser() if cache_dir is not None else _default_cache()
    return download(entry.url, folder / entry.file_name, sha256_prefix=entry.sha256_prefix)


def _default_cache() -> Path:
    folder = os.environ.get("REIDSEG_CACHE")
    if folder:
        return Path(folder).expanduser()
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def download(
    url: str,
    path: str | os.PathLike[str],
    *,
    sha256_prefix: str | None = None,
    attempts: int = 5,
    backoff: float = 0.5,
    timeout: float = 30.0,
) -> Path:
    """Fetch ``url`` to ``path`` unless the right file is already there.

    Unfinished bytes stay in ``<path>.part`` and the next call goes on from them. A complete file
    with a wrong checksum is set aside as ``<path>.bad``.

    Args:
        url: ``https://``, ``http://`` or ``file://``.
        sha256_prefix: hex digits that the file's sha256 must start with; None checks nothing.
        attempts: tries in a row that bring no new byte before giving up.
        backoff: seconds before the second of these tries; doubled for each further one.
        timeout: seconds without a byte after which a connection counts as dead.

    Raises:
        ValueError: the address is not of a known scheme.
        DownloadError: see above; whatever was received is kept for the next call.
    """
    path = Path(path)
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("http", "https", "file"):
        raise ValueError(f"cannot download {url!r}: expected an http(s):// or file:// address")
    if sha256_prefix is not None and not re.fullmatch(r"[0-9a-fA-F]{1,64}", sha256_prefix):
        raise ValueError(f"sha256_prefix must be 1 to 64 hex digits, got {sha256_prefix!r}")
    job = _Job(url, path, (sha256_prefix or "").lower(), attempts, backoff, timeout)
    if job.is_in_place():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _file_lock(path.with_name(path.name + ".lock")):
            if not job.is_in_place():  # another process may have fetched it while this one waited
                job.run()
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write {path}: {error}. Free some space or choose another folder (the "
            f"environment variable REIDSEG_CACHE sets it). {job.by_hand()}"
        ) from error
    return path


class _Transient(Exception):
    """A failure worth another try."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


_CHUNK = 1 << 18
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, OSError)
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class _Job:
    url: str
    path: Path
    sha256_prefix: str  # "" accepts any content
    attempts: int
    backoff: float
    timeout: float

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def bad(self) -> Path:
        return self.path.with_name(self.path.name + ".bad")

    def by_hand(self) -> str:
        return f"Or fetch {self.url} by other means and put it at {self.path}."

    def is_in_place(self) -> bool:
        """Whether the right file is there already; a wrong one is set aside."""
        if not self.path.is_file():
            return False
        digest = _sha256(self.path).hexdigest() if self.sha256_prefix else ""
        if digest.startswith(self.sha256_prefix):
            return True
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            self.path.replace(self.bad)
            logger.warning(
                "%s is damaged: its sha256 starts with %s, expected %s. Set aside as %s.",
                self.path,
                digest[: len(self.sha256_prefix)],
                self.sha256_prefix,
                self.bad.name,
            )
        return False

    def run(self) -> None:
        resumed = self.part.exists()
        digest = self.fetch()
        if resumed and not digest.startswith(self.sha256_prefix):
            # The old part may have been of another file: start over before blaming the server.
            logger.warning("the resumed download of %s is damaged; starting over", self.url)
            self.part.unlink()
            digest = self.fetch()
        if not digest.startswith(self.sha256_prefix):
            size = self.part.stat().st_size
            self.part.replace(self.bad)
            raise DownloadError(
                f"{self.url} is not the published file: its sha256 is {digest}, expected it to "
                f"start with {self.sha256_prefix} ({size:,} bytes, kept as {self.bad}). A proxy or "
                f"log-in page may have answered, or the file was replaced. {self.by_hand()}"
            )
        self.part.replace(self.path)
        logger.info("downloaded %s", self.path)

    def fetch(self) -> str:
        """Complete the ``.part`` file, trying again as needed; returns its sha256."""
        failures = 0
        while True:
            before = _size(self.part)
            try:
                return self.fetch_once()
            except _Transient as error:
                failures = 1 if _size(self.part) > before else failures + 1
                if failures >= self.attempts:
                    raise DownloadError(
                        f"could not download {self.url}: {error} ({failures} tries, "
                        f"{_size(self.part):,} bytes received and kept). Check the network and "
                        f"call again to go on. {self.by_hand()}"
                    ) from error
                wait = max(self.backoff * 2 ** (failures - 1), error.retry_after)
                wait = min(wait, _LONGEST_WAIT)
                logger.warning("%s: %s; trying again in %.1f s", self.url, error, wait)
                time.sleep(wait)

    def fetch_once(self) -> str:
        """One request for what is still missing; returns the sha256 of the whole."""
        start = _size(self.part)
        try:
            response = self.open(start)
        except urllib.error.HTTPError as error:
            error.close()  # always 416: nothing lies beyond what is there
            if _total_of_416(error) == start:
                return str(_sha256(self.part).hexdigest())
            self.part.unlink()
            raise _Transient("the partial file is longer than the published one") from error
        with response:
            if start and not _continues_at(response, start):
                start = 0  # the server ignores Range and sends the whole file
            return self.receive(response, start)

    def open(self, start: int) -> Any:
        # "identity": a compressed answer would neither resume nor match the checksum.
        request = urllib.request.Request(
            self.url, headers={"User-Agent": "reidseg", "Accept-Encoding": "identity"}
        )
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            return urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416 and start:
                raise
            error.close()
            reason = f"the server answered {error.code} {error.reason}"
            if error.code in _TRANSIENT_STATUS:
                raise _Transient(reason, _retry_after(error)) from error
            raise DownloadError(
                f"could not download {self.url}: {reason}. {self.by_hand()}"
            ) from error
        except _NETWORK_ERRORS as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            if self.url.startswith("file:"):
                raise DownloadError(f"could not read {self.url}: {reason}.") from error
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                raise DownloadError(
                    f"could not download {self.url}: {reason}. The server's certificate is not "
                    "trusted here: check the clock, or point the environment variable "
                    f"SSL_CERT_FILE at the certificates of your network. {self.by_hand()}"
                ) from error
            raise _Transient(f"no connection ({reason})") from error

    def receive(self, response: Any, start: int) -> str:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with self.part.open("r+b" if start else "wb") as file:
            digest = _sha256(self.part) if start else hashlib.sha256()
            file.seek(start)
            received = start
            with _progress(self.path.name, start, total) as advance:
                while chunk := _read(response):
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and received < total:
            raise _Transient(f"the connection was cut at {received:,} of {total:,} bytes")
        return digest.hexdigest()


def _read(response: Any) -> bytes:
    """The next bytes as they come; not waiting for a full chunk keeps more after a cut."""
    try:
        read: bytes = (
            response.read1(_CHUNK) if hasattr(response, "read1") else response.read(_CHUNK)
        )
        return read
    except _NETWORK_ERRORS as error:
        raise _Transient(f"the connection was cut ({error or type(error).__name__})") from error


def _continues_at(response: Any, start: int) -> bool:
    if getattr(response, "status", None) != 206:
        return False
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != start:
        raise _Transient(f"the server sent another range than asked for ({match and match[0]})")
    return True


def _total_of_416(error: urllib.error.HTTPError) -> int | None:
    match = re.match(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _retry_after(error: urllib.error.HTTPError) -> float:
    value = error.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0  # the date form is not worth a parser


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> Any:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest


@contextlib.contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Any]:
    """A bar with speed and time left on a terminal; nothing but the log elsewhere."""
    logger.info("downloading %s (%s bytes)", name, f"{total:,}" if total is not None else "?")
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda count: None
    else:
        size = {"initial": start, "total": total, "unit": "B", "unit_scale": True}
        with tqdm(desc=name, unit_divisor=1024, disable=None, leave=False, **size) as bar:
            yield bar.update


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold ``path`` for one process (or thread); the system frees it if the process dies."""
    with path.open("ab") as file:
        try:
            _lock(file)
        except OSError as error:  # some network file systems know no locks
            logger.warning("downloading without a lock: %s (%s)", path, error)
        yield
    # Kept after a failure: others may be waiting on this very file to take over.
    with contextlib.suppress(OSError):
        path.unlink()


def _lock(file: BinaryIO) -> None:
    """Wait for the exclusive lock."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            with contextlib.suppress(OSError):  # gives up after ten seconds
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                return
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
