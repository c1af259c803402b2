"""One training by a program: a `Training` whose epochs are trained in another process, each when it is asked for."""

import json
import math
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Any, BinaryIO, Self

from tune_jobs import trial
from tune_jobs.text import did_you_mean
from tune_jobs.trainers.errors import (
    CheckpointError,
    Diverged,
    MetricMissing,
    ModelError,
    ProgramError,
    ProgramKilled,
    Rejected,
)
from tune_jobs.trainers.interface import EpochResult, Evaluation, StopReason, TrainingRequest
from tune_jobs.trainers.programs.arguments import write_arguments, write_environment
from tune_jobs.trainers.programs.process import OWN_LINE, START, ProgramProcess
from tune_jobs.trainers.programs.settings import PARAMETERS, PYTHON, ProgramSettings, is_of_test
from tune_jobs.trainers.programs.state import Header, read_state, write_state
from tune_jobs.trainers.scores import BestEpoch, better

Message = Mapping[str, Any]
STARTS = 3
"""Times that a program is started for one epoch, if signals end it."""


class ProgramTraining:
    """A program that trains one configuration. Its process starts when the first epoch is asked for."""

    def __init__(self, settings: ProgramSettings, request: TrainingRequest) -> None:
        self.epoch = 0
        self._settings, self._request = settings, request
        self._process = make_process(settings, request, trial.TRAIN)
        self._last: EpochResult | None = None
        self._best: BestEpoch | None = None
        self._left = False
        self._running = False
        self._states: dict[int, Path | None] = {}
        """Files of saved states by epoch; None if the program has no state. The last and the best one are kept."""
        self._told: set[str] = set()

    @property
    def stop_reason(self) -> StopReason | None:
        if self._last is None or self._last.diverged:
            return None
        if self.epoch >= self._request.max_epochs:
            return StopReason.MAX_EPOCHS
        return StopReason.USER if self._left else None

    def epochs(self) -> Generator[EpochResult, None, None]:
        while self.stop_reason is None:
            if self._last is not None and self._last.diverged:
                raise Diverged(
                    f"{self._request.score.metric} is no finite number at epoch {self.epoch}; try other values, such "
                    "as a lower learning rate"
                )
            yield self._result_of(self._advance(self.epoch + 1))

    def save(self, file: BinaryIO) -> bool:
        if self._last is None:
            return False
        last = self._state()
        if last is None:
            return False
        best = None if self._best is None else (self._best.epoch, self._best.score)
        header = Header(epoch=self.epoch, last=self._last.to_mapping(), best=best, left=self._left)
        other = (
            None if self._best is None or self._best.epoch == self.epoch else self._states[self._best.epoch]
        )
        write_state(file, header, self._request, last, other)
        return True

    def load(self, file: BinaryIO, *, inherit: bool = False) -> None:
        header, last, best = read_state(file, self._request, self._process.scratch, inherit=inherit)
        self.epoch, self._left = header.epoch, header.left
        self._last = EpochResult.from_mapping(header.last)
        self._best = None if header.best is None else BestEpoch(*header.best)
        self._states = {self.epoch: last}
        if self._best is not None and self._best.epoch != self.epoch:
            self._states[self._best.epoch] = best

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._running and not any(error):
                self._process.leave()
        finally:
            self._process.remove()

    def _advance(self, epoch: int) -> Message:
        """Let the program train to the end of an epoch, and return its message about it.

        If a signal ends the program, it is started again, and repeats the epochs since its last state.

        Raises:
            ProgramError: The program ended before the epoch did, or tells of an error.
        """
        for starts_left in reversed(range(STARTS)):
            try:
                if self._running:
                    self._process.send({"do": "next"})
                else:
                    self._start()
                while (message := receive(self._process, "epoch", self._where))["epoch"] < epoch:
                    self._process.send({"do": "next"})
            except ProgramKilled:
                self._prepare_restart(starts_left)
            else:
                return message
        raise AssertionError

    def _start(self) -> None:
        first = max((epoch for epoch, file in self._states.items() if file is not None), default=0)
        start_at(self._process, first, self._states.get(first))
        self._running = True

    def _prepare_restart(self, starts_left: int) -> None:
        """End the program that a signal ended; raise the error that is handled if it was the last start."""
        if starts_left == 0:
            raise  # noqa: PLE0704 (called while an error is handled)
        say(f"{self._settings.label} {ended_text(self._process.code)} and is started again")
        self._process.end()
        self._running = False

    def _result_of(self, message: Message) -> EpochResult:
        self._check_read(message)
        self._left = message["left"]
        self._last = self._result(message)
        self.epoch += 1
        best = better(self._best, self._last.to_mapping(), self._request.score)
        if best is not self._best:
            self._best = best
            self._state()
        return self._last

    def _check_read(self, message: Message) -> None:
        if not message["unread"]:
            return
        hints = [did_you_mean(name, message["read"]) for name in message["unread"]]
        read = ", ".join(message["read"]) or "none"
        raise ProgramError(
            f"{self._settings.label} does not read the parameters {', '.join(message['unread'])}{hints[0]}; it reads "
            f"{read}. Read each with trial.get, or remove it from search.space"
        )

    def _result(self, message: Message) -> EpochResult:
        of_test = [] if self._settings.test_is_validation else list(filter(is_of_test, message["metrics"]))
        if new := set(of_test) - self._told:
            self._told |= new
            say(f"{', '.join(sorted(new))} left out, because a test decides nothing")
        metrics = {name: value for name, value in message["metrics"].items() if name not in of_test}
        name = self._request.score.metric
        if name not in metrics:
            others = [f"{', '.join(of_test)} of the test"] if of_test else []
            reported = " and ".join([*filter(None, [", ".join(metrics)]), *others]) or "nothing"
            raise MetricMissing(
                f"selection.metric: given {name!r}, but in epoch {message['epoch']} {self._settings.label} reported "
                f"{reported}; report it in every epoch: trial.report({name}=…)"
            )
        return EpochResult(
            epoch=message["epoch"],
            metrics=metrics,
            seconds=message["seconds"],
            diverged=not math.isfinite(metrics[name]),
        )

    def _state(self) -> Path | None:
        """Return the file of the state after the last epoch, which the program writes if it has not; None without one.

        Raises:
            ProgramError: The program cannot save its state.
        """
        if self.epoch not in self._states:
            name = self._save_state()
            self._states[self.epoch] = None if name is None else self._process.scratch / name
            kept = {self.epoch, self._best.epoch if self._best else self.epoch}
            for epoch in set(self._states) - kept:
                if (old := self._states.pop(epoch)) is not None:
                    old.unlink(missing_ok=True)
        return self._states[self.epoch]

    def _save_state(self) -> str | None:
        """Let the program save its state, and return the name of the file; None if it has no state."""
        for starts_left in reversed(range(STARTS)):
            self._process.send({"do": "save", "file": f"state-{self.epoch}"})
            try:
                name: str | None = receive(self._process, "saved", self._where)["file"]
            except ProgramKilled:
                self._prepare_restart(starts_left)
                self._advance(self.epoch)
            else:
                return name
        raise AssertionError

    @property
    def _where(self) -> str:
        return f"in epoch {self.epoch + 1} of {self._request.max_epochs}"


class ProgramTest:
    """The winner's program in the stage `test`: a context that holds it before its test, and then lets it test."""

    def __init__(self, settings: ProgramSettings, request: TrainingRequest, file: BinaryIO) -> None:
        self._settings = settings
        self._process = make_process(settings, request, trial.TEST)
        try:
            self._epoch, self._best = _best_of(file, request, self._process.scratch)
        except CheckpointError:
            self._process.remove()
            raise

    def __enter__(self) -> Callable[[], Evaluation]:
        """Start the program, and return a function that lets it test once it has restored its best epoch.

        Raises:
            ProgramError: It ended before.
        """
        try:
            start_at(self._process, self._epoch, self._best)
            receive(self._process, "ready", "before its test")
        except BaseException:
            self._process.remove()
            raise
        return self._evaluate

    def __exit__(self, *error: object) -> None:
        self._process.remove()

    def _evaluate(self) -> Evaluation:
        self._process.send({"do": "next"})
        metrics: dict[str, float] = {}
        while message := self._process.receive():
            if message["type"] != "test":
                raise failure(self._process, message, "in its test")
            metrics |= {name.removeprefix("test_"): value for name, value in message["metrics"].items()}
        if self._process.code != 0:
            raise failure(self._process, None, "in its test")
        if not metrics:
            raise ProgramError(
                f"{self._settings.label} reported nothing in the stage test; after its loop over trial.epochs, let it "
                "evaluate its test set and call trial.report(test_loss=…)"
            )
        return Evaluation(metrics=metrics)


def _best_of(file: BinaryIO, request: TrainingRequest, folder: Path) -> tuple[int, Path]:
    header, _, best = read_state(file, request, folder)
    if header.best is None:
        raise CheckpointError("the checkpoint has no best epoch: no score was a finite number")
    return header.best[0], best


def say(text: str) -> None:
    """Write a line to the trial's output."""
    sys.stdout.write(f"{OWN_LINE}{text}\n")
    sys.stdout.flush()


def make_process(settings: ProgramSettings, request: TrainingRequest, stage: str) -> ProgramProcess:
    """Return the process of a program, before it starts.

    Raises:
        ModelError: Several workers are asked for, or this machine does not have the job's folder.
    """
    if request.worker.workers > 1:
        raise ModelError(
            "several workers cannot train one model by a program; set resources.workers_per_trial to 1"
        )
    folder = request.folder.resolve()
    name = settings.script or settings.command_script
    script = None if name is None else folder / name
    if not folder.is_dir() or (script is not None and not script.is_file()):
        raise ModelError(
            f"{script or folder}: missing on this machine; put the job's folder where all machines see it"
        )
    python = sys.executable if settings.python is None else str(_interpreter(settings.python, folder))
    seed = request.seed
    environment = {
        "PYTHONHASHSEED": str(seed),
        "TUNE_JOBS_SEED": str(seed),
        "MPLBACKEND": "Agg",
        **({} if request.threads is None else {"OMP_NUM_THREADS": str(request.threads)}),
    }
    task = {
        "parameters": dict(request.configuration),
        "epochs": request.max_epochs,
        "stage": stage,
        "seed": seed,
        "first": 0,
        "script": None if script is None else str(script),
        "function": settings.function,
        "arguments": [],
        "style": settings.arguments,
        "folder": str(folder),
    }
    process = ProgramProcess([python, str(START)], task, folder, environment, settings.grace_seconds)
    parameters = process.scratch / "parameters.json"
    parameters.write_text(json.dumps(task["parameters"]), encoding="utf-8")
    words = command_words(settings, request.configuration, parameters)
    if settings.arguments == "env":
        process.environment = {**environment, **write_environment(request.configuration)}
    if script is None and settings.command:
        process.command = [python if words[0] in PYTHON else words[0], *words[1:]]
    else:
        task["arguments"] = words[2:] if settings.command else words
    process.label = settings.label
    files = process.scratch / "files" if request.files is None else request.files.absolute()
    process.task = {**task, "files": str(files)}
    return process


def command_words(settings: ProgramSettings, configuration: Mapping[str, Any], file: Path) -> list[str]:
    """Return the words of a command, or the arguments of a script, with the parameters in their place."""
    written = [] if settings.arguments is None else write_arguments(settings.arguments, configuration, file)
    words = list(settings.command)
    place = words.index(PARAMETERS) if PARAMETERS in words else len(words)
    return [*words[:place], *written, *words[place + 1 :]]


def _interpreter(python: str, folder: Path) -> Path | str:
    """Return the interpreter by its path, or by its name if it is to be found in PATH. Links stay links."""
    return folder / Path(python).expanduser() if "/" in python else python


def start_at(process: ProgramProcess, epoch: int, state: Path | None) -> None:
    """Start a program, which continues after an epoch if there is a state."""
    (process.scratch / "start").unlink(missing_ok=True)
    if state is not None:
        (process.scratch / "start").hardlink_to(state)
    process.task = {**process.task, "first": 0 if state is None else epoch}
    process.start()


def receive(process: ProgramProcess, wanted: str, where: str) -> Message:
    """Return the next message of a program, which must be of the type `wanted`.

    Args:
        process: The program.
        wanted: The type of the message.
        where: The end of a sentence about an error, such as `in epoch 3 of 9`.

    Raises:
        Rejected: The program rejects its configuration.
        ProgramError: It ended, or tells of an error.
    """
    message = process.receive()
    if message is not None and message["type"] == wanted:
        return message
    raise failure(process, message, where)


def failure(process: ProgramProcess, message: Message | None, where: str) -> Exception:
    """Return the error that a message or an end of the program means; the program is ended."""
    if message is not None and message["type"] == "rejected":
        return Rejected(f"rejected by the program: {message['reason']}")
    if message is not None and message["type"] == "failed":
        process.end()
        error = ProgramError(f"{process.label} failed {where}: {message['reason']}")
        error.__cause__ = Output(message["details"] or "\n".join(process.last_lines()))
        return error
    if message is not None:
        return ProgramError(f"{process.label} is not ready {where}: it must use trial.epochs for its loop")
    killed = process.code is not None and process.code < 0
    lines = process.last_lines()
    said = f"; its last line was: {lines[-1]}" if lines else ""
    kind_of_error = ProgramKilled if killed else ProgramError
    error = kind_of_error(f"{process.label} {ended_text(process.code)} {where}{said}")
    error.__cause__ = Output("\n".join(["its last lines:", *lines]))
    return error


class Output(Exception):
    """What a program printed, as the cause of an error."""


def ended_text(code: int | None) -> str:
    """Say how a program ended."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = str(-code)
    with suppress(ValueError):
        name = Signals(-code).name
    return f"was ended by {name}" + (", maybe because the memory was full," if name == "SIGKILL" else "")
