"""What steers a run under Ray Tune: its scheduler and its searcher, put together on the run's journal."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from optuna.storages import BaseStorage
from ray.tune.schedulers import TrialScheduler

from trainers.settings import ScoreSettings
from tune_jobs.folder import RunFolder
from tune_jobs.job_sections import SchedulerSettings, SearchSettings
from tune_jobs.journal import Journal
from tune_jobs.records import RunRecord
from tune_jobs.report_log import ReportLog
from tune_jobs.rungs import RungTables
from tune_jobs.scheduling import make_tables, ray_scheduler, rung_epochs
from tune_jobs.search.history import SearchHistory
from tune_jobs.search.methods import make_method
from tune_jobs.search.process import MethodProcess
from tune_jobs.search.proposals import Ahead, Immediate, OneAhead, Proposals
from tune_jobs.search.searcher import JournaledSearcher
from tune_jobs.search.study import StudyMirror
from tune_jobs.waiting_scheduler import WaitingScheduler


@dataclass(frozen=True, kw_only=True)
class SteeringPlan:
    """What the scheduler and the searcher of a run are to do."""

    search: SearchSettings
    scheduler: SchedulerSettings
    score: ScoreSettings
    max_epochs: int
    trials: int
    seed: int
    concurrent: int
    """Trials at a time."""
    simulated: bool = False
    """Time is: proposals are made when they are asked for, and no thread works beside the run."""

    @property
    def rungs(self) -> tuple[int, ...]:
        return rung_epochs(self.scheduler, self.max_epochs)


@dataclass(frozen=True)
class Steering:
    """The objects that Ray Tune is given, and what they rest on."""

    scheduler: TrialScheduler
    searcher: JournaledSearcher
    reports: ReportLog
    tables: RungTables


@contextmanager
def steering(
    plan: SteeringPlan,
    journal: Journal,
    record: RunRecord,
    folder: RunFolder,
    storage: BaseStorage,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Iterator[Steering]:
    """Scheduler and searcher, which follow the journal.

    Args:
        plan: what they are to do.
        journal: of the run; no trial has been created yet.
        record: follows the journal.
        folder: of the run.
        storage: of the run's study.
        out_of_time: no trial is created or promoted once this is true.
    """
    tables = make_tables(plan.scheduler, plan.max_epochs, plan.score)
    reports = ReportLog(journal.append, record, folder)
    study = StudyMirror(storage, plan.search.space, plan.score, (*plan.rungs, plan.max_epochs))
    with make_proposals(plan) as proposals:
        for listener in (tables.apply, proposals, study):
            journal.follow(listener)
        searcher = JournaledSearcher(
            proposals,
            journal.append,
            tables,
            trials=plan.trials,
            concurrent=plan.concurrent,
            out_of_time=out_of_time,
        )
        yield Steering(
            _scheduler(plan, tables, reports, journal, searcher, out_of_time), searcher, reports, tables
        )


@contextmanager
def make_proposals(plan: SteeringPlan) -> Iterator[Proposals]:
    """The proposals of a run that has no trial yet; a method that thinks does so in a process of its own."""
    history = SearchHistory(plan.search.space, plan.rungs, plan.max_epochs, plan.score)
    arguments = (plan.search, plan.scheduler.reduction_factor, plan.seed)
    if plan.simulated or not plan.search.thinks:
        yield Immediate(make_method(*arguments), history)
        return
    with closing(MethodProcess(*arguments)) as method:
        proposals: OneAhead | Ahead = (
            OneAhead(method, history)
            if plan.concurrent == 1
            else Ahead(method, history, plan.search.space, plan.concurrent)
        )
        with closing(proposals):
            yield proposals


def _scheduler(
    plan: SteeringPlan,
    tables: RungTables,
    reports: ReportLog,
    journal: Journal,
    searcher: JournaledSearcher,
    out_of_time: Callable[[], bool],
) -> TrialScheduler:
    if not plan.scheduler.waits:
        return ray_scheduler(plan.scheduler, plan.max_epochs)
    return WaitingScheduler(
        tables,
        reports,
        journal.append,
        concurrent=plan.concurrent,
        exhausted=lambda: searcher.exhausted,
        out_of_time=out_of_time,
    )
