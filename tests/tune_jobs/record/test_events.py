"""The vocabulary of the journal: every event becomes plain values and comes back."""

import dataclasses
import json

import pytest

from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.events import (
    FORMAT,
    Event,
    HoldoutEvaluated,
    HoldoutUnsealed,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialEnded,
    TrialStarted,
    WinnerSelected,
    event_from_mapping,
    in_force,
    seconds_spent,
)
from tune_jobs.trainers.interface import StopReason


def test_only_ended_trials_that_succeeded_may_win() -> None:
    assert {status for status in Status if status.ended} == {
        Status.COMPLETED,
        Status.STOPPED_EARLY,
        Status.FAILED,
        Status.INTERRUPTED,
    }
    assert {status for status in Status if status.selectable} == {Status.COMPLETED, Status.STOPPED_EARLY}


def test_the_final_statuses_are_called_as_the_contract_says() -> None:
    assert [str(status) for status in Status if status.ended] == [
        "completed",
        "stopped_early",
        "failed",
        "interrupted",
    ]


def test_every_kind_of_event_has_its_own_name_and_is_frozen() -> None:
    kinds = Event.__subclasses__()
    assert len({kind.type for kind in kinds}) == len(kinds)
    event = TrialStarted(trial_id="0001")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.trial_id = "0002"  # type: ignore[misc]


def test_an_event_knows_its_time_and_comes_back_from_json_with_its_enumerations() -> None:
    event = TrialEnded(
        trial_id="0001", status=Status.STOPPED_EARLY, cause=Cause.STOPPED_BY_SCHEDULER, reason="at a rung"
    )
    assert event.time > 1.7e9
    mapping = json.loads(json.dumps(event.to_mapping()))
    assert mapping == {
        "type": "trial_ended",
        "time": event.time,
        "trial_id": "0001",
        "status": "stopped_early",
        "cause": "stopped_by_scheduler",
        "reason": "at a rung",
        "details": "",
        "resumable": False,
    }
    again = event_from_mapping(mapping)
    assert again == event
    assert isinstance(again, TrialEnded)
    assert again.status is Status.STOPPED_EARLY


def test_every_ending_has_a_sentence_that_users_read() -> None:
    assert [ending.sentence for ending in Ending] == [
        "all trials have ended",
        "the time limit `limits.minutes` was reached",
        "interrupted by a signal",
        "stopped because the run folder could not be written to",
        "stopped because a server process of Ray died",
        "stopped because the first trials all failed alike",
        "stopped by an error",
    ]


def test_all_sentences_are_written_alike_since_they_are_read_within_a_line() -> None:
    for sentence in [code.sentence for code in (*StopReason, *Cause, *Ending)]:
        assert sentence[0].islower(), sentence
        assert not sentence.endswith("."), sentence


def test_every_reason_of_a_training_to_stop_is_the_cause_of_a_trial_to_end() -> None:
    causes = {Cause(reason.value) for reason in StopReason}
    assert causes == {cause for cause in Cause if cause.of_training}
    assert all(cause.sentence == StopReason(cause.value).sentence for cause in causes)


@pytest.mark.parametrize("cause", Cause)
def test_the_end_of_a_trial_follows_from_its_cause(cause: Cause) -> None:
    event = TrialEnded.by("0003", cause, "why", "a traceback")
    assert (event.trial_id, event.cause, event.reason, event.details) == ("0003", cause, "why", "a traceback")
    assert (event.status, event.resumable, event.revocable) == (
        cause.status, cause.resumable, cause.resumable,
    )  # fmt: skip


def test_the_cause_of_an_end_decides_the_status_and_whether_the_trial_may_continue() -> None:
    assert {cause: (str(cause.status), cause.resumable) for cause in Cause} == {
        Cause.MAX_EPOCHS: ("completed", False),
        Cause.PATIENCE: ("stopped_early", False),
        Cause.THRESHOLD: ("stopped_early", False),
        Cause.USER: ("stopped_early", False),
        Cause.STOPPED_BY_SCHEDULER: ("stopped_early", False),
        Cause.NOT_PROMOTED: ("stopped_early", True),
        Cause.TIME_LIMIT: ("stopped_early", True),
        Cause.RUN_ENDED: ("interrupted", True),
        Cause.DIVERGED: ("failed", False),
        Cause.OUT_OF_MEMORY: ("failed", False),
        Cause.TRAINING_FAILED: ("failed", False),
        Cause.REJECTED: ("failed", False),
        Cause.NO_FINITE_SCORE: ("failed", False),
        Cause.NO_REPORT: ("failed", False),
        Cause.WORKER_LOST: ("failed", False),
        Cause.MACHINES_LOST: ("failed", False),
    }
    assert {cause for cause in Cause if cause.cut_off} == {Cause.TIME_LIMIT, Cause.RUN_ENDED}


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"type": "trial_forgotten", "trial_id": "1"},
        {"type": "trial_started"},
        {"type": "trial_started", "trial_id": "1", "mood": "good"},
        {"type": "trial_ended", "trial_id": "1", "status": "fine", "cause": "patience", "reason": ""},
        {"type": "trial_ended", "trial_id": "1", "status": "failed", "cause": "whim", "reason": ""},
        {"type": "run_resumed", "trials": 1, "versions": {}, "format": FORMAT + 1},
        {"type": "run_resumed", "trials": 1, "versions": {}, "format": "latest"},
        {"type": ["trial_started"], "trial_id": "1"},
    ],
)
def test_a_line_that_is_no_event_is_refused(mapping: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        event_from_mapping(mapping)


# A run that was resumed


def resumed() -> RunResumed:
    return RunResumed(trials=3, versions={})


def test_trials_that_ended_with_the_run_are_open_again_after_a_resume() -> None:
    interrupted = TrialEnded(
        trial_id="0", status=Status.INTERRUPTED, cause=Cause.RUN_ENDED, reason="", resumable=True
    )
    failed = TrialEnded(
        trial_id="1", status=Status.FAILED, cause=Cause.TRAINING_FAILED, reason="its own fault"
    )
    end = [RunEnded(ending=Ending.INTERRUPTED), WinnerSelected(winner=None)]
    started = TrialStarted(trial_id="0")
    assert in_force([started, interrupted, failed, *end]) == [started, interrupted, failed, *end]
    again = resumed()
    assert in_force([started, interrupted, failed, *end, again]) == [started, failed, again]


def test_each_resume_reopens_earlier_trials_and_no_later_ones() -> None:
    ends = [
        TrialEnded(
            trial_id=str(n), status=Status.INTERRUPTED, cause=Cause.RUN_ENDED, reason="", resumable=True
        )
        for n in range(3)
    ]
    first, second = resumed(), resumed()
    assert in_force([ends[0], first, ends[1], second, ends[2]]) == [first, second, ends[2]]


def test_an_unsealing_and_its_result_are_never_taken_back() -> None:
    seen = HoldoutUnsealed(trial_id="0")
    result = HoldoutEvaluated(number=1, trial_id="0", results={"test_loss": 1.0})
    again = resumed()
    assert in_force([seen, result, again]) == [seen, result, again]


def test_the_time_spent_leaves_out_the_time_between_two_drivers() -> None:
    def started(time: float) -> TrialStarted:
        return TrialStarted(time=time, trial_id="0")

    begun = RunStarted(time=100.0, name="a", job_folder="", trials=1, rows={}, fingerprints={}, versions={})
    resumed = RunResumed(time=500.0, trials=1, versions={})
    assert seconds_spent([]) == 0
    assert seconds_spent([begun]) == 0
    assert seconds_spent([begun, started(130.0)]) == 30
    assert seconds_spent([begun, started(130.0), resumed, started(512.0)]) == 42
    looked = [
        HoldoutUnsealed(time=9999.0, trial_id="0"),
        HoldoutEvaluated(time=9999.5, number=1, trial_id="0", results={"test_loss": 1.0}),
    ]
    assert seconds_spent([begun, started(130.0), *looked]) == 30
