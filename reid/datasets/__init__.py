"""Re-ID datasets: one parser a file, registered as ``reid.<class name>``."""

from imaging.files import (
    UnreadableImageError,
    decode_image,
    read_image,
)
from reid.datasets.base import Record, ReIDDataset, Splits, Trial, collate
from reid.datasets.csv_list import CSVList, parse_csv_list, write_csv_list
from reid.datasets.cuhk03 import CUHK03, parse_cuhk03
from reid.datasets.dukemtmc import DukeMTMCreID, parse_dukemtmc
from reid.datasets.flat_folder import FlatFolder, parse_flat_folder
from reid.datasets.folder import ImageFolder, guess_camera_pattern, parse_image_folder
from reid.datasets.grid import GRID
from reid.datasets.ilids_vid import ILIDSVID
from reid.datasets.joint import JointTraining
from reid.datasets.layout import LAYOUTS, PARSERS, recognise_layout
from reid.datasets.market1501 import Market1501, parse_market1501
from reid.datasets.msmt17 import MSMT17, parse_msmt17
from reid.datasets.prid2011 import PRID2011
from reid.datasets.splitting import automatic_split, split_identities, split_query_gallery
from reid.datasets.validation import SplitCounts, ValidationReport, validate
from reid.datasets.vehicleid import VehicleID, parse_vehicleid
from reid.datasets.veri776 import VeRi776, parse_veri776
from reid.datasets.veriwild import VERIWild, parse_veriwild
from reid.datasets.viper import VIPeR

__all__ = [
    "CUHK03",
    "GRID",
    "ILIDSVID",
    "LAYOUTS",
    "MSMT17",
    "PARSERS",
    "PRID2011",
    "CSVList",
    "DukeMTMCreID",
    "FlatFolder",
    "ImageFolder",
    "JointTraining",
    "Market1501",
    "ReIDDataset",
    "Record",
    "SplitCounts",
    "Splits",
    "Trial",
    "UnreadableImageError",
    "VERIWild",
    "VIPeR",
    "ValidationReport",
    "VeRi776",
    "VehicleID",
    "automatic_split",
    "collate",
    "decode_image",
    "guess_camera_pattern",
    "parse_csv_list",
    "parse_cuhk03",
    "parse_dukemtmc",
    "parse_flat_folder",
    "parse_image_folder",
    "parse_market1501",
    "parse_msmt17",
    "parse_vehicleid",
    "parse_veri776",
    "parse_veriwild",
    "read_image",
    "recognise_layout",
    "split_identities",
    "split_query_gallery",
    "validate",
    "write_csv_list",
]
