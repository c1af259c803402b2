"""Tables of real learning curves: reading them, their search space, and the nearest curve of a proposal.

A folder holds one `.npz` file a task, with these arrays: `hp` [configurations, columns] and the columns' names
`hp_names`; `train`, `valid` and `test` [configurations, steps], losses after each step, lower is better. A loss
that is not finite marks a training that diverged: the rest of its curve is ignored.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tune_jobs.search_spaces import Float, Parameter, SearchSpace, SearchSpaceError

Array = NDArray[np.float64]

_ARRAYS = ("hp", "hp_names", "train", "valid", "test")


class BadCurves(Exception):
    """A folder or table of curves cannot be used. The text is one line for the user."""


@dataclass(frozen=True, eq=False)
class Table:
    """The learning curves of one task.

    Raises:
        BadCurves: The arrays do not fit together, or hold nothing to search in.
    """

    name: str
    parameters: tuple[str, ...]
    points: Array
    """[configurations, parameters]"""
    train: Array
    """[configurations, steps], like the next two."""
    valid: Array
    test: Array
    space: SearchSpace = field(init=False)
    """The search space that the points span."""

    def __post_init__(self) -> None:
        problem = next(_problems(self.parameters, self.points, (self.train, self.valid, self.test)), None)
        if problem is not None:
            raise BadCurves(f"{self.name}: {problem}")
        try:
            object.__setattr__(self, "space", spanned_space(self.parameters, self.points))
        except SearchSpaceError as error:
            raise BadCurves(f"{self.name}: hp_names: {'; '.join(map(str, error.problems))}") from error

    @property
    def configurations(self) -> int:
        return len(self.valid)

    @property
    def steps(self) -> int:
        return int(self.valid.shape[1])

    def curve(self, configuration: int) -> Iterator[tuple[float, float]]:
        """Return training and validation loss after each step, up to the first validation loss that is not finite."""
        for train, valid in zip(self.train[configuration], self.valid[configuration], strict=True):
            yield float(train), float(valid)
            if not np.isfinite(valid):
                return


def load_tables(folder: Path, names: Sequence[str] = ()) -> list[Table]:
    """Return the tables in `folder` in the order of their names, or those called `names` if given.

    Raises:
        BadCurves: A folder, table or array with this name is missing or cannot be used.
    """
    if not folder.is_dir():
        raise BadCurves(f"{folder}: no such folder; give one that holds tables of learning curves (*.npz)")
    files = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if not files:
        raise BadCurves(f"{folder}: holds no table of learning curves (*.npz)")
    if unknown := [name for name in names if name not in files]:
        raise BadCurves(f"{folder}: has no table {', '.join(unknown)}; there are {', '.join(files)}")
    return [load_table(files[name]) for name in names or files]


def load_table(path: Path) -> Table:
    """Return the table in the file `path`.

    Raises:
        BadCurves: The file cannot be read, lacks an array, or the arrays cannot be used.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in _ARRAYS if name not in file]:
                raise BadCurves(f"{path}: lacks {', '.join(missing)}; it needs {', '.join(_ARRAYS)}")
            names = tuple(str(name) for name in file["hp_names"].ravel())
            hp, train, valid, test = (file[name].astype(np.float64) for name in _ARRAYS if name != "hp_names")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadCurves(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    try:
        return Table(path.stem, names, hp, train, valid, test)
    except BadCurves as error:
        raise BadCurves(f"{path.parent}/{error}") from error


def spanned_space(names: Sequence[str], points: Array) -> SearchSpace:
    """Return the box around `points`: a parameter for each column that varies, from its lowest to its highest value.

    A column is searched on its logarithm if all its values are above 0 and their logarithms are spread more
    evenly than they are themselves.
    """
    return SearchSpace(
        {
            name: Parameter(Float(low=column.min(), high=column.max(), log=_is_log(column)))
            for name, column in zip(names, points.T, strict=True)
            if column.min() < column.max()
        }
    )


def unevenness(values: Array) -> float:
    """Return Kolmogorov and Smirnov's distance of `values` from the uniform distribution between their extremes."""
    uniform = (np.sort(values) - values.min()) / (values.max() - values.min())
    below = np.arange(len(values)) / len(values)
    return float(max(np.max(uniform - below), np.max(below + 1 / len(values) - uniform)))


class UnusedConfigurations:
    """Gives each proposal the nearest configuration of a table that no earlier one was given.

    Distances are Euclidean in the unit cube of the table's space. The first of equally near ones is taken.
    """

    def __init__(self, table: Table) -> None:
        self._domains = {name: _range(table.space, name) for name in table.space.order}
        columns = [table.points[:, table.parameters.index(name)] for name in self._domains]
        self._cube = self._unit(columns).T
        self._unused = np.ones(table.configurations, dtype=bool)

    def take(self, configuration: Mapping[str, float]) -> int:
        """Return the number of the table's configuration for `configuration`, and mark it as used.

        Raises:
            IndexError: All configurations are used.
        """
        if not self._unused.any():
            raise IndexError("every configuration of the table was given to a trial")
        point = self._unit([np.asarray(configuration[name], dtype=np.float64) for name in self._domains])
        distances = np.square(self._cube - point).sum(axis=1)
        nearest = int(np.where(self._unused, distances, np.inf).argmin())
        self._unused[nearest] = False
        return nearest

    def _unit(self, values: Sequence[Array]) -> Array:
        """Return the points [parameters, …] scaled to the unit cube."""
        return np.stack(
            [_to_unit(value, domain) for value, domain in zip(values, self._domains.values(), strict=True)]
        )


def _is_log(column: Array) -> bool:
    return bool(column.min() > 0) and unevenness(np.log(column)) < unevenness(column)


def _range(space: SearchSpace, name: str) -> Float:
    domain = space.parameters[name].domain
    assert isinstance(domain, Float), domain
    return domain


def _to_unit(values: Array, domain: Float) -> Array:
    low, high = domain.low, domain.high
    if domain.log:
        low, high, values = np.log(low), np.log(high), np.log(values)
    share: Array = (values - low) / (high - low)
    return share


def _problems(names: Sequence[str], points: Array, curves: Sequence[Array]) -> Iterator[str]:
    """Return why these arrays cannot be used, or None. Each check relies on those before it."""
    shapes = ", ".join(str(list(array.shape)) for array in curves)
    if points.ndim != 2 or any(array.ndim != 2 for array in curves):
        yield f"hp and the curves need two dimensions; they have {list(points.shape)} and {shapes}"
    if len({array.shape for array in curves}) > 1:
        yield f"train, valid and test differ in their shapes: {shapes}"
    if len(points) != len(curves[0]):
        yield f"hp has {len(points)} configurations, and the curves have {len(curves[0])}"
    if len(names) != points.shape[1] or len(set(names)) < len(names):
        yield f"hp has {points.shape[1]} columns, but hp_names has {len(set(names))} different names"
    if points.size == 0 or curves[0].size == 0:
        yield f"nothing in it: hp is {list(points.shape)}, the curves are {shapes}"
    if not np.isfinite(points).all():
        yield "hp holds values that are no finite numbers"
    if (points == points[0]).all():
        yield "no column of hp varies, so there is nothing to search"
