"""A method in a process of its own, so that its thinking does not hold up the run.

In a thread of the driver it would hold Python's lock while Ray Tune's loop wants it. The process is a plain child
that reads what is known from its standard input, and ends when that is closed, however the driver ended.
`multiprocessing` is not used: it would run the user's own script anew.
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
"""The process gives way to the workers of the same machine, and is not starved by them."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failure:
    """What the method raised, as text: not every exception can be sent."""

    details: str


_DIED = _Failure("its process has ended")


class MethodProcess:
    """The method of `make_method`, working in a child process; what it is asked to fill in, it does here.

    A method keeps no state, so that a process that was killed is started anew and asked again. Should it die once
    more, or fail, the run does not: the rest is filled in, and the log says why.

    Args:
        settings: space, method and points.
        factor: one in so many trials is promoted from a rung.
        seed: of all draws.
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
            process_group=0,  # Ctrl-C is the driver's business
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError):
            self._send(self._settings)

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        """Asks the process, and waits for its answer."""
        if number < WARM_UP or self._failed:  # nothing to think about
            return self._here.fill_in(observations, number)
        with self._busy:
            answer = self._ask(observations, number)
            if answer is _DIED and not self._closed and not self._restarted:
                self._restarted = True
                self._close_pipes()
                self._process.wait()
                self._start()
                if self._closed:  # in the meantime
                    self._process.kill()
                answer = self._ask(observations, number)
        if not isinstance(answer, _Failure):
            return answer
        self._failed = True
        if not self._closed:
            _LOG.warning(
                "the search draws at random from here on, since its model failed: %s", answer.details
            )
        return self._here.fill_in(observations, number)

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        """Does not ask the process."""
        return self._here.fill_in(observations, number)

    def close(self) -> None:
        """Ends the process, which has nothing to lose, at once; whoever waits for its answer gets none."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        with self._busy:
            self._close_pipes()
            self._process.kill()  # it may be another one, which was started in its place
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
    """Answers until there are no more questions."""
    os.nice(_NICENESS)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
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
