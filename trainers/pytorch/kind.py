"""The PyTorch kind of training: the sections `data`, `model` and `training`. Importing it imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tune_jobs.trainers.data import PreparedData, prepare_data
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.errors import SettingsError
from tune_jobs.trainers.interface import Capabilities
from tune_jobs.trainers.pytorch import checks
from tune_jobs.trainers.pytorch.model_arguments import check_model_input
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

    changeable: ClassVar[tuple[str, ...]] = ("data.source",)
    """The data may move. Their fingerprint tells that they are the same."""
    facts = staticmethod(checks.facts)
    is_parameter = staticmethod(checks.is_parameter)

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings

    @property
    def max_epochs(self) -> int:
        """Epochs of a full training."""
        return self.training.max_epochs

    def prepare(self, base: Path) -> PreparedData:
        """Read, check, divide and encode the rows of the job whose file is in the folder `base`."""
        prepared = prepare_data(self.data, self.training.loss, base)
        if unfit := check_model_input(self.model.name, prepared.info.input_shape):
            raise SettingsError([("model.name", text) for text in unfit])
        return prepared
