"""The process that uploads W&B runs: the other end of `wandb_upload`.

It reads one line a file, then `end`; its input ends with the driver. What it says is one JSON object a line: of a
file `{"file": …, "reason": …}`, where null means that it is uploaded.
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
_ERROR: Final = 40
"""Severity of W&B's messages from which on something is not uploaded, although W&B marks the file as synced."""
_SECONDS_TO_ANSWER: Final = 30


def main() -> None:
    """Uploads what it is told of until it is told that this was all."""
    os.nice(_NICENESS)
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import wandb  # noqa: PLC0415 (what it prints has a place now)
    from wandb.sdk import wandb_setup  # noqa: PLC0415

    wandb.setup(wandb.Settings(silent=True))
    session = wandb_setup.singleton()
    obstacle = _without_key(session.settings.base_url)
    if obstacle:
        _say(said, {NO_KEY: obstacle})
        return
    try:
        session.asyncer.run(_Uploader(session, said).serve)
    finally:
        _end()


def _without_key(server: str) -> str | None:
    """Why nothing can be uploaded to `server`; None where there is a key."""
    from wandb.errors import Error  # noqa: PLC0415
    from wandb.sdk.lib import wbauth  # noqa: PLC0415

    try:
        found = wbauth.authenticate_session(host=server, source="tune-jobs", prompt=False)
    except Error as error:
        return f"the API key cannot be used ({' '.join(str(error).split())})"
    return None if found else "no API key was found (WANDB_API_KEY, or `wandb login`)"


def _say(said: TextIO, what: dict[str, Any]) -> None:
    said.write(f"{json.dumps(what)}\n")
    said.flush()


def _end() -> None:
    """Ends this process, a thread of which may be waiting for the next line, and W&B's own with it."""
    os.killpg(0, signal.SIGKILL)


class _Uploader:
    """Runs in W&B's event loop.

    Args:
        session: W&B's own singleton, with its settings and its connection to the process that uploads.
        said: where answers go.
    """

    def __init__(self, session: Any, said: TextIO) -> None:
        self._session, self._said = session, said
        self._service = session.ensure_service()
        self._failed: list[Path] = []

    async def serve(self) -> None:
        """Uploads each file as it grows; those that fail are tried once more at the end."""
        uploads = []
        while (line := await self._line()) != END:
            uploads.append(asyncio.create_task(self._upload(Path(line))))
        watch = asyncio.create_task(self._line())  # nothing more comes, but the driver may die
        await asyncio.gather(*uploads)
        failed, self._failed = self._failed, []
        await asyncio.gather(*map(self._upload, failed))
        watch.cancel()

    async def _line(self) -> str:
        """The next line; without a driver there is none, and nothing left to do."""
        line: str = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        if not line:
            _end()
        return line.strip()

    async def _upload(self, file: Path) -> None:
        """Uploads `file` until it tells of the end of its W&B run, and says how that went."""
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError  # noqa: PLC0415

        try:
            errors = await self._errors(file)
        except (
            HandleAbandonedError,
            MailboxClosedError,
        ):  # W&B's own process has died: the driver begins anew
            _end()
        except Exception as error:  # whatever W&B raises for one file, the others go on
            errors = [" ".join(str(error).split()) or type(error).__name__]
        if errors:
            synced_mark(file).unlink(missing_ok=True)
            self._failed.append(file)
        _say(self._said, {"file": str(file), "reason": errors[0] if errors else None})

    async def _errors(self, file: Path) -> list[str]:
        """Uploads `file`; what went wrong."""
        init = await self._service.init_sync(
            {file}, self._session.settings, cwd=None, live=True,
            entity="", project="", run_id="", job_type="", tag_replacements={},
        )  # fmt: skip
        made = await init.wait_async(timeout=_SECONDS_TO_ANSWER)
        sync = await self._service.sync(made.id, parallelism=1)
        response = await sync.wait_async(timeout=None)
        return [message.content for message in response.messages if message.severity >= _ERROR]
