"""Networks and normalisation, and nothing else: torch, numpy and mmengine."""

from .norm import IBN, build_norm
from .resnet import ResNet
from .weights import LoadReport, load_weights
from .zoo import create_model, list_models

__all__ = [
    "IBN",
    "LoadReport",
    "ResNet",
    "build_norm",
    "create_model",
    "list_models",
    "load_weights",
]
