"""Models of segmentation: the segmentor, losses and styles inside its backbone, heads, a ViT."""

from .adain import AdaINStyle
from .deeplabv3plus_head import DeepLabV3PlusHead
from .dsu import DSU
from .feature_loss import FeatureLoss
from .frozen_vit import FrozenViT
from .mixstyle import MixStyle
from .prediction import predict_labels
from .segmentor import Segmentor
from .style import StyleModule
from .switchable_whitening import SwitchableWhitening
from .whitening import InstanceSelectiveWhitening, InstanceWhitening

__all__ = [
    "DSU",
    "AdaINStyle",
    "DeepLabV3PlusHead",
    "FeatureLoss",
    "FrozenViT",
    "InstanceSelectiveWhitening",
    "InstanceWhitening",
    "MixStyle",
    "Segmentor",
    "StyleModule",
    "SwitchableWhitening",
    "predict_labels",
]
