"""The commands that need a job file, and neither Ray nor a run folder: `validate`, `train`."""

import argparse

from rich.console import Console

from tune_jobs.cli.parser import JOB, Commands
from tune_jobs.cli.tables import plan_lines
from tune_jobs.driver.preparation import prepare
from tune_jobs.driver.train_alone import split_configuration, train_one
from tune_jobs.driver.trial_start import start_one, start_text
from tune_jobs.job.file import parse_overrides
from tune_jobs.job.job import Job
from tune_jobs.record.curve import numbers
from tune_jobs.text import configuration_text


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line."""
    commands.add(
        "validate", _validate, "Check a job and its data, and count what would run. Starts nothing.", JOB,
        overrides=True,
    )  # fmt: skip
    commands.add(
        "train", _train, "Train one configuration without Ray: `--lr 0.01 --model.hidden '[64]'`.", JOB,
        overrides=True,
    )  # fmt: skip


def _validate(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    job = Job.from_file(options.job, parse_overrides(rest))
    prepared = prepare(job)
    started = [f"start      {start_text(start_one(job, prepared))}"] if job.facts.starts_user_code else []
    for line in [*plan_lines(job, prepared), *started]:
        console.print(line, markup=False)


def _train(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    configuration, overrides = split_configuration(parse_overrides(rest))
    job = Job.from_file(options.job, overrides)
    console.print(f"configuration: {configuration_text(configuration) or 'defaults'}", markup=False)
    left_out = [name for name in job.search.space.active(configuration) if name not in configuration]
    if left_out:
        console.print(f"defaults are taken for: {', '.join(left_out)}", markup=False)
    for number, result in enumerate(train_one(job, configuration)):
        if number == 0:
            console.print("  ".join(f"{name:>12}" for name in numbers(result.to_mapping())), markup=False)
        # Nine digits tell any two single-precision numbers apart.
        values = numbers(result.to_mapping()).values()
        console.print("  ".join(f"{value:>12.9g}" for value in values), markup=False)
