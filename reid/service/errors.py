"""What goes wrong, as one JSON shape: ``{"error": {"code": ..., "message": ...}}``.

A message is a sentence for whoever sent the request. It holds no trace and no path of this machine:
these go to the log, under the request's id.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from reid.gallery import (
    DamagedGalleryError,
    Gallery,
    GalleryLockedError,
    UndecidedWriteError,
)

__all__ = ["ServiceError", "error_response", "gallery_error", "on_http_error", "on_invalid"]

LOG = logging.getLogger(__name__)

_LONGEST = 500
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_MESSAGES = {
    404: "There is nothing at this address.",
    405: "This address does not take that method; the header Allow says which it takes.",
}


class ServiceError(HTTPException):
    """An answer that is no success.

    Args:
        status: of HTTP. code: a word that programs compare. message: a sentence.
        retry_after: seconds after which it may be worth trying again.
        id: the row that it is about.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
        id: int | None = None,
    ) -> None:
        headers = dict(headers or {})
        if retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        super().__init__(status, message, headers)
        self.code = code
        self.id = id


def error_response(error: ServiceError) -> JSONResponse:
    """The answer that tells of an error."""
    content: dict[str, Any] = {"code": error.code, "message": error.detail}
    if error.id is not None:
        content["id"] = error.id
    return JSONResponse({"error": content}, error.status_code, headers=dict(error.headers or {}))


def gallery_error(error: Exception, gallery: Gallery) -> ServiceError | None:
    """What a gallery raised, as an answer; None where it is nothing that a gallery should raise."""
    if isinstance(error, GalleryLockedError):
        return ServiceError(
            503, "locked", "Another program is writing to the gallery. Try again.", retry_after=1
        )
    if isinstance(error, DamagedGalleryError):
        return ServiceError(
            503, "damaged", "Files of the gallery are damaged; its owner must repair them."
        )
    if isinstance(error, UndecidedWriteError):
        return ServiceError(
            503, "undecided", "The disk failed: it is open whether the change was kept. Look first."
        )
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return ServiceError(
            503,
            "storage",
            f"The gallery's storage refuses ({why}). Nothing was changed.",
            retry_after=30,
        )
    if isinstance(error, KeyError):
        return ServiceError(404, "unknown_id", "There is no row of this id.")
    if isinstance(error, ValueError):
        text = str(error).replace(f"he gallery {gallery.location}", "he gallery")
        text = text.replace(gallery.location, "the gallery")
        text = text.replace("Open it again with Gallery.open.", "Start the service again.")
        return ServiceError(422, "invalid", _sentence(text[:_LONGEST]))
    return None


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Errors of ours, and of the framework (no such address, no such method)."""
    if not isinstance(error, ServiceError):
        assert isinstance(error, HTTPException)
        status = error.status_code
        message = _MESSAGES.get(status) or _sentence(str(error.detail))
        headers = dict(error.headers or {})
        error = ServiceError(status, _CODES.get(status, "refused"), message, headers=headers)
    return error_response(error)


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """A body or a parameter that does not fit: which part, and what is wrong with it."""
    assert isinstance(error, RequestValidationError)
    return error_response(ServiceError(422, "invalid", describe_invalid(error.errors())))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def describe_invalid(found: Any) -> str:
    """The first few findings of pydantic as sentences; what was sent is not repeated."""
    sentences = []
    for item in list(found)[:3]:
        place = ".".join(str(part) for part in item["loc"] if part not in ("body", "query", "path"))
        place = place.encode("ascii", "backslashreplace").decode()[:100]
        text = str(item["msg"]).removeprefix("Value error, ")
        sentences.append(f"{place}: {text}" if place else text)
    return "; ".join(sentences).rstrip(".") + "."
