"""What the routes of one application work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Depends, Request

from reid.gallery import Gallery

from .embedding import Embedding
from .errors import ServiceError
from .gallery_access import GalleryAccess
from .metrics import Metrics
from .schemas import ErrorBody
from .security import Guard, may_read
from .settings import Settings
from .uploads import Uploads

__all__ = ["Parts", "only", "refusals", "show_record", "thumbnail_addresses"]


@dataclass
class Parts:
    """Those that hold threads or processes are made when the application starts: ``started``."""

    settings: Settings
    metrics: Metrics
    guard: Guard
    takes_images: bool
    started: dict[str, Any] = field(default_factory=dict)

    @property
    def reading(self) -> list[Any]:
        """What a route that only reads depends on."""
        return [Depends(may_read)] if self.settings.read_needs_token else []

    @property
    def access(self) -> GalleryAccess:
        found: GalleryAccess = self.started["access"]
        return found

    @property
    def uploads(self) -> Uploads:
        found: Uploads = self.started["uploads"]
        return found

    @property
    def embedding(self) -> Embedding:
        if not self.takes_images:
            raise ServiceError(
                501,
                "no_model",
                "The service runs without the gallery's model: search by id or by vector.",
            )
        found: Embedding = self.started["embedding"]
        return found


def show_record(record: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A record as clients see it: of ``image`` the last part, for folders tell about the server."""
    image = record.get("image")
    if settings.show_paths or not isinstance(image, str):
        return record
    return {**record, "image": image.replace("\\", "/").rstrip("/").rpartition("/")[2]}


def only(*names: str) -> Any:
    """What a route depends on that takes these parameters and form fields, and no others.

    A misspelt filter would otherwise be none, in silence.
    """

    async def check(request: Request) -> None:
        given = set(request.query_params)
        kind = request.headers.get("content-type", "")
        if kind.startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
            given |= set(await request.form())  # parsed before, and kept
        for name in sorted(given.difference(names)):
            known = ", ".join(names)
            raise ServiceError(422, "invalid", f"{name[:64]!r} is not known here; {known} are.")

    return Depends(check)


def thumbnail_addresses(gallery: Gallery, ids: Sequence[int]) -> list[str | None]:
    """Where the stored pictures of rows are; None where there is none."""
    there = zip(ids, gallery.pictured(ids), strict=True)
    return [f"/api/rows/{row_id}/thumbnail" if pictured else None for row_id, pictured in there]


_MEANING = {
    400: "The request is not understood, or the Host is not allowed.",
    401: "A token is needed, or the one given is not right.",
    403: "The page that asks may not, or the gallery is served for reading only.",
    404: "There is no such row, or it has no picture.",
    405: "The address does not take that method.",
    408: "The request did not arrive in time.",
    409: "The image is in the gallery already.",
    413: "Too many bytes, or too many pixels.",
    415: "The file is of no accepted format.",
    422: "A value is not acceptable; the message says which.",
    429: "Too many requests; see Retry-After.",
    431: "The address and the headers are too long.",
    500: "A fault of the service; its log says more.",
    501: "The service runs without a model.",
    503: "Too busy, or the gallery cannot be reached; see Retry-After.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a route's errors: those that every route has, and these."""
    every = {400, 401, 403, 405, 408, 413, 429, 431, 500, 503}
    return {
        status: {
            "model": ErrorBody,
            "description": _MEANING[status],
            **(_RETRY_AFTER if status in (429, 503) else {}),
        }
        for status in sorted(every.union(statuses))
    }


_RETRY_AFTER = {
    "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
}
