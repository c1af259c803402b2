"""Start Ray for one run, or join it at an address, and keep it quiet."""

import logging
import os
import secrets
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tune_jobs.cluster.node_checks import check_nodes, refuse_unfit
from tune_jobs.cluster.reachability import check_address
from tune_jobs.cluster.view import ClusterView, groups_at, is_head
from tune_jobs.errors import ResourceError
from tune_jobs.files import probe_writable, reason_of
from tune_jobs.job.user_modules import ModulesArrived, UserModule, copy_modules
from tune_jobs.signals import end_at_once, restore_handlers
from tune_jobs.text import COMPLAINT
from tune_jobs.tuning.ray_cleanup import Watch, end_with_this_process

RAY = "2.60"
"""The only version known to have the private parts that runs rest on; `pyproject.toml` has it too."""
_FOR_WORKERS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
"""Variables for workers, also on other machines: a trial without a GPU sees none."""
_ENVIRONMENT = {
    **_FOR_WORKERS,
    "RAY_usage_stats_enabled": "0",
    "RAY_prestart_worker_first_driver": "0",  # a worker for each CPU; trials never use them, but start their own
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output engine is the one that `verbose=0` silences
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # a submitted run has the modules of its submission
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of the user's modules stay as they are
    "RAY_timeout_ms_task_wait_for_death_info": "30000",  # longer than Ray takes to notice that a node has died
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run's journal is the log
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # see `signals`
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failure report has no score
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # otherwise a worker whose last trial ends slowly fails the next one
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),  # the run's journal is the state
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}
SECONDS_BETWEEN_SERVER_CHECKS = 0.5
"""Seconds between two checks that Ray's servers are alive."""
SECONDS_TO_END = 5.0
"""Seconds in which a run whose Ray has died may end in order."""
_OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on 127.0.0.1, despite the name; read on the first import
    "RAY_agent_register_timeout_ms": "300000",  # on a busy machine, Ray's processes give up on each other too early
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
}
"""Variables for a Ray that this process starts."""
_AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
"""Variables with which a user gives the token of a cluster."""
_USED_BY: set[int] = set()
"""The process that has used Ray, and the processes that it was forked from and that had."""
_TOKEN = secrets.token_hex(32)
"""The token of all runs of a process: Ray remembers the first one that it sees."""


@contextmanager
def ray_connection(
    address: str | None = None, modules: Sequence[UserModule] = (), packages: Sequence[str] = ()
) -> Iterator[ClusterView]:
    """Connect to Ray for the length of a run: to an instance on this machine, or to the cluster at `address`.

    A Ray that this process started before is used and left running. A new instance has no dashboard. It accepts only
    holders of a token that is made for this process and kept in memory. It listens on loopback only, unless the process
    imported Ray before. The nodes of a cluster are sent the user's `modules`, and
    must have the same versions of tune-jobs, Ray and the `packages`.

    Yields:
        A view of the cluster.

    Raises:
        ResourceError: No Ray answers at `address`, it refuses this process, or its nodes have other versions; or the
            installed Ray is not the one that runs rest on; or Ray cannot be started on this machine.
    """
    with environment({**_ENVIRONMENT, **(_OWN if address is None else {})}), _quiet("ray"):
        import ray  # noqa: PLC0415 (it reads the variables that were set)

        _check_version(ray.__version__)
        _refuse_forked()
        with _run_ray(address, modules) if not ray.is_initialized() else nullcontext():
            # A machine that was the head of another cluster may still have that cluster's file.
            view = ClusterView(
                groups_at(Path.home()) if address and is_head() else (), joined=address is not None
            )
            nodes = view().nodes
            if address is not None:
                question = ModulesArrived(tuple(module.path.stem for module in modules))
                refuse_unfit(check_nodes(nodes, question, packages=packages))
            yield replace(view, asked=frozenset(node.node_id for node in nodes))


def _refuse_forked() -> None:
    """Refuse to use Ray in a process that was forked from one which has used it: Ray would wait for ever.

    Raises:
        ResourceError: It was.
    """
    from tune_jobs.tuning.ray_patches import was_forked_with_ray  # noqa: PLC0415 (imports Ray)

    if _USED_BY - {os.getpid()} or was_forked_with_ray():
        raise ResourceError(
            "this process was forked from one that has used Ray, and Ray does not work in such a process; start it "
            "with `multiprocessing.get_context('spawn')` or `subprocess`, or do this in the process that it was forked "
            "from"
        )


def _check_version(installed: str) -> None:
    if not installed.startswith(f"{RAY}."):
        raise ResourceError(
            f"Ray {installed} is installed, but runs need Ray {RAY}; install that version, with the project's "
            f"constraints.txt or with `pip install 'ray[default,tune]=={RAY}.*'`"
        )


@contextmanager
def _run_ray(address: str | None, modules: Sequence[UserModule]) -> Iterator[None]:
    import ray  # noqa: PLC0415 (it reads the variables of `environment`)

    from tune_jobs.tuning.ray_patches import dead_server  # noqa: PLC0415 (imports Ray)

    with nullcontext(Watch()) if address else end_with_this_process(temporary := _own_folder()) as watch:
        try:
            with restore_handlers():
                if address is None:
                    with watch.starting():
                        _start(temporary)
                else:
                    _join(address, modules)
        except BaseException:
            _shut_down()  # it is half made
            raise
        over = threading.Event()
        threading.Thread(
            target=_watch_servers, args=(over, dead_server), name="Ray's servers", daemon=True
        ).start()
        try:
            yield
        finally:
            ray.shutdown()
            over.set()


def _watch_servers(over: threading.Event, dead: Callable[[], str | None]) -> None:
    """End this process if a server of Ray has died and nothing else ends it: a call to Ray may wait for a minute.

    Ray would end it after that. Nothing is lost: what was reported is on disk.
    """
    while not over.wait(SECONDS_BETWEEN_SERVER_CHECKS):
        server = dead()
        if server is not None and not over.wait(SECONDS_TO_END):
            print(  # noqa: T201 (the error stream of a command)
                f"{COMPLAINT}Ray's process {server} died (this happens if a signal reaches the whole process group), "
                "so the run cannot continue. Everything reported so far is saved; continue with `tune-jobs resume RUN`",
                file=sys.stderr,
                flush=True,
            )
            end_at_once()


def _own_folder() -> Path:
    """Return the folder for the files of own Rays, in one that only this user can enter.

    Logs hold the output of trials, and Ray opens its own folder to all users. The path is short: it leads to sockets,
    whose paths have 107 characters at most.

    Raises:
        ResourceError: The folder cannot be made, or belongs to another user.
    """
    named = os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR") if sys.platform == "linux" else None)
    folder = Path(named or "/tmp", f"ray-{os.getuid()}").absolute()  # noqa: S108 (its owner is checked)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder.lstat()
        if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.getuid():
            raise ResourceError(f"{folder}: is not a folder of this user's; remove it, or set RAY_TMPDIR")
        folder.chmod(0o700)
        (folder / "r").mkdir(exist_ok=True)
        probe_writable(folder / "r")
    except OSError as error:
        raise ResourceError(
            f"{folder}: Ray's files cannot be kept there ({reason_of(error, folder.parent)}); set RAY_TMPDIR to a "
            "folder that can be written to"
        ) from error
    return folder / "r"


def _start(folder: Path) -> None:
    """Start Ray with its files in `folder`; try once more, with other ports, if it fails.

    Raises:
        ResourceError: It failed twice.
    """
    # Ray turns token authentication on by itself; it would keep its own token in a file that all can read.
    os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)
    from ray.job_config import JobConfig  # noqa: PLC0415 (see `ray_connection`)

    from tune_jobs.tuning.ray_patches import needed_processes_alone  # noqa: PLC0415 (imports Ray)

    # Ray would put the current folder in front of what its workers import from: a file `torch.py` there would take
    # the place of PyTorch. It leaves that to the clients of a job server, and takes this one for such.
    job_config = JobConfig(_client_job=True)
    how = {"include_dashboard": False, "_temp_dir": str(folder), "job_config": job_config}
    for last in (False, True):
        try:
            with needed_processes_alone():
                _init(address="local", **how)
        except Exception as error:
            if last:
                raise ResourceError(_failure_text(error, folder)) from error
            _shut_down()
        else:
            return


def _failure_text(error: Exception, folder: Path) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"Ray could not be started on this machine, tried twice ({reason}). Its logs are in "
        f"{folder / 'session_latest' / 'logs'}. Check the free memory, the free disk space in {folder}, the "
        "shared memory (`df /dev/shm`), and the limit of open files (`ulimit -n`, at least 1024); then try again"
    )


def _shut_down() -> None:
    import ray  # noqa: PLC0415 (it reads the variables of `environment`)

    with suppress(Exception):
        ray.shutdown()


def _join(address: str, modules: Sequence[UserModule]) -> None:
    found = check_address(address)
    with TemporaryDirectory(prefix="tune-jobs-") as folder:
        copy_modules(modules, Path(folder))
        # Even an empty folder is given: the one of a submission holds the data file, test rows included.
        _init_at(address, found, {"env_vars": _FOR_WORKERS, "working_dir": folder})


def _init_at(address: str, found: str, for_workers: dict[str, Any]) -> None:
    try:
        _init(address=found, runtime_env=for_workers)
    except Exception as error:  # also of a hook that `RAY_RUNTIME_ENV_HOOK` names
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ResourceError(
            f"--address {address}: Ray answers there, but cannot be joined ({reason}); run this on a machine of the "
            "cluster, or send the job there with `tune-jobs submit`"
        ) from error


def _init(**how: Any) -> None:
    import ray  # noqa: PLC0415 (it reads the variables of `environment`)

    from tune_jobs.tuning.ray_patches import workers_run_this_python  # noqa: PLC0415 (imports Ray)

    _USED_BY.add(os.getpid())
    try:
        with workers_run_this_python():
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **how)
    except SystemExit as error:  # what Ray makes of SIGTERM
        raise KeyboardInterrupt from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a logger inside the block: the journal has what Ray would log about trials."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for Ray and its processes inside the block, then restore all, authentication included."""
    before = {name: os.environ.get(name) for name in (*variables, *_AUTHENTICATION)}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
