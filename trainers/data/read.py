"""First step of data preparation: read all rows, and check what holds for all of them."""

from collections.abc import Mapping
from pathlib import Path

from tune_jobs.trainers.data.checks import check_features, check_target
from tune_jobs.trainers.data.encoding import channel_names
from tune_jobs.trainers.data.raw import RawData
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.data.sources import read_source


def read_rows(settings: DataSettings, loss: str, base: Path) -> RawData:
    """Return all rows of `data.source`, in its order, checked but not yet divided or encoded.

    Args:
        settings: The `data` section.
        loss: `training.loss`. The target must fit it.
        base: Folder of the job file. Relative file paths count from here.

    Raises:
        DataError: The rows cannot be read, or hold values that the settings refuse.
        ReferenceNotFound: The function of `data.source` does not exist.
    """
    raw = read_source(settings, base)
    check_target(raw.target, raw.target_names, loss)
    check_features(raw.features, _column_names(raw), fill_nulls=settings.missing == "mean")
    return raw


def _column_names(raw: RawData) -> tuple[str, ...]:
    if isinstance(raw.features, Mapping) or raw.features.ndim == 2:
        return raw.feature_names
    return channel_names(raw.features.shape[1])
