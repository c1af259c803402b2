"""Train one configuration in this process without Ray, for debugging and for other programs."""

import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tune_jobs.driver.preparation import prepare, request_of, rows_for_trials
from tune_jobs.errors import JobError, TrainingFailed
from tune_jobs.job.checks import check_configuration
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import importable_from
from tune_jobs.search_spaces import Problem
from tune_jobs.trainers.errors import TrainerError
from tune_jobs.trainers.interface import EpochResult, TrainingRequest
from tune_jobs.trainers.kinds import known_kinds
from tune_jobs.worker.reporting import failure_reason

if TYPE_CHECKING:
    from tune_jobs.trainers.data import TrainingData

Result = TypeVar("Result")


def split_configuration(pairs: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Split the arguments of `tune-jobs train` into the configuration and overrides of the job.

    Names without a section (`lr`) and arguments of the model (`model.hidden`) belong to the configuration;
    `model.name` and `model.arguments` do not.
    """
    configuration: dict[str, Any] = {}
    overrides: list[tuple[str, Any]] = []
    for name, value in pairs:
        if _is_key_of_job(name):
            overrides.append((name, value))
        else:
            configuration[name] = value
    return configuration, overrides


def _is_key_of_job(name: str) -> bool:
    section = name.partition(".")[0]
    kind = next((kind for kind in known_kinds() if section in kind.sections), None)
    return section in Job.model_fields if kind is None else not kind.load().is_parameter(name)


def train_one(job: Job, configuration: Mapping[str, Any]) -> Iterator[EpochResult]:
    """Train `configuration`, and yield the same results as the same trial of a run.

    Parameters of the search space that `configuration` leaves out take the trainer's defaults. Nothing is
    written, and the test rows are dropped unread.

    Raises:
        JobError: A value is of no known name, of the wrong type or out of the trainer's range.
        TrainerError: The data cannot be used, the model cannot be built, or the loss is no longer a number.
        TrainingFailed: The user's own code raised while training; the message shows where.
    """
    problems: list[Problem] = check_configuration(job.facts, configuration)
    if problems:
        raise JobError(problems, name="the configuration")
    with importable_from(job.folder):
        data = rows_for_trials(prepare(job))
        results = in_a_thread(partial(_start, job, request_of(job, configuration), data))
        next(results)
        return cast("Iterator[EpochResult]", results)


def _start(job: Job, request: TrainingRequest, data: "TrainingData | None") -> Iterator[EpochResult | None]:
    """Start a training; yield None once the model is built, and then the results of its epochs."""
    with explain_failures(), job.kind.start(request, data) as training:
        yield None
        yield from training.epochs()


def in_a_thread(start: Callable[[], Iterator[Result]]) -> Iterator[Result]:
    """Yield what `start` yields from a thread, each value when it is asked for.

    The trials of a run are trained in a thread of their process, too. So the user's code meets the same conditions,
    such as that no handler of a signal can be set there.
    """
    asks: SimpleQueue[bool] = SimpleQueue()
    answers: SimpleQueue[tuple[Result | None, BaseException | None, bool]] = SimpleQueue()

    def work() -> None:
        try:
            results = start()
            while asks.get():
                answers.put((next(results), None, True))
        except StopIteration:
            answers.put((None, None, False))
        except BaseException as error:
            answers.put((None, error, False))

    threading.Thread(target=work, name="training", daemon=True).start()
    try:
        while True:
            asks.put(True)
            result, error, is_one = answers.get()
            if error is not None:
                raise error
            if not is_one:
                return
            yield cast("Result", result)
    finally:
        asks.put(False)


@contextmanager
def explain_failures() -> Iterator[None]:
    """Turn what the user's code raises into one message, with the place in that code."""
    try:
        yield
    except (TrainerError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = "".join(
            f"\n{line.rstrip()}" for line in traceback.format_list([f for f in frames if _is_users(f)])
        )
        raise TrainingFailed(f"the training failed: {failure_reason(error)}{place}") from error


def _is_users(frame: traceback.FrameSummary) -> bool:
    path = Path(frame.filename)
    return "site-packages" not in path.parts and not path.is_relative_to(Path(__file__).parents[1])
