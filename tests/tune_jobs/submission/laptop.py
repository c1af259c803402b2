"""The folder from which a laptop submits a job."""

from pathlib import Path

from tests.tune_jobs.conftest import changed
from tune_jobs.job.file import dump_yaml


def put_job(folder: Path, storage: str, model: str) -> None:
    """Write `job.yaml` with two short trials on the column y of `rows.csv` in the same folder."""
    changes = {
        "data": {"source": "rows.csv", "target": "y"},
        "model": {"name": model},
        "training/max_epochs": 3,
        "scheduler": {"method": "none"},
        "search": {
            "space": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
            "method": "random",
            "trials": 2,
        },
        "resources": {"max_concurrent": 1},
        "storage": storage,
    }
    (folder / "job.yaml").write_text(dump_yaml(changed(changes)))
