"""Normalisation layers on one numeric core."""

from .base import Norm, norm_relu
from .batch import sync_norms
from .batch_instance import BIN, clamp_gates
from .build import build_norm
from .ibn import IBN
from .instance_meta import ILM
from .plain import BN, GN, IN, LN
from .switchable import SN

__all__ = [
    "BIN",
    "BN",
    "GN",
    "IBN",
    "ILM",
    "IN",
    "LN",
    "SN",
    "Norm",
    "build_norm",
    "clamp_gates",
    "norm_relu",
    "sync_norms",
]
