"""A method in a process of its own: its thinking takes nothing from the run's but a processor that idles.

In a thread of the driver it would hold Python's lock while Ray Tune's loop wants it. The process is a plain child
that reads what is known from its standard input, and ends when that is closed, however the driver ended.
`multiprocessing` is not used: it would run the user's own script anew.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from threadpoolctl import threadpool_limits

from tune_jobs.job_sections import SearchSettings
from tune_jobs.search.history import Configuration, Knowledge
from tune_jobs.search.methods import Method, make_method

_NICENESS = 10
"""The process gives way to the workers of the same machine, and is not starved by them."""
_SECONDS_TO_END = 5.0
_LOG = logging.getLogger(__name__)


class MethodProcess:
    """The method of `make_method`, working in a child process; what it is asked to fill in, it does here.

    Should the process die, the method works here too: slower for the run, and with the same answers.

    Args:
        settings: space, method and points.
        factor: one in so many trials is promoted from a rung.
        seed: of all draws.
    """

    def __init__(self, settings: SearchSettings, factor: int, seed: int) -> None:
        self._here: Method = make_method(settings, factor, seed)
        self._died = False
        self._process = subprocess.Popen(  # noqa: S603 (this package, by this Python)
            [sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError):
            self._send((settings, factor, seed))

    def propose(self, knowledge: Knowledge, number: int) -> Configuration | None:
        """Asks the process, and waits for its answer; what the method raises there is raised here."""
        if not self._died:
            try:
                self._send((knowledge, number))
                answer: Configuration | Exception | None = pickle.load(self._answers)  # noqa: S301 (our own child's)
            except (EOFError, OSError, pickle.UnpicklingError):
                self._died = True
                _LOG.warning(
                    "the process that proposes configurations has ended; the run's own goes on with it"
                )
            else:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return self._here.propose(knowledge, number)

    def fill_in(self, knowledge: Knowledge, number: int) -> Configuration | None:
        """Does not ask the process."""
        return self._here.fill_in(knowledge, number)

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):
            self._questions.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def _send(self, what: object) -> None:
        pickle.dump(what, self._questions)
        self._questions.flush()


def main() -> None:
    """Answers until there are no more questions."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's business, which closes the input
    os.nice(_NICENESS)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    with threadpool_limits(limits=1), suppress(EOFError, BrokenPipeError):
        method = make_method(*pickle.load(questions))  # noqa: S301 (the driver wrote it)
        while True:
            knowledge, number = pickle.load(questions)  # noqa: S301
            pickle.dump(_answer(method, knowledge, number), answers)
            answers.flush()


def _answer(method: Method, knowledge: Knowledge, number: int) -> Any:
    try:
        return method.propose(knowledge, number)
    except Exception as error:  # raised again where the question came from
        return error


if __name__ == "__main__":
    main()
