"""A small kind whose trainings read their own data: the line of `slope`, with rows that the driver never sees.

own_rows: {epochs: 9}
search: {space: {rate: {low: 0.001, high: 0.5, log: true}}}
selection: {metric: error}
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar

from tests.trainers.slope import Slope, SlopeSettings, SlopeTraining
from tune_jobs.trainers.data import DataInfo, PreparedData, Rows, TrainingData
from tune_jobs.trainers.facts import KindFacts
from tune_jobs.trainers.interface import Capabilities, Evaluation, TrainingRequest
from tune_jobs.trainers.kinds import KindEntry, register
from tune_jobs.trainers.settings import Settings

ENTRY = KindEntry("own_rows", ("own_rows",), f"{__name__}:OwnRows")


def register_own_rows() -> None:
    """Register the kind in this process."""
    register(ENTRY)


@dataclass(frozen=True, kw_only=True)
class OwnRows:
    """The kind."""

    name: ClassVar[str] = "own_rows"
    capabilities: ClassVar[Capabilities] = replace(Slope.capabilities, seals_test=False)
    sections: ClassVar[Mapping[str, type[Settings]]] = MappingProxyType({"own_rows": SlopeSettings})
    changeable: ClassVar[Sequence[str]] = ("own_rows.pause", "own_rows.fail_at")

    own_rows: SlopeSettings

    @property
    def max_epochs(self) -> int:
        return self.own_rows.epochs

    @staticmethod
    def facts(sections: Mapping[str, Any]) -> KindFacts:
        facts = Slope.facts({"slope": sections.get("own_rows")})
        return replace(facts, title="a line through points of its own", max_epochs_key="own_rows.epochs")

    @staticmethod
    def is_parameter(name: str) -> bool:
        return False

    def prepare(self, base: Path) -> PreparedData | None:
        return None

    def start(self, request: TrainingRequest, data: TrainingData | None) -> SlopeTraining:
        assert data is None
        return self._slope.start(request, self._slope.prepare(Path()).for_trials())

    def evaluator(
        self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None
    ) -> Callable[[Rows], Evaluation]:
        raise AssertionError("there are no test rows")

    def load_model(
        self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None
    ) -> tuple[float, float]:
        assert info is None
        return self._slope.load_model(request, file, info)

    @property
    def _slope(self) -> Slope:
        return Slope(slope=self.own_rows)
