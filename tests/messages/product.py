"""The parts of the packages whose messages are recorded: the one place of these tests that names them."""

import search_spaces
import search_spaces.errors as space_errors
import trainers.errors as trainer_errors
import tune_jobs.errors as run_errors
from search_spaces import (
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
from tune_jobs import Job
from tune_jobs.cli import main

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
