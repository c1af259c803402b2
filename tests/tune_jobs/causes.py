"""A likely cause for each final state of a trial, for tests in which the cause itself does not matter."""

from tune_jobs.record.codes import Cause, Status

CAUSE_OF = {
    Status.COMPLETED: Cause.MAX_EPOCHS,
    Status.STOPPED_EARLY: Cause.STOPPED_BY_SCHEDULER,
    Status.FAILED: Cause.TRAINING_FAILED,
    Status.INTERRUPTED: Cause.RUN_ENDED,
}
