"""Downloads against a misbehaving server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import backbones.download
from backbones.download import (
    OFFICIAL_WEIGHTS,
    DownloadError,
    OfficialWeights,
    download,
    official_weights,
)

CONTENT = bytes(range(256)) * 4000  # about 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; a test sets how it misbehaves."""

    daemon_threads = True
    content = CONTENT
    ranges = True  # whether it understands Range
    cut_after: int | None = None  # bytes sent by each answer before the connection drops
    cuts_left = 10**9
    failures: list[tuple[int, dict[str, str]]]  # answers to give before the real one
    says_length = True
    shift = 0  # the range sent starts this many bytes off
    status_416_total = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures = []
        self.requests: list[str | None] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/files/net-{SHA256[:8]}.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        if server.failures:
            status, headers = server.failures.pop(0)
            self.answer(status, headers, b"")
            return
        content = server.content
        if asked and server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) + server.shift
            total = len(content)
            if start >= total:
                known = {"Content-Range": f"bytes */{total}"} if server.status_416_total else {}
                self.answer(416, known, b"")
                return
            span = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
            self.answer(206, span, content[start:])
        else:
            self.answer(200, {}, content)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.server.cut_after
        if cut is not None and len(body) > cut and self.server.cuts_left > 0:
            self.server.cuts_left -= 1
            body = body[:cut]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch):
    """Waiting is recorded, not done."""
    done: list[float] = []
    monkeypatch.setattr(backbones.download.time, "sleep", done.append)
    return done


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / f"net-{SHA256[:8]}.pth"


def names(path):
    return sorted(item.name for item in path.parent.iterdir())


def test_download_and_then_use_the_file(server, target):
    assert download(server.url, target, sha256_prefix=SHA256[:8]) == target
    assert target.read_bytes() == CONTENT
    assert names(target) == [target.name]
    assert server.requests == [None]
    download(server.url, target, sha256_prefix=SHA256[:8].upper())
    download(server.url, target)
    assert len(server.requests) == 1


def test_partial_file_is_resumed(server, target):
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT[:1000])
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]
    assert names(target) == [target.name]


def test_server_that_ignores_range(server, target):
    server.ranges = False
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(b"x" * 2_000_000)  # longer than the real file
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT


def test_connection_cut_again_and_again_still_arrives(server, target, waits):
    server.cut_after = 100_000
    download(server.url, target, sha256_prefix=SHA256, attempts=2)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 11
    assert server.requests[1] == "bytes=100000-"
    assert set(waits) == {0.5}  # progress was made each time


def test_cut_without_length_is_caught_by_the_checksum(server, target, waits):
    server.says_length = False
    server.cut_after, server.cuts_left = 100_000, 1
    with pytest.raises(DownloadError, match="not the published file"):
        download(server.url, target, sha256_prefix=SHA256)
    assert names(target)[:1] == [f"{target.name}.bad"]
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT


def test_no_progress_gives_up_and_keeps_what_came(server, target, waits):
    server.cut_after = 0
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match=r"cut at 1,000 of 1,024,000 .*3 tries, 1,000 bytes"):
        download(server.url, target, sha256_prefix=SHA256, attempts=3)
    assert waits == [0.5, 1.0]
    assert Path(f"{target}.part").read_bytes() == CONTENT[:1000]
    assert not target.exists()
    server.cut_after = None
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_of_the_server(server, target, waits, status):
    server.failures = [(status, {}), (status, {})]
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT
    assert waits == [0.5, 1.0]


def test_the_server_may_ask_for_patience_within_reason(server, target, waits):
    server.failures = [(429, {"Retry-After": "7"}), (503, {"Retry-After": "86400"})]
    download(server.url, target)
    assert waits == [7.0, 60.0]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_permanent_refusal_is_not_repeated(server, target, waits, status):
    server.failures = [(status, {})]
    with pytest.raises(
        DownloadError, match=rf"answered {status}.*put it at {re.escape(str(target))}"
    ):
        download(server.url, target, sha256_prefix=SHA256)
    assert len(server.requests) == 1
    assert waits == []


@pytest.mark.parametrize("known_total", [True, False])
def test_partial_file_that_is_complete_already(server, target, waits, known_total):
    server.status_416_total = known_total
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT)
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=1024000-"] + ([] if known_total else [None])


def test_partial_file_that_is_too_long(server, target, waits):
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT + b"more")
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=1024004-", None]


def test_partial_file_of_something_else_is_started_over(server, target):
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(b"x" * 5000)
    download(server.url, target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=5000-", None]


def test_a_wrong_range_is_not_appended(server, target, waits):
    server.shift = 10
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match="another range"):
        download(server.url, target, sha256_prefix=SHA256, attempts=2)
    assert Path(f"{target}.part").read_bytes() == CONTENT[:1000]


def test_wrong_content_is_set_aside(server, target):
    server.content = b"<html>log in first</html>"
    with pytest.raises(DownloadError) as error:
        download(server.url, target, sha256_prefix=SHA256[:8])
    for text in (hashlib.sha256(server.content).hexdigest(), SHA256[:8], ".bad", "25 bytes"):
        assert text in str(error.value)
    assert not target.exists()
    assert Path(f"{target}.bad").read_bytes() == server.content
    assert not Path(f"{target}.part").exists()
    server.content = CONTENT
    download(server.url, target, sha256_prefix=SHA256[:8])
    assert target.read_bytes() == CONTENT


def test_a_damaged_file_in_place_is_replaced(server, target, caplog):
    target.parent.mkdir()
    target.write_bytes(CONTENT[:-1])
    with caplog.at_level(logging.WARNING, logger="backbones.download"):
        download(server.url, target, sha256_prefix=SHA256[:8])
    assert "is damaged" in caplog.text
    assert target.read_bytes() == CONTENT
    assert Path(f"{target}.bad").read_bytes() == CONTENT[:-1]


def test_many_at_once_download_once(server, target):
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(download, server.url, target, sha256_prefix=SHA256) for _ in range(8)]
        assert {job.result() for job in jobs} == {target}
    assert target.read_bytes() == CONTENT
    assert server.requests == [None]
    assert names(target) == [target.name]


def test_offline_says_where_to_put_the_file(server, target, waits):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError) as error:
        download(url, target, sha256_prefix=SHA256, attempts=3)
    assert "no connection" in str(error.value)
    assert f"fetch {url} by other means and put it at {target}" in str(error.value)
    assert waits == [0.5, 1.0]


def test_file_address(tmp_path, target):
    source = tmp_path / "source.pth"
    source.write_bytes(CONTENT)
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT[:1000])
    download(source.as_uri(), target, sha256_prefix=SHA256)
    assert target.read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="could not read"):
        download((tmp_path / "none.pth").as_uri(), tmp_path / "b.pth")


def test_folder_that_cannot_be_written(tmp_path, server):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="REIDSEG_CACHE"):
        download(server.url, tmp_path / "file" / "w.pth")


@pytest.mark.parametrize("url", ["ftp://host/w.pth", "w.pth", "/w.pth"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match="expected an http"):
        download(url, tmp_path / "w.pth")


@pytest.mark.parametrize("prefix", ["", "xyz", "0" * 65])
def test_checksum_must_be_hexadecimal(tmp_path, prefix):
    with pytest.raises(ValueError, match="hex digits"):
        download("https://host/w.pth", tmp_path / "w.pth", sha256_prefix=prefix)


# ------------------------------------------------------------------------------ official weights


def test_table_of_official_weights():
    assert len(OFFICIAL_WEIGHTS) == 12
    for name, entry in OFFICIAL_WEIGHTS.items():
        assert re.fullmatch(r"[0-9a-f]{8}", entry.sha256_prefix)
        assert entry.file_name == f"{name}-{entry.sha256_prefix}.pth"
        assert entry.url.startswith("https://")
    assert len({entry.sha256_prefix for entry in OFFICIAL_WEIGHTS.values()}) == 12


def test_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match=r"Did you mean 'resnet50_ibn_a'.*Known: densenet121"):
        official_weights("resnet50_ibna")


@pytest.mark.parametrize("where", ["argument", "environment", "torch"])
def test_where_official_weights_are_kept(server, tmp_path, monkeypatch, where):
    entry = OfficialWeights(server.url, SHA256[:8])
    monkeypatch.setitem(OFFICIAL_WEIGHTS, "net", entry)
    monkeypatch.delenv("REIDSEG_CACHE", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    if where == "argument":
        monkeypatch.setenv("REIDSEG_CACHE", str(tmp_path / "unused"))
        path = official_weights("net", cache_dir=tmp_path / "given")
        assert path.parent == tmp_path / "given"
    elif where == "environment":
        monkeypatch.setenv("REIDSEG_CACHE", str(tmp_path / "mine"))
        path = official_weights("net")
        assert path.parent == tmp_path / "mine"
    else:
        path = official_weights("net")
        assert path.parent == tmp_path / "hub" / "checkpoints"
    assert path.name == entry.file_name
    assert path.read_bytes() == CONTENT


def test_file_put_there_by_hand_needs_no_network(tmp_path, monkeypatch):
    entry = OfficialWeights(f"https://host.invalid/net-{SHA256[:8]}.pth", SHA256[:8])
    monkeypatch.setitem(OFFICIAL_WEIGHTS, "net", entry)
    (tmp_path / entry.file_name).write_bytes(CONTENT)
    assert official_weights("net", cache_dir=tmp_path) == tmp_path / entry.file_name
