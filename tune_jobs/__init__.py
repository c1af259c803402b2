"""Hyperparameter tuning for PyTorch on Ray Tune, with the test set sealed.

    from tune_jobs import Job, run, open_run

    finished = run(Job.from_file("examples/digits.yaml"))
    print(finished.winner.configuration, finished.winner.score)
    model = finished.load_model()

Importing this package imports neither torch nor ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tune_jobs.driver.lifecycle import resume, run
    from tune_jobs.job.job import Job
    from tune_jobs.results import Run, open_run

_LAZY = {
    "Job": "tune_jobs.job.job",
    "Run": "tune_jobs.results",
    "open_run": "tune_jobs.results",
    "resume": "tune_jobs.driver.lifecycle",
    "run": "tune_jobs.driver.lifecycle",
}

__all__ = ["Job", "Run", "open_run", "resume", "run"]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
