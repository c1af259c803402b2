"""Prepare what trials need: the data, the run folder, and the task that all trials share."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tune_jobs.errors import JobError, RunFolderError
from tune_jobs.files import fingerprint_of, replacing
from tune_jobs.holdout import rows as holdout
from tune_jobs.job.checks import check_surroundings
from tune_jobs.job.code_files import code_fingerprints, copy_code
from tune_jobs.job.fingerprint import job_fingerprint
from tune_jobs.job.job import Job
from tune_jobs.job.user_code import importable_from, module_path, process_kept
from tune_jobs.job.user_modules import user_modules
from tune_jobs.location import Location, is_uri, location_of
from tune_jobs.record.data_info import write_info
from tune_jobs.record.events import RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.reading import JOB_FILE
from tune_jobs.remote.store import Store, StoreError
from tune_jobs.remote.working_copy import checkpoints_of, storage_folder
from tune_jobs.search_spaces import Problem
from tune_jobs.submission.handover import Handover, keep_submitted
from tune_jobs.trainers.errors import SettingsError, TrainerError
from tune_jobs.trainers.interface import TrainingRequest
from tune_jobs.trainers.kinds import kind_of
from tune_jobs.versions import versions_here
from tune_jobs.worker.trial import TrialTask

if TYPE_CHECKING:
    from tune_jobs.trainers.data import PreparedData, TrainingData

RECORDED = ("ray", "optuna", "numpy")
"""Names of the packages whose versions are recorded with a run, beside tune-jobs and those of its kind of training."""


def prepare(job: Job) -> "PreparedData | None":
    """Read, check, split and encode the data of a job.

    Returns:
        The rows of all parts; None if the trainings read their own data.

    Raises:
        JobError: A file or function that the job names is missing.
        TrainerError: The data cannot be used as the job asks, or the kind says of itself what is not so.
    """
    problems = check_surroundings(job.facts, job.tracking, job.folder, job.search.space.parameters)
    if problems:
        raise JobError(problems)
    try:
        with importable_from(job.folder), process_kept():
            prepared = job.kind.prepare(job.folder)
    except SettingsError as error:
        raise JobError([Problem(*pair) for pair in error.problems]) from error
    if (prepared is not None) != job.seals_test:
        raise TrainerError(
            f"the kind of training {job.kind.name!r} contradicts itself: prepare returned "
            f"{'no rows' if prepared is None else 'rows'}, and capabilities.seals_test is {job.seals_test}; mend one "
            "of the two in its class"
        )
    return prepared


def check_store(job: Job, *, submitted: bool = False) -> None:
    """Check that the object store that the job names takes an object; a folder is tried when it is made.

    Args:
        job: The job of the run.
        submitted: Whether the job came from another machine; the message then says whose access it means.

    Raises:
        RunFolderError: The store does not take it; the message says why.
    """
    if not is_uri(job.storage):
        return
    store = Store(Location.parse(job.storage))
    name = f".write-test-{secrets.token_hex(8)}"
    try:
        store.put(name, name.encode())
        store.delete(name)
    except StoreError as error:
        where = (
            ". The driver runs on the cluster's head. It takes the keys, and the address of the store "
            "(AWS_ENDPOINT_URL), from the head's role or from the environment in which `ray start` was called there"
        )
        raise RunFolderError(
            f"storage: cannot write to {job.storage} ({error.strerror}); give a place where you may write, with "
            f"`--storage s3://bucket/prefix`, or a folder{where if submitted else ''}"
        ) from error


def make_folder(
    job: Job,
    prepared: "PreparedData | None",
    check: Callable[[RunFolder], None] = lambda _: None,
    handover: Handover | None = None,
) -> RunFolder:
    """Make the run's folder, with the resolved job, the encoding of rows, and the sealed test rows.

    Args:
        job: The job of the run.
        prepared: The data of the job; None if the trainings read their own.
        check: May refuse the folder by an error; then nothing of the folder stays either.
        handover: The handover of a submitted job, whose folder is then kept too.

    Raises:
        RunFolderError: The folder cannot be made or written to; nothing of it stays.
    """
    with RunFolder.making(
        storage_folder(job.storage), job.name, handover.run if handover else None
    ) as folder:
        check(folder)
        if handover is not None:
            keep_submitted(job.folder, folder, user_modules(job))
        else:
            copy_code(job, folder.path)
            job = job.with_absolute_files()
        with replacing(folder.job) as file:
            file.write(job.to_yaml().encode())
        if prepared is not None:
            write_info(prepared.info, folder.data_info)
            holdout.seal(folder, prepared.test)
    return folder


def this_process() -> str:
    """Return the name of this process, as `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def data_fingerprints(prepared: "PreparedData | None") -> Mapping[str, str]:
    """Return the fingerprints of the rows and of their split; none if the trainings read their own data."""
    if prepared is None:
        return {}
    return {"data": prepared.report.fingerprint, "split": prepared.report.split_fingerprint}


def run_started(job: Job, prepared: "PreparedData | None", folder: RunFolder) -> RunStarted:
    """Return the first event of a run's journal, with the fingerprints of the files in its new folder."""
    entry = kind_of(job.own_sections)
    return RunStarted(
        name=job.name,
        job_folder=str(job.folder),
        trials=job.trials,
        rows={} if prepared is None else prepared.report.rows,
        fingerprints={
            **data_fingerprints(prepared),
            **(_file_fingerprints(folder) if prepared else {}),
            "space": job.search.space.fingerprint(),
            "job": job_fingerprint(job),
            **code_fingerprints(job),
            JOB_FILE: fingerprint_of(folder.job),
        },
        versions=recorded_versions(job),
        notices=(*(() if prepared is None else prepared.report.notices), *job.notices()),
        driver=this_process(),
        kind=entry.name,
        kind_class=entry.reference,
        run_id=secrets.token_hex(8),
        seal=job.seal.value,
    )


def _file_fingerprints(folder: RunFolder) -> Mapping[str, str]:
    """Return the SHA-256 of the encoding and of the sealed rows, on which later decisions rest."""
    return {
        "encoding": fingerprint_of(folder.data_info),
        holdout.SEALED: fingerprint_of(holdout.rows_path(folder)),
    }


def recorded_versions(job: Job) -> dict[str, str]:
    """Return the versions that are recorded with a run of the job, by package."""
    return versions_here(("tune-jobs", *job.facts.packages, *RECORDED))


def rows_for_trials(prepared: "PreparedData | None") -> "TrainingData | None":
    """Return the training and validation rows; None if the trainings read their own data."""
    return None if prepared is None else prepared.for_trials()


def trial_task(job: Job, folder: RunFolder, spent: float = 0.0, run_id: str = "") -> TrialTask:
    """Return what all trials of the job have in common.

    Of the run folder it names only the checkpoints, the output and the modules: the folder of a submitted job also
    holds its data file. The seconds that the run has `spent` before a resume count against its
    time limit.
    """
    minutes = job.limits.minutes
    is_local = location_of(folder.path) is None
    own_modules = module_path(job.folder, type(job.kind).__module__)
    return TrialTask(
        kind=job.kind,
        score=job.selection,
        seed=job.seed,
        rungs=job.rungs,
        threads=threads_of(job),
        checkpoints=checkpoints_of(folder),
        output=folder.output if is_local else None,
        files=folder.files if is_local else None,
        folder=job.folder,
        run=run_id,
        module_path=(str(folder.modules),) if job.folder == folder.submitted else own_modules,
        copies=folder.modules if is_local and job.folder != folder.submitted else None,
        deadline=None if minutes is None else time.time() + 60 * minutes - spent,
        resources=job.resources,
    )


def request_of(job: Job, configuration: Mapping[str, Any]) -> TrainingRequest:
    """Return the request for a training of `configuration` in this process, apart from any run."""
    return TrainingRequest(
        configuration=configuration,
        seed=job.seed,
        max_epochs=job.max_epochs,
        score=job.selection,
        threads=threads_of(job),
        folder=job.folder,
    )


def threads_of(job: Job) -> int:
    """Return the number of threads that a trial computes with: one for each of its CPUs."""
    return max(1, int(job.resources.cpus_per_trial))
