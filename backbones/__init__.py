"""Networks and normalisation, and nothing else: torch, numpy and mmengine."""

from .calibrate import calibrate
from .cifar_resnet import CifarResNet
from .convert import convert_norm, plan_conversion
from .densenet import DenseNet
from .from_plain import init_from_plain
from .layouts import convert_state_dict
from .norm import BIN, IBN, ILM, SN, build_norm, clamp_gates, sync_norms
from .resnet import ResNet
from .weights import LoadReport, load_weights, official_weights
from .zoo import create_model, list_models

__all__ = [
    "BIN",
    "IBN",
    "ILM",
    "SN",
    "CifarResNet",
    "DenseNet",
    "LoadReport",
    "ResNet",
    "build_norm",
    "calibrate",
    "clamp_gates",
    "convert_norm",
    "convert_state_dict",
    "create_model",
    "init_from_plain",
    "list_models",
    "load_weights",
    "official_weights",
    "plan_conversion",
    "sync_norms",
]
