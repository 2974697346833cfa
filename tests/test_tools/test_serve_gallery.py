"""The service as a person starts it: what it prints, which model it takes, how it refuses."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reid.gallery import Gallery

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

ROOT = Path(__file__).parents[2]
TOKEN = "token-of-a-file-0123456789"


@contextlib.contextmanager
def serving(
    *arguments: object, lines: int = 1
) -> Iterator[tuple[list[str], str, subprocess.Popen]]:
    """(what it printed, base address, process); it must end with code 0."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/serve_gallery.py", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        printed = [process.stdout.readline() for _ in range(lines)]
        assert printed[-1], process.stderr.read()
        yield printed, re.search(r"http://[\d.]+:\d+", printed[0])[0], process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A gallery that does not say which model filled it."""
    path = tmp_path_factory.mktemp("bare") / "bare"
    with Gallery.create(path, 8) as gallery:
        features = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
        gallery.add(features, [{"camera": row % 2} for row in range(10)])
    return path


def test_a_token_is_made_and_printed_once(bare) -> None:
    with serving(bare, lines=3) as (printed, address, process):
        assert printed[0] == f"{bare}: 10 rows, at {address}/\n"
        assert "search by id and by vector only" in printed[1]
        token = re.fullmatch(rf"token, made for this run: {address}/#token=(\S+)\n", printed[2])[1]
        assert len(token) >= 32
        auth = {"Authorization": f"Bearer {token}"}
        hits = httpx.post(f"{address}/api/search/id", json={"id": 3, "k": 9}).json()["hits"]
        assert len(hits) == 9
        assert httpx.delete(f"{address}/api/rows/3").status_code == 401
        answer = httpx.delete(f"{address}/api/rows/99", headers=auth)
        assert answer.status_code == 404
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert token not in errors and "DELETE /api/rows/{id} -> 404" in errors


def test_open_to_other_machines_everything_needs_the_token(tmp_path) -> None:
    Gallery.create(tmp_path / "empty", 8).close()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    options = ["--host", "0.0.0.0", "--allowed-host", "reid.test"]
    options += ["--token-file", tmp_path / "token"]
    with serving(tmp_path / "empty", *options, lines=2) as (printed, address, _):
        assert TOKEN not in "".join(printed)
        assert httpx.get(f"{address}/api/gallery").status_code == 401
        auth = {"Authorization": f"Bearer {TOKEN}", "Host": "reid.test"}
        assert httpx.get(f"{address}/api/gallery", headers=auth).json()["auth"]["read"] is True
        auth["Host"] = "other.test"
        assert httpx.get(f"{address}/api/gallery", headers=auth).status_code == 400


def test_the_gallerys_own_model_embeds(world, trained, tool, tmp_path) -> None:
    path = tmp_path / "gallery"
    code, _, err = tool("build_gallery", path, world / "tiny.py", trained, "--data", world / "noon")
    assert code == 0, err
    with serving(path, "--read-only", "--threshold", 0.4, "--device", "cpu") as (_, address, _):
        about = httpx.get(f"{address}/api/gallery").json()
        assert about["images"] is True and about["writable"] is False
        assert about["threshold"] == {"value": 0.4, "far": None}
        with Gallery.open(path) as gallery:
            image = Path(gallery.records[5]["image"])
        files = {"image": ("q.jpg", image.read_bytes())}
        answer = httpx.post(f"{address}/api/search/image", files=files, timeout=30).json()
        assert answer["hits"][0]["id"] == 5 and answer["hits"][0]["score"] > 0.9999
        assert answer["hits"][0]["record"]["image"] == image.name


def test_another_model_is_refused(world, trained, tool, tmp_path) -> None:
    with Gallery.create(tmp_path / "g", 512, model="another") as gallery:
        gallery.add(np.eye(2, 512, dtype=np.float32), [{}, {}])
    code, _, err = tool(
        "serve_gallery", tmp_path / "g", "--config", world / "tiny.py", "--checkpoint", trained,
        "--port", 0,
    )  # fmt: skip
    assert code == 1 and "filled by the model another" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "0 to 65535"),
        (["--host", "192.0.2.1"], "cannot listen"),
        (["--token-file", "no/such/file"], "No such file"),
        (["--wait-seconds", "0"], "wait_seconds"),
        (["--threshold", "nan"], "finite"),
        (["--checkpoint", "no/such/weights.pth"], "--config"),
    ],
)
def test_one_sentence_says_what_is_wrong(bare, tool, arguments, words) -> None:
    code, _, err = tool("serve_gallery", bare, *arguments)
    assert code == 1 and words in err and err.count("error:") == 1 and "Traceback" not in err


def test_no_gallery_and_a_short_token(tool, bare, tmp_path, monkeypatch) -> None:
    code, _, err = tool("serve_gallery", tmp_path / "none", "--port", 0)
    assert code == 1 and "none" in err
    monkeypatch.setenv("REIDSEG_TOKEN", "short")
    code, _, err = tool("serve_gallery", bare, "--port", 0)
    assert code == 1 and "16 or more" in err
    (tmp_path / "empty").write_text("\n")
    code, _, err = tool("serve_gallery", bare, "--port", 0, "--token-file", tmp_path / "empty")
    assert code == 1 and "empty" in err


def test_a_port_that_is_taken(bare, tool) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = tool("serve_gallery", bare, "--port", taken.getsockname()[1])
    assert code == 1 and "Address already in use" in err and "Choose another --port" in err


@pytest.mark.slow
def test_a_gallery_folder_that_may_not_be_written_is_served(bare, tmp_path) -> None:
    path = tmp_path / "copy"
    shutil.copytree(bare, path)
    for item in [path, *path.rglob("*")]:
        item.chmod(0o555 if item.is_dir() else 0o444)
    try:
        with serving(path, "--read-only") as (_, address, _):
            assert httpx.post(f"{address}/api/search/id", json={"id": 1}).status_code == 200
            assert httpx.get(f"{address}/healthz").status_code == 200
    finally:
        for item in [path, *path.rglob("*")]:
            item.chmod(0o755 if item.is_dir() else 0o644)
