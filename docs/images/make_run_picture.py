"""Draws run.svg and live.svg: what a terminal shows of real runs, at the end and in the middle.

python docs/images/make_run_picture.py    # from the root of the repository; takes about a minute
"""

import os
import re
import shutil
import time
from io import StringIO
from pathlib import Path

from rich.console import Console

from tune_jobs import Job, run
from tune_jobs.cli.panel import Panel
from tune_jobs.cli.progress import RunProgress
from tune_jobs.cli.summary import print_run
from tune_jobs.record.events import Event

JOB = Path("examples/digits.yaml").resolve()
PICTURE = Path(__file__).resolve().with_name("run.svg")
MIDDLE = Path(__file__).resolve().with_name("live.svg")
FOLDER = Path("/tmp/tune")  # noqa: S108 (the paths in the picture are to be short)
COLUMNS = 100


def main() -> None:
    """Runs the example, and writes what was printed."""
    FOLDER.mkdir()
    try:
        _draw()
    finally:
        shutil.rmtree(FOLDER)


def _console(columns: int) -> Console:
    return Console(
        record=True,
        width=columns,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        file=StringIO(),
    )


def _draw() -> None:
    os.chdir(FOLDER)
    console = _console(COLUMNS)
    job = Job.from_file(JOB)
    progress = RunProgress(job, asked_at=time.time())
    finished = run(job, listeners=[progress.apply])
    console.print("$ tune-jobs run examples/digits.yaml", style="bold")
    console.print(Panel(progress))
    print_run(finished.path, console, most=5)
    _save(console, PICTURE)
    _draw_the_middle()


def _draw_the_middle() -> None:
    """A larger run, when two thirds have passed; its learning rates are too wide, so that some trials fail."""
    changes = [("search.trials", 90), ("search.space.lr.high", 1e6), ("training.max_epochs", 54)]
    job = Job.from_file(JOB, changes)
    console = _console(80)
    progress = RunProgress(job, asked_at=time.time())

    def draw(event: Event) -> None:
        progress.apply(event)
        if progress.passed == 60 and not console.export_text(clear=False):
            console.print("$ tune-jobs watch runs/digits-20260101T120000Z-abcd", style="bold")
            console.print(Panel(progress))

    run(job, listeners=[draw])
    _save(console, MIDDLE)


def _save(console: Console, picture: Path) -> None:
    picture.write_text(_without_remote_fonts(console.export_svg(title="tune-jobs")))


def _without_remote_fonts(svg: str) -> str:
    """A reader's browser fetches nothing: any of its own monospaced fonts will do."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    main()
