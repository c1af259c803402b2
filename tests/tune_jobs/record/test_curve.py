"""The curve of a trial: repeats, NaN and infinities, and both directions, against a naive reference."""

import ast
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tune_jobs
from tune_jobs.record.curve import LatestEpochs, TrialCurve, numbers
from tune_jobs.trainers.interface import DIVERGED, EpochResult
from tune_jobs.trainers.scores import BestEpoch
from tune_jobs.trainers.settings import Mode, ScoreSettings

NAN, INF = math.nan, math.inf
MODES = st.sampled_from(["min", "max"])
SCORES = st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0, 2.0]) | st.floats()


def row(epoch: int, score: float | None, *, diverged: bool = False) -> dict[str, Any]:
    mark = {DIVERGED: True} if diverged else {}
    return {"epoch": epoch, "train_loss": NAN, "val_loss": NAN, "accuracy": score, "seconds": 1.0, **mark}


ROWS = st.lists(
    st.builds(row, st.integers(1, 12), SCORES | st.none(), diverged=st.sampled_from([False] * 9 + [True])),
    max_size=20,
)


def curve_of(rows: list[dict[str, Any]], mode: Mode = "max") -> TrialCurve:
    return TrialCurve.of(rows, ScoreSettings(metric="accuracy", mode=mode))


def what(curve: TrialCurve) -> tuple[BestEpoch | None, int, bool, float | None, float]:
    return curve.best, curve.last_epoch, curve.diverged, curve.best_cost, curve.rung_score


def test_an_empty_curve_has_no_score() -> None:
    assert what(curve_of([])) == (None, 0, False, None, INF)


@pytest.mark.parametrize(
    ("mode", "best", "cost"), [("max", BestEpoch(2, 3.0), -3.0), ("min", BestEpoch(3, 1.0), 1.0)]
)
def test_the_best_epoch_is_that_of_the_metric_and_its_direction(
    mode: Mode, best: BestEpoch, cost: float
) -> None:
    curve = curve_of([row(1, 2.0), row(2, 3.0), row(3, 1.0), row(4, 1.0), row(5, 3.0)], mode)
    assert what(curve) == (best, 5, False, cost, cost)


def test_a_repeated_epoch_changes_nothing_whatever_it_says() -> None:
    curve = curve_of([row(1, 1.0), row(2, 2.0)])
    before = what(curve)
    assert not curve.add(row(2, 9.0))
    assert not curve.add(row(1, 9.0, diverged=True))
    assert what(curve) == before
    assert curve.add(row(3, 3.0))


@pytest.mark.parametrize("score", [NAN, INF, -INF, None])
def test_a_score_that_is_not_finite_is_never_the_best_and_no_divergence(score: float | None) -> None:
    """The losses of these rows are NaN, too: a divergence is stated by the row, not derived from losses."""
    curve = curve_of([row(1, score)])
    assert what(curve) == (None, 1, False, None, INF)
    assert curve.add(row(2, 1.0))
    assert curve.best == BestEpoch(2, 1.0)


def test_a_trial_that_diverged_has_lost_at_every_rung_and_keeps_its_best_epoch() -> None:
    curve = curve_of([row(1, 1.0), row(2, NAN, diverged=True)])
    assert what(curve) == (BestEpoch(1, 1.0), 2, True, -1.0, INF)
    assert not curve.add(row(3, 5.0)), "nothing counts after it"
    assert what(curve) == (BestEpoch(1, 1.0), 2, True, -1.0, INF)


@pytest.mark.slow
@given(ROWS, MODES)
def test_it_agrees_with_a_naive_reference(rows: list[dict[str, Any]], mode: Mode) -> None:
    counted: list[dict[str, Any]] = []
    for one in rows:
        if not any(DIVERGED in other or other["epoch"] >= one["epoch"] for other in counted):
            counted.append(one)
    finite = [one for one in counted if one["accuracy"] is not None and math.isfinite(one["accuracy"])]
    choose = min if mode == "min" else max
    best = choose(finite, key=lambda one: one["accuracy"], default=None)  # the first of equals
    diverged = bool(counted) and DIVERGED in counted[-1]
    curve = curve_of(rows, mode)
    assert curve.best == (None if best is None else BestEpoch(best["epoch"], best["accuracy"]))
    assert curve.last_epoch == max((one["epoch"] for one in counted), default=0)
    assert curve.diverged is diverged
    cost = None if best is None else best["accuracy"] if mode == "min" else -best["accuracy"]
    assert curve.best_cost == cost
    assert curve.rung_score == (INF if diverged or cost is None else cost)


@given(ROWS, MODES, st.data())
def test_a_repeated_report_changes_nothing(
    rows: list[dict[str, Any]], mode: Mode, data: st.DataObject
) -> None:
    """A worker is lost at an epoch, and the next one begins at an earlier epoch: the curve is the same."""
    once = sorted({one["epoch"]: one for one in rows}.values(), key=lambda one: one["epoch"])
    lost = data.draw(st.integers(0, len(once)))
    taken_up = data.draw(st.integers(0, lost))
    assert what(curve_of([*once[:lost], *once[taken_up:]], mode)) == what(curve_of(once, mode))


@given(ROWS, MODES)
def test_it_only_ever_improves(rows: list[dict[str, Any]], mode: Mode) -> None:
    curve = curve_of([], mode)
    costs = [INF]
    for one in rows:
        curve.add(one)
        costs.append(INF if curve.best_cost is None else curve.best_cost)
    assert costs == sorted(costs, reverse=True)


@given(ROWS, MODES)
def test_max_mirrors_min(rows: list[dict[str, Any]], mode: Mode) -> None:
    turned = [{**one, "accuracy": None if one["accuracy"] is None else -one["accuracy"]} for one in rows]
    mine, other = curve_of(rows, mode), curve_of(turned, "max" if mode == "min" else "min")
    assert (mine.best_cost, mine.rung_score, mine.last_epoch) == (
        other.best_cost,
        other.rung_score,
        other.last_epoch,
    )


def test_a_row_says_that_it_diverged_only_if_it_did_and_shows_numbers_alone() -> None:
    sound = EpochResult(epoch=1, metrics={"accuracy": 0.5}, seconds=1.0)
    bad = EpochResult(epoch=1, metrics={"accuracy": 0.5}, seconds=1.0, diverged=True)
    assert sound.to_mapping() == numbers(bad.to_mapping()) == numbers(sound.to_mapping())
    assert curve_of([bad.to_mapping()]).diverged
    assert not curve_of([sound.to_mapping()]).diverged


def test_no_other_module_of_tune_jobs_compares_epochs() -> None:
    root = Path(tune_jobs.__file__).parent
    users = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "better" for alias in node.names)
    }
    assert users - {"trainers/pytorch/trainer.py"} == {"record/curve.py"}


def test_of_a_repeated_epoch_the_first_report_decides_and_the_last_report_is_shown() -> None:
    score = ScoreSettings(metric="accuracy", mode="max")
    reports = [[row(1, 0.5), row(2, 0.9)], [row(2, 0.1)], [row(3, 0.2)]]
    first, latest = TrialCurve(score), LatestEpochs(score)
    new = [latest.add(report) for report in reports]
    for report in reports:
        for one in report:
            first.add(one)
    assert new == [True, False, True]
    assert first.best == BestEpoch(score=0.9, epoch=2)
    assert latest.curve.best == BestEpoch(score=0.5, epoch=1)
    assert {epoch: one["accuracy"] for epoch, one in latest.rows.items()} == {1: 0.5, 2: 0.1, 3: 0.2}
