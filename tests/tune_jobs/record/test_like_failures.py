"""The first trials of a run that all failed alike."""

from typing import Any

import pytest

from tune_jobs.record.codes import Cause
from tune_jobs.record.curve import LatestEpochs
from tune_jobs.record.like_failures import LikeFailures, like_failures, place_of
from tune_jobs.record.run_record import TrialRecord
from tune_jobs.trainers.settings import ScoreSettings

RAISED = """Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/torch/nn/module.py", line 1779, in call
    return forward(x)
  File "/home/me/nets.py", line 7, in forward
    raise ValueError(f"{self.activation} is unknown")
  File "/usr/lib/python3.11/enum.py", line 3, in find
    raise it
ValueError: relu is unknown
"""
CAUSED = (
    RAISED
    + """
The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/home/me/start.py", line 2, in <module>
    start()
tune_jobs.trainers.errors.ModelError: model nets:net fails
"""
)
PLACE = "/home/me/nets.py, line 7, in forward"


def trials(*causes: Cause | None, epochs: int = 0, **how: Any) -> list[TrialRecord]:
    """Return trials that ended for these causes; None has not ended. The last one has completed `epochs`."""
    made = []
    for number, cause in enumerate(causes):
        latest = LatestEpochs(ScoreSettings(metric="val_loss"))
        trial = TrialRecord(
            f"{number:04}", number, {}, 0.0, latest, cause=cause, **{"reason": "it failed", **how}
        )
        trial.status = trial.status if cause is None else cause.status
        made.append(trial)
    made[-1].latest.add([{"epoch": n + 1, "val_loss": 1.0, "seconds": 0.1} for n in range(epochs)])
    return made


FAILED = Cause.TRAINING_FAILED


def test_the_place_is_the_innermost_one_of_the_user_s_code_that_raised_first() -> None:
    assert place_of(RAISED) == place_of(CAUSED) == ("ValueError", PLACE)
    assert (
        place_of("Traceback\n" + RAISED.split("\n", 3)[3].replace("/home/me/", "/usr/lib/python3.11/"))
        is None
    )
    assert place_of("") is None


def test_five_failures_in_one_place_are_alike_whatever_they_say() -> None:
    five = trials(*[FAILED] * 5, details=RAISED)
    five[3].reason = "another activation"
    assert like_failures(five) == LikeFailures(5, "it failed", PLACE)
    assert like_failures(five[:4]) is None
    assert like_failures([*five, *trials(None, Cause.RUN_ENDED)]) is not None, "these have shown nothing yet"
    assert like_failures(five, earlier={"0000"}) is None


def test_failures_outside_the_user_s_code_are_alike_by_their_words() -> None:
    five = trials(*[FAILED] * 5)
    five[0].reason = "a row has 3 numbers and not 4"
    for trial in five[1:]:
        trial.reason = "a row has 5 numbers and not 4"
    found = like_failures(five)
    assert found is not None
    assert found.sentence == "the first 5 trials all failed alike: a row has 3 numbers and not 4"
    five[4].reason = "there is no row"
    assert like_failures(five) is None


@pytest.mark.parametrize(
    "others",
    [
        trials(Cause.MAX_EPOCHS),
        trials(Cause.STOPPED_BY_SCHEDULER),
        trials(Cause.DIVERGED),
        trials(Cause.OUT_OF_MEMORY),
        trials(Cause.WORKER_LOST),
        trials(FAILED, details=RAISED.replace("line 7", "line 8")),
        trials(FAILED, details=RAISED.replace("ValueError:", "TypeError:")),
        trials(None, epochs=1),
        trials(Cause.RUN_ENDED, epochs=1),
    ],
)
def test_any_other_end_or_epoch_shows_that_some_configurations_may_succeed(others: list[TrialRecord]) -> None:
    assert like_failures([*trials(*[FAILED] * 6, details=RAISED), *others]) is None
