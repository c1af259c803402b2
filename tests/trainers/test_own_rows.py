"""A kind whose trainings read their own data keeps the promises of every kind."""

import pytest

from tests.trainers.conformance import Case, KindConformance
from tests.trainers.own_rows import OwnRows, register_own_rows
from tests.trainers.slope import SlopeSettings
from tune_jobs.trainers import kinds
from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.settings import ScoreSettings


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    register_own_rows()


class TestOwnRows(KindConformance):
    @pytest.fixture
    def case(self) -> Case:
        return Case(
            kind=OwnRows(own_rows=SlopeSettings(epochs=4)),
            configuration={"rate": 0.05},
            other={"rate": 0.01, "decay": 0.1},
            diverging={"rate": 1e30},
            score=ScoreSettings(metric="error"),
            evaluated="error",
            early=[(OwnRows(own_rows=SlopeSettings(settled=1e-3)), {"rate": 1e-9}, StopReason.USER)],
            failing=(OwnRows(own_rows=SlopeSettings(fail_at=2)), {"rate": 0.05}, "told to fail at epoch 2"),
        )
