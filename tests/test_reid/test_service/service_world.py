"""A small gallery of pictures, an embedding that is one matrix product, and a client of both."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from reid.gallery import Gallery
from reid.service import Settings, create_app

DIM = 16
ROWS = 24
MODEL = "projection"
TOKEN = "a-token-for-tests-0123456789"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
SECRET_FOLDER = "/srv/secret/cameras"

_PROJECTION = np.random.default_rng(7).normal(size=(8 * 4 * 3, DIM)).astype(np.float32)


def embed(images: Sequence[np.ndarray]) -> np.ndarray:
    """(h, w, 3) uint8 images -> (N, DIM) of unit length."""
    small = [cv2.resize(image, (4, 8), interpolation=cv2.INTER_AREA) for image in images]
    features = (np.stack(small).reshape(len(small), -1) / 255 - 0.45).astype(np.float32)
    features = features @ _PROJECTION
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def picture(seed: int, height: int = 64, width: int = 32) -> np.ndarray:
    """(height, width, 3) uint8: coarse blocks of colour, which survive compression."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 4, 3)).astype(np.uint8)
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def make_records(rows: int = ROWS) -> list[dict[str, Any]]:
    return [
        {
            "image": f"{SECRET_FOLDER}/{row:04d}.png",
            "pid": row % 5,
            "camera": row % 3,
            "time": 100 * row,
            "gate": "north" if row % 2 else "south",
        }
        for row in range(rows)
    ]


def make_gallery(path: Path, rows: int = ROWS) -> Gallery:
    """Rows 0 .. rows - 1 are ``picture(row)``; even ones have thumbnails."""
    gallery = Gallery.create(path, DIM, model=MODEL)
    if rows:
        pictures = [picture(row) for row in range(rows)]
        thumbnails = [
            encoded(image, "JPEG") if row % 2 == 0 else None for row, image in enumerate(pictures)
        ]
        gallery.add(embed(pictures), make_records(rows), thumbnails=thumbnails)
    return gallery


@contextlib.contextmanager
def client_of(
    gallery: Gallery, settings: Settings | None = None, embedding: Any = embed
) -> Iterator[TestClient]:
    """A client on this machine of a running application, which closes the gallery at the end."""
    app = create_app(gallery, embedding, settings or make_settings())
    with TestClient(
        app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000), follow_redirects=False
    ) as client:
        yield client


def make_settings(**given: Any) -> Settings:
    return Settings(**{"token": TOKEN, "rate": 0, "name": "test", **given})


def search_image(client: TestClient, data: bytes, crop: str | None = None, **options: Any) -> Any:
    """The answer to a search by image."""
    fields = {"options": json.dumps(options)} | ({} if crop is None else {"crop": crop})
    return client.post("/api/search/image", files={"image": ("query", data)}, data=fields)


def add_image(client: TestClient, data: bytes, record: Any = None, **fields: Any) -> Any:
    """The answer to an addition."""
    form = {"record": json.dumps(record or {})} | fields
    return client.post("/api/rows", files={"image": ("new", data)}, data=form, headers=AUTH)


def error_of(response: Any, status: int) -> str:
    """The code of an error, whose shape and words are checked."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) <= {"code", "message", "id"}
    message = body["error"]["message"]
    assert message.endswith("."), message
    for hidden in (SECRET_FOLDER, "/tmp", "Traceback", "reid/", 'File "'):
        assert hidden not in response.text
    return str(body["error"]["code"])
