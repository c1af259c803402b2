"""Draw the timeline: a lane for each worker, a bar for each stretch, and the number of waiting trials."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tune_jobs.record.codes import Status
from tune_jobs.record.run_record import RunRecord
from tune_jobs.report.scales import round_off
from tune_jobs.report.style import COLOURS, WINNER, apply_style
from tune_jobs.report.timeline import Close, Stretch, Timeline
from tune_jobs.text import count_text, duration_text

_LANE = 26
"""Height of a worker's lane, in pixels."""
_MOST_NAMED = 40
"""Largest number of lanes with all names written."""
_LOST = "#7a1f2b"
_PROMOTED = "#d9b44a"


def timeline_figure(given: Timeline, record: RunRecord, winner: str | None) -> go.Figure:
    """Draw a bar for each stretch, in the colour of its end; below, the number of waiting trials.

    Args:
        given: The timeline.
        record: Record of the run, for the states in which trials ended.
        winner: Id of the trial that has its own colour.
    """
    unit, divisor = _unit(given.end)
    lanes = max(_LANE * len(given.lanes), 60) if len(given.lanes) <= _MOST_NAMED else 14 * len(given.lanes)
    panels = [lanes, 80] if any(count for _, count in given.waiting) else [lanes]
    figure = make_subplots(
        rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=min(0.3, 30 / (lanes + 110)),
        row_heights=panels,
    )  # fmt: skip
    groups: dict[tuple[str, str], list[Stretch]] = {}
    for stretch in given.stretches:
        groups.setdefault(_group(stretch, record, winner), []).append(stretch)
    for (name, colour), stretches in groups.items():
        figure.add_trace(_bars(stretches, record, name, colour, divisor), row=1, col=1)
    if given.promotions:
        figure.add_trace(_promotions(given, record, divisor), row=1, col=1)
    if len(panels) > 1:
        figure.add_trace(_waiting(given, divisor), row=2, col=1)
    for start, end in given.gaps:
        figure.add_vrect(
            x0=start / divisor, x1=end / divisor, fillcolor="rgba(128,136,150,0.2)", line_width=0
        )
    apply_style(
        figure,
        height=sum(panels) + 150,
        showlegend=True,
        barmode="overlay",
        bargap=0.25,
        hovermode="closest",
        margin={"l": 110, "t": 20, "b": 50},
        legend={"y": -0.0, "yref": "container", "yanchor": "bottom"},
    )
    texts = [f"{name} · {_share(given, lane)}" for lane, name in enumerate(given.lanes)]
    every = max(1, len(texts) // _MOST_NAMED)
    figure.update_yaxes(
        row=1, col=1, tickvals=list(range(len(texts)))[::every], ticktext=texts[::every], showgrid=False,
        range=[len(texts) - 0.4, -0.6],
    )  # fmt: skip
    if len(panels) > 1:
        figure.update_yaxes(row=2, col=1, title={"text": "waiting"}, rangemode="tozero", nticks=4)
    # In a short run, most of the time is the start of Ray and of the workers, which is empty.
    begin = max(given.first - 0.03 * (given.end - given.first), 0.0)
    figure.update_xaxes(range=[begin / divisor, given.end / divisor])
    figure.update_xaxes(row=len(panels), col=1, title={"text": f"{unit} since the start"})
    return figure


def caption(given: Timeline) -> str:
    """Return the totals of the timeline as sentences."""
    available = given.at_work * len(given.lanes)
    busy = sum(stretch.end - stretch.start for stretch in given.stretches)
    share = f"busy {busy / available:.0%} of " if available > 0 else ""
    pauses = sum(stretch.close is Close.PAUSED for stretch in given.stretches)
    parts = [
        f"{count_text(len(given.lanes), 'worker')}, {share}{_length(given.at_work)} from the first epoch on",
        *([f"{count_text(pauses, 'pause')} at a rung"] if pauses else []),
        *([f"{count_text(len(given.promotions), 'promotion')} after a pause"] if given.promotions else []),
        *([f"{count_text(given.lost, 'worker')} lost"] if given.lost else []),
        *([f"{count_text(given.unseen, 'trial')} without an epoch not shown"] if given.unseen else []),
        *([f"{count_text(len(given.gaps), 'interruption')} (grey)"] if given.gaps else []),
    ]
    triangles = " A triangle is a trial that continues after it has waited." if given.promotions else ""
    return (
        f"{'; '.join(parts)}. In an empty stretch of a lane no epoch was computed: the worker was starting, changing "
        f"trials, or without one.{triangles}"
    )


def _length(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else duration_text(seconds)


def _group(stretch: Stretch, record: RunRecord, winner: str | None) -> tuple[str, str]:
    """Return the name and the colour of a stretch."""
    if stretch.trial_id == winner:
        return "winner", WINNER
    match stretch.close:
        case Close.ENDED:
            status = record.trials[stretch.trial_id].status
            return status.text, COLOURS[status]
        case Close.PAUSED:
            return "then waits", COLOURS[Status.WAITING]
        case Close.LOST:
            return "worker lost", _LOST
        case Close.CUT_OFF:
            return "cut off with the run", COLOURS[Status.INTERRUPTED]
        case Close.RUNNING:
            return "running", COLOURS[Status.RUNNING]


def _bars(stretches: Sequence[Stretch], record: RunRecord, name: str, colour: str, divisor: float) -> go.Bar:
    def text(stretch: Stretch) -> str:
        epochs = (
            f"epoch {stretch.first_epoch}"
            if stretch.first_epoch == stretch.last_epoch
            else f"epochs {stretch.first_epoch} to {stretch.last_epoch}"
        )
        return f"{epochs}, {stretch.end - stretch.start:.2g} s"

    return go.Bar(
        orientation="h",
        y=[stretch.lane for stretch in stretches],
        base=[round_off(stretch.start / divisor) for stretch in stretches],
        x=[round_off((stretch.end - stretch.start) / divisor) for stretch in stretches],
        customdata=[record.trials[stretch.trial_id].number for stretch in stretches],
        text=[text(stretch) for stretch in stretches],
        textposition="none",
        name=name,
        marker={"color": colour, "line": {"width": 0}, "opacity": 0.9},
        hovertemplate=f"trial %{{customdata}}: %{{text}}, {name}<extra></extra>",
    )


def _promotions(given: Timeline, record: RunRecord, divisor: float) -> go.Scatter:
    """Mark each promotion at the stretch that it led to, if there is one."""
    places = []
    for promotion in given.promotions:
        led_to = next(
            (s for s in given.stretches if s.trial_id == promotion.trial_id and s.end >= promotion.time), None
        )
        if led_to is not None:
            places.append((led_to, promotion))
    return go.Scatter(
        x=[round_off(stretch.start / divisor) for stretch, _ in places],
        y=[stretch.lane - 0.42 for stretch, _ in places],
        customdata=[record.trials[promotion.trial_id].number for _, promotion in places],
        text=[str(promotion.epoch) for _, promotion in places],
        mode="markers",
        name="promoted",
        marker={"symbol": "triangle-down", "size": 7, "color": _PROMOTED},
        hovertemplate="trial %{customdata} continues from epoch %{text}<extra></extra>",
    )


def _waiting(given: Timeline, divisor: float) -> go.Scatter:
    return go.Scatter(
        x=[round_off(time / divisor) for time, _ in given.waiting],
        y=[count for _, count in given.waiting],
        mode="lines",
        line={"shape": "hv", "color": COLOURS[Status.WAITING], "width": 1.5},
        fill="tozeroy",
        hovertemplate="%{y} waiting<extra></extra>",
        showlegend=False,
    )


def _share(given: Timeline, lane: int) -> str:
    return f"{min(given.busy(lane) / given.at_work, 1.0):.0%}" if given.at_work > 0 else ""


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
