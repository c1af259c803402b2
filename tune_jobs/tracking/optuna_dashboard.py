"""Serve the study of a run with optuna-dashboard on loopback, read-only.

The dashboard could rename and delete studies, write notes and tell results. Here it cannot: requests that would
change something are refused, and so are writes to the study's file.
"""

import json
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tune_jobs.errors import ResourceError, RunFolderError
from tune_jobs.record.folder import RunFolder
from tune_jobs.text import quoted

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
"""Address that the server listens on."""
PAGE = "/dashboard/studies/0"
"""Path of the page of the run's only study."""
NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""Host names that the server answers to: no other site can make a browser read the run under another name."""


class ReadOnlyStudy(JournalFileBackend):
    """The study's file, which must exist and is never written to."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse to write.

        Raises:
            PermissionError: Always.
        """
        raise PermissionError(f"{self._file_path} is served for reading alone")


class StudyPages:
    """The WSGI application: optuna-dashboard on the study of a run, which may be in progress.

    The file grows with the run, and is replaced if the run is resumed or repaired. Then it is opened again.

    Args:
        study: The study's file.

    Raises:
        ResourceError: The package optuna-dashboard is not installed.
    """

    def __init__(self, study: Path) -> None:
        self._study = study
        self._lock = threading.Lock()
        self._identity = self._identify()
        self._pages = _open(study)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """See PEP 3333."""
        if _host(environ.get("HTTP_HOST", HOST)) not in NAMES:
            return _refuse(start_response, "403 Forbidden", "open it as http://localhost:PORT")
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _refuse(
                start_response, "405 Method Not Allowed", "this dashboard shows the run, and cannot change it"
            )
        return self._current()(environ, start_response)

    def _current(self) -> "WSGIApplication":
        with self._lock:
            identity = self._identify()
            if identity != self._identity and self._study.is_file():
                self._identity, self._pages = identity, _open(self._study)
            return self._pages

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self._study.stat()
        except OSError:  # while it is restored from a copy
            return None
        return status.st_dev, status.st_ino


def _open(study: Path) -> "WSGIApplication":
    try:
        from optuna_dashboard import wsgi  # type: ignore[import-untyped]  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ResourceError(
            "optuna-dashboard is not installed; `pip install 'tune-jobs[dashboard]'` installs it. "
            "`tune-jobs report RUN` needs nothing more"
        ) from error
    pages: WSGIApplication = wsgi(JournalStorage(ReadOnlyStudy(str(study))))
    return pages


def _host(header: str) -> str | None:
    with suppress(ValueError):
        return urlsplit(f"//{header}").hostname
    return None


def _refuse(start_response: "StartResponse", status: str, reason: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the base class)
        """Log no request."""


def study_server(folder: RunFolder, port: int = 0) -> WSGIServer:
    """Return a server of the study of the run in `folder`; `serve_forever` starts it.

    Args:
        folder: Folder of the run.
        port: Port on loopback; 0 takes a free one, which `server_port` has.

    Raises:
        ResourceError: The package optuna-dashboard is not installed, or the port is taken.
        RunFolderError: The run has no study.
    """
    if not folder.study.is_file():
        raise RunFolderError(
            f"{folder.study}: no such file; "
            f"`tune-jobs repair {quoted(folder.path)}` rebuilds the study from the journal"
        )
    pages = StudyPages(folder.study)
    try:
        return make_server(HOST, port, pages, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise ResourceError(
            f"--port {port}: cannot be listened on ({error.strerror}); give another, or none for a free one"
        ) from error
