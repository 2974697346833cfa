"""Models of re-identification."""

from .embedder import Embedder
from .parts import Stripes
from .pooling import AveragePooling, GeMPooling, MaxPooling

__all__ = ["AveragePooling", "Embedder", "GeMPooling", "MaxPooling", "Stripes"]
