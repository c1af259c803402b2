"""Draw the score over two hyperparameters at a time."""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from optuna.visualization import plot_contour

from tune_jobs.report.scales import axis_title, range_ticks, round_off, value_axis
from tune_jobs.report.scored_trials import ScoredTrials, hover_text
from tune_jobs.report.style import SCALE, apply_style
from tune_jobs.search_spaces import Choice, Float, Int, SearchSpace

FEWEST_TRIALS = 12
"""Smallest number of trials with both parameters for which a figure is drawn."""
CELLS = 40
"""Number of points of the grid on each side."""
PARAMETERS = 3
"""Number of the most important parameters that are paired with each other."""


def contour_figures(given: ScoredTrials, space: SearchSpace, shares: Mapping[str, float]) -> list[go.Figure]:
    """Draw the score over each pair of the most important parameters that are ranges; none with too few trials.

    Optuna draws them: between trials the score is interpolated.

    Args:
        given: The trials.
        space: The search space.
        shares: Importance by parameter, most important first.
    """
    ranges = [name for name in shares if not isinstance(space.parameters[name].domain, Choice)]
    figures = []
    for first, second in combinations(ranges[:PARAMETERS], 2):
        places = [
            place
            for place, trial in enumerate(given.trials)
            if first in trial.configuration and second in trial.configuration
        ]
        if len(places) >= FEWEST_TRIALS:
            figures.append(_contour(given, space, (first, second), places))
    return figures


def _contour(
    given: ScoredTrials, space: SearchSpace, names: tuple[str, str], places: Sequence[int]
) -> go.Figure:
    """Draw one figure. Colours end at the worst quarter of the scores: the good region then shows its structure."""
    ordered = sorted((given.scores[place] for place in places), key=given.score.cost)
    low, high = sorted(given.scale.clip(score) for score in (ordered[0], ordered[len(ordered) * 3 // 4]))
    ticks = range_ticks(low, high, log=given.scale.log)
    first, *_, last = ticks["tickvals"]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that parts of it are new
        drawn = plot_contour(_study(given, space, names, places), params=list(names))
    figure = go.Figure([trace for trace in drawn.data if trace.type == "contour"])
    figure.update_traces(
        colorscale=[list(pair) for pair in SCALE],
        reversescale=given.score.mode == "max",
        zmin=first,
        zmax=last,
        autocontour=False,
        contours={"start": first, "end": last, "size": (last - first) / 8 or 1.0, "coloring": "heatmap"},
        line={"width": 0.5},
        colorbar={
            "title": {"text": given.metric, "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
            **ticks,
        },
        hoverinfo="skip",
    )
    figure.add_trace(_points(given, names, places))
    across, up = (_axis(space, name) for name in names)
    return apply_style(figure, height=360, margin={"t": 12}, hovermode="closest", xaxis=across, yaxis=up)


def _points(given: ScoredTrials, names: tuple[str, str], places: Sequence[int]) -> go.Scatter:
    trials = [given.trials[place] for place in places]
    across, up = ([round_off(float(trial.configuration[name])) for trial in trials] for name in names)
    return go.Scatter(
        x=across,
        y=up,
        customdata=[trial.number for trial in trials],
        text=[hover_text(given, place) for place in places],
        mode="markers",
        marker={
            "color": "#ffffff",
            "size": 6 if len(places) < 100 else 4,
            "line": {"width": 1, "color": "#222831"},
        },
        hovertemplate="%{text}<extra></extra>",
    )


def _axis(space: SearchSpace, name: str) -> dict[str, Any]:
    """Make the axis, from end to end of the parameter's range."""
    domain = _range(space, name)
    title = {"text": axis_title(name, log=domain.log)}
    return {"title": title, **value_axis(domain.low, domain.high, log=domain.log)}


def _range(space: SearchSpace, name: str) -> Float | Int:
    domain = space.parameters[name].domain
    assert not isinstance(domain, Choice)
    return domain


def _study(
    given: ScoredTrials, space: SearchSpace, names: tuple[str, str], places: Sequence[int]
) -> optuna.Study:
    """Return the trials as Optuna's plot needs them: all complete, with scores on the figure's scale.

    Their values are rounded to a grid of `CELLS` a side, since Optuna's plot has a cell for each pair of values
    that occur. It shows the last trial of each cell, so the best trials come last.
    """
    study = optuna.create_study(direction="minimize" if given.score.mode == "min" else "maximize")
    costs = given.costs
    ranges = {name: _range(space, name) for name in names}
    distributions: dict[str, BaseDistribution] = {
        name: FloatDistribution(domain.low, domain.high, log=domain.log) for name, domain in ranges.items()
    }
    for place in sorted(places, key=lambda place: -costs[place]):
        configuration = given.trials[place].configuration
        complete = create_trial(
            state=TrialState.COMPLETE,
            params={name: _snap(float(configuration[name]), domain) for name, domain in ranges.items()},
            distributions=distributions,
            value=given.scale.place(given.scores[place]),
        )
        study.add_trial(complete)
    return study


def _snap(value: float, domain: Float | Int) -> float:
    """Return the point of the grid that is nearest to `value`."""
    low, high = float(domain.low), float(domain.high)
    if low == high:
        return low
    if domain.log:
        share = math.log(value / low) / math.log(high / low)
        return float(min(max(low * (high / low) ** (round(share * CELLS) / CELLS), low), high))
    share = (value - low) / (high - low)
    return min(max(low + (high - low) * round(share * CELLS) / CELLS, low), high)
