"""The time that a trial may take before its first report."""

from tune_jobs.job.settings import ResourceSettings
from tune_jobs.tuning.loop import WORKER_START_SECONDS, seconds_to_start
from tune_jobs.worker.group import SECONDS_TO_START


def test_several_workers_may_take_as_long_to_start_as_their_trial_waits_for_them() -> None:
    assert seconds_to_start(ResourceSettings(workers_per_trial=4)) == SECONDS_TO_START
    assert seconds_to_start(ResourceSettings()) == WORKER_START_SECONDS < SECONDS_TO_START
