"""Data: sources, splits, checks and encoding, without torch.

`prepare_data` does everything for a job. Its result holds the test rows; `for_trials` returns what trials may see.
Its steps can be called alone: `read_rows`, `split_data`, `fit_encoding`, `encode_rows`.
"""

from tune_jobs.trainers.data.encoding import Categories, Encoding, Number, fit_encoding
from tune_jobs.trainers.data.files import SUFFIXES
from tune_jobs.trainers.data.prepare import DataReport, PreparedData, prepare_data
from tune_jobs.trainers.data.raw import RawData, TextColumn
from tune_jobs.trainers.data.read import read_rows
from tune_jobs.trainers.data.rows import DataInfo, Rows, TrainingData, describe_data, encode_rows
from tune_jobs.trainers.data.sources import read_source
from tune_jobs.trainers.data.splits import PARTS, Split, split_data, split_rows
from tune_jobs.trainers.data.targets import TargetEncoding

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
    "describe_data",
    "encode_rows",
    "fit_encoding",
    "prepare_data",
    "read_rows",
    "read_source",
    "split_data",
    "split_rows",
]
