"""Entry point of `tune-jobs` and of `python -m tune_jobs`."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path


def open_standard_files() -> None:
    """Open the null device in place of each standard file that this process was started without.

    Otherwise the next file that is opened takes its number, such as the journal, and gets what Ray or a library of
    the user's writes to the error stream.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def main() -> int:
    """Run the command line; Ctrl-C, SIGTERM and SIGHUP end it without a traceback even while modules are imported."""
    open_standard_files()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` starts a program
            signal.signal(signal.SIGHUP, signal.default_int_handler)
        from tune_jobs.cli.main import main as command  # noqa: PLC0415 (takes a second, and Ctrl-C is handled now)

        return command()
    except KeyboardInterrupt:
        with suppress(OSError, ValueError):  # the terminal may be gone
            print("tune-jobs: interrupted", file=sys.stderr)  # noqa: T201 (the error stream of a command)
        return 130


if __name__ == "__main__":
    if (
        sys.path and Path(sys.path[0]) == Path.cwd()
    ):  # a file `ray.py` there would be imported in place of Ray
        del sys.path[0]
    sys.exit(main())
