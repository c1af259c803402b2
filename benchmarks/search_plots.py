"""Draw the figures of docs/search.md from the results of the two search benchmarks.

    python benchmarks/digits_search.py --equal --out digits.json
    python benchmarks/search_quality.py --curves DIR --out curves.json
    python benchmarks/search_plots.py --digits digits.json --curves curves.json [--folder docs/images]

search_digits.svg: the lowest validation loss over epochs spent on examples/digits.yaml, medians and quartiles.
search_curves.svg: normalised regret over steps on tables of learning curves, means and standard errors.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.regret import estimate
from benchmarks.staircases import Staircase, value_at

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
MAIN_ROWS = ("ray", "ray-random", "random", "tpe", "gp")
"""Rows of search_quality.py that are drawn by default."""

# Okabe and Ito's colours, which people with any colour vision can distinguish. Ours are the blues and the green.
ORANGE, RED, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
COLOURS: Mapping[str, str] = {
    "ray": RED,
    "ray-random": ORANGE,
    "ray-factor-4": PURPLE,
    "random": SKY,
    "tpe": GREEN,
    "gp": BLUE,
    "ours": BLUE,
    "equal": SKY,
}
OTHER_COLOURS = ("#000000", "#7F7F7F", PURPLE, GREEN, ORANGE)
FIRST_EPOCH = FIRST_STEP = 20.0
"""The first epoch or step that is drawn: before it, a curve depends on the random order of configurations."""
HEIGHT = 8.0
"""The upper end of the axis of losses, as a multiple of the lowest loss."""
POINTS = 300
"""The most points of a curve of regret, evenly spaced on the logarithmic axis."""
LABEL_WIDTH = 26
"""Characters of a line of a label."""
LOWEST_LABEL = 0.04
"""Height of the lowest label's middle, as a share of the axes'."""
INK, FAINT = "#222222", "#DDDDDD"

STYLE: Mapping[str, Any] = {
    "figure.facecolor": "white",  # the page may be dark
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "tune-jobs",  # the same data give the same file
}

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve with a band."""

    name: str
    title: str
    x: Array
    middle: Array
    low: Array
    high: Array
    ended: float = math.inf
    """The last epoch before more than half of the runs are over. Finished runs keep their loss."""


def digits_lines(results: Mapping[str, Any]) -> list[Line]:
    """Return medians and quartiles of the loss by side, from the results of digits_search.py."""
    sides = results["sides"]
    longest = max(run["epochs"] for side in sides.values() for run in side["runs"])
    x = np.arange(1, longest + 1, dtype=np.float64)
    return [_digits_line(name, side["title"], side["runs"], x) for name, side in sides.items()]


def _digits_line(name: str, title: str, runs: Sequence[Mapping[str, Any]], x: Array) -> Line:
    staircases: list[Staircase] = [run["improvements"] for run in runs]
    # Only epochs at which every run has a finite loss: a quartile of infinity says nothing.
    x = x[x >= max(staircase[0][0] for staircase in staircases)]
    losses = np.array([[value_at(staircase, int(at)) for at in x] for staircase in staircases])
    low, middle, high = np.quantile(losses, (0.25, 0.5, 0.75), axis=0)
    ended = statistics.median(run["epochs"] for run in runs)
    return Line(name=name, title=title, x=x, middle=middle, low=low, high=high, ended=ended)


def regret_lines(results: Mapping[str, Any], rows: Iterable[str]) -> list[Line]:
    """Return means and standard errors of regret by row, from the results of search_quality.py."""
    x = np.unique(np.geomspace(1, results["steps"], POINTS).round())
    return [_regret_line(row, results["rows"][row], x) for row in rows if row in results["rows"]]


def _regret_line(name: str, row: Mapping[str, Any], x: Array) -> Line:
    staircases = {task: [one["improvements"] for one in of_task] for task, of_task in row["tasks"].items()}
    estimates = [
        estimate({task: [value_at(s, int(at)) for s in of_task] for task, of_task in staircases.items()})
        for at in x
    ]
    middle = np.array([each.mean for each in estimates])
    error = np.nan_to_num(np.array([each.error for each in estimates]))  # of a single seed
    return Line(name=name, title=row["title"], x=x, middle=middle, low=middle - error, high=middle + error)


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Return the positions moved apart until neighbours are `gap` apart, in the same order.

    Crowds are moved as one and stay around their old positions.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    crowds: list[tuple[float, list[int]]] = []  # the middle of each crowd, and its members
    for index in order:
        middle, members = positions[index], [index]
        while crowds and middle - crowds[-1][0] < gap * (len(members) + len(crowds[-1][1])) / 2:
            before, others = crowds.pop()
            middle = (before * len(others) + middle * len(members)) / (len(others) + len(members))
            members = others + members
        crowds.append((middle, members))
    moved = list(positions)
    for middle, members in crowds:
        for place, index in enumerate(members):
            moved[index] = middle + gap * (place - (len(members) - 1) / 2)
    return moved


def draw_digits(lines: Sequence[Line]) -> Figure:
    """Draw the lowest validation loss over the epochs spent."""
    figure, axes = _figure()
    first = max(FIRST_EPOCH, *(float(line.x[0]) for line in lines))
    _draw_lines(axes, lines, first)
    lowest = min(float(line.low.min()) for line in lines)
    axes.set_yscale("log")
    axes.set_ylim(0.9 * lowest, HEIGHT * lowest)
    _log_x(axes, first, max(float(line.x[-1]) for line in lines))
    _plain_numbers(axes)
    axes.set_xlabel("epochs spent, all trials together")
    axes.set_ylabel("lowest validation loss so far (cross-entropy)")
    if any(line.ended < line.x[-1] for line in lines):
        note = "● the run is over and keeps what it found"
        axes.annotate(note, (0.012, 0.02), xycoords="axes fraction", fontsize=8.5, color="#555555")
    _label_ends(axes, lines)
    return figure


def draw_regret(lines: Sequence[Line]) -> Figure:
    """Draw regret over steps."""
    figure, axes = _figure()
    _draw_lines(axes, lines, FIRST_STEP)
    _log_x(axes, FIRST_STEP, float(lines[0].x[-1]))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("training steps spent, all trials together")
    axes.set_ylabel("normalised regret (0: best of the table, 1: median)")
    _label_ends(axes, lines)
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.4, 4.4), dpi=150)
    axes = figure.add_axes((0.085, 0.125, 0.62, 0.845))  # to the right is room for the lines' titles
    axes.grid(visible=True, which="major", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _draw_lines(axes: Axes, lines: Sequence[Line], first: float) -> None:
    named = list(zip(lines, colours(line.name for line in lines), strict=True))
    for line, colour in reversed(named):  # the first is on top
        shown = line.x >= first
        running = shown & (line.x <= line.ended)
        over = shown & (line.x >= line.ended)
        axes.fill_between(
            line.x[running],
            line.low[running],
            line.high[running],
            step="post",
            color=colour,
            alpha=0.16,
            linewidth=0,
        )
        axes.step(line.x[running], line.middle[running], where="post", color=colour, linewidth=2)
        if over.sum() > 1:
            axes.step(
                line.x[over], line.middle[over], where="post", color=colour, linewidth=1.1, linestyle=":"
            )
            axes.plot(line.x[over][0], line.middle[over][0], "o", color=colour, markersize=5.5)


def _log_x(axes: Axes, first: float, last: float) -> None:
    """Make the x axis logarithmic with round numbers, from `first` to `last`."""
    axes.set_xscale("log")
    axes.set_xlim(first, last)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _plain_numbers(axes: Axes) -> None:
    """Write losses as 0.05 instead of as powers of ten."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8), numticks=30))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _label_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Write each line's title beside its end, in its colour: no curve is covered, and no legend is needed."""
    to_height = axes.transData + axes.transAxes.inverted()
    heights = [float(to_height.transform((line.x[-1], line.middle[-1]))[1]) for line in lines]
    titles = [in_lines(line.title) for line in lines]
    places = spread(heights, gap=0.105)
    lift = max(0.0, LOWEST_LABEL - min(places))  # above the numbers of the axis
    places = [place + lift for place in places]
    names = colours(line.name for line in lines)
    for height, place, title, colour in zip(heights, places, titles, names, strict=True):
        axes.annotate(
            title,
            xy=(1.0, height),
            xytext=(1.035, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            color=darker(colour),
            fontsize=9.5,
            fontweight="bold",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 1.2,
                "relpos": (0, 0.5),  # from the middle of the text's left side
                "shrinkA": 2,
                "shrinkB": 1,
            },
        )


def in_lines(title: str) -> str:
    """Break a long title behind its colon, or between words."""
    if len(title) > LABEL_WIDTH and ": " in title:
        before, _, after = title.partition(": ")
        return f"{before}:\n{fill(after, LABEL_WIDTH)}"
    return fill(title, LABEL_WIDTH)


def darker(colour: str) -> tuple[float, float, float]:
    """Return a darker colour for text, which is thinner than a line and has to be readable."""
    red, green, blue = to_rgb(colour)
    return 0.68 * red, 0.68 * green, 0.68 * blue


def colours(names: Iterable[str]) -> list[str]:
    """Return a colour for each line: its own if it has one."""
    others = iter(OTHER_COLOURS * 10)
    return [COLOURS.get(name) or next(others) for name in names]


def save(figure: Figure, path: Path) -> None:
    """Write the figure. The same figure gives the same file."""
    dated = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=dated)
    print(path)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="search_plots.py", description=__doc__.split("\n")[0])
    parser.add_argument("--digits", type=Path, metavar="FILE", help="the results of digits_search.py")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="the results of search_quality.py")
    parser.add_argument(
        "--rows", nargs="+", default=list(MAIN_ROWS), metavar="ROW", help="rows of --curves to draw"
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, metavar="DIR", help="folder for the figures (docs/images)"
    )
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="format of the figures (svg)")
    given = parser.parse_args(arguments)
    if given.digits is None and given.curves is None:
        parser.error("give --digits, --curves, or both")
    if not given.folder.is_dir():
        parser.error(f"--folder: there is no folder {given.folder}")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the requested figures and print their paths."""
    given = parse_arguments(arguments)
    with mpl.rc_context(dict(STYLE)):  # type: ignore[arg-type]  # every key as a literal
        if given.digits is not None:
            lines = digits_lines(json.loads(given.digits.read_text()))
            save(draw_digits(lines), given.folder / f"search_digits.{given.format}")
        if given.curves is not None:
            lines = regret_lines(json.loads(given.curves.read_text()), given.rows)
            save(draw_regret(lines), given.folder / f"search_curves.{given.format}")


if __name__ == "__main__":
    main()
