"""Steps of data pipelines: image in, changed image and labels out.

Importing this package registers all of them in ``seg.registry.TRANSFORMS``.
"""

from .albumentations_step import Albumentations
from .class_crop import ClassCrop
from .colour_transfer import ColourTransfer
from .corrupt import Corrupt
from .fourier import FourierDomainAdaptation
from .histogram_matching import HistogramMatching
from .loading import LoadImage, LoadLabels
from .random_convolution import RandomConvolution
from .square import ResizeAndCropSquare
from .style_randomization import StyleRandomization

__all__ = [
    "Albumentations",
    "ClassCrop",
    "ColourTransfer",
    "Corrupt",
    "FourierDomainAdaptation",
    "HistogramMatching",
    "LoadImage",
    "LoadLabels",
    "RandomConvolution",
    "ResizeAndCropSquare",
    "StyleRandomization",
]
