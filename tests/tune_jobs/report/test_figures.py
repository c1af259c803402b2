"""The figures of hyperparameters and learning curves hold the numbers of the trials, for any number of trials."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
import pytest

from tests.tune_jobs.report.runs import trials
from tune_jobs.job.job import Job
from tune_jobs.record.codes import Status
from tune_jobs.record.run_record import RunRecord
from tune_jobs.report.contours import CELLS, contour_figures
from tune_jobs.report.importance import FEWEST_TRIALS, importances
from tune_jobs.report.learning_curves import curves_figure
from tune_jobs.report.parallel_coordinates import ABSENT, MOST_LINES, parallel_figure
from tune_jobs.report.scored_trials import ScoredTrials, scored_trials
from tune_jobs.report.slices import slice_figure
from tune_jobs.report.style import COLOURS, WINNER
from tune_jobs.search_spaces import SearchSpace

MakeRecord = Callable[..., RunRecord]
NAMES = ("lr", "batch_size", "optimizer", "momentum")


@pytest.fixture(scope="module")
def space(make_sections: Callable[..., Mapping[str, Any]]) -> SearchSpace:
    return Job.from_mapping(make_sections()).search.space


def given_of(record: RunRecord) -> ScoredTrials:
    given = scored_trials(record)
    assert given is not None
    return given


def points(figure: go.Figure) -> dict[tuple[int, int], float]:
    """Return the values of all trial curves, by trial and epoch."""
    found = {}
    for trace in figure.data:
        if trace.name == "winner, training rows":
            continue
        for number, epoch, value in zip(trace.customdata, trace.x, trace.y, strict=True):
            if epoch is not None and value is not None:
                found[number, epoch] = value
    return found


@pytest.mark.parametrize("count", [1, 3, 50])
def test_every_epoch_of_every_trial_is_on_its_curve(make_record: MakeRecord, count: int) -> None:
    record = make_record(trials(count))
    figure = curves_figure(record, (2, 6), "0000")
    assert figure is not None
    expected = {
        (trial.number, epoch): values["val_loss"]
        for trial in record.trials.values()
        for epoch, values in trial.epochs.items()
        if math.isfinite(values["val_loss"])
    }
    assert points(figure) == pytest.approx(expected, rel=1e-4)


def test_a_single_curve_lies_wholly_on_the_axis(make_record: MakeRecord) -> None:
    figure = curves_figure(make_record([{"losses": [0.9, 0.5, 0.25]}]), (), "0000")
    assert figure is not None
    low, high = figure.layout.yaxis.range
    assert low < 0.25
    assert high > 0.9


def test_curves_of_two_trials_are_not_joined(make_record: MakeRecord) -> None:
    figure = curves_figure(make_record(trials(40)), (2, 6), None)
    assert figure is not None
    for trace in figure.data:
        numbers = list(trace.customdata)
        changes = [(a, b) for a, b in pairwise(numbers) if a != b]
        assert all(a is None or b is None for a, b in changes)


def test_the_winner_is_highlighted_and_rungs_say_how_many_were_promoted(make_record: MakeRecord) -> None:
    record = make_record(trials(30))
    figure = curves_figure(record, (2, 6), "0004")
    assert figure is not None
    assert figure.data[-1].name == "winner"
    assert figure.data[-1].line.color == WINNER
    assert set(figure.data[-1].customdata) == {4}
    last = [max(trial.epochs, default=0) for trial in record.trials.values()]
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert texts == [
        f"epoch {rung}<br>{sum(n > rung for n in last)} of {sum(n >= rung for n in last)} on"
        for rung in (2, 6)
    ]


def test_long_curves_of_many_trials_are_thinned_and_keep_rungs_and_ends(make_record: MakeRecord) -> None:
    many = [{"losses": [1.0 / (1 + epoch) for epoch in range(500)]} for _ in range(200)]
    figure = curves_figure(make_record(many), (1, 100), None)
    assert figure is not None
    found = points(figure)
    assert len(found) < 200 * 250
    assert {(number, epoch) for number in range(200) for epoch in (1, 100, 500)} <= found.keys()


@pytest.mark.parametrize("losses", [[], [math.nan], [math.inf, math.nan]])
def test_without_a_number_there_is_no_figure(make_record: MakeRecord, losses: Sequence[float]) -> None:
    record = make_record([{"losses": losses, "status": Status.FAILED}])
    assert curves_figure(record, (), None) is None
    assert scored_trials(record) is None


def test_trials_without_a_score_count_as_worst_and_those_under_way_do_not_count(
    make_record: MakeRecord,
) -> None:
    record = make_record(
        [
            {"losses": [0.5, 0.4]},
            {"losses": [math.nan], "status": Status.FAILED},
            {"losses": [0.9], "status": Status.RUNNING},
            {"status": Status.PENDING},
            {"status": Status.INTERRUPTED},
        ]
    )
    given = given_of(record)
    assert [trial.number for trial in given.trials] == [0, 1, 2]
    assert list(given.scores) == [0.4, 0.9, 0.9]
    assert list(given.unscored) == [False, True, False]


def test_the_parameter_that_decides_the_score_is_most_important(
    make_record: MakeRecord, space: SearchSpace
) -> None:
    shares = importances(given_of(make_record(trials(200))), space)
    assert next(iter(shares)) == "lr"
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) == set(NAMES)


def test_importance_of_a_few_trials_is_not_shown(make_record: MakeRecord, space: SearchSpace) -> None:
    assert importances(given_of(make_record(trials(FEWEST_TRIALS - 1))), space) == {}
    same = [{"losses": [0.5], "configuration": {"lr": 0.001 * n}} for n in range(1, 60)]
    assert importances(given_of(make_record(same)), space) == {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 3, 300])
def test_a_slice_shows_each_trial_that_has_the_parameter_at_its_value(
    make_record: MakeRecord, space: SearchSpace, name: str, count: int
) -> None:
    given = given_of(make_record(trials(count)))
    figure = slice_figure(given, space, name, "0001")
    shown = {n: (x, y) for t in figure.data for n, x, y in zip(t.customdata, t.x, t.y, strict=True)}
    expected = {trial.number for trial in given.trials if name in trial.configuration}
    assert shown.keys() == expected
    for place, trial in enumerate(given.trials):
        if trial.number not in expected:
            continue
        x, y = shown[trial.number]
        assert y == pytest.approx(given.scale.clip(given.scores[place]), rel=1e-4)
        value = trial.configuration[name]
        if isinstance(value, float):
            assert x == pytest.approx(value, rel=1e-4)
        else:
            assert figure.layout.xaxis.ticktext[round(x)] == str(value)


def test_an_axis_is_logarithmic_if_the_space_is(make_record: MakeRecord, space: SearchSpace) -> None:
    given = given_of(make_record(trials(30)))
    types = {name: slice_figure(given, space, name, None).layout.xaxis.type for name in NAMES}
    assert types["lr"] == "log"
    assert types["momentum"] == "linear"


def test_states_have_one_colour_everywhere(make_record: MakeRecord, space: SearchSpace) -> None:
    record = make_record(trials(60))
    figures = [curves_figure(record, (2, 6), None), slice_figure(given_of(record), space, "lr", None)]
    for figure in figures:
        assert figure is not None
        for trace in figure.data:
            colour = trace.line.color if trace.mode == "lines" else trace.marker.color
            assert colour == COLOURS[Status(trace.name.replace(" ", "_"))]


@pytest.mark.parametrize("count", [2, 60, 1000])
def test_parallel_coordinates_lead_each_trial_through_its_values(
    make_record: MakeRecord, space: SearchSpace, count: int
) -> None:
    given = given_of(make_record(trials(count)))
    figure = parallel_figure(given, space, NAMES)
    dimensions = {dimension.label: dimension for dimension in figure.data[0].dimensions}
    assert list(dimensions) == [*NAMES, "val_loss"]
    lines = len(dimensions["lr"]["values"])
    assert lines == (count if count <= MOST_LINES else pytest.approx(MOST_LINES, abs=5))
    lrs = sorted(math.log10(trial.configuration["lr"]) for trial in given.trials)
    if count <= MOST_LINES:
        assert sorted(dimensions["lr"]["values"]) == pytest.approx(lrs, rel=1e-3)
    for dimension in figure.data[0].dimensions:
        low, high = dimension.range
        assert all(low <= value <= high for value in dimension["values"])
    assert ABSENT in dimensions["momentum"].ticktext
    assert ABSENT not in dimensions["lr"].ticktext


def test_the_best_trial_is_among_the_lines_however_many_there_are(
    make_record: MakeRecord, space: SearchSpace
) -> None:
    given = given_of(make_record(trials(1000)))
    scores = parallel_figure(given, space, NAMES).data[0].dimensions[-1]["values"]
    best = min(given.scores)
    assert min(scores) == pytest.approx(given.scale.place(best), rel=1e-4)


def test_contours_are_of_ranges_alone_and_stay_small(make_record: MakeRecord, space: SearchSpace) -> None:
    given = given_of(make_record(trials(600)))
    (figure,) = contour_figures(given, space, {"batch_size": 0.5, "lr": 0.3, "momentum": 0.2})
    surface, dots = figure.data
    assert max(len(surface.x), len(surface.y)) <= CELLS + 3
    both = [trial.number for trial in given.trials if "momentum" in trial.configuration]
    assert list(dots.customdata) == both
    assert contour_figures(given_of(make_record(trials(8))), space, {"lr": 0.6, "momentum": 0.4}) == []


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_good_end_of_the_colours_is_the_same_in_all_figures(
    make_record: MakeRecord, space: SearchSpace, mode: str
) -> None:
    rising = [{**trial, "metrics": {"mae": [-v for v in trial["losses"]]}} for trial in trials(80)]
    record = make_record(rising, metric="mae", mode="max") if mode == "max" else make_record(rising)
    given = given_of(record)
    line = parallel_figure(given, space, NAMES).data[0].line
    (contour,) = contour_figures(given, space, {"lr": 0.6, "momentum": 0.4})
    assert bool(line.reversescale) == bool(contour.data[0].reversescale) == (mode == "max")
