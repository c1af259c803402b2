"""A search method in a separate process, so that it does not delay the run.

In a thread of the driver it would hold Python's global lock while Ray Tune's loop needs it. The process is a plain
child that reads observations from its standard input, and ends when the input is closed, however the driver ended.
`multiprocessing` is not used: it would run the user's script again.
"""

import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from tune_jobs.job.settings import SearchSettings
from tune_jobs.search.history import Configuration, Observations
from tune_jobs.search.methods import WARM_UP, Method, make_method

_NICENESS = 10
"""Niceness of the process: workers come first, but they do not starve it."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failure:
    """An exception of the method, as text: not every exception can be pickled."""

    details: str


_DIED = _Failure("its process has ended")


class MethodProcess:
    """The method of `make_method`, working in a child process; `fill_in` works in this process.

    A method keeps no state, so a killed process is started again and asked again. If it dies once more, or fails, the
    run continues: all further configurations are filled in, and the log says why.

    Args:
        settings: Space, method and points.
        factor: One in this many trials is promoted from a rung.
        seed: Seed of all draws.
    """

    def __init__(self, settings: SearchSettings, factor: int, seed: int) -> None:
        self._here: Method = make_method(settings, factor, seed)
        self._failed = self._closed = False
        self._busy = threading.Lock()
        self._settings = settings, factor, seed
        self._restarted = False
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 (this package, by this Python)
            [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # the driver handles Ctrl-C
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError):
            self._send(self._settings)

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        """Ask the process, and wait for its answer."""
        if number < WARM_UP or self._failed:  # the model is not used yet, or not any more
            return self._here.fill_in(observations, number)
        with self._busy:
            answer = self._ask(observations, number)
            if answer is _DIED and not self._closed and not self._restarted:
                self._restarted = True
                self._close_pipes()
                self._process.wait()
                self._start()
                if self._closed:  # closed while waiting
                    self._process.kill()
                answer = self._ask(observations, number)
        if not isinstance(answer, _Failure):
            return answer
        self._failed = True
        if not self._closed:
            _LOG.warning(
                "the search draws at random from now on, because its model failed: %s", answer.details
            )
        return self._here.fill_in(observations, number)

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        """Return a configuration without asking the process."""
        return self._here.fill_in(observations, number)

    def close(self) -> None:
        """Kill the process, which holds no state; a pending call returns without an answer."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        with self._busy:
            self._close_pipes()
            self._process.kill()  # it may be the process that replaced the first one
            self._process.wait()

    def _close_pipes(self) -> None:
        for pipe in (self._questions, self._answers):
            with suppress(OSError):
                pipe.close()

    def _ask(self, observations: Observations, number: int) -> Configuration | _Failure | None:
        try:
            self._send((observations, number))
            answer: Configuration | _Failure | None = pickle.load(self._answers)  # noqa: S301 (our own child's)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            return _DIED
        return answer

    def _send(self, what: object) -> None:
        pickle.dump(what, self._questions)
        self._questions.flush()


def main() -> None:
    """Answer requests until the input is closed."""
    os.nice(_NICENESS)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of a library must not be read as an answer
    with threadpool_limits(limits=1), suppress(EOFError, BrokenPipeError):
        method = make_method(*pickle.load(questions))  # noqa: S301 (the driver wrote it)
        while True:
            observations, number = pickle.load(questions)  # noqa: S301
            pickle.dump(_answer(method, observations, number), answers)
            answers.flush()


def _answer(method: Method, observations: Observations, number: int) -> Configuration | _Failure | None:
    try:
        return method.propose(observations, number)
    except Exception:
        return _Failure(traceback.format_exc())
