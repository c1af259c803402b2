"""Draw the score against one hyperparameter at a time."""

from typing import Any

import plotly.graph_objects as go

from tune_jobs.record.run_record import TrialRecord
from tune_jobs.report.scales import axis_title, round_off, value_axis, value_text
from tune_jobs.report.scored_trials import ScoredTrials, hover_text
from tune_jobs.report.style import COLOURS, WINNER, apply_style
from tune_jobs.search_spaces import Choice, Domain, SearchSpace

_SPREAD = 0.28
"""Distance to both sides over which the points of one value of a choice are spread."""
_GOLDEN = 0.6180339887498949
"""Multiples of the golden ratio, without their whole parts, spread evenly."""


def slice_figure(given: ScoredTrials, space: SearchSpace, name: str, winner: str | None) -> go.Figure:
    """Draw the score of each trial against its value of the parameter `name`, in the colour of the trial's state.

    Scores beyond the axis, and trials without a score, are crosses at its bad end.

    Args:
        given: The trials.
        space: The search space.
        name: Name of the parameter.
        winner: Id of the trial that is shown as a star.
    """
    domain = space.parameters[name].domain
    figure = go.Figure()
    groups: dict[str, list[int]] = {}
    for place, trial in enumerate(given.trials):
        if name in trial.configuration:
            group = "winner" if trial.trial_id == winner else trial.status.text
            groups.setdefault(group, []).append(place)
    for group in sorted(groups, key=lambda key: key == "winner"):  # drawn last, it lies on top
        figure.add_trace(_points(given, domain, name, group, groups[group]))
    return apply_style(
        figure,
        height=260,
        margin={"t": 12, "b": 44},
        hovermode="closest",
        xaxis={"title": {"text": _title(domain, name)}, **_axis(domain)},
        yaxis={"title": {"text": given.metric}, **given.scale.axis()},
    )


def _points(given: ScoredTrials, domain: Domain, name: str, group: str, places: list[int]) -> go.Scatter:
    trials = [given.trials[place] for place in places]
    shown = [given.scale.clip(given.scores[place]) for place in places]
    far = [
        given.unscored[place] or value != given.scores[place]
        for place, value in zip(places, shown, strict=True)
    ]
    is_winner = group == "winner"
    return go.Scatter(
        x=[_place(domain, trial.configuration[name], trial) for trial in trials],
        y=[round_off(value) for value in shown],
        customdata=[trial.number for trial in trials],
        text=[f"{hover_text(given, place)}<br>{name} {_value(trial, name)}"
              for place, trial in zip(places, trials, strict=True)],
        mode="markers",
        name=group,
        marker={
            "color": WINNER if is_winner else COLOURS[trials[0].status],
            "size": 14 if is_winner else 7,
            "symbol": "star" if is_winner else ["x" if beyond else "circle" for beyond in far],
            "opacity": 1.0 if is_winner else 0.85 if len(given.trials) < 100 else 0.5,
            "line": {"width": 0},
        },
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _value(trial: TrialRecord, name: str) -> str:
    return value_text(trial.configuration[name]).replace("<", "&lt;")


def _place(domain: Domain, value: Any, trial: TrialRecord) -> float | None:
    if isinstance(domain, Choice):
        labels = [value_text(choice) for choice in domain.values]
        aside = (trial.number * _GOLDEN) % 1.0 - 0.5  # evenly spread, and the same each time
        return round_off(labels.index(value_text(value)) + 2 * _SPREAD * aside)
    return round_off(float(value))


def _title(domain: Domain, name: str) -> str:
    return axis_title(name, log=not isinstance(domain, Choice) and domain.log)


def _axis(domain: Domain) -> dict[str, Any]:
    """Make the axis, from end to end of the domain, whatever values were tried."""
    if isinstance(domain, Choice):
        labels = [value_text(value).replace("<", "&lt;") for value in domain.values]
        return {
            "tickvals": list(range(len(labels))), "ticktext": labels, "range": [-0.5, len(labels) - 0.5],
            "showgrid": False,
        }  # fmt: skip
    return value_axis(domain.low, domain.high, log=domain.log)
