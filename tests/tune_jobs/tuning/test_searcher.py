"""The searcher of Ray Tune, without Ray Tune's loop: when it gives a trial, and when it says that it has finished."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray.tune.search import Searcher

from tests.tune_jobs.search.conftest import LOSS, RUNGS, Space, history_of, reported, search
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    Event,
    TrialCreated,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.scheduling.rungs import RungTables
from tune_jobs.search.proposals import Immediate
from tune_jobs.search_spaces import parse_space
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.searcher import JournaledSearcher

SPACE: Space = {"x": {"low": 0.0, "high": 1.0}, "hidden": {"values": [[8], [16]]}}


class Run:
    """A searcher with tables and proposals that follow its own journal."""

    place: ClassVar[Path]
    opened: ClassVar[list["Run"]] = []

    def __init__(
        self,
        space: Space = SPACE,
        trials: int = 6,
        max_running: int = 2,
        rungs: Any = RUNGS,
        past: Sequence[Event] = (),
    ) -> None:
        self.events: list[Event] = []
        self.out_of_time = False
        self.max_running = max_running
        folder = RunFolder.create(self.place, "run")
        self.journal = Journal(folder.journal, self.events.append)
        self.opened.append(self)
        run = LiveRun.on(folder, self.journal, LOSS, past)
        proposals = Immediate(search(space), history_of(parse_space(space)), past)
        rungs_of_run = JournaledTables(run, RungTables(rungs, 3, LOSS))
        self.append = run.append
        self.searcher = JournaledSearcher(
            run,
            proposals,
            rungs_of_run,
            RunControl(max_running=lambda: self.max_running, out_of_time=lambda: self.out_of_time),
            trials,
        )

    def ask(self) -> Any:
        given = self.searcher.suggest("Ray's own id")
        return given["trial_id"] if isinstance(given, Mapping) else given

    def wait(self, number: int, loss: float) -> None:
        self.append(reported(number, loss))
        self.append(TrialPaused(trial_id=f"{number:04d}", epoch=1))

    def ends(self) -> list[TrialEnded]:
        return [event for event in self.events if isinstance(event, TrialEnded)]

    def end(self, number: int) -> None:
        self.append(
            TrialEnded(
                trial_id=f"{number:04d}", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="it ended"
            )
        )


@pytest.fixture(autouse=True)
def journals(tmp_path: Path) -> Iterator[None]:
    Run.place = tmp_path
    yield
    while Run.opened:
        Run.opened.pop().journal.close()


def test_a_trial_has_our_own_id_and_its_creation_is_an_event() -> None:
    run = Run()
    given = run.searcher.suggest("Ray's own id")
    (event,) = run.events
    assert isinstance(event, TrialCreated)
    assert given == {"trial_id": "0000", "configuration": event.configuration}
    assert (event.trial_id, event.number) == ("0000", 0)
    assert run.ask() == "0001"


def test_none_is_given_while_no_worker_is_free() -> None:
    run = Run(max_running=2)
    assert [run.ask(), run.ask(), run.ask()] == ["0000", "0001", None]
    run.wait(0, 0.5)
    assert [run.ask(), run.ask()] == ["0002", None]
    run.end(1)
    assert [run.ask(), run.ask()] == ["0003", None]


def test_a_promotion_that_is_due_comes_before_a_new_trial() -> None:
    run = Run(max_running=1)
    for number, loss in enumerate((0.5, 0.4, 0.6)):
        assert run.ask() == f"{number:04d}"
        run.wait(number, loss)
    given = run.searcher.suggest("Ray's own id")
    promoted = run.events[-1]
    _, created, _ = (event for event in run.events if isinstance(event, TrialCreated))
    assert isinstance(promoted, TrialPromoted)
    assert (promoted.trial_id, promoted.epoch) == ("0001", 1)
    assert given == {"trial_id": "0001", "configuration": created.configuration}
    assert run.ask() is None, "the promoted trial has the worker"
    run.end(1)
    assert run.ask() == "0003"


def test_waiting_ends_in_one_pass_when_nothing_is_left_to_start_or_to_promote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(trials=4, max_running=2)
    assert [run.ask(), run.ask()] == ["0000", "0001"]
    run.wait(1, 0.3)
    run.wait(0, 0.2)
    assert run.ends() == []
    assert [run.ask(), run.ask()] == ["0002", "0003"]
    run.wait(2, 0.4)
    assert run.ask() == "0000", "the best of three"
    run.wait(3, 0.5)
    assert run.ask() is None, "0000 may yet fill a rung"
    run.end(0)
    writes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, lines: writes.append(file) or write(file, lines))
    assert run.ask() == Searcher.FINISHED
    assert len(writes) == 1
    assert [(end.trial_id, end.cause) for end in run.ends()[1:]] == [
        (f"{number:04d}", Cause.NOT_PROMOTED) for number in (1, 2, 3)
    ]
    assert run.ends()[1].reason == "waited at epoch 1: not among the best 1/3 of its rung"


def test_trials_wait_while_there_is_no_room_for_a_promotion() -> None:
    run = Run(trials=3, max_running=3)
    for number in range(3):
        assert run.ask() == f"{number:04d}"
        run.wait(number, 0.5)
    run.max_running = 0
    assert run.ask() is None
    assert run.ends() == []
    run.max_running = 1
    assert run.ask() == "0000"


def test_after_the_deadline_nothing_is_promoted_and_waiting_ends() -> None:
    run = Run(max_running=1)
    for number in range(3):
        assert run.ask() == f"{number:04d}"
        run.wait(number, 0.5)
    run.out_of_time = True
    assert run.ask() == Searcher.FINISHED
    assert [end.cause for end in run.ends()] == 3 * [Cause.TIME_LIMIT]
    assert not any(isinstance(event, TrialPromoted) for event in run.events)


def test_it_has_finished_when_all_trials_were_created_and_none_waits_or_runs() -> None:
    run = Run(trials=2)
    assert [run.ask(), run.ask()] == ["0000", "0001"]
    assert run.searcher.exhausted
    run.wait(0, 0.5)
    assert run.ask() is None, "Ray Tune learns of the end last"
    run.end(1)
    assert run.searcher.has_open_trials
    assert run.ask() == Searcher.FINISHED
    assert not run.searcher.has_open_trials
    assert sum(isinstance(event, TrialCreated) for event in run.events) == 2


def test_if_no_trial_waits_it_has_finished_with_the_last_trial() -> None:
    run = Run(trials=2, rungs=())
    assert [run.ask(), run.ask(), run.ask()] == ["0000", "0001", Searcher.FINISHED]
    assert run.searcher.has_open_trials


def test_without_rungs_a_worker_must_be_free_all_the_same() -> None:
    run = Run(rungs=(), max_running=1)
    assert [run.ask(), run.ask()] == ["0000", None]
    run.end(0)
    assert run.ask() == "0001"


def test_it_has_finished_when_the_space_is_used_up() -> None:
    run = Run({"x": {"values": [1, True]}}, trials=9, max_running=9)
    assert [run.ask(), run.ask()] == ["0000", "0001"]
    assert not run.searcher.exhausted
    assert run.ask() is None
    assert run.searcher.exhausted
    run.end(0)
    run.end(1)
    assert run.ask() == Searcher.FINISHED
    assert len(run.events) == 4


@pytest.mark.parametrize(("rungs", "said"), [(RUNGS, None), ((), Searcher.FINISHED)])
def test_no_trial_is_created_once_time_is_out(rungs: Any, said: str | None) -> None:
    run = Run(rungs=rungs)
    assert not run.searcher.exhausted
    assert run.ask() == "0000"
    run.out_of_time = True
    assert run.searcher.exhausted
    assert run.ask() == said
    run.end(0)
    assert run.ask() == Searcher.FINISHED
    assert sum(isinstance(event, TrialCreated) for event in run.events) == 1


# A run that is resumed


def test_trials_that_were_in_progress_come_first_and_are_not_created_again() -> None:
    before = Run(trials=5, max_running=2)
    assert [before.ask(), before.ask()] == ["0000", "0001"]
    before.end(0)
    assert before.ask() == "0002"
    after = Run(trials=5, max_running=2, past=before.events)
    assert [after.ask(), after.ask(), after.ask()] == ["0001", "0002", None]
    assert after.events == []
    after.end(2)
    assert after.ask() == "0003"
    after.end(1)
    assert [after.ask(), after.ask()] == ["0004", None]
    given = {event.trial_id: event.configuration for event in after.events if isinstance(event, TrialCreated)}
    assert list(given) == ["0003", "0004"]


def test_a_trial_that_was_in_progress_has_its_own_configuration() -> None:
    before = Run()
    before.ask()
    (created,) = before.events
    assert isinstance(created, TrialCreated)
    given = Run(past=before.events).searcher.suggest("Ray's own id")
    assert given == {"trial_id": "0000", "configuration": created.configuration}


def test_trials_that_waited_are_not_handed_out_before_they_are_promoted() -> None:
    before = Run(max_running=1)
    for number in range(2):
        assert before.ask() == f"{number:04d}"
        before.wait(number, 0.5)
    assert before.ask() == "0002"
    after = Run(max_running=1, past=before.events)
    assert [after.ask(), after.ask()] == ["0002", None]
    after.wait(2, 0.6)
    assert after.ask() == "0000"


def test_no_more_trials_are_in_progress_at_a_time_than_there_is_room_for_now() -> None:
    before = Run(max_running=3)
    assert [before.ask(), before.ask(), before.ask()] == ["0000", "0001", "0002"]
    after = Run(max_running=1, past=before.events)
    assert [after.ask(), after.ask()] == ["0000", None]
    after.end(0)
    assert [after.ask(), after.ask()] == ["0001", None]


def test_a_finished_run_that_is_asked_for_more_trials_creates_the_rest() -> None:
    before = Run(trials=2)
    for number in range(2):
        before.ask()
        before.end(number)
    after = Run(trials=3, past=before.events)
    assert [after.ask(), after.ask()] == ["0002", None]


def test_ray_tune_receives_a_copy_of_the_configuration_in_the_journal() -> None:
    """Ray Tune may change it."""
    run = Run()
    given = run.searcher.suggest("Ray's own id")
    assert isinstance(given, Mapping)
    given["configuration"].clear()
    (event,) = run.events
    assert isinstance(event, TrialCreated)
    assert parse_space(SPACE).problems(event.configuration) == ()


def test_calls_of_ray_tune_change_nothing() -> None:
    run, untold = Run(), Run()
    for one in (run, untold):
        assert one.ask() == "0000"
    run.searcher.on_trial_result("0000", {"score": 0.1})
    run.searcher.on_trial_complete("0000", {"score": 0.1})
    run.searcher.on_trial_complete("0000", None, error=True)
    run.searcher.save("nowhere")
    run.searcher.restore("nowhere")
    assert run.ask() == untold.ask() == "0001"
    assert [vars(event)["configuration"] for event in run.events] == [
        vars(event)["configuration"] for event in untold.events
    ]
