"""A kind that neither continues nor repeats a training keeps the promises that are left to it."""

import random
from dataclasses import dataclass, replace
from typing import BinaryIO, ClassVar

import pytest

from tests.trainers.conformance import Case, KindConformance
from tests.trainers.slope import Slope, SlopeSettings, SlopeTraining
from tune_jobs.trainers import kinds
from tune_jobs.trainers.data import TrainingData
from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.interface import Capabilities, EpochResult, StopReason, TrainingRequest
from tune_jobs.trainers.kinds import KindEntry, register
from tune_jobs.trainers.settings import ScoreSettings

RATE = {"rate": 0.05}


@dataclass(frozen=True, kw_only=True)
class Forgetful(Slope):
    """The line of `Slope`, in trainings without a state."""

    name: ClassVar[str] = "forgetful"
    capabilities: ClassVar[Capabilities] = replace(
        Slope.capabilities, resumes=False, exact=False, inherits=False
    )

    def start(self, request: TrainingRequest, data: TrainingData | None) -> SlopeTraining:
        line = super().start(request, data)
        return ForgetfulTraining(self.slope, request, line._train, line._validation)


class ForgetfulTraining(SlopeTraining):
    """Moves the line at random before every epoch, by no seed."""

    def save(self, file: BinaryIO) -> bool:
        return False

    def load(self, file: BinaryIO, *, inherit: bool = False) -> None:
        raise CheckpointError("a checkpoint cannot be loaded by this kind")

    def _run_epoch(self) -> EpochResult:
        weight, bias = self._line
        self._line = (weight + random.SystemRandom().uniform(-0.01, 0.01), bias)
        return super()._run_epoch()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    register(KindEntry("forgetful", ("slope",), f"{__name__}:Forgetful"))


class TestForgetful(KindConformance):
    @pytest.fixture
    def case(self) -> Case:
        return Case(
            kind=Forgetful(slope=SlopeSettings(epochs=4)),
            configuration=RATE,
            other={"rate": 0.01, "decay": 0.1},
            diverging={"rate": 1e30},
            score=ScoreSettings(metric="error"),
            evaluated="error",
            early=[(Forgetful(slope=SlopeSettings(settled=1e-3)), {"rate": 1e-9}, StopReason.USER)],
        )

    def test_its_curves_differ(self, case: Case, data: TrainingData | None) -> None:
        one, other = (self.train(case, data)[0] for _ in range(2))
        assert one[0].metrics["error"] != other[0].metrics["error"]
