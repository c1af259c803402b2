"""Upload W&B runs while they are being written, in a process that the run neither waits for nor needs.

The driver writes W&B's files. The process reads them as they grow and uploads them, with the code behind
`wandb beta sync --live`. It is apart from the driver because W&B ends its own process if the server sends an
unexpected answer. If it fails, the files stay, and `wandb sync` uploads what is missing.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Final

from tune_jobs.tracking.wandb_files import upload_command

NO_KEY: Final = "no key"
"""Key of the answer that says why there is no API key."""
END: Final = "end"
"""The line after the last file."""

_LATE: Final = "the server did not answer in time"
_DIED: Final = "W&B's own process has died"

_LOG = logging.getLogger(__name__)


class Upload:
    """Uploads W&B runs in a process that starts with the first of them.

    It logs at most once that there is no key, and once at the end what was not uploaded.

    Args:
        folder: Folder of W&B's files, the `wandb` of a run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, str | None] = {}
        """All files that were added, and why each is not uploaded: empty without an answer, None if it is."""
        self._process: subprocess.Popen[str] | None = None
        self._reader: Thread | None = None
        self._no_key = False

    def add(self, file: Path) -> None:
        """Start to upload `file`, which may still be growing."""
        if str(file) in self._files:
            return
        self._files[str(file)] = ""
        if self._process is None:
            self._start()
        self._say(str(file))

    def finish(self, patience: float) -> None:
        """Wait until everything is uploaded, at most `patience` seconds, and log what is not."""
        if self._process is None:
            return
        until = time.monotonic() + patience
        if self._process.poll() is not None and not self._no_key:  # once more, from the beginning
            self._end()
            self._start()
            for file in self._missing:
                self._say(file)
        self._say(END)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))
        late = _LATE if self._process.poll() is None else _DIED
        self._end()
        missing = self._missing
        if missing and not self._no_key:
            reason = self._files[missing[0]] or late
            _LOG.warning(
                "W&B: %d of %d W&B runs were not uploaded (%s); all of them are complete on this disk, and `%s` "
                "uploads the rest", len(missing), len(self._files), reason, upload_command(self._folder),
            )  # fmt: skip

    @property
    def _missing(self) -> list[str]:
        return [file for file, reason in self._files.items() if reason is not None]

    def _start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        self._process = subprocess.Popen(  # noqa: S603 (this package, by this Python)
            [sys.executable, "-P", "-c", f"from {__package__}.wandb_upload_process import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,  # the driver handles Ctrl-C, and ends the whole group
            env={**environment, "WANDB_DIR": str(self._folder.parent), "WANDB_ERROR_REPORTING": "false"},
        )
        self._reader = Thread(target=self._listen, args=(self._process,), daemon=True)
        self._reader.start()

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has died; `finish` sees to it
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        """Note each answer of the process."""
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(ValueError):
                self._note(json.loads(line))

    def _note(self, said: Mapping[str, Any]) -> None:
        if NO_KEY in said:
            self._no_key = True
            _LOG.warning(
                "W&B: %s, so nothing is uploaded; everything is written to this disk, and `%s` uploads it once there "
                "is a key", said[NO_KEY], upload_command(self._folder),
            )  # fmt: skip
        elif said.get("file") in self._files:
            self._files[said["file"]] = said["reason"]

    def _end(self) -> None:
        """End the process, and W&B's own process with it."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._reader is not None:
            self._reader.join(1.0)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
