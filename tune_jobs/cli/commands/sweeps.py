"""The command for a W&B sweep file: `import-sweep`."""

import argparse
from pathlib import Path

from rich.console import Console

from tune_jobs.cli.parser import Commands
from tune_jobs.job.file import YAML_1_1, read_yaml
from tune_jobs.job.from_sweep import job_from_sweep


def add_commands(commands: Commands) -> None:
    """Add the command to the command line."""
    commands.add(
        "import-sweep", _import_sweep, "Print a W&B sweep file as a job file.", ("SWEEP", "sweep file")
    )


def _import_sweep(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    console.print(job_from_sweep(read_yaml(Path(options.sweep), YAML_1_1)), markup=False, end="")
