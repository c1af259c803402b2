"""Entry point of `tune-jobs` and of `python -m tune_jobs`."""

import signal
import sys
from contextlib import suppress
from pathlib import Path


def main() -> int:
    """Run the command line; Ctrl-C, SIGTERM and SIGHUP end it without a traceback even while modules are imported."""
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
