"""Data: sources, splits, checks and encoding, without torch.

`prepare_data` does it all. What it returns holds the test rows; `for_trials` gives what trials may see.
"""

from trainers.data.encoding import Categories, Encoding, Number
from trainers.data.files import SUFFIXES
from trainers.data.prepare import DataInfo, DataReport, PreparedData, Rows, TrainingData, prepare_data
from trainers.data.raw import RawData, TextColumn
from trainers.data.sources import read_source
from trainers.data.splits import PARTS, Split, split_rows
from trainers.data.targets import TargetEncoding

__all__ = [
    "PARTS",
    "SUFFIXES",
    "Categories",
    "DataInfo",
    "DataReport",
    "Encoding",
    "Number",
    "PreparedData",
    "RawData",
    "Rows",
    "Split",
    "TargetEncoding",
    "TextColumn",
    "TrainingData",
    "prepare_data",
    "read_source",
    "split_rows",
]
