"""When trials are compared, and what compares them.

Rungs follow successive halving (Jamieson and Talwalkar 2016); ASHA decides at each as soon as a trial arrives
(Li et al. 2020). Our own has a trial wait at its rung until it is among the best (see `promotion_scheduler`). Ray
Tune's stops a trial that is below the cutoff of its rung and lets the others go on (see `stopping_scheduler`).
"""

from typing import TYPE_CHECKING

from tune_jobs.job.settings import SchedulerSettings
from tune_jobs.scheduling.rungs import RungTables, reach
from tune_jobs.trainers.settings import ScoreSettings
from tune_jobs.worker.reporting import SCORE, TIME

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


def rung_epochs(settings: SchedulerSettings, max_epochs: int) -> tuple[int, ...]:
    """Epochs below `max_epochs` at which trials are compared, ascending; none with method `none`.

    Whole numbers, not powers of a float: a rung is not lost to rounding. The median rule (Golovin et al. 2017)
    is applied at the same epochs, not at whichever a report happens to fall on.
    """
    if settings.method == "none":
        return ()
    rungs = []
    epoch = settings.grace_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= settings.reduction_factor
    return tuple(rungs)


def reach_text(settings: SchedulerSettings, max_epochs: int, trials: int) -> str:
    """`of 48 trials at most 16 go on after epoch 1, 5 after epoch 3, 1 after epoch 9`; empty without rungs."""
    rungs = rung_epochs(settings, max_epochs)
    if not rungs:
        return ""
    first, *others = reach(trials, len(rungs), settings.reduction_factor)
    rest = (f", {count} after epoch {epoch}" for count, epoch in zip(others, rungs[1:], strict=True))
    return f"of {trials} trials at most {first} go on after epoch {rungs[0]}{''.join(rest)}"


def reach_notices(settings: SchedulerSettings, max_epochs: int, trials: int) -> list[str]:
    """That no trial can come to `max_epochs`, if it is so, and what would change that."""
    factor, rungs = settings.reduction_factor, rung_epochs(settings, max_epochs)
    if not settings.pauses_trials or not rungs or reach(trials, len(rungs), factor)[-1] > 0:
        return []
    smaller = " or a smaller `scheduler.reduction_factor`" if factor > 2 else ""
    return [
        f"no trial can reach {max_epochs} epochs: {reach_text(settings, max_epochs, trials)}; ask for "
        f"{factor ** len(rungs)} trials or more, a larger `scheduler.grace_epochs`{smaller}"
    ]


def make_tables(settings: SchedulerSettings, max_epochs: int, score: ScoreSettings) -> RungTables:
    """The run's rung tables, still empty; without rungs where trials do not wait."""
    epochs = rung_epochs(settings, max_epochs) if settings.pauses_trials else ()
    return RungTables(epochs, settings.reduction_factor, score)


def ray_scheduler(settings: SchedulerSettings, max_epochs: int) -> "TrialScheduler":
    """Ray Tune's own scheduler for `settings`, on the results of `reports.Report`; see `stopping_scheduler`.

    One bracket: further brackets of Ray's ASHA are chosen by an unseeded generator, and may have no rung.
    """
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule  # noqa: PLC0415

    match settings.method:
        case "asha_stopping":
            return ASHAScheduler(
                time_attr=TIME,
                metric=SCORE,
                mode="min",
                max_t=max_epochs,
                grace_period=min(settings.grace_epochs, max_epochs),
                reduction_factor=settings.reduction_factor,
                brackets=1,
            )
        case "median":
            return MedianStoppingRule(
                time_attr=TIME, metric=SCORE, mode="min", grace_period=settings.grace_epochs
            )
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]  # Ray is typed in parts
        case "asha":
            raise ValueError("`asha` is no scheduler of Ray Tune's: see PromotionScheduler")
