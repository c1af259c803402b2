"""The pairs of scheduler and searcher that the replay benchmark compares: a new row is a new entry of `ROWS`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from tests.simulation.curve_tables import Table
from tests.simulation.replay import Contestant, Curve, Results
from tests.simulation.reporting import as_a_run
from tune_jobs.job.rung_epochs import rung_epochs
from tune_jobs.job.settings import LimitSettings, SchedulerSettings, SearchSettings
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, Listener
from tune_jobs.record.live import LiveRun
from tune_jobs.search_spaces import Float, SearchSpace
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.tuning.callback import JournalCallback
from tune_jobs.tuning.components import TuningPlan, open_components

REDUCTION_FACTOR = 3
"""ASHA's reduction factor in all rows that set no other, those of Ray Tune included."""

Build = Callable[[Table, int, int], AbstractContextManager[Contestant]]
"""A function that makes the objects of a run from a table, a number of workers and a seed."""


@dataclass(frozen=True)
class Row:
    """A row of the benchmark's table."""

    title: str
    build: Build


@contextmanager
def ray_as_shipped(
    table: Table,
    workers: int,
    seed: int,
    *,
    sampler: Callable[[int], BaseSampler] | None = None,
    **scheduler: Any,
) -> Iterator[Contestant]:
    """Yield Ray Tune's ASHA and its OptunaSearch, combined as their documentation does.

    Args:
        table: The table of curves that the trials replay.
        workers: The number of trials at a time (`max_concurrent_trials`).
        seed: The seed of the sampler.
        sampler: Makes Optuna's sampler. None keeps the default of OptunaSearch.
        scheduler: Further settings of ASHA.
    """
    searcher = OptunaSearch(
        {name: FloatDistribution(d.low, d.high, log=d.log) for name, d in _floats(table.space).items()},
        metric="loss",
        mode="min",
        **({"seed": seed} if sampler is None else {"sampler": sampler(seed)}),
    )
    yield Contestant(
        scheduler=ASHAScheduler(metric="loss", mode="min", max_t=table.steps, **scheduler),
        searcher=ConcurrencyLimiter(searcher, max_concurrent=workers),
        most_pending=workers,
        train=as_documented,
        callback=Callback(),
    )


@contextmanager
def tune_jobs(
    table: Table,
    workers: int,
    seed: int,
    *,
    search: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    proposals: Literal["immediate", "one_ahead"] = "immediate",
    listeners: Sequence[Listener] = (),
) -> Iterator[Contestant]:
    """Yield scheduler, searcher and callback of a run of tune-jobs, combined as `tuning.loop.tune_trials` does.

    Args:
        table: The table of curves that the trials replay.
        workers: The number of trials at a time (`resources.max_concurrent`).
        seed: The seed of the search.
        search: The `search` section of the job, without its space and trials.
        scheduler: The `scheduler` section of the job.
        proposals: Whether a proposal is made on demand or one trial ahead, as for a worker that must not wait.
        listeners: Functions that receive every event of the journal.
    """
    scheduling = SchedulerSettings(**{"reduction_factor": REDUCTION_FACTOR, **scheduler})
    plan = TuningPlan(
        search=SearchSettings(space=table.space, trials=table.configurations, **search),
        scheduler=scheduling,
        score=ScoreSettings(metric="val_loss"),
        rungs=rung_epochs(scheduling, table.steps),
        max_epochs=table.steps,
        trials=table.configurations,
        seed=seed,
        max_running=workers,
        proposals=proposals,
    )
    with TemporaryDirectory(prefix="replay") as storage:
        folder = RunFolder.create(Path(storage), "replay")
        with (
            Journal(folder.journal, *listeners) as journal,
            open_components(plan, run := LiveRun.on(folder, journal, plan.score)) as components,
        ):
            yield Contestant(
                scheduler=components.scheduler,
                searcher=components.searcher,
                most_pending=workers,
                train=partial(as_a_run, max_epochs=table.steps, rungs=plan.rungs),
                configuration=lambda config: config["configuration"],
                callback=JournalCallback(run, components, LimitSettings()),
            )


def _ours(method: str, **scheduler: Any) -> Build:
    return partial(tune_jobs, search={"method": method}, scheduler={"method": "asha", **scheduler})


ROWS: Mapping[str, Row] = {
    "ray": Row(
        "Ray Tune as shipped: ASHA, OptunaSearch", partial(ray_as_shipped, reduction_factor=REDUCTION_FACTOR)
    ),
    "ray-random": Row(
        "Ray Tune's ASHA, random search",
        partial(ray_as_shipped, reduction_factor=REDUCTION_FACTOR, sampler=RandomSampler),
    ),
    "ray-factor-4": Row("Ray Tune as shipped, its own reduction factor (4)", ray_as_shipped),
    "ray-grace-2": Row(
        "Ray Tune as shipped, first rung after 2 steps",
        partial(ray_as_shipped, reduction_factor=REDUCTION_FACTOR, grace_period=2),
    ),
    "random": Row("tune-jobs: asha, random", _ours("random")),
    "tpe": Row("tune-jobs: asha, tpe", _ours("tpe")),
    "gp": Row("tune-jobs: asha, gp (the defaults)", _ours("gp")),
    "gp-ahead": Row(
        "tune-jobs: the defaults, each proposal made when the one before was taken",
        partial(tune_jobs, search={"method": "gp"}, scheduler={}, proposals="one_ahead"),
    ),
    "random-grace-1": Row(
        "tune-jobs: asha, random, first rung after 1 step", _ours("random", grace_epochs=1)
    ),
    "gp-grace-1": Row("tune-jobs: asha, gp, first rung after 1 step", _ours("gp", grace_epochs=1)),
}
"""Rows by the name that `--rows` takes. The others are compared with the first."""


def as_documented(config: Mapping[str, Any], curve: Curve) -> Results:
    """Report the loss of each epoch, even NaN, like the training functions in Ray Tune's documentation.

    The function returns after the last epoch or after a loss of NaN. Most training functions do not check for NaN.
    """
    del config
    for _, loss in curve:
        yield {"loss": loss, "done": False}


def _floats(space: SearchSpace) -> dict[str, Float]:
    return {
        name: parameter.domain
        for name, parameter in space.parameters.items()
        if isinstance(parameter.domain, Float)
    }
