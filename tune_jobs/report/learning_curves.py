"""Draw the learning curves of all trials, with the rungs at which they were compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from tune_jobs.record.codes import Status
from tune_jobs.record.run_record import RunRecord, TrialRecord
from tune_jobs.report.scales import FEWEST_TO_CLIP, axis_title, round_off, score_scale, thin_out
from tune_jobs.report.style import COLOURS, FADED, WINNER, apply_style

MOST_POINTS = 40_000
"""Largest number of points of all curves together. If there are more, curves are thinned out."""
FEWEST_POINTS = 12
"""Smallest number of points that a thinned curve keeps."""

_FADED = 0.35
"""Opacity of curves of trials that were stopped."""
_OPACITY = {
    Status.STOPPED_EARLY: _FADED,
    Status.WAITING: 0.45,
    Status.FAILED: 0.6,
    Status.INTERRUPTED: 0.45,
}
_ORDER = (
    Status.STOPPED_EARLY,
    Status.PENDING,
    Status.INTERRUPTED,
    Status.WAITING,
    Status.FAILED,
    Status.RUNNING,
    Status.COMPLETED,
)
"""States in the order in which their curves are drawn, from the back to the front."""


@dataclass(frozen=True)
class Points:
    """Curves one after the other, with a gap between each two of them."""

    epochs: Sequence[int | None]
    values: Sequence[float | None]
    numbers: Sequence[int | None]
    """Number of the trial of each point."""


def curves_figure(
    record: RunRecord, rungs: Sequence[int], winner: str | None, on_training: str | None = None
) -> go.Figure | None:
    """Draw a line for each trial over its epochs, in the colour of its state; None if no epoch has a finite value.

    Args:
        record: The record of the run.
        rungs: Epochs at which trials are compared.
        winner: Id of the trial that is drawn on top.
        on_training: Name of the metric on training rows, which is drawn for the winner too; None if there is none.
    """
    metric = record.score.metric
    trials = [trial for trial in record.trials.values() if trial.epochs]
    scores = [best.score for trial in trials if (best := record.best(trial.trial_id)) is not None]
    if not scores:
        return None
    whole = trials if len(trials) < FEWEST_TO_CLIP else [t for t in trials if t.trial_id == winner]
    values = [float(epoch[metric]) for trial in whole for epoch in trial.epochs.values()]
    scale = score_scale([*scores, *values], record.score.mode)
    most = max(FEWEST_POINTS, MOST_POINTS // max(len(trials), 1))
    figure = go.Figure()
    for status in _ORDER:
        group = [trial for trial in trials if trial.status is status and trial.trial_id != winner]
        points = join_curves(group, metric, most, rungs)
        if any(value is not None for value in points.values):
            figure.add_trace(_lines(points, status.text, COLOURS[status], _OPACITY.get(status, 0.8)))
    if winner is not None:
        if on_training is not None:
            training = join_curves([record.trials[winner]], on_training, most, ())
            figure.add_trace(_lines(training, "winner, training rows", WINNER, 0.9, width=1.6, dash="dot"))
        own = join_curves([record.trials[winner]], metric, most, ())
        figure.add_trace(_lines(own, "winner", WINNER, 1.0, width=3))
    longest = max(max(trial.epochs) for trial in trials)
    log = len(rungs) >= 2 and longest >= 9  # rungs grow by a factor: on a log axis they are evenly spaced
    apply_style(
        figure,
        height=460,
        showlegend=True,
        hovermode="closest",
        margin={"t": 60},
        legend={"y": -0.22, "yanchor": "top"},
        xaxis=_epoch_axis(longest, rungs, log=log),
        yaxis={"title": {"text": axis_title(metric, log=scale.log)}, **scale.axis()},
    )
    _mark_rungs(figure, record, [rung for rung in rungs if rung <= longest], log=log)
    return figure


def join_curves(trials: Sequence[TrialRecord], metric: str, most: int, kept: Sequence[int]) -> Points:
    """Join the curves of `trials`, each with about `most` points, which include the epochs `kept`."""
    epochs: list[int | None] = []
    values: list[float | None] = []
    numbers: list[int | None] = []
    for trial in trials:
        own = sorted(trial.epochs)
        places = thin_out(len(own), most, [own.index(epoch) for epoch in kept if epoch in trial.epochs])
        for place in places:
            epochs.append(own[place])
            values.append(round_off(float(trial.epochs[own[place]][metric])))
            numbers.append(trial.number)
        epochs.append(None)
        values.append(None)
        numbers.append(None)
    return Points(epochs[:-1], values[:-1], numbers[:-1])


def _lines(points: Points, name: str, colour: str, opacity: float, **line: object) -> go.Scatter:
    single = len({epoch for epoch in points.epochs if epoch is not None}) == 1
    return go.Scatter(
        x=points.epochs,
        y=points.values,
        customdata=points.numbers,
        mode="markers" if single else "lines",
        name=name,
        opacity=opacity,
        line={"color": colour, "width": 1.4, **line},
        marker={"color": colour, "size": 6},
        hovertemplate="trial %{customdata}, epoch %{x}: %{y:.5g}<extra></extra>",
    )


def _mark_rungs(figure: go.Figure, record: RunRecord, rungs: Sequence[int], *, log: bool) -> None:
    """Draw a line at each rung, with how many of the trials that reached it continued."""
    last = [trial.curve.last_epoch for trial in record.trials.values()]
    for rung in rungs:
        came, went = sum(epoch >= rung for epoch in last), sum(epoch > rung for epoch in last)
        line = {"color": FADED, "width": 1, "dash": "dash"}
        figure.add_shape(type="line", x0=rung, x1=rung, y0=0, y1=1, yref="paper", layer="below", line=line)
        figure.add_annotation(
            x=math.log10(rung) if log else rung,  # plotly wants the exponent here, and the value in shapes
            y=1, yref="paper", yanchor="bottom", showarrow=False, font={"size": 11},
            text=f"epoch {rung}<br>{went} of {came} on",
        )  # fmt: skip


def _epoch_axis(longest: int, rungs: Sequence[int], *, log: bool) -> dict[str, object]:
    if not log:
        ticks = {"dtick": 1} if longest <= 12 else {}
        return {"title": {"text": "epoch"}, "range": [0, longest * 1.03], **ticks}
    shown = sorted({1, *(rung for rung in rungs if rung * 1.25 < longest), longest})
    return {
        "title": {"text": axis_title("epoch", log=True)}, "type": "log",
        "tickvals": shown, "ticktext": list(map(str, shown)),
        "range": [-0.03, math.log10(longest) + 0.05],
    }  # fmt: skip
