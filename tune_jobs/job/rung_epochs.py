"""The epochs at which trials are compared, and how many trials can advance beyond each.

Rungs follow successive halving (Jamieson and Talwalkar 2016). ASHA decides at a rung as soon as a trial arrives there
(Li et al. 2020). Our own scheduler pauses a trial at its rung until it is among the best
(`tuning.promotion_scheduler`). Ray Tune's stops a trial that is below the cutoff of its rung
(`tuning.ray_schedulers`).
"""

from collections.abc import Sequence

from tune_jobs.job.settings import SchedulerSettings
from tune_jobs.text import count_text


def rung_epochs(settings: SchedulerSettings, max_epochs: int) -> tuple[int, ...]:
    """Return the epochs below `max_epochs` at which trials are compared, ascending; none with method `none`.

    They are computed in whole numbers, so no rung is lost to rounding. The median rule (Golovin et al. 2017) uses the
    same epochs, not the epochs of reports.
    """
    if settings.method == "none":
        return ()
    rungs = []
    epoch = settings.grace_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= settings.reduction_factor
    return tuple(rungs)


def reach(trials: int, rung_count: int, factor: int) -> tuple[int, ...]:
    """Return how many of `trials` can advance beyond each of `rung_count` rungs at most."""
    counts = []
    for _ in range(rung_count):
        trials //= factor
        counts.append(trials)
    return tuple(counts)


def reach_text(trials: int, rungs: Sequence[int], factor: int) -> str:
    """Return `of 48 trials at most 16 continue after epoch 1, 5 after epoch 3`; empty without rungs."""
    if not rungs:
        return ""
    first, *others = reach(trials, len(rungs), factor)
    rest = (f", {count} after epoch {epoch}" for count, epoch in zip(others, rungs[1:], strict=True))
    return f"of {count_text(trials, 'trial')} at most {first} continue after epoch {rungs[0]}{''.join(rest)}"


def reach_notices(
    settings: SchedulerSettings, rungs: Sequence[int], max_epochs: int, trials: int
) -> list[str]:
    """Return a notice if no trial can reach `max_epochs`, with the settings that would change that.

    Args:
        settings: The settings of the scheduler.
        rungs: The `rung_epochs` of these settings.
        max_epochs: The epochs of a full training.
        trials: The number of configurations to try.
    """
    factor = settings.reduction_factor
    if not settings.pauses_trials or not rungs or reach(trials, len(rungs), factor)[-1] > 0:
        return []
    smaller = " or a smaller `scheduler.reduction_factor`" if factor > 2 else ""
    return [
        f"no trial can reach {max_epochs} epochs: {reach_text(trials, rungs, factor)}; ask for "
        f"{factor ** len(rungs)} trials or more, a larger `scheduler.grace_epochs`{smaller}"
    ]
