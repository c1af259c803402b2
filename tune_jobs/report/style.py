"""Style the figures of a report: one colour for each state, and what every figure has in common.

The page is light or dark, as the reader's system is. A figure therefore has no background, its colours can be read
on white and on near-black, and the page (`report.js`) sets those of text, grid and axes.
"""

from collections.abc import Mapping
from typing import Any, Final

import plotly.graph_objects as go

from tune_jobs.record.codes import Status

COLOURS: Final[Mapping[Status, str]] = {
    Status.COMPLETED: "#2a9d6f",
    Status.STOPPED_EARLY: "#e0962c",
    Status.WAITING: "#5b7fd6",
    Status.RUNNING: "#1f9fc0",
    Status.PENDING: "#8b93a1",
    Status.INTERRUPTED: "#8b93a1",
    Status.FAILED: "#d64550",
}
WINNER: Final = "#8f5bd6"
"""Colour of the winner."""
MAIN: Final = "#3f7fd1"
"""Main colour of a figure that does not show states."""
FADED: Final = "#8b93a1"
"""Colour of what is less important."""
SCALE: Final = ((0.0, "#8f5bd6"), (0.35, "#3f7fd1"), (0.7, "#2a9d6f"), (1.0, "#d9b44a"))
"""Colours from the best to the worst score."""

GRID: Final = "rgba(128,136,150,0.22)"
"""Colour of grid lines."""
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"


def with_opacity(colour: str, opacity: float) -> str:
    """Return `#3f7fd1` as `rgba(63,127,209,0.2)`."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def apply_style(figure: go.Figure, *, height: int, **layout: Any) -> go.Figure:
    """Give `figure` the style that all figures share, and return it. It is as wide as the page allows.

    Args:
        figure: The figure, which is changed.
        height: Height in pixels.
        **layout: Plotly's layout for this figure.
    """
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "ticks": ""}
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13},
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        hoverlabel={"font": {"family": FONT, "size": 12}},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": {"text": ""}},
        showlegend=False,
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure.update_layout(**layout)
