"""The events of a run: the vocabulary of its journal.

The life of a run, with each event where the driver writes it:

    RunStarted                                # or, if a new driver continues the run, RunResumed,
                                              # after JobChanged if the user changes keys of the job
    while the search has a configuration or a trial is open:
        NoticeAdded                           # a message about the cluster
        TrialCreated                          # the search proposed a configuration
        for each trial, beside the others:
            TrialUnplaceable                  # if no machine has had room for it for a while
            TrialStarted                      # a worker took it
            CheckpointDamaged                 # for each checkpoint that could not be read
            for each epoch of the training:
                EpochsReported                # at a rung, and about once a second in between
                CheckpointWritten             # at a rung, about twice a minute in between, and at the end
                if the epoch is a rung where trials wait:
                    TrialPromoted             # the trial is among the best and keeps its worker, or
                    TrialPaused               # it frees its worker;
                    TrialPromoted             #     if it is among the best later: back to TrialStarted
            WorkerLost                        # if its process died: back to TrialStarted
            TrialEnded                        # with the cause
    TrialEnded                                # for each trial that is still open
    RunEnded
    WinnerSelected
    for each `tune-jobs test`:
        HoldoutUnsealed                       # before the test rows are read
        HoldoutEvaluated

The journal stores codes (`Status`, `Cause`, `Ending`), and the program compares codes. Each code has a sentence beside
it for people; no decision depends on a sentence.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self, get_origin, get_type_hints

from tune_jobs.record.codes import Cause, Ending, Status
from tune_jobs.record.event_values import Check, check_of

FORMAT = 1
"""Version of the format of a run: its journal, the ledger of its holdout, and the job file beside them.

It increases if an older tune-jobs would misread one of them: so with a new event, a new field, a new code, and a new
key of `job.yaml`. Journals of format 0 name no format.
"""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event; `time` is Unix time in seconds."""

    type: ClassVar[str]
    time: float = field(default_factory=time.time)

    @property
    def revocable(self) -> bool:
        """Return whether a resumed run takes the event back: see `in_force`."""
        return False

    def to_mapping(self) -> dict[str, Any]:
        """Return the values of the event, which are its own and no copies; `event_from_mapping` reads them back."""
        values = vars(self)
        return {"type": self.type, **{name: values[name] for name in _CHECKS[type(self)]}}


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The first event: the facts of the run."""

    type = "run_started"
    name: str
    job_folder: str
    trials: int
    rows: Mapping[str, int]
    fingerprints: Mapping[str, str]
    versions: Mapping[str, str]
    notices: Sequence[str] = ()
    driver: str = ""
    """The process that writes the journal, as `host:pid`."""
    kind: str = ""
    """The kind of training by name."""
    kind_class: str = ""
    """Place of the kind's class, as `package.module:Class`."""
    run_id: str = ""
    """Random letters and digits that the run's checkpoints have in their headers."""
    seal: str = ""
    """How well the test rows are sealed: the code of a `Seal`."""
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """A new driver continues the run. Ends that only followed from the end of the run are taken back.

    `trials` is the number of trials that the job asks for now.
    """

    type = "run_resumed"
    trials: int
    versions: Mapping[str, str]
    notices: Sequence[str] = ()
    driver: str = ""
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class JobChanged(Event):
    """The file of the job is about to be written again: by a resumption with overrides, or by a repair.

    `job_file` is the SHA-256 of its new text, in hex digits. `changes` has the values by their dotted keys.
    """

    type = "job_changed"
    job_file: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrialCreated(Event):
    """The search proposed a configuration."""

    type = "trial_created"
    trial_id: str
    number: int
    configuration: Mapping[str, Any]
    filled_in: bool = False
    """It was drawn at random, because the model had none ready."""


@dataclass(frozen=True, kw_only=True)
class TrialStarted(Event):
    """A worker started the trial, for the first time or again."""

    type = "trial_started"
    trial_id: str


@dataclass(frozen=True, kw_only=True)
class EpochsReported(Event):
    """Epochs of a trial since its last report, as `EpochResult` mappings.

    `worker` is the process that trained them, as `host:pid`.
    """

    type = "epochs_reported"
    trial_id: str
    results: Sequence[Mapping[str, Any]]
    worker: str


@dataclass(frozen=True, kw_only=True)
class CheckpointWritten(Event):
    """A checkpoint is complete on disk; `file` is relative to the run folder."""

    type = "checkpoint_written"
    trial_id: str
    epoch: int
    file: str


@dataclass(frozen=True, kw_only=True)
class CheckpointDamaged(Event):
    """A checkpoint was damaged or of another trial; the trial continued from the one before it, or from the start."""

    type = "checkpoint_damaged"
    trial_id: str
    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TrialPaused(Event):
    """The scheduler holds the trial at a rung; its worker is free for another one."""

    type = "trial_paused"
    trial_id: str
    epoch: int


@dataclass(frozen=True, kw_only=True)
class TrialPromoted(Event):
    """The scheduler lets the trial continue from a rung, at once or after it has waited there."""

    type = "trial_promoted"
    trial_id: str
    epoch: int


@dataclass(frozen=True, kw_only=True)
class WorkerLost(Event):
    """The process of a trial died; the trial continues from its last checkpoint, or fails."""

    type = "worker_lost"
    trial_id: str
    reason: str
    node_lost: bool = False
    """Its machine was lost; this does not count against `limits.retries_per_trial`."""


@dataclass(frozen=True, kw_only=True)
class TrialUnplaceable(Event):
    """No machine has had room for the trial for a while; it continues to wait."""

    type = "trial_unplaceable"
    trial_id: str
    reason: str
    """The resources that it needs and the missing one, to be read after the trial's name."""


@dataclass(frozen=True, kw_only=True)
class NoticeAdded(Event):
    """A message about the cluster for people who watch the run, in one line."""

    type = "notice_added"
    text: str


@dataclass(frozen=True, kw_only=True)
class TrialEnded(Event):
    """A trial ended."""

    type = "trial_ended"
    trial_id: str
    status: Status
    cause: Cause
    reason: str
    """The cause in words, for people."""
    details: str = ""
    """Traceback of a failure."""
    resumable: bool = False
    """It ended because the run did; a resumed run continues it."""

    @classmethod
    def by(cls, trial_id: str, cause: Cause, reason: str, details: str = "") -> Self:
        """Return the end of a trial by `cause`, from which its status follows and whether it can be resumed."""
        return cls(
            trial_id=trial_id,
            status=cause.status,
            cause=cause,
            reason=reason,
            details=details,
            resumable=cause.resumable,
        )

    @property
    def revocable(self) -> bool:
        return self.resumable


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """No trial is trained any more."""

    type = "run_ended"
    ending: Ending

    @property
    def revocable(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class WinnerSelected(Event):
    """The selection rule was applied; `winner` is null if no trial succeeded."""

    type = "winner_selected"
    winner: str | None

    @property
    def revocable(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class HoldoutUnsealed(Event):
    """The test rows were read for the winner."""

    type = "holdout_unsealed"
    trial_id: str
    reason: str | None = None
    from_ledger: bool = False
    """The ledger alone had it, because the end of the journal was cut, or another machine claimed it."""


@dataclass(frozen=True, kw_only=True)
class HoldoutEvaluated(Event):
    """The winner was evaluated on the test rows; `number` is the number of the opening, from 1.

    `results` holds `test_loss` and `test_<metric>`, means over the test rows; `reason` says why they were read.
    """

    type = "holdout_evaluated"
    number: int
    trial_id: str
    results: Mapping[str, float]
    reason: str | None = None
    from_ledger: bool = False
    """The ledger alone had it."""


_EVENTS: dict[str, type[Event]] = {event.type: event for event in Event.__subclasses__()}
_CHECKS: dict[type[Event], Mapping[str, Check]] = {
    kind: {
        name: check_of(name, found)
        for name, found in get_type_hints(kind).items()
        if get_origin(found) is not ClassVar
    }
    for kind in _EVENTS.values()
}
"""The check of each field of each event."""
_DEFAULTS: dict[type[Event], Mapping[str, Any]] = {
    kind: {one.name: one.default for one in fields(kind) if one.default is not MISSING}
    for kind in _EVENTS.values()
}
"""The values of fields that an event may lack."""
_FIRST_EVENTS = frozenset({RunStarted.type, RunResumed.type})
"""Types of the events that a driver writes first; they name its format."""
_ENUMS: dict[str, type[StrEnum]] = {"status": Status, "cause": Cause, "ending": Ending}


def format_of(mapping: Mapping[str, Any]) -> int:
    """Return the format that the driver wrote which begins with this event: 0 if the event names none.

    Events that do not begin a driver's work have the format of this version.
    """
    return int(mapping.get("format", 0)) if mapping.get("type") in _FIRST_EVENTS else FORMAT


def event_from_mapping(mapping: Mapping[str, Any]) -> Event:
    """Return the event that `to_mapping` turned into this mapping.

    Raises:
        WrongEvent: The event is one of this version, but no driver writes such values.
        KeyError, TypeError, ValueError, AttributeError: The mapping is no event of this version.
    """
    if format_of(mapping) != FORMAT:
        raise ValueError(format_of(mapping))
    kind = _EVENTS[mapping["type"]]
    values, checks = {**_DEFAULTS[kind], **mapping}, _CHECKS[kind]
    del values["type"]
    for name, value in values.items():
        if name in _ENUMS and isinstance(value, str):
            values[name] = _ENUMS[name](value)
        if not checks[name](values[name]) and name in mapping:
            raise WrongEvent(f"has a value of `{name}` that no driver writes")
    if len(values) < len(checks):
        raise WrongEvent("lacks a value that its event has")
    event = object.__new__(kind)  # the constructor of a frozen class takes as long as the JSON
    vars(event).update(values)
    return event


def refuse_wrong_values(*events: Event) -> None:
    """Refuse events that no reader would accept.

    Raises:
        WrongEvent: A value is of another type than that of its field, or out of range.
    """
    for event in events:
        for name, check in _CHECKS[type(event)].items():
            if not check(vars(event)[name]):
                raise WrongEvent(f"has a value of `{name}` that no driver writes")


class WrongEvent(ValueError):
    """A line is an event of this version, but no driver wrote it. The text is the end of "line 17 …"."""


def in_force(events: Iterable[Event]) -> list[Event]:
    """Return `events` without those that a later `RunResumed` took back: ends of the run and of continued trials.

    Everything that is built from a journal is built from these events.
    """
    kept: list[Event] = []
    for event in events:
        if isinstance(event, RunResumed):
            kept = [earlier for earlier in kept if not earlier.revocable]
        kept.append(event)
    return kept


def seconds_spent(events: Iterable[Event]) -> float:
    """Return the seconds of work: from each start or resumption of the run to its last event before the next one."""
    spent, begun, last = 0.0, None, 0.0
    for event in events:
        if isinstance(event, RunStarted | RunResumed):
            spent += 0.0 if begun is None else last - begun
            begun = event.time
        if not isinstance(
            event, JobChanged | HoldoutUnsealed | HoldoutEvaluated
        ):  # long after the end, maybe
            last = event.time
    return spent if begun is None else spent + last - begun
