"""The page and what it needs: files of this package, read once when the application is made.

No part of an address is ever taken for a path of the file system.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from .errors import ServiceError

__all__ = ["page_routes"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    tag: str


def page_routes() -> APIRouter:
    """``/`` and ``/static/NAME``."""
    files = _read_files()
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index(request: Request) -> Response:
        return _answer(files.get("index.html"), request)

    @router.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        return _answer(files.get(name), request)

    return router


def _read_files() -> dict[str, _File]:
    folder = resources.files(__package__) / "page"
    found = {}
    for item in folder.iterdir() if folder.is_dir() else ():
        kind = _TYPES.get(item.name.rpartition(".")[2])
        if kind and item.is_file():
            content = item.read_bytes()
            found[item.name] = _File(content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


def _answer(file: _File | None, request: Request) -> Response:
    if file is None:
        raise ServiceError(404, "not_found", "There is nothing at this address.")
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}  # asks again: an update is seen
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
