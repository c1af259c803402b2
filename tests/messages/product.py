"""The parts of the packages whose messages are recorded: the one place of these tests that names them."""

import tune_jobs.errors as run_errors
import tune_jobs.search_spaces.errors as space_errors
import tune_jobs.trainers.errors as trainer_errors
from tests.tune_jobs.job_files import change_job, with_job_file
from tune_jobs import Job
from tune_jobs.cli import views
from tune_jobs.cli.main import main
from tune_jobs.cli.panel import Panel
from tune_jobs.cli.progress import RunProgress
from tune_jobs.cli.views import LiveView, PlainView
from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    CheckpointDamaged,
    CheckpointWritten,
    EpochsReported,
    Event,
    NoticeAdded,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    TrialUnplaceable,
    WinnerSelected,
    WorkerLost,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
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
    "LEDGER",
    "READY_SPACES",
    "CheckpointDamaged",
    "CheckpointWritten",
    "Choice",
    "Ending",
    "EpochsReported",
    "Event",
    "Float",
    "Int",
    "Job",
    "Journal",
    "LiveView",
    "NoticeAdded",
    "Panel",
    "Parameter",
    "PlainView",
    "Problem",
    "RunEnded",
    "RunFolder",
    "RunProgress",
    "RunResumed",
    "RunStarted",
    "SearchSpace",
    "SearchSpaceError",
    "Status",
    "TrialCreated",
    "TrialEnded",
    "TrialPaused",
    "TrialPromoted",
    "TrialStarted",
    "TrialUnplaceable",
    "WinnerSelected",
    "WorkerLost",
    "change_job",
    "import_sweep",
    "main",
    "parse_space",
    "ready_space",
    "run_errors",
    "space_errors",
    "trainer_errors",
    "views",
    "with_job_file",
]
