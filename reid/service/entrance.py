"""The outermost layer: every request gets an id, is let in or not, answered, counted and logged."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body_limit import limit_body
from .errors import ServiceError, error_response
from .metrics import Metrics
from .security import SECURITY_HEADERS, Guard, add_headers
from .settings import Settings

__all__ = ["Entrance"]

LOG = logging.getLogger(__name__)

_UPLOADS = ("/api/rows", "/api/search/image")
_AROUND_A_FILE = 128 * 1024  # what multipart/form-data and its other fields take
_OTHER_BODIES = 2 * 2**20  # a vector of 65,536 numbers as text
_METHODS = frozenset(("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"))


class Entrance:
    """Wraps an application."""

    def __init__(self, app: ASGIApp, guard: Guard, settings: Settings, metrics: Metrics) -> None:
        self._app, self._guard = app, guard
        self._settings, self._metrics = settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                add_headers(headers, SECURITY_HEADERS.items())
                add_headers(headers, [("X-Request-ID", request_id), ("Cache-Control", "no-store")])
                message = {**message, "headers": headers}
            await send(message)

        try:
            self._guard.check(scope)
            limited = limit_body(
                scope, receive, self._longest(scope), self._settings.upload_seconds
            )
            await self._app(scope, limited, answer)
        except ServiceError as error:
            if not status:
                await error_response(error)(scope, receive, answer)
        except asyncio.CancelledError:  # the service ends, and waits no longer
            if status:
                raise
            gone = ServiceError(503, "stopping", "The service is stopping.", retry_after=10)
            await error_response(gone)(scope, receive, answer)
        except Exception:
            LOG.exception("request %s failed", request_id)
            if not status:
                text = f"The service failed on this request; its log says more under {request_id}."
                await error_response(ServiceError(500, "internal", text))(scope, receive, answer)
        finally:
            self._count(scope, status, time.perf_counter() - began, request_id)

    def _longest(self, scope: Scope) -> int:
        """Bytes that a body may have."""
        if scope["path"] in _UPLOADS:
            return self._settings.upload_bytes + _AROUND_A_FILE
        return _OTHER_BODIES

    def _count(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        client: Any = scope.get("client") or ("-",)
        LOG.info(
            "%s %s %s -> %d in %.1f ms, client %s",
            *(request_id, method, route, status, 1000 * seconds, client[0]),
        )
