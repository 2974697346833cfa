"""Who may ask what: the checks that a request passes before any of its body is read.

In order: the Host header (a page whose name was re-bound to this address does not come through),
the Origin header (a page of somebody else does not, either), the rate of the client, the token.
There are no cookies, so a browser never adds somebody's rights to a request by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
from collections.abc import Iterable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import Scope

from .errors import ServiceError
from .rate_limit import RateLimit, client_key
from .settings import Settings

__all__ = ["SECURITY_HEADERS", "Guard", "changes_rows", "may_change", "may_read"]

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

_LONGEST_HEADERS = 16 * 1024
_READING = ("GET", "HEAD", "OPTIONS")
_AUTHORITY = re.compile(r"(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?\Z")
_MAY_CHANGE = "reidseg.may_change"
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Guard:
    """The checks, for one application."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)
        self._rate = RateLimit(settings.rate, settings.burst, settings.clients)
        self._token = None if settings.token is None else _digest(settings.token.encode())

    def check(self, scope: Scope) -> None:
        """Let a request pass.

        Raises:
            ServiceError: it may not; says why.
        """
        address = len(scope["path"]) + len(scope["query_string"])
        if address + sum(map(len, itertools.chain(*scope["headers"]))) > _LONGEST_HEADERS:
            raise ServiceError(431, "headers_too_long", "The address and headers are too long.")
        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        host = self._check_host(headers.getlist("host"))
        self._check_origin(headers, host, path)
        self._check_rate(scope, method, path)
        self._check_token(scope, headers.getlist("authorization"), method, path)

    def _check_host(self, hosts: list[str]) -> str:
        found = _AUTHORITY.match(hosts[0].lower()) if len(hosts) == 1 else None
        if found is None:
            raise ServiceError(400, "bad_host", "The request needs exactly one valid Host header.")
        if found["host"] not in self._hosts:
            raise ServiceError(
                400,
                "bad_host",
                "The service is not called by this name. Its owner can allow the name with "
                "--allowed-host.",
            )
        return found[0]

    def _check_origin(self, headers: Headers, host: str, path: str) -> None:
        origins = [origin.lower() for origin in headers.getlist("origin")]
        for origin in origins:
            if origin not in self._origins and not _same_authority(origin, host):
                raise ServiceError(403, "bad_origin", "Pages of other origins may not ask here.")
        # Browsers say so even where they send no Origin, as for <img src=...>.
        elsewhere = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if elsewhere and not origins and path.startswith("/api/"):
            raise ServiceError(403, "bad_origin", "Pages of other origins may not ask here.")

    def _check_rate(self, scope: Scope, method: str, path: str) -> None:
        if not path.startswith("/api/"):
            return
        client = client_key((scope.get("client") or (None,))[0])
        wait = self._rate.wait(client, 0.1 if method in _READING else 1.0)
        if wait:
            raise ServiceError(
                429, "too_many_requests", "Too many requests. Wait a moment.", retry_after=wait
            )

    def _check_token(self, scope: Scope, given: list[str], method: str, path: str) -> None:
        changing = changes_rows(method, path)
        if changing and not self._settings.writable:
            raise ServiceError(403, "read_only", "This gallery is served for reading only.")
        known = self._knows(given)
        scope[_MAY_CHANGE] = known and self._settings.writable
        needed = changing or (self._settings.read_needs_token and not _is_page(path))
        if given and not known and (needed or path.startswith("/api/")):
            raise _unauthorized("The token is not the right one.")
        if needed and not known:
            raise _unauthorized("This needs a token: send the header Authorization: Bearer TOKEN.")

    def _knows(self, given: list[str]) -> bool:
        """Whether there is one right token; the time it takes says nothing about the right one."""
        if self._token is None or len(given) != 1:
            return False
        scheme, _, token = given[0].partition(" ")
        right = hmac.compare_digest(_digest(token.strip().encode("utf-8", "replace")), self._token)
        return right and scheme.lower() == "bearer"


def changes_rows(method: str, path: str) -> bool:
    """Whether a request would change rows."""
    return path.startswith("/api/rows") and method not in _READING


_SCHEME = HTTPBearer(auto_error=False, description="The token of the service.")
_Given = Annotated[HTTPAuthorizationCredentials | None, Security(_SCHEME)]


def may_read(_: _Given) -> None:
    """Documents that a route takes a token; the guard has asked for it."""


def may_change(request: Request, _: _Given) -> None:
    """A route that changes rows is closed even if no guard stands before it."""
    if not request.scope.get(_MAY_CHANGE):
        raise _unauthorized("This needs a token: send the header Authorization: Bearer TOKEN.")


def add_headers(headers: list[tuple[bytes, bytes]], more: Iterable[tuple[str, str]]) -> None:
    """Add those that are not there yet, in place."""
    there = {name.lower() for name, _ in headers}
    for name, value in more:
        if name.lower().encode() not in there:
            headers.append((name.lower().encode(), value.encode()))


def _is_page(path: str) -> bool:
    """What must be there before a token can be typed in; none of it is of the gallery."""
    return path in ("/", "/healthz") or path.startswith("/static/")


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _same_authority(origin: str, host: str) -> bool:
    scheme, separator, authority = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    if not separator or default is None:  # also "null"
        return False
    ours, theirs = _AUTHORITY.match(host), _AUTHORITY.match(authority)
    if ours is None or theirs is None or ours["host"] != theirs["host"]:
        return False
    return (ours["port"] or default) == (theirs["port"] or default)


def _unauthorized(message: str) -> ServiceError:
    return ServiceError(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})
