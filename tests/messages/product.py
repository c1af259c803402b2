"""The parts of the packages whose messages are recorded: the one place of these tests that names them."""

import tune_jobs.errors as run_errors
import tune_jobs.search_spaces.errors as space_errors
import tune_jobs.trainers.errors as trainer_errors
from tune_jobs import Job, search_spaces
from tune_jobs.cli.main import main
from tune_jobs.search_spaces import (
    READY_SPACES,
    Choice,
    Float,
    Int,
    Parameter,
    Problem,
    SearchSpace,
    SearchSpaceError,
    import_sweep,
    parse_space,
    ready_space,
)

__all__ = [
    "READY_SPACES",
    "Choice",
    "Float",
    "Int",
    "Job",
    "Parameter",
    "Problem",
    "SearchSpace",
    "SearchSpaceError",
    "import_sweep",
    "main",
    "parse_space",
    "ready_space",
    "run_errors",
    "search_spaces",
    "space_errors",
    "trainer_errors",
]
