from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulation.curve_tables import (
    BadCurves,
    Table,
    UnusedConfigurations,
    load_table,
    load_tables,
    spanned_space,
    unevenness,
)
from tune_jobs.search_spaces import Float

SHARED = Path(__file__).parents[3] / "shared" / "data" / "curves"


def arrays(**changed: Any) -> dict[str, Any]:
    """Four configurations of two parameters, three steps."""
    losses = np.array([[3.0, 2.0, 1.0], [4.0, 4.0, 4.0], [2.0, np.nan, np.nan], [5.0, 3.0, 3.5]])
    valid = {
        "hp": np.array([[0.0, 1e-3], [0.4, 1e-2], [0.6, 1e-1], [1.0, 1.0]]),
        "hp_names": np.array(["momentum", "lr"]),
        "train": losses.astype(np.float32),
        "valid": losses.astype(np.float32),
        "test": losses.astype(np.float32) + 1,
    }
    return {name: value for name, value in (valid | changed).items() if value is not None}


def table(**changed: Any) -> Table:
    given = arrays(**changed)
    names = tuple(map(str, given.pop("hp_names")))
    hp, train, valid, test = (np.asarray(given[name], dtype=float) for name in given)
    return Table("toy", names, hp, train, valid, test)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "toy.npz", **arrays())

    read = load_table(tmp_path / "toy.npz")

    assert (read.name, read.parameters) == ("toy", ("momentum", "lr"))
    assert (read.configurations, read.steps) == (4, 3)
    assert read.test[0].tolist() == [4.0, 3.0, 2.0]


def test_tables_come_in_the_order_of_their_names_or_as_they_were_asked_for(tmp_path: Path) -> None:
    for name in "bca":
        np.savez_compressed(tmp_path / f"{name}.npz", **arrays())

    assert [table.name for table in load_tables(tmp_path)] == ["a", "b", "c"]
    assert [table.name for table in load_tables(tmp_path, ["c", "a"])] == ["c", "a"]


def test_a_curve_ends_with_the_first_loss_that_is_no_finite_number() -> None:
    losses = np.array([[1.0, 2.0], [np.inf, 2.0], [np.nan, np.nan], [1.0, 1.0]])
    diverging = table(valid=losses, train=losses, test=losses)

    assert [list(diverging.curve(index)) for index in (0, 1)] == [
        [(1.0, 1.0), (2.0, 2.0)],
        [(np.inf, np.inf)],
    ]
    assert len(list(diverging.curve(2))) == 1


def test_the_space_is_the_box_around_the_points_and_what_never_varies_is_no_parameter() -> None:
    points = np.array([[0.0, 7.0, -1.0], [2.0, 7.0, 3.0], [1.0, 7.0, 1.0]])

    space = spanned_space(("a", "b", "c"), points)

    assert {name: parameter.domain for name, parameter in space.parameters.items()} == {
        "a": Float(low=0.0, high=2.0),
        "c": Float(low=-1.0, high=3.0),
    }


@pytest.mark.parametrize(
    ("column", "log"),
    [
        (np.linspace(1.0, 100.0, 50), False),
        (np.geomspace(1.0, 100.0, 50), True),
        (np.geomspace(1.0, 100.0, 50) - 1.0, False),  # a zero has no logarithm
        (-np.geomspace(1.0, 100.0, 50), False),
        (1 - np.geomspace(1e-4, 0.9, 50), False),
    ],
)
def test_a_column_is_on_a_log_scale_if_that_spreads_it_more_evenly(column: Any, log: bool) -> None:
    domain = spanned_space(["x"], column[:, None]).parameters["x"].domain

    assert isinstance(domain, Float)
    assert domain.log is log


def test_unevenness_is_the_largest_distance_to_the_uniform_distribution() -> None:
    # 0, 0.1 and 1: just below 1 two thirds of the values are smaller instead of all; at 0.1 two thirds instead of 0.1.
    assert unevenness(np.array([0.0, 0.1, 1.0])) == pytest.approx(2 / 3 - 0.1)
    assert unevenness(np.array([0.0, 0.9, 1.0])) == pytest.approx(0.9 - 1 / 3)


def test_a_proposal_gets_the_nearest_configuration_that_is_still_unused() -> None:
    # In the unit cube the points are (0, 0), (0.4, 1/3), (0.6, 2/3) and (1, 1).
    unused = UnusedConfigurations(table())
    near_the_second: Mapping[str, float] = {"momentum": 0.45, "lr": 2e-2}  # (0.45, 0.43)

    assert [unused.take(near_the_second) for _ in range(4)] == [1, 2, 0, 3]
    with pytest.raises(IndexError, match="every configuration"):
        unused.take(near_the_second)


def test_of_equally_near_configurations_the_first_is_taken() -> None:
    unused = UnusedConfigurations(table(hp=np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 3.0], [1.0, 3.0]])))

    middle = {"momentum": 0.5, "lr": 2.0}

    assert [unused.take(middle) for _ in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test": None}, "lacks test; it needs hp, hp_names, train, valid, test"),
        ({"hp": np.zeros(4)}, r"two dimensions; they have \[4\]"),
        ({"test": np.zeros((4, 2))}, r"differ in their shapes: \[4, 3\], \[4, 3\], \[4, 2\]"),
        ({"hp": np.eye(3, 2)}, "hp has 3 configurations, and the curves have 4"),
        ({"hp_names": np.array(["lr"])}, "hp has 2 columns, but hp_names has 1 different names"),
        ({"hp_names": np.array(["lr", "lr"])}, "hp has 2 columns, but hp_names has 1 different names"),
        ({"hp_names": np.array(["lr", "l r"])}, "hp_names: l r"),
        ({"hp": np.full((4, 2), np.nan)}, "hp holds values that are no finite numbers"),
        ({"hp": np.ones((4, 2))}, "no column of hp varies"),
        (dict.fromkeys(("train", "valid", "test"), np.zeros((4, 0))), "nothing in it"),
        ({"train": np.array([["a"] * 3] * 4)}, "cannot be read"),
        ({"hp_names": np.array(["lr", None])}, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line_that_names_it(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "toy.npz", **arrays(**changed))

    with pytest.raises(BadCurves, match=message) as caught:
        load_tables(tmp_path)

    assert str(tmp_path / "toy") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCurves, match="elsewhere: no such folder"):
        load_tables(tmp_path / "elsewhere")
    with pytest.raises(BadCurves, match=r"holds no table of learning curves \(\*\.npz\)"):
        load_tables(tmp_path)
    (tmp_path / "toy.npz").write_text("no archive")
    with pytest.raises(BadCurves, match="has no table other; there are toy"):
        load_tables(tmp_path, ["toy", "other"])
    with pytest.raises(BadCurves, match=r"toy\.npz: cannot be read"):
        load_tables(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the tables of real curves are not there ({SHARED})")
def test_tables_of_real_curves_are_read() -> None:
    tables = load_tables(SHARED)

    assert len(tables) == 6
    for each in tables:
        assert (each.configurations, each.steps, len(each.space.order)) == (1000, 51, 8)
        log = {
            name for name, p in each.space.parameters.items() if isinstance(p.domain, Float) and p.domain.log
        }
        assert log == set(each.parameters) - {"beta1", "beta2"}
