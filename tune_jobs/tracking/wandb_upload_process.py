"""The process that uploads W&B runs: the other end of `wandb_upload`.

It reads a line for each file, then `end`. Its input ends with the driver. It prints a JSON object for each file:
`{"file": …, "reason": …}`; the reason is null if the file is uploaded.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from tune_jobs.tracking.wandb_files import synced_mark
from tune_jobs.tracking.wandb_upload import END, NO_KEY

_NICENESS: Final = 10
"""Niceness of the process: the run comes first."""
_ERROR: Final = 40
"""Severity of W&B's messages from which something is not uploaded, although W&B marks the file as synced."""
_SECONDS_TO_ANSWER: Final = 30
"""Seconds in which W&B's own process must answer."""


def main() -> None:
    """Upload the files that the input names, up to its end."""
    os.nice(_NICENESS)
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    import wandb  # noqa: PLC0415 (what it prints has a place now)
    from wandb.sdk import wandb_setup  # noqa: PLC0415 (see above)

    wandb.setup(wandb.Settings(silent=True))
    session = wandb_setup.singleton()
    obstacle = _key_problem(session.settings.base_url)
    if obstacle:
        _say(said, {NO_KEY: obstacle})
        return
    try:
        session.asyncer.run(_Uploader(session, said).serve)
    finally:
        _end()


def _key_problem(server: str) -> str | None:
    """Return why nothing can be uploaded to `server`; None if there is a key."""
    from wandb.errors import Error  # noqa: PLC0415 (see `main`)
    from wandb.sdk.lib import wbauth  # noqa: PLC0415 (see `main`)

    try:
        found = wbauth.authenticate_session(host=server, source="tune-jobs", prompt=False)
    except Error as error:
        return f"the API key cannot be used ({' '.join(str(error).split())})"
    return None if found else "no API key was found (WANDB_API_KEY, or `wandb login`)"


def _say(said: TextIO, what: dict[str, Any]) -> None:
    said.write(f"{json.dumps(what)}\n")
    said.flush()


def _end() -> None:
    """End this process, whose thread may be waiting for the next line, and W&B's own with it."""
    os.killpg(0, signal.SIGKILL)


class _Uploader:
    """Runs in W&B's event loop.

    Args:
        session: W&B's own singleton, with its settings and its connection to the process that uploads.
        said: The stream for the answers.
    """

    def __init__(self, session: Any, said: TextIO) -> None:
        self._session, self._said = session, said
        self._service = session.ensure_service()
        self._failed: list[Path] = []

    async def serve(self) -> None:
        """Upload each file as it grows; try those that fail once more at the end."""
        uploads = []
        while (line := await self._line()) != END:
            uploads.append(asyncio.create_task(self._upload(Path(line))))
        watch = asyncio.create_task(self._line())  # no file comes any more, but the driver may die
        await asyncio.gather(*uploads)
        failed, self._failed = self._failed, []
        await asyncio.gather(*map(self._upload, failed))
        watch.cancel()

    async def _line(self) -> str:
        """Return the next line; end this process if the driver is gone."""
        line: str = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        if not line:
            _end()
        return line.strip()

    async def _upload(self, file: Path) -> None:
        """Upload `file` up to the end of its W&B run, and print the answer."""
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError  # noqa: PLC0415 (see `main`)

        try:
            errors = await self._errors(file)
        except (
            HandleAbandonedError,
            MailboxClosedError,
        ):  # W&B's own process has died: the driver starts again
            _end()
        except Exception as error:  # whatever W&B raises for one file, the others continue
            errors = [" ".join(str(error).split()) or type(error).__name__]
        if errors:
            synced_mark(file).unlink(missing_ok=True)
            self._failed.append(file)
        _say(self._said, {"file": str(file), "reason": errors[0] if errors else None})

    async def _errors(self, file: Path) -> list[str]:
        """Upload `file`; return the errors."""
        init = await self._service.init_sync(
            {file}, self._session.settings, cwd=None, live=True,
            entity="", project="", run_id="", job_type="", tag_replacements={},
        )  # fmt: skip
        made = await init.wait_async(timeout=_SECONDS_TO_ANSWER)
        sync = await self._service.sync(made.id, parallelism=1)
        response = await sync.wait_async(timeout=None)
        return [message.content for message in response.messages if message.severity >= _ERROR]
