"""A gallery over HTTP: search by image, id or vector, and, with a token, changes.

The names are imported when they are asked for: the processes that decode images import this package
too, and need neither a web framework nor a network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import create_app as create_app
    from .serving import serve as serve
    from .settings import Settings as Settings

_HOME = {"create_app": "app", "serve": "serving", "Settings": "settings"}

__all__ = ["Settings", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
