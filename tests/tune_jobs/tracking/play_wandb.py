"""Track all scenarios with W&B: `python -m tests.tune_jobs.tracking.play_wandb FOLDER`."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import wandb

from tests.tune_jobs.tracking.conftest import make_job
from tests.tune_jobs.tracking.scenarios import Scenario, folder_of, in_child_process, play, scenarios
from tune_jobs.tracking import TrackedRun, Tracker
from tune_jobs.tracking.wandb_tracker import WandbTracker


def some_scenarios() -> list[tuple[str, Scenario]]:
    """Return a part of the scenarios, since W&B takes a second to start."""
    everything = list(scenarios())
    return [*everything[:-2:8], *everything[-2:]]


def fail() -> Path:
    raise OSError("no report in these tests")


def main() -> None:
    """Track each scenario, and each of its killed drivers, with a separate W&B."""
    for name, scenario in some_scenarios():
        in_child_process(partial(_play, name, scenario))


def _play(name: str, scenario: Scenario) -> None:
    def make(run: TrackedRun) -> dict[str, Tracker]:
        return {"W&B": WandbTracker(replace(run, write_report=fail))}

    play(make_job(wandb={"project": "curves"}), folder_of(Path(sys.argv[1]), name), scenario, make)
    wandb.teardown()


if __name__ == "__main__":
    main()
