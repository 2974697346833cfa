"""Normalisation layers on one numeric core."""

from .build import build_norm
from .ibn import IBN

__all__ = ["IBN", "build_norm"]
