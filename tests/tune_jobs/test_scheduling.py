"""The epochs at which trials are compared."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.job_sections import SchedulerSettings
from tune_jobs.scheduling import rung_epochs


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
