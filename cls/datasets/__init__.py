"""Classification datasets: one layout a file, registered as ``cls.<class name>``."""

from cls.datasets.base import ClassificationDataset, Listing, collate
from cls.datasets.cifar import CIFAR10, CIFAR100
from cls.datasets.class_folder import ClassFolder
from cls.datasets.domains import DomainFolder
from cls.datasets.imagenet import ImageNet
from cls.datasets.layout import LAYOUTS, recognise_layout, splits_of
from cls.datasets.list_file import ListFile
from cls.datasets.restricted_pickle import UnreadablePickleError, read_pickle
from cls.datasets.tiny_imagenet import TinyImageNet
from cls.datasets.verification import PartReport, VerificationReport, verify

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "LAYOUTS",
    "ClassFolder",
    "ClassificationDataset",
    "DomainFolder",
    "ImageNet",
    "ListFile",
    "Listing",
    "PartReport",
    "TinyImageNet",
    "UnreadablePickleError",
    "VerificationReport",
    "collate",
    "read_pickle",
    "recognise_layout",
    "splits_of",
    "verify",
]
