"""The PyTorch kind of training: the sections `data`, `model` and `training`. Importing it imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.interface import Capabilities
from tune_jobs.trainers.pytorch.settings import ModelSettings, TrainingSettings
from tune_jobs.trainers.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PyTorchKind:
    """Trains a built-in model or the user's own `nn.Module` with the built-in epoch loop."""

    name: ClassVar[str] = "pytorch"
    capabilities: ClassVar[Capabilities] = Capabilities(
        resumes=True, exact=True, seals_test=True, data_parallel=True, vectorises=False, inherits=True
    )
    sections: ClassVar[Mapping[str, type[Settings]]] = MappingProxyType(
        {"data": DataSettings, "model": ModelSettings, "training": TrainingSettings}
    )

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings

    @property
    def max_epochs(self) -> int:
        """Epochs of a full training."""
        return self.training.max_epochs
