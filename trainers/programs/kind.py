"""The kind of training by a program of the user: the sections `program` and `length`."""

import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar

from tune_jobs.text import did_you_mean
from tune_jobs.trainers.data import DataInfo, PreparedData, Rows, TrainingData
from tune_jobs.trainers.errors import CheckpointError
from tune_jobs.trainers.facts import KindFacts, Metric, Problems
from tune_jobs.trainers.interface import Capabilities, Evaluation, Seal, TrainingRequest
from tune_jobs.trainers.programs.settings import LengthSettings, ProgramSettings, is_of_test
from tune_jobs.trainers.programs.signature import file_of, names_in, signature_of
from tune_jobs.trainers.programs.state import read_state
from tune_jobs.trainers.programs.training import ProgramTest, ProgramTraining
from tune_jobs.trainers.settings import Settings

DEFAULT_METRIC = Metric(name="val_loss", direction="min")


@dataclass(frozen=True, kw_only=True)
class ProgramKind:
    """Trains by a script or a function of the user, each trial in a process of its own."""

    name: ClassVar[str] = "program"
    capabilities: ClassVar[Capabilities] = Capabilities(
        resumes=True,
        exact=True,
        seals_test=False,
        tests_itself=True,
        data_parallel=False,
        vectorises=False,
        inherits=False,
    )
    sections: ClassVar[Mapping[str, type[Settings]]] = MappingProxyType(
        {"program": ProgramSettings, "length": LengthSettings}
    )
    changeable: ClassVar[tuple[str, ...]] = ()

    program: ProgramSettings
    length: LengthSettings

    @property
    def max_epochs(self) -> int:
        """Return the number of epochs of a full training."""
        return self.length.epochs

    @staticmethod
    def facts(sections: Mapping[str, Any]) -> KindFacts:
        """Return what is known about a job before its program runs."""
        program: ProgramSettings | None = sections.get("program")
        length: LengthSettings | None = sections.get("length")
        label = "" if program is None else program.label
        return KindFacts(
            title=label,
            labels={"program": label},
            max_epochs=None if length is None else length.epochs,
            max_epochs_key="length.epochs",
            metrics=None,
            default_metric=DEFAULT_METRIC,
            modules=[program.module] if program is not None and program.module else (),
            seal=Seal.NONE if program is None or program.test_is_validation else Seal.STAGE,
            problems=[("program", program.problem)] if program is not None and program.problem else (),
            missing=lambda folder: [] if program is None else _missing(program, folder),
            check_names=lambda names, folder: [] if program is None else _check_names(program, names, folder),
            check_metric=lambda metric: [] if program is None else _check_metric(program, metric),
            template=_TEMPLATE,
        )

    @staticmethod
    def is_parameter(name: str) -> bool:
        """Return whether a name that begins with `program.` or `length.` is a parameter: none is."""
        return False

    def prepare(self, base: Path) -> PreparedData | None:
        """Return no rows: programs read their own data."""
        return None

    def start(self, request: TrainingRequest, data: TrainingData | None) -> ProgramTraining:
        """Return the training of one configuration, before its program starts."""
        return ProgramTraining(self.program, request)

    def test(
        self, request: TrainingRequest, file: BinaryIO
    ) -> AbstractContextManager[Callable[[], Evaluation]]:
        """Return a context in which the winner's program waits before its own test."""
        return ProgramTest(self.program, request, file)

    def evaluator(
        self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None
    ) -> Callable[[Rows], Evaluation]:
        """Raise an error: the program has its own test, see `test`."""
        raise NotImplementedError

    def load_model(self, request: TrainingRequest, file: BinaryIO, info: DataInfo | None) -> Any:
        """Return the saved state of the best epoch: `objects` by name, `keep` and `state`.

        It is unpickled, which needs the modules of the program.
        """
        with TemporaryDirectory(prefix="tj-") as folder:
            _, _, best = read_state(file, request, Path(folder))
            try:
                return pickle.loads(best.read_bytes())  # noqa: S301 (what the user's program saved)
            except Exception as error:
                raise CheckpointError(
                    f"the state in the checkpoint cannot be read here: {type(error).__name__}: {error}"
                ) from error


def _missing(program: ProgramSettings, folder: Path) -> Problems:
    """Return the problems of files and functions that the section names and that do not exist."""
    problems = []
    for key, script in (("script", program.script), ("command", program.command_script)):
        if script is not None and not (folder / script).is_file():
            problems.append((f"program.{key}", f"{folder / script}: no such file"))
    if program.python is not None and "/" in program.python and not (folder / program.python).exists():
        problems.append(
            ("program.python", f"{folder / program.python}: no such file; name a Python interpreter")
        )
    if program.function is not None:
        module, _, function = program.function.partition(":")
        file = file_of(program.function, folder)
        if file is None:
            where = folder / f"{module.replace('.', '/')}.py"
            return [
                *problems,
                ("program.function", f"{where}: no such file; the module must be in the job's folder"),
            ]
        try:
            known = names_in(file)
        except SyntaxError as error:
            return [*problems, ("program.function", f"{file}: line {error.lineno}: {error.msg}")]
        if known is not None and function not in known:
            text = f"{file} does not define {function}{did_you_mean(function, sorted(known))}"
            problems.append(("program.function", text))
    return problems


def _check_names(program: ProgramSettings, names: Collection[str], folder: Path) -> Problems:
    """Return the parameters of the space that the function does not take, and those that it needs."""
    if program.function is None:
        return []
    try:
        signature = signature_of(program.function, folder)
    except (SyntaxError, OSError):
        return []  # `_missing` says so
    if signature is None:
        return []
    takes = [name for name in signature.names if name != "trial"]
    problems: list[tuple[str, str]] = []
    if not signature.takes_any:
        problems += [
            (
                f"search.space.{name}",
                f"{program.function} takes no such parameter; it takes {', '.join(takes) or 'none'}"
                f"{did_you_mean(name, takes)}",
            )
            for name in names
            if name not in takes
        ]
    lacking = [name for name in signature.required if name not in {*names, "trial"}]
    if lacking:
        text = f"{program.function} needs {', '.join(lacking)}; add it to search.space, or give it a default"
        problems.append(("program.function", text))
    return problems


def _check_metric(program: ProgramSettings, metric: str) -> Sequence[tuple[str, str]]:
    if program.test_is_validation or not is_of_test(metric):
        return []
    return [
        (
            "selection.metric",
            f"given {metric!r}, which is measured on test rows: a test that chooses the winner is no test; report a "
            "validation metric, or set program.test_is_validation: true if these rows are none of the test",
        )
    ]


_TEMPLATE = """\
program:
  script: main.py
length: {epochs: 10}
"""
