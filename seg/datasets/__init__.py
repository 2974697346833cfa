"""Data sets of street scenes, and own data: pairs of image and label, with shared classes."""

from .acdc import ACDC
from .base import Pair, SegmentationDataset
from .bdd100k import BDD100K
from .camvid import CamVid
from .cityscapes import Cityscapes, FoggyCityscapes
from .gta5 import GTA5
from .idd import IDD, IDDLite
from .image_label_folder import ImageLabelFolder
from .layout import LAYOUTS, recognise_layout
from .mapillary import Mapillary
from .synthia import Synthia

__all__ = [
    "ACDC",
    "BDD100K",
    "GTA5",
    "IDD",
    "LAYOUTS",
    "CamVid",
    "Cityscapes",
    "FoggyCityscapes",
    "IDDLite",
    "ImageLabelFolder",
    "Mapillary",
    "Pair",
    "SegmentationDataset",
    "Synthia",
    "recognise_layout",
]
