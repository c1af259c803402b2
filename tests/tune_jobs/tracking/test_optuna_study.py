"""The study that Optuna and its dashboard open: states, steps, values and parameters of its trials."""

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from tests.tune_jobs.search.conftest import (
    MAX_EPOCHS,
    RUNGS,
    SPACES,
    Space,
    created,
    drive,
    ended,
    history_of,
    reported,
    search,
)
from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    RunEnded,
    RunResumed,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    WinnerSelected,
    WorkerLost,
    in_force,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.search_spaces import parse_space
from tune_jobs.tracking.optuna_study import STUDY_NAME, StudyMirror, study_storage
from tune_jobs.trainers.settings import ScoreSettings

SPACE: Space = {"x": {"low": 0.0, "high": 1.0}}
NAN, INF = float("nan"), float("inf")


class Mirrored:
    """A study that has received `events`."""

    def __init__(
        self, *events: Event, space: Space = SPACE, mode: str = "min", metric: str = "val_loss"
    ) -> None:
        self.storage = InMemoryStorage()
        score = ScoreSettings(metric=metric, mode=mode)  # type: ignore[arg-type]
        mirror = StudyMirror(self.storage, parse_space(space), score, (*RUNGS, MAX_EPOCHS))
        for event in events:
            mirror(event)

    @property
    def study(self) -> optuna.Study:
        return optuna.load_study(study_name=STUDY_NAME, storage=self.storage)

    @property
    def trial(self) -> FrozenTrial:
        (trial,) = self.study.trials
        return trial


def story(*events: Event, **how: Any) -> FrozenTrial:
    """Return the study's trial after `events`."""
    return Mirrored(created(0, {"x": 0.5}), TrialStarted(trial_id="0000"), *events, **how).trial


def test_a_trial_that_runs_is_running_with_its_parameters_and_our_id() -> None:
    trial = story()
    assert (trial.state.name, trial.params, trial.user_attrs) == ("RUNNING", {"x": 0.5}, {"trial_id": "0000"})


def test_a_trial_without_a_worker_waits() -> None:
    waits, promoted = TrialPaused(trial_id="0000", epoch=1), TrialPromoted(trial_id="0000", epoch=1)
    lost, again = WorkerLost(trial_id="0000", reason="killed"), TrialStarted(trial_id="0000")
    resumed = RunResumed(trials=1, versions={})
    assert Mirrored(created(0, {"x": 0.5})).trial.state.name == "WAITING"
    for events, state in [
        ([waits], "WAITING"),
        ([waits, promoted], "WAITING"),
        ([waits, promoted, again], "RUNNING"),
        ([lost], "WAITING"),
        ([lost, again], "RUNNING"),
        ([resumed], "WAITING"),
        ([ended(0, Status.FAILED), resumed], "FAIL"),
    ]:
        assert story(*events).state.name == state, events


def test_a_trial_of_full_length_is_complete_with_its_best_score() -> None:
    trial = story(reported(0, *[0.9, 0.8, 0.7, 0.3], *[0.5] * 5), ended(0, Status.COMPLETED))
    assert (trial.state.name, trial.value) == ("COMPLETE", 0.3)
    assert trial.intermediate_values == {1: 0.9, 3: 0.7, 9: 0.3}


def test_a_trial_that_was_stopped_is_pruned_with_its_steps() -> None:
    trial = story(
        reported(0, 0.9),
        TrialPaused(trial_id="0000", epoch=1),
        TrialPromoted(trial_id="0000", epoch=1),
        reported(0, 0.8, 0.7, first=2),
        TrialPaused(trial_id="0000", epoch=3),
        ended(0, Status.STOPPED_EARLY),
    )
    assert (trial.state.name, trial.intermediate_values) == ("PRUNED", {1: 0.9, 3: 0.7})


def test_a_trial_that_ended_by_itself_has_its_last_epoch_as_a_step() -> None:
    trial = story(reported(0, 0.9, 0.8), ended(0, Cause.PATIENCE))
    assert (trial.state.name, trial.intermediate_values) == ("PRUNED", {1: 0.9, 2: 0.8})
    completed = story(reported(0, 0.9, 0.8), ended(0, Cause.MAX_EPOCHS))
    assert (completed.state.name, completed.value) == ("COMPLETE", 0.8)


@pytest.mark.parametrize("status", [Status.FAILED, Status.INTERRUPTED])
def test_a_trial_that_failed_or_was_interrupted_is_failed_with_the_steps_it_had(status: Status) -> None:
    assert story(ended(0, status)).state.name == "FAIL"
    trial = story(reported(0, 0.9, 0.8), ended(0, status))
    assert (trial.state.name, trial.intermediate_values) == ("FAIL", {1: 0.9})


@pytest.mark.parametrize("status", [Status.FAILED, Status.STOPPED_EARLY, Status.COMPLETED])
@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_trial_without_any_finite_score_is_failed(status: Status, loss: float) -> None:
    trial = story(reported(0, loss, loss), ended(0, status))
    assert (trial.state.name, trial.intermediate_values) == ("FAIL", {})


def test_epochs_that_are_done_again_are_no_new_steps() -> None:
    trial = story(
        reported(0, 0.9, 0.8, 0.7),
        WorkerLost(trial_id="0000", reason="killed"),
        reported(0, 0.1, 0.1, 0.1, 0.6),
        ended(0, Status.STOPPED_EARLY),
    )
    assert trial.intermediate_values == {1: 0.9, 3: 0.7, 4: 0.6}


def test_a_metric_that_is_to_be_high_is_kept_as_it_is() -> None:
    results = [
        {"epoch": epoch, "val_loss": 1.0, "accuracy": 0.1 * epoch, "seconds": 0.5} for epoch in (1, 2, 3)
    ]
    events = (
        created(0, {"x": 0.5}),
        EpochsReported(trial_id="0000", results=results, worker="node:1"),
        ended(0, Status.COMPLETED),
        created(1, {"x": 0.6}),
        EpochsReported(trial_id="0001", results=[{**results[0], "accuracy": 0.9}], worker="node:1"),
        ended(1, Status.COMPLETED),
    )
    study = Mirrored(*events, mode="max", metric="accuracy").study
    assert (study.direction.name, study.metric_names) == ("MAXIMIZE", ["accuracy"])
    assert study.trials[0].intermediate_values == pytest.approx({1: 0.1, 3: 0.3})
    assert (study.best_trial.user_attrs["trial_id"], study.best_value) == ("0001", 0.9)
    assert Mirrored().study.direction.name == "MINIMIZE"


@pytest.mark.parametrize("name", SPACES)
def test_every_trial_of_a_run_is_there_with_valid_parameters_and_none_stays_running(name: str) -> None:
    events: list[Event] = []
    configurations = []
    statuses = [status for status in Status if status.ended]
    for number, _, configuration in drive(search(SPACES[name]), history_of(parse_space(SPACES[name])), 20):
        assert configuration is not None
        configurations.append(configuration)
        events += [
            created(number, configuration),
            reported(number, *[0.5] * (1 + number % 4)),
            ended(number, statuses[number % 4]),
        ]
    trials = Mirrored(*events, space=SPACES[name]).study.trials
    assert [trial.number for trial in trials] == list(range(len(configurations)))
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED", "FAIL"}
    assert [trial.params.keys() for trial in trials] == [c.keys() for c in configurations]
    for trial in trials:
        assert trial.params.keys() == trial.distributions.keys()


STORIES = st.lists(
    st.tuples(st.lists(st.floats(), max_size=9), st.sampled_from([s for s in Status if s.ended])), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(STORIES)
def test_whatever_happens_every_trial_ends_in_an_honest_state(
    stories: list[tuple[list[float], Status]],
) -> None:
    events: list[Event] = []
    for number, (losses, status) in enumerate(stories):
        events += [created(number, {"x": number / 10}), reported(number, *losses), ended(number, status)]
    states = {Status.COMPLETED: "COMPLETE", Status.STOPPED_EARLY: "PRUNED"}
    for trial, (losses, status) in zip(Mirrored(*events).study.trials, stories, strict=True):
        sound = [*takewhile(math.isfinite, losses)]
        last = min(len(sound) + 1, len(losses))  # it diverges in the epoch after the sound ones
        assert trial.state.name == (states.get(status, "FAIL") if sound else "FAIL")
        assert all(abs(value) < INF for value in trial.intermediate_values.values())
        assert {step for step in trial.intermediate_values if step not in {*RUNGS, MAX_EPOCHS}} <= {last}
        if trial.state.name == "COMPLETE":
            assert trial.value == min(sound)


def test_the_study_is_a_journal_file_that_optuna_opens(folder: RunFolder) -> None:
    space = parse_space(SPACES["conditional"])
    mirror = StudyMirror(study_storage(folder), space, ScoreSettings(metric="val_loss"), (*RUNGS, MAX_EPOCHS))
    configurations = list(space.grid())[::9]
    with Journal(folder.journal, mirror) as journal:
        for number, configuration in enumerate(configurations):
            for event in (
                created(number, configuration),
                reported(number, 0.5, 0.4, 0.3),
                ended(number, Status.STOPPED_EARLY if number % 2 else Status.COMPLETED),
            ):
                journal.append(event)
    assert Path(folder.study).is_file()
    study = optuna.load_study(study_name=None, storage=study_storage(folder))
    assert study.study_name == STUDY_NAME
    assert [trial.params for trial in study.trials] == configurations
    assert [trial.state.name for trial in study.trials[:2]] == ["COMPLETE", "PRUNED"]
    assert [trial.intermediate_values for trial in study.trials] == [{1: 0.5, 3: 0.3}] * len(configurations)
    assert study.best_value == 0.3


# Rebuilt from the events of a run


def interrupted_run() -> list[Event]:
    """Return the events in force of a resumed run with a trial in each state."""
    resumable = {"status": Status.INTERRUPTED, "cause": Cause.RUN_ENDED, "reason": "", "resumable": True}
    past = [
        *[created(number, {"x": number / 10}) for number in range(7)],
        *[TrialStarted(trial_id=f"{number:04d}") for number in range(6)],
        reported(0, *[0.9, 0.8, 0.7, 0.3], *[0.5] * 5),
        ended(0, Status.COMPLETED),
        reported(1, 0.9, 0.8, 0.7),
        ended(1, Status.STOPPED_EARLY),
        reported(2, 0.5, NAN),
        ended(2, Status.FAILED),
        ended(3, Status.INTERRUPTED),
        reported(4, 0.6, 0.5, 0.4, 0.3),
        TrialPaused(trial_id="0005", epoch=1),
        reported(5, 0.5),
        TrialEnded(trial_id="0004", **resumable),
        TrialEnded(trial_id="0005", **resumable),
        TrialEnded(trial_id="0006", **resumable),
        RunEnded(ending=Ending.INTERRUPTED),
        WinnerSelected(winner="0000"),
        RunResumed(trials=8, versions={}),
        TrialStarted(trial_id="0004"),
        reported(4, 0.3, 0.2, first=4),  # the fourth epoch is repeated
    ]
    return in_force([replace(event, time=1e9 + second) for second, event in enumerate(past)])


def of_trials(study: optuna.Study) -> list[dict[str, Any]]:
    """Return all fields of the trials except for times."""
    return [
        {key: value for key, value in vars(trial).items() if "datetime" not in key} for trial in study.trials
    ]


def rebuilt(folder: RunFolder, events: Iterable[Event] = ()) -> StudyMirror:
    return StudyMirror.on(
        folder, parse_space(SPACE), ScoreSettings(metric="val_loss"), (*RUNGS, MAX_EPOCHS), events
    )


def opened(folder: RunFolder) -> optuna.Study:
    """Return the study as another process reads it."""
    return optuna.load_study(study_name=None, storage=study_storage(folder))


def test_a_rebuilt_study_equals_the_live_one(folder: RunFolder) -> None:
    events = interrupted_run()
    rebuilt(folder, events)
    assert of_trials(opened(folder)) == of_trials(Mirrored(*events).study)
    assert [(trial.state.name, trial.intermediate_values) for trial in opened(folder).trials] == [
        ("COMPLETE", {1: 0.9, 3: 0.7, 9: 0.3}),
        ("PRUNED", {1: 0.9, 3: 0.7}),
        ("FAIL", {1: 0.5}),
        ("FAIL", {}),
        ("RUNNING", {1: 0.6, 3: 0.4}),
        ("WAITING", {1: 0.5}),
        ("WAITING", {}),
    ]


@settings(max_examples=20, deadline=None)
@given(STORIES, st.integers(0, 18))
def test_from_any_event_on_it_continues_as_the_live_one(
    tmp_path_factory: pytest.TempPathFactory, stories: list[tuple[list[float], Status]], place: int
) -> None:
    events: list[Event] = []
    for number, (losses, status) in enumerate(stories):
        events += [created(number, {"x": number / 10}), reported(number, *losses), ended(number, status)]
    folder = RunFolder.create(tmp_path_factory.mktemp("runs"), "r")
    mirror = rebuilt(folder, events[:place])
    for event in events[place:]:
        mirror(event)
    assert of_trials(opened(folder)) == of_trials(Mirrored(*events).study)


def test_later_trials_are_appended_to_a_rebuilt_study(folder: RunFolder) -> None:
    events = interrupted_run()
    mirror = rebuilt(folder, events)
    later = [
        created(7, {"x": 0.7}),
        reported(7, 0.1),
        reported(4, 0.1, 0.1, 0.1, first=6),
        ended(4, Status.COMPLETED),
        reported(5, 0.5, 0.4, first=2),
        ended(5, Status.STOPPED_EARLY),
    ]
    before = folder.study.read_bytes()
    for event in later:
        mirror(event)
    assert folder.study.read_bytes().startswith(before)
    assert of_trials(opened(folder)) == of_trials(Mirrored(*events, *later).study)
    assert [trial.number for trial in opened(folder).trials] == list(range(8))


def test_an_earlier_study_is_replaced_with_the_lock_of_a_dead_process(folder: RunFolder) -> None:
    events = interrupted_run()
    rebuilt(folder, events)
    whole = folder.study.read_bytes()
    folder.study.write_bytes(whole[:1000] + b"no line of a study")
    lock = folder.study.with_name("study.log.lock")
    lock.symlink_to(folder.study)
    mirror = rebuilt(folder, events)
    assert folder.study.read_bytes() == whole
    assert not lock.is_symlink()
    mirror(created(7, {"x": 0.7}))  # Optuna would wait for the lock
    assert len(opened(folder).trials) == 8
    assert [path for path in folder.path.iterdir() if path.name.startswith((".", "study.log."))] == []


def test_trials_have_the_times_of_their_events(folder: RunFolder) -> None:
    rebuilt(folder, interrupted_run())
    first, *_, again, _, last = opened(folder).trials
    assert first.datetime_start == datetime.fromtimestamp(1e9 + 7)
    assert first.datetime_complete == datetime.fromtimestamp(1e9 + 14)
    assert again.datetime_start == datetime.fromtimestamp(1e9 + 11), "when it was taken up first"
    assert again.datetime_complete is None
    assert last.datetime_start is None


def test_a_study_without_events_is_new_and_has_no_trial(folder: RunFolder) -> None:
    rebuilt(folder)
    assert opened(folder).study_name == STUDY_NAME
    assert opened(folder).trials == []
