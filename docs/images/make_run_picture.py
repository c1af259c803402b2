"""Draws run.svg, the picture in README.md: what a terminal of 100 columns shows of a real run.

python docs/images/make_run_picture.py    # from the root of the repository; takes about a minute
"""

import os
import re
import shutil
from io import StringIO
from pathlib import Path

from rich.console import Console

from tune_jobs import Job, run
from tune_jobs.cli import _print_run
from tune_jobs.panel import Panel
from tune_jobs.standing import Standing

JOB = Path("examples/digits.yaml").resolve()
PICTURE = Path(__file__).resolve().with_name("run.svg")
FOLDER = Path("/tmp/tune")  # noqa: S108 (the paths in the picture are to be short)
COLUMNS = 100


def main() -> None:
    """Runs the example, and writes what was printed."""
    FOLDER.mkdir()
    try:
        _draw()
    finally:
        shutil.rmtree(FOLDER)


def _draw() -> None:
    os.chdir(FOLDER)
    console = Console(
        record=True,
        width=COLUMNS,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        file=StringIO(),
    )
    job = Job.from_file(JOB)
    standing = Standing(job)
    finished = run(job, listeners=[standing.apply])
    console.print("$ tune-jobs run examples/digits.yaml", style="bold")
    console.print(Panel(standing))
    _print_run(finished.path, console, most=5)
    svg = console.export_svg(title="tune-jobs")
    PICTURE.write_text(_without_remote_fonts(svg))


def _without_remote_fonts(svg: str) -> str:
    """A reader's browser is to fetch nothing; any monospaced font of its own will do."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    main()
