"""The PyTorch kind of training: the sections `data`, `model` and `training`. Importing it imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from tune_jobs.trainers.data import DataInfo, PreparedData, Rows, TrainingData, prepare_data
from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.errors import SettingsError
from tune_jobs.trainers.interface import Capabilities, Evaluation, TrainingRequest
from tune_jobs.trainers.pytorch import checks
from tune_jobs.trainers.pytorch.model_arguments import check_model_input
from tune_jobs.trainers.pytorch.plan import TrainingPlan, plan_training
from tune_jobs.trainers.pytorch.settings import ModelSettings, TrainingSettings
from tune_jobs.trainers.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from tune_jobs.trainers.pytorch.data_parallel import DataParallel
    from tune_jobs.trainers.pytorch.trainer import Trainer


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
    """The data may move to another place. Their fingerprint shows that they are still the same."""
    facts = staticmethod(checks.facts)
    is_parameter = staticmethod(checks.is_parameter)

    data: DataSettings
    model: ModelSettings
    training: TrainingSettings

    @property
    def max_epochs(self) -> int:
        """Return the number of epochs of a full training."""
        return self.training.max_epochs

    def prepare(self, base: Path) -> PreparedData:
        """Read, check, divide and encode the rows of the job whose file is in the folder `base`."""
        prepared = prepare_data(self.data, self.training.loss, base)
        unfit = check_model_input(self.model.name, prepared.info.input_shape)
        if unfit and self.data.transform is None:
            raise SettingsError([("model.name", text) for text in unfit])
        return prepared

    def plan(self, request: TrainingRequest) -> TrainingPlan:
        """Return the plan of the requested training.

        Raises:
            pydantic.ValidationError: A value of the configuration is wrong; see `plan_training`.
        """
        training = self.training.model_copy(update={"max_epochs": request.max_epochs})
        plan = plan_training(self.model, training, request.score, request.configuration, request.seed)
        arguments = {**self.data.transform_arguments, **plan.transform_arguments}
        return plan.model_copy(update={"transform": self.data.transform, "transform_arguments": arguments})

    def start(self, request: TrainingRequest, data: TrainingData | None) -> "Trainer":
        """Return the trainer of one configuration, before its first epoch."""
        from tune_jobs.trainers.pytorch.trainer import Trainer  # noqa: PLC0415 (imports torch)

        assert data is not None, "this kind prepares data"
        return Trainer(
            self.plan(request), data, threads=request.threads, data_parallel=_data_parallel(request)
        )

    def evaluator(
        self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None
    ) -> Callable[[Rows], Evaluation]:
        """Return a function that evaluates the best epoch of a saved training on encoded rows."""
        from tune_jobs.trainers.pytorch.best import best_evaluator  # noqa: PLC0415 (imports torch)
        from tune_jobs.trainers.pytorch.state import read_state  # noqa: PLC0415 (imports torch)

        assert info is not None, "this kind prepares data"
        return best_evaluator(self.plan(request), info, read_state(file))

    def load_model(self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None) -> "nn.Module":
        """Return the model with the weights of its best epoch, on the CPU and in evaluation mode."""
        from tune_jobs.trainers.pytorch.best import best_model  # noqa: PLC0415 (imports torch)
        from tune_jobs.trainers.pytorch.state import read_state  # noqa: PLC0415 (imports torch)

        assert info is not None, "this kind prepares data"
        return best_model(self.plan(request), info, read_state(file))


def _data_parallel(request: TrainingRequest) -> "DataParallel":
    import torch  # noqa: PLC0415 (where a training starts)

    from tune_jobs.trainers.pytorch.data_parallel import SINGLE_PROCESS, Workers  # noqa: PLC0415 (imports torch)

    worker = request.worker
    if worker.workers == 1:
        return SINGLE_PROCESS
    return Workers(None if worker.device is None else torch.device(worker.device))
