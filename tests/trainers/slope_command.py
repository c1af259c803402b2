"""`tune-jobs` with the small kind: `python -m tests.trainers.slope_command run job.yaml`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.trainers.slope import register_slope
from tune_jobs.__main__ import main

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.trainers.slope_command")


def with_repository(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process, in any folder, that finds this module."""
    paths = [str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


if __name__ == "__main__":
    register_slope()
    sys.exit(main())
