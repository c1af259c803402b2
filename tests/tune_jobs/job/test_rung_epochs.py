"""The epochs at which trials are compared."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.job.rung_epochs import reach, reach_notices, reach_text, rung_epochs
from tune_jobs.job.settings import SchedulerSettings


@pytest.mark.parametrize(
    ("grace", "factor", "max_epochs", "rungs"),
    [
        (1, 3, 27, (1, 3, 9)),
        (1, 3, 28, (1, 3, 9, 27)),
        (1, 2, 8, (1, 2, 4)),
        (2, 4, 33, (2, 8, 32)),
        (5, 3, 5, ()),
        (9, 3, 5, ()),
        (1, 3, 1, ()),
        (1, 10, 10**6 + 1, (1, 10, 100, 1000, 10**4, 10**5, 10**6)),
    ],
)
def test_rungs_are_below_the_last_epoch(
    grace: int, factor: int, max_epochs: int, rungs: tuple[int, ...]
) -> None:
    for method in ("asha", "asha_stopping", "median"):
        settings_ = SchedulerSettings(method=method, grace_epochs=grace, reduction_factor=factor)
        assert rung_epochs(settings_, max_epochs) == rungs


def test_without_a_scheduler_there_are_no_rungs() -> None:
    assert rung_epochs(SchedulerSettings(method="none"), 27) == ()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 100), st.integers(2, 10), st.integers(1, 10**18))
def test_each_rung_is_the_factor_times_the_one_before(grace: int, factor: int, max_epochs: int) -> None:
    rungs = rung_epochs(SchedulerSettings(grace_epochs=grace, reduction_factor=factor), max_epochs)
    assert rungs == tuple(grace * factor**k for k in range(len(rungs)))
    assert all(rung < max_epochs for rung in rungs)
    assert grace * factor ** len(rungs) >= max_epochs


def test_the_reachable_epochs_are_described_in_words() -> None:
    assert reach_text(48, [2, 6, 18], 3) == (
        "of 48 trials at most 16 continue after epoch 2, 5 after epoch 6, 1 after epoch 18"
    )
    assert reach_text(48, [2], 3) == "of 48 trials at most 16 continue after epoch 2"
    assert reach_text(48, [], 3) == ""


def notices_of(settings_: SchedulerSettings, max_epochs: int, trials: int) -> list[str]:
    return reach_notices(settings_, rung_epochs(settings_, max_epochs), max_epochs, trials)


def test_a_job_in_which_no_trial_can_come_to_its_end_is_noticed() -> None:
    assert notices_of(SchedulerSettings(), 27, 6) == [
        "no trial can reach 27 epochs: of 6 trials at most 2 continue after epoch 2, 0 after epoch 6, 0 after epoch "
        "18; ask for 27 trials or more, a larger `scheduler.grace_epochs` or a smaller `scheduler.reduction_factor`"
    ]
    (notice,) = notices_of(SchedulerSettings(grace_epochs=1, reduction_factor=2), 2, 1)
    assert notice.endswith("; ask for 2 trials or more, a larger `scheduler.grace_epochs`")


@pytest.mark.parametrize(
    ("method", "max_epochs", "trials"),
    [("asha", 27, 27), ("asha", 1, 1), ("asha_stopping", 27, 6), ("median", 27, 6), ("none", 27, 1)],
)
def test_a_job_in_which_some_trial_can_is_not(method: str, max_epochs: int, trials: int) -> None:
    settings_ = SchedulerSettings.model_validate({"method": method})
    assert notices_of(settings_, max_epochs, trials) == []


@pytest.mark.parametrize(
    ("trials", "rungs", "factor", "counts"),
    [
        (48, 3, 3, (16, 5, 1)),
        (27, 3, 3, (9, 3, 1)),
        (6, 2, 3, (2, 0)),
        (1, 2, 3, (0, 0)),
        (8, 3, 2, (4, 2, 1)),
        (48, 0, 3, ()),
    ],
)
def test_the_most_promotions_of_each_rung(
    trials: int, rungs: int, factor: int, counts: tuple[int, ...]
) -> None:
    assert reach(trials, rungs, factor) == counts
