"""Draw all hyperparameters and the score side by side, with a line for each trial."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from tune_jobs.report.scales import log_place, range_ticks, round_off, value_text
from tune_jobs.report.scored_trials import ScoredTrials
from tune_jobs.report.style import SCALE, apply_style
from tune_jobs.search_spaces import Choice, SearchSpace

MOST_LINES = 400
"""Largest number of lines: half of them for the best trials, the others for an even share of the rest."""
ABSENT = "\N{EN DASH}"
"""Mark on an axis for trials that do not have the parameter."""


def parallel_figure(given: ScoredTrials, space: SearchSpace, order: Sequence[str]) -> go.Figure:
    """Draw a line for each trial through its values of all parameters to its score. Axes can be dragged and brushed.

    If there are more than `MOST_LINES` trials, the best half of that number is drawn, and an even share of the others.

    Args:
        given: The trials.
        space: The search space.
        order: The parameters from left to right.
    """
    places = _choose_drawn(given)
    dimensions = [_dimension(given, space, name, places) for name in order]
    scores = [given.scale.place(given.scores[place]) for place in places]
    ticks = given.scale.ticks()
    ends = [ticks["tickvals"][0], ticks["tickvals"][-1]]
    dimensions.append({"label": given.metric, "values": scores, "range": ends, **ticks})
    colours = [list(pair) for pair in SCALE]
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": scores,
                "colorscale": colours,
                "cmin": min(scores),
                "cmax": max(scores),
                "reversescale": given.score.mode == "max",
            },
            labelfont={"size": 13},
            tickfont={"size": 11},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
            unselected={"line": {"opacity": 0.05}},
        )
    )
    return apply_style(figure, height=420, margin={"t": 50, "b": 30, "l": 70, "r": 60})


def _choose_drawn(given: ScoredTrials) -> list[int]:
    """Return the places of the trials that are drawn, the best last: they lie on top."""
    costs = given.costs
    order = sorted(range(len(costs)), key=lambda place: costs[place])
    better, worse = order[: MOST_LINES // 2], order[MOST_LINES // 2 :]
    step = max(1, math.ceil(len(worse) / (MOST_LINES // 2)))
    return [*better, *worse[::step]][::-1]


def _dimension(given: ScoredTrials, space: SearchSpace, name: str, places: Sequence[int]) -> dict[str, Any]:
    """Return an axis. The line of a trial without the parameter goes to a place below it, marked with a dash."""
    domain = space.parameters[name].domain
    if isinstance(domain, Choice):
        labels = [value_text(value) for value in domain.values]
        positions = {label: float(number) for number, label in enumerate(labels)}
        ticks: dict[str, list[Any]] = {"tickvals": list(positions.values()), "ticktext": labels}
        low, high, below = 0.0, float(max(len(labels) - 1, 1)), -1.0
    else:
        ticks = range_ticks(domain.low, domain.high, log=domain.log)
        low, high = ticks["tickvals"][0], ticks["tickvals"][-1]
        below = low - 0.15 * ((high - low) or 1.0)

    def position(configuration: Mapping[str, Any]) -> float:
        if name not in configuration:
            return below
        value = configuration[name]
        if isinstance(domain, Choice):
            return positions[value_text(value)]
        return log_place(value) if domain.log else float(value)

    configurations = [given.trials[place].configuration for place in places]
    if any(name not in configuration for configuration in configurations):
        low, ticks = (
            below,
            {"tickvals": [below, *ticks["tickvals"]], "ticktext": [ABSENT, *ticks["ticktext"]]},
        )
    margin = 0.02 * ((high - low) or 1.0)
    return {
        "label": name,
        "values": [round_off(position(configuration)) for configuration in configurations],
        "range": [low - margin, high + margin],
        **ticks,
    }
