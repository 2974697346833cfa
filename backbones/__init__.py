"""Networks and normalisation, and nothing else: torch, numpy and mmengine."""

from .norm import BIN, IBN, ILM, SN, build_norm, clamp_gates, sync_norms
from .resnet import ResNet
from .weights import LoadReport, load_weights
from .zoo import create_model, list_models

__all__ = [
    "BIN",
    "IBN",
    "ILM",
    "SN",
    "LoadReport",
    "ResNet",
    "build_norm",
    "clamp_gates",
    "create_model",
    "list_models",
    "load_weights",
    "sync_norms",
]
