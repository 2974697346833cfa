"""Models of re-identification."""

from .embedder import Embedder
from .pooling import AveragePooling, GeMPooling

__all__ = ["AveragePooling", "Embedder", "GeMPooling"]
