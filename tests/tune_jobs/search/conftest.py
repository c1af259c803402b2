"""Made-up runs for the search: short forms of events, and a run driven by any source of proposals."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from tests.tune_jobs.causes import CAUSE_OF
from tests.tune_jobs.rows import with_divergence
from tune_jobs.job.settings import SearchSettings
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialCreated,
    TrialEnded,
)
from tune_jobs.search.history import Configuration, Observations, SearchHistory
from tune_jobs.search.methods import Method, make_method
from tune_jobs.search_spaces import SearchSpace
from tune_jobs.trainers.settings import ScoreSettings


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as a run does: more threads would only compete."""
    with threadpool_limits(limits=1):
        yield


LOSS = ScoreSettings(metric="val_loss")
RUNGS = (1, 3)
MAX_EPOCHS = 9
Space = Mapping[str, Any]

LOOK_ALIKES = [1, True, 1.0, "1", [1], "[1]", None]
SPACES: Mapping[str, Space] = {
    "numbers": {
        "lr": {"low": 1e-4, "high": 1.0, "log": True},
        "momentum": {"low": 0.0, "high": 0.9},
        "dropout": {"low": 0.0, "high": 0.5, "step": 0.2},  # its last value is 0.4
        "width": {"low": 1, "high": 512, "log": True},
        "depth": {"low": 1, "high": 9, "step": 3},  # its last value is 7
    },
    "choices": {
        "alike": {"values": LOOK_ALIKES},
        "hidden": {"values": [[32], [32, 32], []]},
        "batch_size": {"values": [8, 16, "full"]},
        "constant": 3,
    },
    "conditional": {
        "momentum": {"low": 0.0, "high": 0.9, "step": 0.3, "when": {"optimizer": ["sgd", "rmsprop"]}},
        "optimizer": {"values": ["sgd", "rmsprop", "adam"]},
        "nesterov": {"values": [False, True], "when": {"optimizer": "sgd"}},
        "damping": {"low": 0, "high": 4, "when": {"nesterov": False, "optimizer": "sgd"}},
        "decay": {"values": [1e-4, 1e-2, 0.0]},
    },
}
FINITE: Mapping[str, Space] = {
    "look-alikes": {"a": {"values": LOOK_ALIKES}},
    "conditional": {
        "flag": {"values": [1, True]},
        "n": {"low": 1, "high": 6, "when": {"flag": True}},
        "x": {"low": 0.0, "high": 1.0, "step": 0.4, "when": {"n": [2, 3]}},
    },
    "one configuration": {"a": 7, "b": "c"},
    "nothing": {},
}


def search(space: Space, method: str = "random", *, seed: int = 0, points: Sequence[Any] = ()) -> Method:
    return make_method(settings_of(space, method, points), factor=3, seed=seed)


def settings_of(space: Space, method: str, points: Sequence[Any] = ()) -> SearchSettings:
    return SearchSettings.model_validate({"space": space, "method": method, "points": points})


def created(number: int, configuration: Configuration) -> TrialCreated:
    return TrialCreated(trial_id=f"{number:04d}", number=number, configuration=configuration)


def reported(number: int, *losses: float, first: int = 1) -> EpochsReported:
    results = [
        with_divergence({"epoch": epoch, "train_loss": 1.0, "val_loss": loss, "seconds": 0.5})
        for epoch, loss in enumerate(losses, start=first)
    ]
    return EpochsReported(trial_id=f"{number:04d}", results=results, worker="node:1")


def ended(number: int, how: Status | Cause) -> TrialEnded:
    """Return the end of a trial for this cause, or with this status and a likely cause."""
    cause = how if isinstance(how, Cause) else CAUSE_OF[how]
    return TrialEnded(trial_id=f"{number:04d}", status=cause.status, cause=cause, reason="it ended")


def history_of(
    space: SearchSpace,
    *events: Event,
    rungs: Sequence[int] = RUNGS,
    max_epochs: int = MAX_EPOCHS,
    score: ScoreSettings = LOSS,
) -> SearchHistory:
    return SearchHistory.replay(events, space, rungs, max_epochs, score)


def what_follows(number: int, loss: float) -> Iterator[Event]:
    """Yield the events of a trial: some diverge, fail or keep running, and one in three reaches the second rung."""
    match number % 12:
        case 3:
            yield reported(number, math.nan)
            yield ended(number, Status.FAILED)
        case 5:
            yield ended(number, Status.FAILED)
        case 7:
            return
        case 0 | 4 | 8:
            yield reported(number, loss, loss - 0.1, loss - 0.2)
        case _:
            yield reported(number, loss)
            yield ended(number, Status.STOPPED_EARLY)


def hashed_loss(number: int, configuration: Configuration) -> float:
    """Return the loss of a trial from which nothing can be learned."""
    return (number * 37 % 101) / 101


def drive(
    method: Method,
    history: SearchHistory,
    trials: int,
    loss: Callable[[int, Configuration], float] = hashed_loss,
) -> Iterator[tuple[int, Observations, Configuration | None]]:
    """Run `trials` trials and yield number, observations and proposal of each, up to the first None."""
    for number in range(trials):
        observations = history.snapshot()
        configuration = method.propose(observations, number)
        yield number, observations, configuration
        if configuration is None:
            return
        history.apply(created(number, configuration))
        for event in what_follows(number, loss(number, configuration)):
            history.apply(event)
