"""The small kind keeps the promises of every kind and needs no framework."""

import subprocess
import sys

import pytest

from tests.trainers.conformance import Case, KindConformance
from tests.trainers.slope import ENTRY, Slope, SlopeSettings, register_slope
from tune_jobs.trainers import kinds
from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.kinds import KindEntry, kind_of, register
from tune_jobs.trainers.settings import ScoreSettings


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    register_slope()


class TestSlope(KindConformance):
    @pytest.fixture
    def case(self) -> Case:
        return Case(
            kind=Slope(slope=SlopeSettings(epochs=4)),
            configuration={"rate": 0.05},
            other={"rate": 0.01, "decay": 0.1},
            diverging={"rate": 1e30},
            score=ScoreSettings(metric="error"),
            evaluated="error",
            early=[(Slope(slope=SlopeSettings(settled=1e-3)), {"rate": 1e-9}, StopReason.USER)],
            failing=(Slope(slope=SlopeSettings(fail_at=2)), {"rate": 0.05}, "told to fail at epoch 2"),
        )


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tests.trainers.slope import register_slope; register_slope()\n"
        "from tune_jobs.job import Job\n"
        "from tune_jobs.driver.train_alone import train_one\n"
        "job = Job(name='line', slope={}, search={'space': {'rate': {'low': 0.01, 'high': 0.1}}}, "
        "selection={'metric': 'error'})\n"
        "print([result.epoch for result in train_one(job, {'rate': 0.05})], 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[1, 2, 3, 4, 5, 6, 7, 8, 9] False\n"), done.stderr


def test_a_kind_is_chosen_by_its_section_alone() -> None:
    assert kind_of(["name", "slope", "search"]) is ENTRY
    assert kind_of(["name", "search"]).name == kind_of(["data", "model"]).name == "pytorch"


@pytest.mark.parametrize(
    "entry", [KindEntry("slope", ("line",), "a:B"), KindEntry("line", ("slope",), "a:B")]
)
def test_two_kinds_have_neither_a_name_nor_a_section_in_common(entry: KindEntry) -> None:
    register(ENTRY)
    with pytest.raises(ValueError, match="choose another name and other sections"):
        register(entry)
