"""Re-ID datasets: one parser a file, registered as ``reid.<class name>``."""

from imaging.files import (
    UnreadableImageError,
    decode_image,
    read_image,
)
from reid.datasets.base import Record, ReIDDataset, Splits, collate
from reid.datasets.csv_list import CSVList, parse_csv_list
from reid.datasets.folder import ImageFolder, guess_camera_pattern, parse_image_folder
from reid.datasets.layout import LAYOUTS, recognise_layout
from reid.datasets.market1501 import Market1501, parse_market1501
from reid.datasets.splitting import automatic_split, split_identities, split_query_gallery
from reid.datasets.validation import SplitCounts, ValidationReport, validate

__all__ = [
    "LAYOUTS",
    "CSVList",
    "ImageFolder",
    "Market1501",
    "ReIDDataset",
    "Record",
    "SplitCounts",
    "Splits",
    "UnreadableImageError",
    "ValidationReport",
    "automatic_split",
    "collate",
    "decode_image",
    "guess_camera_pattern",
    "parse_csv_list",
    "parse_image_folder",
    "parse_market1501",
    "read_image",
    "recognise_layout",
    "split_identities",
    "split_query_gallery",
    "validate",
]
