import pytest

from benchmarks.overhead import measure_overhead, overhead_table
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.events import (
    EpochsReported,
    Event,
    TrialEnded,
)


def epochs(time: float, *seconds: float) -> EpochsReported:
    return EpochsReported(
        time=time, trial_id="0000", results=[{"seconds": each} for each in seconds], worker="here:1"
    )


def ended(time: float) -> TrialEnded:
    return TrialEnded(time=time, trial_id="0000", status=Status.COMPLETED, cause=Cause.MAX_EPOCHS, reason="")


EVENTS: list[Event] = [epochs(107.0, 1.0, 1.0), ended(107.5), epochs(109.0, 4.0), ended(109.5), ended(110.0)]


def test_the_wall_clock_is_divided_into_start_training_overhead_and_end() -> None:
    found = measure_overhead(EVENTS, started=100.0, ended=112.0, workers=2)

    assert (found.wall, found.before, found.after) == (12.0, 5.0, 2.0)  # 107 less its two seconds of training
    assert (found.training, found.trials) == (6.0, 3)
    assert found.per_trial == pytest.approx((12 - 5 - 2 - 6 / 2) / 3)


@pytest.mark.parametrize("events", [[], [epochs(1.0, 1.0)], [ended(1.0)]])
def test_a_journal_without_a_report_or_an_ended_trial_is_refused(events: list[Event]) -> None:
    with pytest.raises(ValueError, match=r"\d reports and \d ended trials"):
        measure_overhead(events, started=0.0, ended=2.0, workers=2)


def test_the_table_has_medians_and_the_range_of_the_overhead() -> None:
    rounds = [measure_overhead(EVENTS, started=100.0, ended=end, workers=2) for end in (112.0, 113.0, 114.0)]
    rounds.append(measure_overhead(EVENTS, started=100.0, ended=112.0, workers=6))

    cells = [cell.strip() for cell in overhead_table({"three": rounds}).splitlines()[2].strip("|").split("|")]

    assert cells == ["three", "12.5", "5.0", "2.5", "3.0", "667", "667 to 1333"]
