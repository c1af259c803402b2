"""Start one training in a process of its own, and end it: `tune-jobs validate` sees that the user's code builds it.

User code that exits, hangs, prints or takes all memory harms that process alone.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

from tune_jobs.driver.preparation import request_of
from tune_jobs.driver.train_alone import explain_failures, in_a_thread
from tune_jobs.errors import TrainingFailed
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import import_from, module_path
from tune_jobs.text import configuration_text, one_line
from tune_jobs.trainers.errors import DeviceError, TrainerError
from tune_jobs.trainers.interface import TrainerKind
from tune_jobs.versions import versions_here

if TYPE_CHECKING:
    from tune_jobs.trainers.data import PreparedData, Rows, TrainingData

SECONDS = 120.0
"""The time in which a training must have started, imports included."""
_ROWS = 2
"""Training and validation rows that the process receives of each part."""


def start_one(
    job: Job, prepared: "PreparedData | None", seconds: float = SECONDS
) -> Mapping[str, Any] | None:
    """Start the training of the job's first point, or of a random one, on two rows in another process.

    Args:
        job: The job, whose kind has code of the user to try.
        prepared: The data of the job.
        seconds: The time after which the process is killed.

    Returns:
        The configuration that was started; None if this machine lacks the device or a package of the job.

    Raises:
        TrainerError: It did not start; the message says why.
    """
    if set(job.facts.packages) - set(versions_here(job.facts.packages)):
        return None
    points = job.search.points
    configuration = job.search.space.sample(Random(job.seed), points[0] if points else None)  # noqa: S311
    task = (
        job.kind,
        request_of(job, configuration),
        None if prepared is None else _first_rows(prepared.for_trials()),
    )
    with tempfile.TemporaryDirectory(prefix="tune-jobs-") as folder:
        own_modules = module_path(job.folder, type(job.kind).__module__)
        # Pickled apart, because the module of the kind may be one of the user's.
        Path(folder, "start").write_bytes(pickle.dumps((own_modules, pickle.dumps(task))))
        ended = _call(folder, seconds)
        answer = Path(folder, "answer")
        answered = json.loads(answer.read_text()) if answer.exists() else {"problem": ended}
    if answered.get("device"):
        return None
    if problem := answered.get("problem"):
        raise TrainerError(
            f"a trial would fail at its start: {problem}\nthe configuration was {configuration_text(configuration)}"
        )
    return configuration


def start_text(configuration: Mapping[str, Any] | None) -> str:
    """Say what `start_one` returned."""
    if configuration is None:
        return "not tried, because this machine lacks the device or the packages of the job"
    return f"tried in a process of its own, with {configuration_text(configuration)}"


def _first_rows(data: "TrainingData") -> "TrainingData":
    def first(rows: "Rows") -> "Rows":
        return replace(rows, x=rows.x[:_ROWS], y=rows.y[:_ROWS])

    return replace(data, train=first(data.train), validation=first(data.validation))


def _call(folder: str, seconds: float) -> str:
    """Run the process to its end, or kill it and all that it started; return how it ended without an answer."""
    process = subprocess.Popen(  # noqa: S603 (this program)
        # With -P, no file of the current folder takes the place of a library.
        [sys.executable, "-P", "-c", f"from {__name__} import main; main()", folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    output: deque[bytes] = deque(maxlen=20)
    assert process.stdout is not None
    reader = Thread(target=_keep_lines, args=(process.stdout, output), daemon=True)
    reader.start()
    try:
        code = process.wait(seconds)
        how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", probably because the memory was full"
    except subprocess.TimeoutExpired:
        how = f"had not built the training after {seconds:g} s, the time that it has here"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)
        if not reader.is_alive():  # a process that left the group may keep the pipe open
            process.stdout.close()
    said = next((text for line in reversed(output) if (text := one_line(line.decode(errors="replace")))), "")
    return f"the process that ran the user's code {how}{f'; its last line was: {said[:300]}' if said else ''}"


def _keep_lines(stream: IO[bytes], lines: deque[bytes]) -> None:
    while line := stream.readline(10_000):
        lines.append(line)


def answer(own_modules: Sequence[str], pickled: bytes) -> dict[str, Any]:
    """Start the training and leave it again; return what to answer."""
    import_from(own_modules)
    kind: TrainerKind
    kind, request, data = pickle.loads(pickled)  # noqa: S301 (what the validating process wrote)

    def begin() -> Any:
        with explain_failures(), kind.start(request, data):
            yield None

    try:
        next(in_a_thread(begin))
    except DeviceError:
        return {"device": True}
    except (TrainerError, TrainingFailed) as error:
        return {"problem": str(error)}
    return {}


def main() -> None:
    """Answer in the folder that is this program's argument."""
    with suppress(OSError):  # if memory runs out, this process is to be killed, and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    folder = Path(sys.argv[1])
    answered = answer(*pickle.loads((folder / "start").read_bytes()))  # noqa: S301 (as above)
    (folder / "answer.part").write_text(json.dumps(answered))
    (folder / "answer.part").replace(folder / "answer")
    os._exit(0)  # threads and hooks of the user's code have nothing more to do
