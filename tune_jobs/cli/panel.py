"""The progress of a run as a few lines of a terminal, at any width, with and without colour."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from tune_jobs.cli.progress import RunProgress
from tune_jobs.cli.sparkline import BLOCKS, sparkline
from tune_jobs.record.codes import Status
from tune_jobs.text import configuration_text, duration_text, number_text, one_line

COLOURS = {
    Status.RUNNING: "cyan",
    Status.WAITING: "blue",
    Status.COMPLETED: "green",
    Status.STOPPED_EARLY: "yellow",
    Status.FAILED: "red",
    Status.INTERRUPTED: "magenta",
}
LABEL = 8
"""Columns of the label in front of each line."""
BAR = 40
"""Largest width of the bar of trials, in columns."""
CURVE = 30
"""Largest width of the curve of the best trial, in columns."""
FAILURES = 3
"""Largest number of reasons of failures that are shown."""
CONFIGURATION = 3
"""Largest number of lines of a configuration that are shown."""


class Panel:
    """Draws the progress of a run as it is at that moment.

    A line is never longer than the terminal is wide: what does not fit is cut, or continues on the next line.
    """

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich's console protocol."""
        width = options.max_width
        with self._progress.lock:
            lines = _Lines(self._progress, width, options.encoding)
            yield lines.bar(min(BAR, width))
            for label, facts in (
                ("trials", lines.trials()),
                ("rungs", lines.rungs()),
                ("best", lines.best()),
                ("failed", lines.failures()),
                ("lost", lines.losses()),
                ("no room", lines.unplaced()),
                ("time", lines.time()),
                ("note", lines.note()),
            ):
                for number, fact in enumerate(facts):
                    yield Text.assemble((f"{'' if number else label:<{LABEL}}", "dim"), fact, no_wrap=True)


class _Lines:
    """The facts of a run in progress, each as lines of at most `width` less the label."""

    def __init__(self, progress: RunProgress, width: int, encoding: str) -> None:
        self._progress = progress
        self._room = max(width - LABEL, 8)
        self._unicode = shows_blocks(encoding)

    def bar(self, width: int) -> Text:
        done = min(self._progress.passed / max(self._progress.asked, 1), 1.0)
        full = int(done * width)
        past, rest = ("━", "─") if self._unicode else ("=", "-")
        return Text.assemble((past * full, "green"), (rest * (width - full), "dim"))

    def trials(self) -> Iterator[Text]:
        progress = self._progress
        parts = [Text.assemble((f"{progress.ended}", "bold"), f" of {progress.asked} ended")]
        parts += [
            Text.assemble((f"{count}", COLOURS[status]), f" {name}")
            for status, name, count in progress.counts()
        ]
        yield from _join_parts(parts, self._room)

    def time(self) -> Iterator[Text]:
        progress = self._progress
        parts = [duration_text(progress.seconds)]
        started = progress.seconds_of_training is not None
        parts.append(progress.speed_text() if started else "workers are starting")
        left = progress.seconds_left
        if left is not None:
            parts.append(f"about {duration_text(left)} left")
        yield from _join_parts(list(map(Text, parts)), self._room)

    def rungs(self) -> Iterator[Text]:
        rungs, rung_progress = self._progress.rungs, self._progress.rung_progress
        rows: dict[str, list[int]] = {}
        if rungs:
            rows = {
                "epoch": [rung.epoch for rung in rungs],
                "reached it": [rung.entries for rung in rungs],
                "wait there": [rung.waiting for rung in rungs],
                "promoted": [rung.promoted for rung in rungs],
            }
        elif rung_progress:
            rows = {
                "epoch": [rung.epoch for rung in rung_progress],
                "reached it": [rung.reached for rung in rung_progress],
                "continued": [rung.advanced for rung in rung_progress],
                "ended there": [rung.ended for rung in rung_progress],
            }
        yield from _table(rows, self._room)

    def best(self) -> Iterator[Text]:
        progress, best = self._progress, self._progress.best
        if best is None:
            yield Text("no score yet")
            return
        yield self._cut_to_line(progress.best_text() or "")
        spark = sparkline(progress.curve, min(CURVE, self._room), unicode=self._unicode)
        if spark is not None and len(progress.curve) > 1:
            scale = ", log scale" if spark.log else ""
            metric = progress.record.score.metric
            about = f"{metric} {number_text(spark.low)} to {number_text(spark.high)}{scale}"
            parts = [Text(spark.text, "cyan"), self._cut_to_line(about)]
            yield from _join_parts(parts, self._room)
        text = configuration_text(best.trial.configuration)
        configuration = one_line(text[: (CONFIGURATION + 1) * self._room])  # folding a very long text is slow
        yield from self._fold_text(configuration, CONFIGURATION)

    def failures(self) -> Iterator[Text]:
        groups = self._progress.failures
        digits = max((len(str(group.count)) for group in groups), default=1)
        for group in groups[:FAILURES]:
            count = f"{group.count:>{digits}}"
            text = self._cut_to_line(f"{count}, such as trial {group.example}: {one_line(group.reason)}")
            text.stylize("red", 0, digits)
            yield text
        rest = groups[FAILURES:]
        if rest:
            yield self._cut_to_line(
                f"{sum(group.count for group in rest):>{digits}} for {len(rest)} further "
                f"reason{'' if len(rest) == 1 else 's'}"
            )

    def losses(self) -> Iterator[Text]:
        loss, count = self._progress.last_loss, self._progress.workers_lost
        if loss is not None:
            plural = "" if count == 1 else "s"
            yield self._cut_to_line(
                f"{count} worker{plural}, last of trial {loss.trial_id}: {one_line(loss.reason)}"
            )

    def unplaced(self) -> Iterator[Text]:
        for trial_id, reason in list(self._progress.unplaced.items())[:1]:
            others = len(self._progress.unplaced) - 1
            more = f" (and {others} more)" if others else ""
            for text in self._fold_text(f"trial {trial_id}{more} {one_line(reason)}", CONFIGURATION):
                text.stylize("yellow")
                yield text

    def note(self) -> Iterator[Text]:
        for text in self._fold_text(one_line(self._progress.note), CONFIGURATION):
            text.stylize("yellow")
            yield text

    def _cut_to_line(self, text: str) -> Text:
        """Return `text` as one line, cut and with dots at the end if it is too long."""
        if cell_len(text) <= self._room:
            return Text(text)
        dots = "…" if self._unicode else "..."
        return Text(chop_cells(text, self._room - len(dots))[0] + dots)

    def _fold_text(self, text: str, most: int) -> Iterator[Text]:
        """Break `text` into at most `most` lines, at blanks if it has any."""
        lines = list(Text(text).wrap(_WIDE, self._room)) if text else []
        for number, line in enumerate(lines):
            if number == most - 1 and len(lines) > most:
                yield self._cut_to_line(" ".join(later.plain.strip() for later in lines[number:]))
                return
            line.rstrip()
            yield line


_WIDE = Console(width=1000, color_system=None)
"""For folding text: rich asks for a console, and reads only its tab size."""


def shows_blocks(encoding: str) -> bool:
    """Return whether text in `encoding` can hold the blocks that curves are drawn with."""
    try:
        (BLOCKS + "…━─").encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _join_parts(parts: Sequence[Text], room: int) -> Iterator[Text]:
    """Join `parts` side by side, in as many lines as they need."""
    line = Text()
    for part in parts:
        if line and line.cell_len + 3 + part.cell_len > room:
            yield line
            line = Text()
        line = Text.assemble(line, "   ", part) if line else part
    yield line


def _table(rows: dict[str, list[int]], room: int) -> Iterator[Text]:
    """Align rows of numbers. Columns that do not fit are left out, those in the middle first."""
    if not rows:
        return
    names, columns = list(rows), list(zip(*rows.values(), strict=True))
    head = max(map(len, names))
    width = 2 + max(len(f"{value}") for column in columns for value in column)
    fit = max((room - head) // width, 1)
    cells: list[Sequence[str]] = [list(map(str, column)) for column in columns]
    if len(cells) > fit:
        first = max((fit - 1) // 2, 1)
        last = max(fit - 1 - first, 0)
        cells = [*cells[:first], [".."] * len(names), *(cells[-last:] if last else [])][:fit]
    for row, name in enumerate(names):
        numbers = "".join(f"{cell[row]:>{width}}" for cell in cells)
        yield Text(f"{name:<{head}}{numbers}", "bold" if row == 0 else "")
