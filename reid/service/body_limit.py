"""A request's body: at most so long, and here within a time; counted while it streams in."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive, Scope

from .errors import ServiceError

__all__ = ["limit_body"]


def limit_body(scope: Scope, receive: Receive, limit: int, seconds: float) -> Receive:
    """``receive``, which raises once the body has become too long or too late.

    Raises:
        ServiceError: 413 at once where the header already says that it is too long.
    """
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not declared.isdigit() or int(declared[:20]) > limit:
        raise _too_large(limit)
    until = time.monotonic() + seconds
    size, ended = 0, False

    async def limited() -> Message:
        nonlocal size, ended
        if ended:  # what is waited for now is that the client leaves
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
        except asyncio.TimeoutError:
            raise ServiceError(
                408, "too_late", f"The request was not here whole after {seconds:g} seconds."
            ) from None
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        ended = not message.get("more_body", False)
        return message

    return limited


def _too_large(limit: int) -> ServiceError:
    return ServiceError(
        413,
        "too_large",
        f"The request is longer than the {limit:,} bytes that are accepted here.",
        headers={"Connection": "close"},
    )
