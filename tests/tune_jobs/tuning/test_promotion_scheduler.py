"""The scheduler that pauses trials, without Ray Tune's loop, with a controller that records calls."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_jobs.record.codes import Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialCreated,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.scheduling.rungs import RungTables
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.promotion_scheduler import PromotionScheduler
from tune_jobs.tuning.report_recorder import ReportRecorder
from tune_jobs.worker.reporting import Report

LOSS = ScoreSettings(metric="val_loss")
CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


@dataclass(eq=False)
class FakeTrial:
    """The part of a trial that the scheduler reads."""

    config: dict[str, Any]
    status: str = Trial.PENDING
    storage: None = None
    trial_id: str = "of Ray"


class Run:
    """Two workers, rungs at 1 and 3, and as much of Ray Tune as the scheduler uses."""

    def __init__(self, folder: RunFolder, score: ScoreSettings = LOSS) -> None:
        self.events: list[Event] = []
        self.journal = Journal(folder.journal, self.events.append)
        live = LiveRun.on(folder, self.journal, score)
        self.record = live.record
        self.append = live.append
        self.out_of_time = False
        self.trials: list[Any] = []
        self._resetting_trials: set[Any] = set()
        self.scheduler = PromotionScheduler(
            JournaledTables(live, RungTables((1, 3), 3, score)),
            ReportRecorder(live),
            RunControl(max_running=lambda: 2, out_of_time=lambda: self.out_of_time),
        )

    # The interface of a controller.

    def get_trials(self) -> list[Any]:
        return self.trials

    def stop_trial(self, trial: Any) -> None:
        trial.status = Trial.TERMINATED

    def _set_trial_status(self, trial: Any, status: str) -> None:
        trial.status = status

    # Events of the run.

    def create(self) -> Any:
        number = len(self.record.trials)
        self.trials.append(FakeTrial({"trial_id": f"{number:04d}"}))
        self.append(TrialCreated(trial_id=f"{number:04d}", number=number, configuration={}))
        return self.trials[-1]

    def start(self, trial: Any) -> None:
        trial.status = Trial.RUNNING
        self.append(TrialStarted(trial_id=trial.config["trial_id"]))

    def report(self, trial: Any, *losses: float, first: int = 1, rung: bool = True) -> str:
        results = [
            {"epoch": epoch, "train_loss": 1.0, "val_loss": loss, "seconds": 0.1}
            for epoch, loss in enumerate(losses, start=first)
        ]
        report = Report(epoch=first + len(losses) - 1, results=results, score=min(losses), rung=rung)
        return self.scheduler.on_trial_result(self, trial, {**report.to_result(), "hostname": "n", "pid": 1})

    def report_first_rung(self, loss: float) -> Any:
        trial = self.create()
        self.start(trial)
        if self.report(trial, loss) == STOP:
            self.stop_trial(trial)
        return trial

    def choose(self) -> Any:
        return self.scheduler.choose_trial_to_run(self)

    def kinds(self, *kinds: type[Event]) -> list[tuple[str, str]]:
        return [(event.type, event.trial_id) for event in self.events if isinstance(event, kinds)]  # type: ignore[attr-defined]


@pytest.fixture
def run(folder: RunFolder) -> Iterator[Run]:
    run = Run(folder)
    with run.journal:
        yield run


def test_a_report_is_in_the_journal_before_the_decision_on_it(run: Run) -> None:
    run.report_first_rung(0.5)
    assert [type(event) for event in run.events[-2:]] == [EpochsReported, TrialPaused]
    assert run.record.trials["0000"].status is Status.WAITING


def test_reports_between_rungs_are_written_and_the_trial_continues(run: Run) -> None:
    trial = run.create()
    run.start(trial)
    run.report(trial, 0.5)
    assert run.report(trial, 0.4, first=2, rung=False) == CONTINUE
    assert len(run.kinds(EpochsReported)) == 2


def test_a_trial_that_pauses_ends_for_ray_tune_and_is_forgotten_there(run: Run) -> None:
    a, b = run.report_first_rung(0.2), run.report_first_rung(0.3)
    assert run.kinds(TrialPaused) == [("trial_paused", "0000"), ("trial_paused", "0001")]
    assert (a.status, b.status) == (Trial.TERMINATED, Trial.TERMINATED)
    new = run.create()
    assert run.choose() is new
    assert run.trials == [new]


def test_a_trial_among_the_best_continues_without_a_pause(run: Run) -> None:
    run.report_first_rung(0.4)
    run.report_first_rung(0.3)
    trial = run.create()
    run.start(trial)
    assert run.report(trial, 0.2) == CONTINUE
    assert run.kinds(TrialPromoted) == [("trial_promoted", "0002")]
    assert run.report(trial, 0.2) == CONTINUE, "the rung again, after its worker was lost"
    assert len(run.kinds(TrialPromoted)) == 1


def test_after_the_deadline_nothing_is_promoted(run: Run) -> None:
    run.report_first_rung(0.3)
    run.report_first_rung(0.4)
    run.out_of_time = True
    run.report_first_rung(0.2)
    assert run.kinds(TrialPromoted) == []
    assert run.record.trials["0002"].status is Status.WAITING


def test_a_trial_without_a_finite_score_is_stopped(folder: RunFolder) -> None:
    run = Run(folder, ScoreSettings(metric="r2", mode="max"))
    trial = run.create()
    run.start(trial)
    results = [{"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "seconds": 0.5, "r2": float("nan")}]
    report = Report(epoch=1, results=results, score=None, rung=True)
    result = {**report.to_result(), "hostname": "n", "pid": 1}
    with run.journal:
        assert run.scheduler.on_trial_result(run, trial, result) == STOP
    assert run.kinds(TrialPaused) == []


def test_a_trial_whose_new_worker_is_dead_is_chosen_again(run: Run) -> None:
    first, handed = run.create(), run.create()
    handed_over = run._resetting_trials = {handed}
    run.scheduler.on_trial_add(run, handed)
    assert handed.status == Trial.PAUSED
    assert handed not in handed_over
    assert run.choose() is handed
    run.start(handed)
    assert run.choose() is first


def test_the_summary_of_the_rungs(run: Run) -> None:
    run.report_first_rung(0.2)
    assert run.scheduler.debug_string() == (
        "Waiting at rungs: epoch 1: 1 of 1 wait, 0 promoted; epoch 3: 0 of 0 wait, 0 promoted"
    )


def test_another_scheduler_on_replayed_events_continues_in_the_same_way(run: Run, tmp_path: Path) -> None:
    run.report_first_rung(0.3)
    run.report_first_rung(0.4)
    again = Run(RunFolder.create(tmp_path / "again", "small"))
    with again.journal:
        for event in run.events:
            again.append(event)
        for one in (run, again):
            one.report_first_rung(0.2)
    assert again.kinds(TrialPromoted) == run.kinds(TrialPromoted) == [("trial_promoted", "0002")]
