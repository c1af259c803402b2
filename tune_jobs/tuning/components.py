"""Build the parts of a run that Ray Tune needs, its scheduler and its searcher, on the run's journal."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Literal, Self

from ray.tune.schedulers import TrialScheduler

from tune_jobs.job.job import Job
from tune_jobs.job.settings import SchedulerSettings, SearchSettings
from tune_jobs.record.events import Event
from tune_jobs.record.live import LiveRun
from tune_jobs.scheduling.journaled_tables import JournaledTables
from tune_jobs.scheduling.rungs import RungTables, make_tables
from tune_jobs.search.history import SearchHistory
from tune_jobs.search.methods import make_method
from tune_jobs.search.process import MethodProcess
from tune_jobs.search.proposals import Ahead, Immediate, OneAhead, Proposals
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.control import RunControl
from tune_jobs.tuning.promotion_scheduler import PromotionScheduler
from tune_jobs.tuning.ray_schedulers import JournaledRule, JournaledScheduler, ray_scheduler
from tune_jobs.tuning.report_recorder import ReportRecorder
from tune_jobs.tuning.searcher import JournaledSearcher


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """The settings of the scheduler and the searcher of a run."""

    search: SearchSettings
    scheduler: SchedulerSettings
    score: ScoreSettings
    rungs: tuple[int, ...]
    """The epochs at which trials are compared, ascending: `rung_epochs` of the scheduler."""
    max_epochs: int
    trials: int
    """Number of configurations to try."""
    seed: int
    max_running: int
    """The limit on running trials at the beginning of the run."""
    proposals: Literal["beside", "immediate", "one_ahead"] = "beside"
    """The process in which a model makes its proposals: one beside the run, or this one.

    In this one it makes each when it is needed, or one trial ahead. Both are for simulated clocks.
    """

    @classmethod
    def of(cls, job: Job, max_running: int) -> Self:
        """Return the plan of a job, of which `max_running` trials can run at the beginning."""
        return cls(
            search=job.search,
            scheduler=job.scheduler,
            score=job.selection,
            rungs=job.rungs,
            max_epochs=job.max_epochs,
            trials=job.trials,
            seed=job.seed,
            max_running=max_running,
        )


@dataclass(frozen=True)
class Components:
    """The objects for Ray Tune, and those on which they rest."""

    scheduler: TrialScheduler
    searcher: JournaledSearcher
    reports: ReportRecorder
    tables: RungTables
    control: RunControl


@contextmanager
def open_components(
    plan: TuningPlan, run: LiveRun, control: RunControl | None = None
) -> Iterator[Components]:
    """Make scheduler and searcher, which continue from the run's past and follow its journal.

    Args:
        plan: The settings of both.
        run: The run whose journal they write to and follow.
        control: The present limits; without it, the limits of the plan hold throughout.
    """
    control = control or RunControl(max_running=lambda: plan.max_running)
    journaled = JournaledTables(run, make_tables(plan.scheduler, plan.rungs, plan.score))
    reports = ReportRecorder(run)
    with make_proposals(plan, run.past) as proposals:
        searcher = JournaledSearcher(run, proposals, journaled, control, plan.trials)
        scheduler: TrialScheduler
        if plan.scheduler.pauses_trials:
            scheduler = PromotionScheduler(journaled, reports, control)
        else:
            rule = JournaledRule(ray_scheduler(plan.scheduler, plan.max_epochs), plan.rungs, plan.score)
            scheduler = JournaledScheduler(run, rule, reports, journaled.tables)
        yield Components(scheduler, searcher, reports, journaled.tables, control)


@contextmanager
def make_proposals(plan: TuningPlan, events: Iterable[Event] = ()) -> Iterator[Proposals]:
    """Open the proposals of a run whose journal holds `events`; a model runs in its own process."""
    history = SearchHistory(plan.search.space, plan.rungs, plan.max_epochs, plan.score)
    arguments = (plan.search, plan.scheduler.reduction_factor, plan.seed)
    with ExitStack() as open_:
        if plan.proposals == "immediate" or not plan.search.is_model_based:
            with_model = plan.search.is_model_based
            yield Immediate(make_method(*arguments), history, events, with_model=with_model)
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
