"""Programs of one's own keep the promises of every kind of training."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainers.conformance import Case, KindConformance
from tests.trainers.programs.programs import write_programs
from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.programs.kind import ProgramKind
from tune_jobs.trainers.programs.settings import LengthSettings, ProgramSettings
from tune_jobs.trainers.settings import ScoreSettings

pytestmark = pytest.mark.slow  # each program is a process


def kind(**program: Any) -> ProgramKind:
    return ProgramKind(program=ProgramSettings(**program), length=LengthSettings(epochs=4))


class ProgramCase(Case):
    """A case whose requests name the folder of the program."""

    def request(self, configuration: Any = None, **changes: Any) -> Any:
        return super().request(configuration, folder=self.base, **changes)


class TestScript(KindConformance):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        return ProgramCase(
            kind=kind(script="main.py"),
            configuration={"rate": 0.05},
            other={"rate": 0.01},
            diverging={"rate": 1e60},
            score=ScoreSettings(metric="val_loss"),
            evaluated="loss",
            base=write_programs(tmp_path),
        )


class TestFunction(KindConformance):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        function = kind(function="work:train")
        return ProgramCase(
            kind=function,
            configuration={"rate": 0.05},
            other={"rate": 0.01, "how": ""},
            diverging={"rate": 1e60},
            score=ScoreSettings(metric="val_loss"),
            evaluated="loss",
            early=[(function, {"rate": 0.05, "how": "stops"}, StopReason.USER)],
            failing=(
                function,
                {"rate": 0.05, "how": "fails"},
                "in epoch 2 of 4: RuntimeError: the user's own fault",
            ),
            base=write_programs(tmp_path),
        )
