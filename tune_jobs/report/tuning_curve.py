"""Compute and draw the tuning curve: the best score to expect by number of trials, or epochs.

The expected best of `n` draws (Dodge et al. 2019) with simultaneous confidence bands (Lourie, Cho and He 2024),
both from opda.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import plotly.graph_objects as go
from opda.nonparametric import EmpiricalDistribution

from tune_jobs.record.run_record import RunRecord
from tune_jobs.report.scales import Scale, axis_title, round_off, score_scale, value_axis
from tune_jobs.report.style import GRID, MAIN, WINNER, apply_style, with_opacity
from tune_jobs.text import count_text
from tune_jobs.trainers.settings import Mode, cost

CONFIDENCE = 0.8
"""Least confidence of the band for the whole curve at once. It is exact for the distribution of scores, which contains
more than the average best."""
MOST_SIMULATED = 60
"""Largest number of trials for which the tighter band, which is simulated, is used."""
MOST_POINTS = 80
"""Largest number of points at which the curve is computed."""


@dataclass(frozen=True, kw_only=True)
class TuningCurve:
    """Expected best scores by number of trials. All sequences but the last two have the same length."""

    metric: str
    mode: Mode
    scale: Scale
    """Scale of the scores; those beyond its bad end count as that end."""
    trials: Sequence[float]
    expected: Sequence[float]
    sure: Sequence[float]
    """The band's edge at the bad end: the true curve is hardly worse."""
    possible: Sequence[float] | None
    """The band's edge at the good end; None if the metric has no best value: then the data set no limit."""
    epochs_a_trial: float
    lost: int
    """Trials without a score; they count as the bad end, as do scores beyond it."""
    observed: Sequence[float]
    """The best score of the first trials, from the first trial that has one."""
    observed_trials: Sequence[int]
    observed_epochs: Sequence[int]


def tuning_curve(record: RunRecord, best_possible: float | None) -> TuningCurve | None:
    """Return the tuning curve of the trials that have a score or failed without one; None if no trial has a score.

    A trial that was cut off with the run before its first score says nothing about its configuration. It is left out.

    Args:
        record: The record of the run.
        best_possible: The score that no trial can be better than; None if it is unknown.
    """
    mode = record.score.mode
    trials = [
        trial
        for trial in record.trials.values()
        if record.best(trial.trial_id) is not None or (trial.status.ended and not trial.cut_off)
    ]
    own = [record.best(trial.trial_id) for trial in trials]
    found = [best.score for best in own if best is not None]
    if not found:
        return None
    scale = score_scale(found, mode)
    bad = scale.bad_end(mode)
    scores = np.array([bad if best is None else scale.clip(best.score) for best in own])
    ns = np.unique(np.geomspace(1, len(scores), MOST_POINTS).round())
    expected, sure, possible = _curves(scores, ns, mode, bad, best_possible)
    observed, observed_trials = _best_so_far(own, mode)
    epochs = list(accumulate(len(trial.epochs) for trial in trials))
    return TuningCurve(
        metric=record.score.metric,
        mode=mode,
        scale=scale,
        trials=ns.tolist(),
        expected=expected.tolist(),
        sure=sure.tolist(),
        possible=None if possible is None else possible.tolist(),
        epochs_a_trial=epochs[-1] / len(trials),
        lost=len(own) - len(found),
        observed=observed,
        observed_trials=observed_trials,
        observed_epochs=[epochs[number - 1] for number in observed_trials],
    )


def curve_figure(curve: TuningCurve) -> go.Figure:
    """Draw the curve, its band, and the best score so far of the run; the horizontal axis is trials or epochs."""
    edge = curve.scale.good_end(curve.mode)
    good = [edge] * len(curve.trials) if curve.possible is None else curve.possible
    several = len(curve.trials) > 1  # a band is visible from two points on
    lines = {"mode": "lines" if several else "markers"}
    hidden = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure = go.Figure(
        [
            go.Scatter(y=_limit(curve, curve.sure), mode="lines", **hidden),
            go.Scatter(
                y=_limit(curve, good),
                name=f"{CONFIDENCE:.0%} confidence band",
                mode="lines",
                fill="tonexty",
                fillcolor=with_opacity(MAIN, 0.18),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=several,
            ),
            go.Scatter(
                y=_limit(curve, curve.expected),
                name="expected best",
                line={"color": MAIN, "width": 3},
                marker={"color": MAIN, "size": 10},
                hovertemplate="expected best: %{y:.4g}<extra></extra>",
                **lines,
            ),
            go.Scatter(
                y=_limit(curve, curve.observed),
                name="best so far in this run",
                mode="lines" if len(curve.observed) > 1 else "markers",
                line={"color": WINNER, "width": 1.5, "shape": "hv"},
                marker={"color": WINNER, "size": 7, "symbol": "star"},
                hovertemplate="best so far: %{y:.4g}<extra></extra>",
            ),
        ]
    )
    axes = {name: _axis(curve, name) for name in ("trials", "epochs")}
    for trace, x in zip(figure.data, axes["trials"]["x"], strict=True):
        trace.x = x
    buttons = [
        {
            "label": f"by {name}",
            "method": "update",
            "args": [{"x": axis["x"]}, {"xaxis": axis["layout"]}],
        }
        for name, axis in axes.items()
    ]
    return apply_style(
        figure,
        height=400,
        showlegend=True,
        hovermode="x",
        legend={"y": -0.24, "yanchor": "top"},
        updatemenus=[{"type": "buttons", "buttons": buttons}],
        xaxis=axes["trials"]["layout"],
        yaxis={"title": {"text": axis_title(curve.metric, log=curve.scale.log)}, **curve.scale.axis()},
    )


def caption(curve: TuningCurve) -> str:
    """Say what the figure shows, and what it does not."""
    if curve.trials[-1] == 1:
        return f"The {curve.metric} of the only trial; a curve and its band take two."
    beyond = [
        *([f"{count_text(curve.lost, 'trial')} without a score"] if curve.lost else []),
        *([f"{count_text(curve.scale.clipped, 'score')} beyond it"] if curve.scale.clipped else []),
    ]
    one = curve.lost + curve.scale.clipped == 1
    so_they = f": {' and '.join(beyond)} {'counts' if one else 'count'} as that" if beyond else ""
    bad = curve.scale.bad_end(curve.mode)
    worst = f" No score is taken to be worse than {bad:.3g}, the bad end of the axis{so_they}."
    open_end = (
        f" {curve.metric} has no known best value, so the band is open at its good end."
        if curve.possible is None
        else ""
    )
    if curve.possible is not None and curve.scale.clip(curve.possible[-1]) != curve.possible[-1]:
        open_end = " The band continues beyond the axis: the trials set no closer limit."
    return (
        f"The best {curve.metric} to expect from this many configurations, drawn at random from those tried, with "
        f"a band that holds the whole curve with at least {CONFIDENCE:.0%} confidence (Dodge et al. 2019; Lourie, Cho "
        "and He 2024). Where it is flat, more trials of this kind gain little. Trials that a model proposed or that "
        f"were stopped early are no independent draws of full trainings: read the band as a guide.{worst}{open_end}"
    )


def _curves(
    scores: np.ndarray, ns: np.ndarray, mode: Mode, bad: float, limit: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the expected best, its bad edge and its good edge at each of `ns`.

    The bands of Learned-Miller and DeStefano are tight at the good end, and simulated, which takes a second
    for 60 trials and half a minute for 1,000: with more trials those of Kolmogorov and Smirnov are
    used. The simulation is seeded, so a report is the same each time.
    """
    minimize = mode == "min"
    good = limit if limit is not None else (-math.inf if minimize else math.inf)
    support = (good, bad) if minimize else (bad, good)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # with equal scores the band holds more often, not less
        lower, point, upper = EmpiricalDistribution.confidence_bands(
            scores,
            CONFIDENCE,
            a=min(support[0], float(scores.min())),
            b=max(support[1], float(scores.max())),
            generator=np.random.default_rng(0),
            method="ld_equal_tailed" if len(scores) <= MOST_SIMULATED else "ks",
            n_jobs=1,
        )
    # A higher CDF has lower scores: the upper band is the good end if low is good.
    better, worse = (upper, lower) if minimize else (lower, upper)
    expected = point.average_tuning_curve(ns, minimize=minimize)
    sure = worse.average_tuning_curve(ns, minimize=minimize)
    return expected, sure, None if limit is None else better.average_tuning_curve(ns, minimize=minimize)


def _best_so_far(own: Sequence[Any], mode: Mode) -> tuple[list[float], list[int]]:
    """Return the best score of the first trials, with their number, at each improvement and at the last trial."""
    best, values, numbers = None, [], []
    for number, score in enumerate(own, start=1):
        if score is not None and (best is None or cost(score.score, mode) < cost(best, mode)):
            best = score.score
            values.append(best)
            numbers.append(number)
    if best is not None and numbers[-1] < len(own):
        values.append(best)
        numbers.append(len(own))
    return values, numbers


def _axis(curve: TuningCurve, name: str) -> dict[str, Any]:
    """Return the places of all four traces, and the axis, in trials or epochs."""
    unit = 1.0 if name == "trials" else curve.epochs_a_trial
    places = [round_off(number * unit) for number in curve.trials]
    observed = curve.observed_trials if name == "trials" else curve.observed_epochs
    first, last = min(curve.trials[0] * unit, observed[0]), max(curve.trials[-1] * unit, observed[-1])
    axis = value_axis(max(first, 1.0), max(last, 1.0), log=True)
    return {
        "x": [places, places, places, list(observed)],
        "layout": {
            "title": {"text": axis_title(name, log=True)},
            "gridcolor": GRID,
            "automargin": True,
            **axis,
        },
    }


def _limit(curve: TuningCurve, values: Sequence[float]) -> list[float | None]:
    """Return values limited to the axis and a little beyond it, since a logarithmic axis has no place for zero."""
    scale = curve.scale
    if not scale.log:
        return [round_off(value) for value in values]
    return [round_off(max(value, scale.low / 10)) for value in values]
