"""Make the sections of a report: figures in the order in which they are read, each with a caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import plotly.graph_objects as go

from tune_jobs.job.job import Job
from tune_jobs.record.events import Event
from tune_jobs.record.run_record import RunRecord
from tune_jobs.report import importance, timeline_figure, tuning_curve
from tune_jobs.report.contours import contour_figures
from tune_jobs.report.importance import importance_figure, importances
from tune_jobs.report.learning_curves import curves_figure
from tune_jobs.report.parallel_coordinates import MOST_LINES, parallel_figure
from tune_jobs.report.scored_trials import ScoredTrials, scored_trials
from tune_jobs.report.slices import slice_figure
from tune_jobs.report.timeline import timeline
from tune_jobs.text import count_text


@dataclass(frozen=True)
class NamedFigure:
    """A figure, and its name in the page."""

    id: str
    figure: go.Figure

    @property
    def height(self) -> int:
        """Return the height in pixels, which the page reserves until the figure is drawn."""
        return int(self.figure.layout.height)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Figures that belong together, and their caption."""

    title: str = ""
    caption: str = ""
    figures: Sequence[NamedFigure] = ()
    layout: Literal["slices", "contours"] = "slices"
    """Arrangement of several figures."""


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading."""

    id: str
    title: str
    parts: Sequence[Part] = field(default_factory=tuple)


def make_sections(
    job: Job, record: RunRecord, events: Sequence[Event], winner: str | None, now: float | None
) -> list[Section]:
    """Return all sections that have something to show.

    Args:
        job: Job of the run.
        record: Record of the events in force.
        events: All events of the run.
        winner: Id of the winner, or of the best trial so far.
        now: Unix time at which the timeline ends; None if no process is at work on the run.
    """
    sections = [
        Section("tuning-curve", "Tuning curve", _tuning_curve(job, record)),
        Section("learning-curves", "Learning curves", _learning_curves(job, record, winner)),
        Section("hyperparameters", "Hyperparameters", _hyperparameters(job, record, winner)),
        Section("timeline", "Timeline", _timeline(record, events, winner, now)),
    ]
    return [section for section in sections if section.parts]


def _tuning_curve(job: Job, record: RunRecord) -> list[Part]:
    best_possible = job.facts.metric(record.score.metric).best
    curve = tuning_curve.tuning_curve(record, best_possible)
    if curve is None:
        return []
    drawn = NamedFigure("tuning-curve", tuning_curve.curve_figure(curve))
    return [Part(caption=tuning_curve.caption(curve), figures=[drawn])]


def _learning_curves(job: Job, record: RunRecord, winner: str | None) -> list[Part]:
    figure = curves_figure(record, job.rungs, winner, job.facts.metric(record.score.metric).on_training)
    if figure is None:
        return []
    compared = " Dashed lines are the epochs at which trials were compared." if job.rungs else ""
    caption = (
        f"{record.score.metric} of each trial after each epoch; trials that were stopped are faded.{compared} "
        "Values that are far worse than the rest lie beyond the axis."
    )
    return [Part(caption=caption, figures=[NamedFigure("learning-curves", figure)])]


def _hyperparameters(job: Job, record: RunRecord, winner: str | None) -> list[Part]:
    given, space = scored_trials(record), job.search.space
    tried = {name for trial in (given.trials if given else ()) for name in trial.configuration}
    if given is None or not tried:
        return []
    shares = importances(given, space)
    order = [*shares, *(name for name in space.order if name in tried and name not in shares)]
    slices = [
        NamedFigure(f"slice-{place}", slice_figure(given, space, name, winner))
        for place, name in enumerate(order)
    ]
    parts = [
        _importance(given, shares) if len(order) > 1 else Part(),
        Part(
            title="One at a time",
            caption="The score of each trial against its value; the star is the best, a cross is a trial whose "
            "score is missing or beyond the axis.",
            figures=slices,
        ),
    ]
    contours = contour_figures(given, space, shares)
    if contours:
        parts.append(
            Part(
                title="Two at a time",
                caption="The score over the parameters that matter most, interpolated between the trials (dots). "
                "Colours end at the worst quarter.",
                figures=[NamedFigure(f"contour-{place}", figure) for place, figure in enumerate(contours)],
                layout="contours",
            )
        )
    if len(order) > 1 and len(given.trials) > 1:
        parts.append(_parallel(given, job, order))
    return [part for part in parts if part != Part()]


def _importance(given: ScoredTrials, shares: Mapping[str, float]) -> Part:
    if not shares:
        few = f"Importance is not shown: it takes {importance.FEWEST_TRIALS} trials with differing scores, and there "
        return Part(
            title="Importance",
            caption=f"{few}{'is' if len(given.trials) == 1 else 'are'} {len(given.trials)}.",
        )
    return Part(
        title="Importance",
        caption="How much each parameter tells the best trials (a tenth, at least five) from the rest: PED-ANOVA "
        "(Watanabe et al. 2023), on the scores so far. A share is no effect size, and with few trials it is rough.",
        figures=[NamedFigure("importance", importance_figure(shares))],
    )


def _parallel(given: ScoredTrials, job: Job, order: Sequence[str]) -> Part:
    left_out = ""
    if len(given.trials) > MOST_LINES:
        trials = count_text(len(given.trials), "trial")
        left_out = f" Of {trials} an even share of those behind the best 200 is left out."
    return Part(
        title="All together",
        caption="One line a trial. Drag along an axis to pick lines, drag a name to move an axis; the dash stands "
        f"for a parameter that does not apply.{left_out}",
        figures=[NamedFigure("parallel-coordinates", parallel_figure(given, job.search.space, order[::-1]))],
    )


def _timeline(
    record: RunRecord, events: Sequence[Event], winner: str | None, now: float | None
) -> list[Part]:
    found = timeline(events, now)
    if found is None:
        return []
    drawn = NamedFigure("timeline", timeline_figure.timeline_figure(found, record, winner))
    return [Part(caption=timeline_figure.caption(found), figures=[drawn])]
