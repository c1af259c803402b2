"""Report the epochs of a recorded curve as a worker of tune-jobs does."""

import math
from collections.abc import Mapping
from typing import Any

from tests.simulation.replay import Curve, Results
from tune_jobs.record.codes import Cause
from tune_jobs.trainers.errors import Diverged
from tune_jobs.trainers.interface import EpochResult
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.worker.reporting import Reporter


def as_a_run(config: Mapping[str, Any], curve: Curve, *, max_epochs: int, rungs: tuple[int, ...]) -> Results:
    """Report as `tune_jobs.worker.trial.train_trial` does with epochs longer than `SECONDS_BETWEEN_REPORTS`."""
    sent: list[dict[str, Any]] = []
    reporter = Reporter(ScoreSettings(metric="val_loss"), sent.append)
    for epoch, (train_loss, val_loss) in enumerate(curve, start=1):
        losses = {"train_loss": train_loss, "val_loss": val_loss, "lr": 0.0}
        diverged = not (math.isfinite(train_loss) and math.isfinite(val_loss))
        result = EpochResult(epoch=epoch, metrics=losses, seconds=1.0, diverged=diverged)
        reporter.add([result.to_mapping()])
        if not math.isfinite(val_loss):
            reporter.fail(Diverged(f"the validation loss of epoch {epoch} is {val_loss}"))
        elif epoch == max_epochs:
            reporter.end(Cause.MAX_EPOCHS)
        else:
            if epoch in rungs:
                reporter.checkpoint = f"{config['trial_id']}/{epoch}"
            reporter.send(rung=epoch in rungs)
        yield sent.pop()
