"""Call the Jobs server of a cluster through Ray's client, with time limits and with failures that say what to do."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient
from urllib3.exceptions import NameResolutionError, ProtocolError

from tune_jobs.cluster.reachability import token_problem
from tune_jobs.errors import ClusterError, SubmissionError
from tune_jobs.submission.progress import Submission, submission_of

SECONDS_TO_CONNECT = 5.0
"""Seconds within which a connection to the server must be made."""
SECONDS_TO_ANSWER = 60.0
"""Seconds within which the server must answer."""
SECONDS_TO_TAKE = 300.0
"""Seconds within which the server must take a package."""
SECONDS_TO_COME_BACK = 60.0
"""Seconds for which a server may be away while a log is followed."""
_BROKEN = (RuntimeError, OSError, aiohttp.ClientError, ClusterError)
SECONDS_OF_SILENCE = 60.0
"""Seconds without a line of a run's log after which the server is asked whether it still answers."""
SECONDS_BETWEEN_JOB_CHECKS = 1.0
"""Seconds between two checks of a job's status."""
SHOWN = 5
"""Largest number of submissions that a message names."""
OURS = "tune_jobs"
"""Key in the metadata of our submissions. Its value is the purpose of the submission."""
RUN = "run"
"""Value of `OURS` for the submission of a run."""
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_START = """
tune_jobs_python=$(sed -n 's|^.* \\(/.*\\)/lib/python[0-9.]*/site-packages/ray/_raylet[^/]*$|\\1/bin/python3|p' \
/proc/$PPID/maps 2>/dev/null | head -n 1)
[ -x "$tune_jobs_python" ] || tune_jobs_python=python3
exec "$tune_jobs_python" -m "$@"
"""
"""Shell script that starts a module with the Python of Ray, whose process is the parent of the shell."""
_ENVIRONMENT = {
    "TUNE_JOBS_START": _START,
    "RAY_JOB_STOP_WAIT_TIME_S": "120",  # a stopped run writes its tables first
    "COLUMNS": "120",
}
_ENTRYPOINT = 'exec sh -c "$TUNE_JOBS_START" sh '


class _Client(JobSubmissionClient):
    """Ray's client, with a time limit for each answer, and without its own check of versions."""

    def _check_connection_and_version(self, min_version: str = "0", version_error_message: str = "") -> None:
        super()._check_connection_and_version("0", version_error_message)  # `JobsServer` says what differs

    def _do_request(self, method: str, endpoint: str, **how: Any) -> requests.Response:
        long = method == "PUT" or endpoint.endswith("/logs")
        seconds = SECONDS_TO_TAKE if long else SECONDS_TO_ANSWER
        return super()._do_request(method, endpoint, timeout=(SECONDS_TO_CONNECT, seconds), **how)


class JobsServer:
    """The Jobs server at an address.

    Args:
        address: The dashboard of the cluster's head, as `http://HOST:PORT`.

    Raises:
        ClusterError: Nothing or another program listens there, the token is missing or wrong, or its version of Ray
            differs from that of this machine.
    """

    def __init__(self, address: str) -> None:
        self.address = parse_url(address)
        with self._explain_failures():
            with _no_other_address():
                self._client = _Client(self.address)
            version = self._client._server_ray_version
        if version != ray.__version__:
            raise ClusterError(
                f"{self.address}: the cluster has Ray {version}, but this machine has Ray {ray.__version__}; install "
                "the same on both sides, with the project's constraints.txt"
            )

    def submit(
        self,
        command: str,
        submission_id: str,
        *,
        metadata: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
        package: Path | None = None,
    ) -> None:
        """Start `python -m COMMAND` on the head of the cluster, in the folder `package` if there is one."""
        runtime: dict[str, Any] = {"env_vars": {**_ENVIRONMENT, **(environment or {})}}
        if package is not None:
            runtime["working_dir"] = str(package)
        with self._explain_failures():
            self._client.submit_job(
                entrypoint=f"{_ENTRYPOINT}{command}",
                submission_id=submission_id,
                runtime_env=runtime,
                metadata={OURS: RUN, **metadata},
            )

    def submissions(self) -> list[Submission]:
        """Return all runs, the newest first."""
        with self._explain_failures():
            details = self._client.list_jobs()
        runs = [submission_of(one) for one in details if (one.metadata or {}).get(OURS) == RUN]
        return sorted(runs, key=lambda one: one.begun or 0.0, reverse=True)

    def submission(self, submission_id: str) -> Submission:
        """Return the submission of that id.

        Raises:
            SubmissionError: There is no submission of that name; the message names some that exist.
        """
        with self._explain_failures():
            try:
                details = self._client.get_job_info(submission_id)
            except RuntimeError as error:
                if "does not exist" not in str(error):
                    raise
                details = None
        if details is None or OURS not in (details.metadata or {}):
            raise SubmissionError(self._unknown(submission_id))
        return submission_of(details)

    def log(self, submission_id: str) -> str:
        """Return what the driver has printed so far."""
        with self._explain_failures():
            return driver_output(self._client.get_job_logs(submission_id))

    def follow(self, submission_id: str) -> Iterator[str]:
        """Yield what the driver prints, part by part, up to its end."""
        passed = 0
        away_since: float | None = None
        while True:
            try:
                seen = 0
                for text in driver_output_parts(self._tail(submission_id)):
                    yield text[max(passed - seen, 0) :]
                    seen += len(text)
                    passed = max(passed, seen)
                    away_since = None
                over = self.submission(submission_id).over
                text = self.log(submission_id)
                away_since = None
            except _BROKEN as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > SECONDS_TO_COME_BACK:
                    reason = " ".join(str(error).split())[:300]
                    raise ClusterError(
                        f"{submission_id}: its log cannot be read any more ({reason})"
                    ) from error
                time.sleep(SECONDS_BETWEEN_JOB_CHECKS)
                continue
            yield text[passed:]
            passed = max(passed, len(text))
            if over:
                return
            time.sleep(SECONDS_BETWEEN_JOB_CHECKS)

    def stop(self, submission_id: str) -> None:
        """Ask the driver to end, without waiting for it."""
        with self._explain_failures():
            self._client.stop_job(submission_id)

    def forget(self, submission_id: str) -> None:
        """Remove a finished submission from the server's list."""
        with self._explain_failures():
            self._client.delete_job(submission_id)

    def _tail(self, submission_id: str) -> Iterator[str]:
        """Yield the log part by part, to its end or until no part has arrived for `SECONDS_OF_SILENCE`.

        A connection whose other end vanished looks like a run that prints nothing.
        """
        with _quiet(), asyncio.Runner() as runner:
            chunks = self._client.tail_job_logs(submission_id)

            async def next_chunk() -> str | None:
                try:
                    return await asyncio.wait_for(anext(chunks, None), SECONDS_OF_SILENCE)
                except TimeoutError:
                    return None

            while (chunk := runner.run(next_chunk())) is not None:
                yield chunk

    def _unknown(self, submission_id: str) -> str:
        known = [one.id for one in self.submissions()]
        names = ", ".join(known[:SHOWN]) or "none"
        more = f", and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        return (
            f"{submission_id}: no submission of that name at {self.address}; known: {names}{more}. A cluster forgets "
            "its submissions when it is restarted; to continue a run, give its whole path on the cluster to "
            "`tune-jobs resume RUN --address URL`"
        )

    @contextmanager
    def _explain_failures(self) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except AuthenticationError as error:
            refused = token_problem(sent="Authentication failed" in str(error))
            raise ClusterError(f"{self.address}: {refused}") from error
        except requests.exceptions.Timeout as error:
            raise ClusterError(
                f"{self.address}: no answer within {SECONDS_TO_ANSWER:g} s; {_how_to_reach(self.address)}"
            ) from error
        except (ConnectionError, requests.exceptions.ConnectionError) as error:
            raise self._connection_error(error) from error
        except (requests.exceptions.RequestException, ValueError, KeyError) as error:
            raise self._wrong_program_error() from error
        except RuntimeError as error:
            raise self._refusal_error(error) from error

    def _connection_error(self, error: BaseException) -> ClusterError:
        reasons = list(_reasons(error))
        if any(isinstance(reason, NameResolutionError) for reason in reasons):
            why = f"there is no machine called {urlsplit(self.address).hostname}"
        elif any(isinstance(reason, ssl.SSLError) for reason in reasons):
            why = "the server there does not speak https; Ray's dashboard itself speaks http"
        elif any(isinstance(reason, ProtocolError) for reason in reasons):
            why = (
                "the server there closes the connection or does not speak HTTP: it is not the dashboard of a Ray "
                "cluster (nodes join at another port), or it is a tunnel to a port where nothing listens"
            )
        else:
            why = "nothing listens there"
        return ClusterError(f"{self.address}: {why}; {_how_to_reach(self.address)}")

    def _wrong_program_error(self) -> ClusterError:
        return ClusterError(
            f"{self.address}: the program that answers there is not the dashboard of a Ray cluster; "
            f"{_how_to_reach(self.address)}"
        )

    def _refusal_error(self, error: RuntimeError) -> ClusterError:
        if "Version check returned 404" in str(error):
            return self._wrong_program_error()
        lines = [line for line in str(error).splitlines() if line.strip()]
        return ClusterError(f"{self.address}: the Jobs server refuses: {lines[-1].strip()[:300]}")


def parse_url(address: str) -> str:
    """Return `address` without a path.

    Raises:
        ClusterError: The address is no `http://HOST:PORT`.
    """
    with suppress(ValueError):
        url = urlsplit(address)
        if url.scheme in {"http", "https"} and url.hostname and url.port != 0:
            return f"{url.scheme}://{url.netloc}"
    raise ClusterError(
        f"--address {address}: valid is http://HOST:PORT of the dashboard of the cluster's head, such as "
        "http://127.0.0.1:8265 through a tunnel"
    )


def driver_output(log: str) -> str:
    """Return the part of a job's log that the driver printed, without the lines of Ray before it."""
    _, entry, rest = log.partition("Running entrypoint for job ")
    return rest.partition("\n")[2] if entry else ""


def driver_output_parts(parts: Iterable[str]) -> Iterator[str]:
    """Yield what `driver_output` returns, part by part, from a log that arrives in parts."""
    start, begun = "", False
    for part in parts:
        if begun:
            yield part
            continue
        start += part  # a few lines of Ray
        if rest := driver_output(start):
            begun = True
            yield rest


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, which Ray and the HTTP clients keep in several ways."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        kept = (getattr(error, "reason", None), *error.args)
        inner = next((one for one in kept if isinstance(one, BaseException)), None)
        error = inner or error.__cause__ or error.__context__


def _how_to_reach(address: str) -> str:
    port = urlsplit(address).port or 8265
    return (
        "give the address of the dashboard on the cluster's head, which listens on its loopback: "
        f"`ssh -N -L {port}:127.0.0.1:8265 HEAD` brings it here as http://127.0.0.1:{port}"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log of Ray's client: this module says what is wrong."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _no_other_address() -> Iterator[None]:
    """Hide the environment variables from which Ray would take the address even if it is given one."""
    before = {name: os.environ.pop(name) for name in _ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
