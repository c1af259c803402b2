from math import inf, nan

import pytest

from tune_jobs.trainers.early_stopping import Progress, decide, observe
from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.settings import EarlyStoppingSettings

MAX = 8


def end(scores, mode="min", **settings):
    """Return the epoch after which the training is over, and the reason."""
    early_stopping = EarlyStoppingSettings(**settings)
    progress = Progress()
    for epoch, score in enumerate(scores, start=1):
        progress = observe(progress, score, early_stopping, mode)
        outcome = decide(progress, score, epoch=epoch, max_epochs=MAX, settings=early_stopping, mode=mode)
        if outcome is not None:
            return epoch, outcome.name
    return None


FALLING = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("scores", "settings", "expected"),
    [
        (FALLING, {}, (8, "MAX_EPOCHS")),
        (FALLING[:7], {}, None),
        ([1.0] * 8, {}, (8, "MAX_EPOCHS")),
        ([1.0] * 8, {"patience": 1}, (2, "PATIENCE")),
        ([1.0] * 8, {"patience": 3}, (4, "PATIENCE")),
        (FALLING, {"patience": 1}, (8, "MAX_EPOCHS")),
        # Each half step is no improvement of more than 1 until two of them add up.
        ([8.0, 7.25, 6.5, 5.75, 5.0, 4.25], {"patience": 2, "min_delta": 1.0}, None),
        ([8.0, 7.5, 7.0, 6.5], {"patience": 2, "min_delta": 1.0}, (3, "PATIENCE")),
        ([3.0, 2.0, nan, 1.0, nan, nan], {"patience": 2}, (6, "PATIENCE")),
        ([nan, nan], {"patience": 2}, (2, "PATIENCE")),
        ([-inf, -inf], {"patience": 1}, (1, "PATIENCE")),
        (FALLING, {"threshold": 5.0}, (4, "THRESHOLD")),
        (FALLING, {"threshold": 0.0}, (8, "MAX_EPOCHS")),
        (FALLING, {"threshold": 1.0}, (8, "MAX_EPOCHS")),
        ([nan, -inf, 1.0], {"threshold": 1.0}, (3, "THRESHOLD")),
        ([5.0, 6.0, 4.0], {"threshold": 4.0, "patience": 2}, (3, "THRESHOLD")),
    ],
)
def test_when_a_training_ends(scores, settings, expected):
    assert end(scores, "min", **settings) == expected
    upside_down = {**settings, "threshold": -settings["threshold"]} if "threshold" in settings else settings
    assert end([-score for score in scores], "max", **upside_down) == expected


def test_an_outcome_has_a_sentence():
    assert StopReason.PATIENCE.sentence == (
        "stopped early: the score did not improve for as many epochs as patience allows"
    )
