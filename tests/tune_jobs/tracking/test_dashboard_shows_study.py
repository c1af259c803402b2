"""The study's file, opened with optuna-dashboard: the data of its pages."""

import json
import math
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from optuna_dashboard import wsgi

from tests.tune_jobs.search.conftest import MAX_EPOCHS, RUNGS, SPACES, created, ended, reported
from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    Event,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.search_spaces import parse_space
from tune_jobs.tracking.optuna_study import STUDY_NAME, StudyMirror, study_storage
from tune_jobs.trainers.settings import ScoreSettings

CONFIGURATIONS = [
    {"optimizer": "sgd", "momentum": 0.3, "nesterov": True, "decay": 1e-4},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": False, "damping": 4, "decay": 0.0},
    {"optimizer": "rmsprop", "momentum": 0.0, "decay": 1e-2},
    *({"optimizer": "adam", "decay": decay} for decay in (1e-4, 1e-2, 0.0)),
]
EVENTS: list[Event] = [
    *(created(number, configuration) for number, configuration in enumerate(CONFIGURATIONS)),
    *(TrialStarted(trial_id=f"{number:04d}") for number in range(6)),
    reported(0, 0.9, 0.8, 0.7, 0.2, *[0.5] * 5),
    ended(0, Status.COMPLETED),
    reported(1, 0.8),
    TrialPaused(trial_id="0001", epoch=1),
    TrialPromoted(trial_id="0001", epoch=1),
    reported(1, 0.9, 0.6, first=2),
    ended(1, Status.STOPPED_EARLY),
    reported(2, math.nan),
    ended(2, Status.FAILED),
    reported(3, 0.7, 0.6),
    ended(3, Status.INTERRUPTED),
    reported(4, 0.75),
    TrialPaused(trial_id="0004", epoch=1),
]
STATES = ["Complete", "Pruned", "Fail", "Fail", "Waiting", "Running"]
STEPS = [{1: 0.9, 3: 0.7, 9: 0.2}, {1: 0.8, 3: 0.6}, {}, {1: 0.7}, {1: 0.75}, {}]


class Dashboard:
    """optuna-dashboard on a file, opened as its command does, for requests without a server."""

    def __init__(self, folder: RunFolder) -> None:
        self._application = wsgi(str(folder.study))

    def get(self, path: str) -> Any:
        environ: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        answers: list[str] = []
        text = b"".join(self._application(environ, lambda status, *_: answers.append(status)))
        assert answers == ["200 OK"], text
        return json.loads(text)

    def study(self) -> Any:
        """Return the only study with its trials."""
        (summary,) = self.get("/api/studies")["study_summaries"]
        return self.get(f"/api/studies/{summary['study_id']}")


@pytest.fixture
def mirror(folder: RunFolder) -> StudyMirror:
    space = parse_space(SPACES["conditional"])
    return StudyMirror(study_storage(folder), space, ScoreSettings(metric="val_loss"), (*RUNGS, MAX_EPOCHS))


@pytest.fixture
def shown(folder: RunFolder, mirror: StudyMirror) -> Any:
    """Return the study of `EVENTS` from the dashboard."""
    for event in EVENTS:
        mirror(event)
    mirror.close()
    return Dashboard(folder).study()


def test_the_dashboard_has_every_trial_in_its_state_under_our_id(shown: Any) -> None:
    assert (shown["name"], shown["directions"]) == (STUDY_NAME, ["minimize"])
    assert shown["objective_names"] == ["val_loss"]
    assert [trial["state"] for trial in shown["trials"]] == STATES
    assert [trial["user_attrs"] for trial in shown["trials"]] == [
        [{"key": "trial_id", "value": f"{number:04d}"}] for number in range(len(CONFIGURATIONS))
    ]


def test_the_dashboard_has_the_parameters_of_every_trial_and_none_that_does_not_apply(shown: Any) -> None:
    values = [
        {one["name"]: one["param_external_value"] for one in trial["params"]} for trial in shown["trials"]
    ]
    assert values == [
        {name: str(value) for name, value in configuration.items()} for configuration in CONFIGURATIONS
    ]
    assert {one["name"] for one in shown["union_search_space"]} == SPACES["conditional"].keys()


def test_the_dashboard_has_the_steps_of_every_trial_and_the_best(shown: Any) -> None:
    assert shown["has_intermediate_values"]
    assert [
        {one["step"]: one["value"] for one in trial["intermediate_values"]} for trial in shown["trials"]
    ] == STEPS
    # Optuna uses the last step of a pruned trial as its value.
    assert [trial.get("values") for trial in shown["trials"]] == [[0.2], [0.6], *[None] * 4]
    assert [trial["number"] for trial in shown["best_trials"]] == [0]


def test_the_dashboard_follows_a_run_in_progress(folder: RunFolder, mirror: StudyMirror) -> None:
    assert Dashboard(folder).study()["trials"] == []
    for so_far, event in enumerate(EVENTS[: len(CONFIGURATIONS)], start=1):
        mirror(event)
        assert [trial["state"] for trial in Dashboard(folder).study()["trials"]] == ["Waiting"] * so_far
