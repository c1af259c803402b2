"""The parts of a run that Ray Tune is given: its scheduler and its searcher, built on the run's journal."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Literal

from ray.tune.schedulers import TrialScheduler

from tune_jobs.job.rung_epochs import rung_epochs
from tune_jobs.job.settings import SchedulerSettings, SearchSettings
from tune_jobs.record.events import Event, TrialCreated
from tune_jobs.record.journal import Journal
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.rungs import RungTables, make_tables
from tune_jobs.search.history import SearchHistory
from tune_jobs.search.methods import make_method
from tune_jobs.search.process import MethodProcess
from tune_jobs.search.proposals import Ahead, Immediate, OneAhead, Proposals
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.promotion_scheduler import PromotionScheduler
from tune_jobs.tuning.report_recorder import ReportLog
from tune_jobs.tuning.searcher import JournaledSearcher
from tune_jobs.tuning.stopping_scheduler import ReplayedScheduler, ray_scheduler, replayed


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """What the scheduler and the searcher of a run are to do."""

    search: SearchSettings
    scheduler: SchedulerSettings
    score: ScoreSettings
    max_epochs: int
    trials: int
    seed: int
    max_running: int
    """Trials at a time, at the beginning."""
    capacity: Callable[[], int] | None = None
    """Trials at a time, from moment to moment; None where that does not change."""
    proposals: Literal["beside", "immediate", "one_ahead"] = "beside"
    """Of a model: made in a process beside the run; or here, when they are asked for, or one trial before.

    The last two are for simulated clocks.
    """

    def room(self) -> int:
        """Trials at a time, now."""
        return self.max_running if self.capacity is None else self.capacity()

    @property
    def rungs(self) -> tuple[int, ...]:
        return rung_epochs(self.scheduler, self.max_epochs)


@dataclass(frozen=True)
class Components:
    """The objects that Ray Tune is given, and what they rest on."""

    scheduler: TrialScheduler
    searcher: JournaledSearcher
    reports: ReportLog
    tables: RungTables
    out_of_time: Callable[[], bool]
    """No trial is created or promoted once this is true."""


@contextmanager
def open_components(
    plan: TuningPlan, run: LiveRun, out_of_time: Callable[[], bool] = lambda: False
) -> Iterator[Components]:
    """Scheduler and searcher, which go on from the run's past and follow its journal.

    Args:
        plan: what they are to do.
        run: whose record follows the journal.
        out_of_time: no trial is created or promoted once this is true.
    """
    journal, record = run.journal, run.record
    tables = make_tables(plan.scheduler, plan.max_epochs, plan.score)
    for event in run.past:
        tables.apply(event)
    reports = ReportLog(journal.append, record, run.folder)
    with make_proposals(plan, run.past) as proposals:
        journal.follow(tables.apply)
        journal.follow(proposals)
        searcher = JournaledSearcher(
            proposals,
            journal.append,
            tables,
            trials=plan.trials,
            max_running=plan.room,
            created=[event for event in run.past if isinstance(event, TrialCreated)],
            out_of_time=out_of_time,
        )

        def ended(trial_id: str) -> bool:
            return record.trials[trial_id].status.ended

        scheduler: TrialScheduler
        if plan.scheduler.pauses_trials:
            scheduler = _waiting(plan, journal, tables, reports, searcher, out_of_time, ended)
        else:
            scheduler = _replayed(plan, run, reports, ended)
        yield Components(scheduler, searcher, reports, tables, out_of_time)


@contextmanager
def make_proposals(plan: TuningPlan, events: Iterable[Event] = ()) -> Iterator[Proposals]:
    """The proposals of a run whose journal holds `events`; a model runs in a process of its own."""
    history = SearchHistory(plan.search.space, plan.rungs, plan.max_epochs, plan.score)
    arguments = (plan.search, plan.scheduler.reduction_factor, plan.seed)
    with ExitStack() as open_:
        if plan.proposals == "immediate" or not plan.search.is_model_based:
            yield Immediate(make_method(*arguments), history, events)
        elif plan.proposals == "one_ahead":
            yield open_.enter_context(closing(OneAhead(make_method(*arguments), history, events)))
        else:
            method = MethodProcess(*arguments)
            proposals: OneAhead | Ahead = (
                OneAhead(method, history, events)
                if plan.max_running == 1
                else Ahead(method, history, plan.search.space, plan.max_running, events)
            )
            open_.enter_context(closing(proposals))
            open_.enter_context(closing(method))  # first, so that no thread waits for it
            yield proposals


def _replayed(
    plan: TuningPlan, run: LiveRun, reports: ReportLog, ended: Callable[[str], bool]
) -> TrialScheduler:
    rule = replayed(ray_scheduler(plan.scheduler, plan.max_epochs), plan.rungs, plan.score, run.past)
    run.journal.follow(rule.apply)
    return ReplayedScheduler(rule, reports, ended)


def _waiting(
    plan: TuningPlan,
    journal: Journal,
    tables: RungTables,
    reports: ReportLog,
    searcher: JournaledSearcher,
    out_of_time: Callable[[], bool],
    ended: Callable[[str], bool],
) -> TrialScheduler:
    return PromotionScheduler(
        tables,
        reports,
        journal.append,
        max_running=plan.room,
        exhausted=lambda: searcher.exhausted,
        out_of_time=out_of_time,
        ended=ended,
    )
