"""The `data` section of a job file, as frozen and checked settings; importing this reads no data."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tune_jobs.trainers.settings import Arguments, Names, Positive, Reference, Settings

BuiltInSource = Literal["digits", "breast_cancer", "wine", "diabetes", "linear_gaussian"]
BuiltInLoss = Literal["mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"]
"""Losses by name. They decide the form of the target, so data preparation must know them."""
SplitMethod = Literal["random", "stratified", "group", "time", "column"]


class SplitSettings(Settings):
    """The division of rows into training, validation and test rows.

    The shares of `train`, `validation` and `test` add up to 1.
    """

    train: Positive = 0.6
    validation: Positive = 0.2
    test: Positive = 0.2
    method: SplitMethod = "random"
    by: str | None = None
    """Name of the column that `group`, `time` and `column` divide by. This column is never a feature."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the shuffle that `random`, `stratified` and `group` draw."""

    @model_validator(mode="after")
    def _shares_and_column(self) -> Self:
        total = self.train + self.validation + self.test
        if self.method != "column" and abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test is {total:g}; the three shares must add up to 1")
        if self.method in {"group", "time", "column"} and self.by is None:
            raise ValueError(f"method {self.method!r} needs a column: add `by: COLUMN`")
        if self.method in {"random", "stratified"} and self.by is not None:
            raise ValueError(
                f"method {self.method!r} uses no column: remove `by`, or choose group, time or column"
            )
        return self


class DataSettings(Settings):
    """The source of the rows, their division, and their encoding."""

    source: str
    """The name of a built-in source, a file (.parquet, .csv, .arrow, .npz), or `package.module:function`."""
    arguments: Arguments = {}  # noqa: RUF012 (pydantic copies defaults)
    """Keyword arguments of a built-in source or function, or options for reading a file."""
    target: Annotated[str | Names | None, Field()] = None
    """Name or names of the target columns of a file. Other sources say themselves what the target is."""
    split: SplitSettings = SplitSettings()
    """The division of the rows."""
    standardize: bool = True
    """Scale numeric features to mean 0 and standard deviation 1. Both are computed from the training rows alone."""
    missing: Literal["error", "mean"] = "error"
    """What happens to nulls: `error` refuses them, `mean` replaces them by the mean of the training rows."""
    transform: Reference | None = None
    """A function of the user's, `package.module:function`, that each training applies to the encoded rows."""
    transform_arguments: Arguments = {}  # noqa: RUF012 (as above)
    """Keyword arguments of the transform. `data.X` of a configuration overrides them."""
    duplicates: Literal["report", "error"] = "report"
    """What happens if a row is in more than one part: `report` shows a notice, `error` refuses the data."""
