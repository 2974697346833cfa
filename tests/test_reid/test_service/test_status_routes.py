"""What is served, its health and numbers; a gallery that is deleted under the service."""

from __future__ import annotations

import re
import shutil

import pytest

from reid.service import Settings
from reid.threshold import Threshold

from .service_world import (
    AUTH,
    DIM,
    MODEL,
    ROWS,
    add_image,
    client_of,
    encoded,
    error_of,
    make_gallery,
    make_settings,
    picture,
    search_image,
)


def test_what_is_served(client) -> None:
    about = client.get("/api/gallery").json()
    assert about["limits"].pop("wait_seconds") > 0
    assert about == {
        "name": "test",
        "rows": ROWS,
        "dim": DIM,
        "metric": "cosine",
        "index": "Flat",
        "exact": True,
        "model": MODEL,
        "images": True,
        "threshold": None,
        "writable": True,
        "auth": {"read": False, "write": True},
        "cameras": [{"value": camera, "rows": 8} for camera in range(3)],
        "fields": ["camera", "gate", "image", "pid", "time"],
        "time": {"min": 0, "max": 100 * (ROWS - 1)},
        "limits": {
            "upload_bytes": 10 * 2**20,
            "upload_pixels": 25_000_000,
            "k": 200,
            "window": 1000,
            "rerank": 500,
            "expand": 50,
            "page": 500,
            "formats": ["jpeg", "png", "webp"],
        },
    }


def test_a_threshold_is_offered(tmp_path) -> None:
    settings = make_settings(threshold=Threshold(0.55, far=0.01))
    with client_of(make_gallery(tmp_path / "g"), settings) as client:
        assert client.get("/api/gallery").json()["threshold"] == {"value": 0.55, "far": 0.01}


def test_a_gallery_that_is_deleted(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g")) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        before = search_image(client, encoded(picture(3)), k=5).json()["hits"]
        shutil.rmtree(tmp_path / "g")
        # a change that comes before anybody noticed
        error_of(client.delete("/api/rows/1", headers=AUTH), 503)
        health = client.get("/healthz")
        assert health.status_code == 503
        assert health.json()["status"] == "degraded" and "gone" in health.json()["message"]
        assert str(tmp_path) not in health.text
        assert search_image(client, encoded(picture(3)), k=5).json()["hits"] == before
        assert error_of(client.delete("/api/rows/1", headers=AUTH), 503) == "degraded"
        error_of(add_image(client, encoded(picture(90))), 503)
        assert "reidseg_degraded 1.0" in client.get("/metrics").text
        assert not (tmp_path / "g").exists()


def test_numbers(fresh) -> None:
    search_image(fresh, encoded(picture(1)))
    search_image(fresh, b"no image")
    fresh.get("/api/rows/1")
    fresh.get("/api/rows/2")
    fresh.get("/no/such/address/1")
    text = fresh.get("/metrics").text
    for line in (
        'reidseg_requests_total{method="GET",route="/api/rows/{id}",status="200"} 2.0',
        'reidseg_requests_total{method="POST",route="/api/search/image",status="415"} 1.0',
        'reidseg_requests_total{method="GET",route="none",status="404"} 1.0',
        'reidseg_request_seconds_count{route="/api/search/image"} 2.0',
        'reidseg_uploads_rejected_total{code="unsupported"} 1.0',
        "reidseg_embedding_batch_size_sum 1.0",
        "reidseg_embedding_waiting 0.0",
        f"reidseg_gallery_rows {ROWS}.0",
        "reidseg_degraded 0.0",
    ):
        assert line in text, line
    assert not re.search(r"/api/rows/\d", text)


def test_two_applications_count_apart(client, fresh) -> None:
    fresh.get("/api/gallery")
    search_image(client, b"no image")
    assert "unsupported" not in fresh.get("/metrics").text


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "short"},
        {"token": "with a space in the middle"},
        {"token": "é" * 20},
        {"token": None, "read_needs_token": True},
        {"threads": 0},
        {"rate": -1.0},
        {"wait_seconds": float("inf")},
        {"upload_bytes": float("nan")},
    ],
)
def test_settings_that_make_no_sense(wrong) -> None:
    with pytest.raises(ValueError):
        Settings(**wrong)
