"""A run is read back from its folder alone: its events, its job and its record."""

import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tune_jobs.job_files import with_job_file
from tune_jobs.errors import DamagedRun, UnknownKind
from tune_jobs.job.file import dump_yaml
from tune_jobs.job.fingerprint import job_fingerprint
from tune_jobs.record.events import Event, RunStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.record.lines import START, encode_line
from tune_jobs.record.reading import job_of, read_run
from tune_jobs.trainers import kinds

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def made(make_run: MakeRun) -> RunFolder:
    return make_run([{"losses": [0.5, 0.25]}, {"losses": [0.75]}])


def begun(folder: RunFolder, job: str | None) -> Sequence[Event]:
    """Return the events of a run that began with the job of this fingerprint."""
    fingerprints = {} if job is None else {"job": job}
    events = [
        RunStarted(
            name="small",
            job_folder=str(folder.path.parent),
            trials=2,
            rows={},
            fingerprints=fingerprints,
            versions={},
        )
    ]
    return with_job_file(folder, events)


def test_events_job_and_record_are_those_of_the_folder(made: RunFolder) -> None:
    read = read_run(made)
    assert read.folder == made
    assert list(read.events) == list(read_journal(made.journal))
    assert read.job.name == "small"
    assert list(read.record.trials) == ["0000", "0001"]
    best = read.record.best("0000")
    assert best is not None
    assert (best.epoch, best.score) == (2, 0.25)


def test_a_job_is_checked_against_the_fingerprint_that_the_run_began_with(made: RunFolder) -> None:
    job = job_of(made, begun(made, None))
    assert job_of(made, begun(made, job_fingerprint(job))) == job
    with pytest.raises(DamagedRun, match="was changed since the run began"):
        job_of(made, begun(made, "another"))


def test_the_files_of_a_job_are_found_where_it_was_or_where_a_submission_keeps_them(made: RunFolder) -> None:
    assert job_of(made, begun(made, None)).folder == made.path.parent
    made.modules.mkdir()
    assert job_of(made, begun(made, None)).folder == made.path.parent
    submitted = [replace(begun(made, None)[0], job_folder="/head/small-20261125T101500Z-abcd/submitted")]
    assert job_of(made, submitted).folder == made.modules
    made.submitted.mkdir()
    assert job_of(made, submitted).folder == made.submitted


def test_a_journal_without_its_first_event_is_damaged(made: RunFolder) -> None:
    for events in ([], list(read_journal(made.journal))[1:]):
        with pytest.raises(DamagedRun, match="does not begin with the start of a run"):
            job_of(made, events)


def test_a_damaged_job_is_named(made: RunFolder, tmp_path: Path) -> None:
    made.job.write_text("search: [")
    with pytest.raises(DamagedRun, match=rf"^{made.job}: .*; restore it from a copy$"):
        read_run(made)


LINE = {
    "name": "line",
    "slope": {"epochs": 3},
    "search": {"space": {"rate": {"low": 0.01, "high": 0.5}}, "trials": 2},
    "selection": {"metric": "error"},
}


@pytest.fixture
def of_a_kind(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Sequence[Event]]:
    """Return a function that makes `folder` a run of the kind `slope`, which this process does not know."""
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    folder.job.write_text(dump_yaml(LINE))

    def make(kind_class: str) -> Sequence[Event]:
        (started,) = begun(folder, None)
        return [dataclasses.replace(started, kind="slope", kind_class=kind_class)]  # type: ignore[call-arg]

    return make


def test_a_kind_that_is_unknown_here_is_imported_from_the_folder_of_its_job(
    folder: RunFolder, of_a_kind: Callable[[str], Sequence[Event]]
) -> None:
    (folder.path.parent / "line_of_a_job.py").write_text("from tests.trainers.slope import Slope\n")
    try:
        job = job_of(folder, of_a_kind("line_of_a_job:Slope"))
        assert (job.kind.name, job.max_epochs) == ("slope", 3)
        assert kinds.ENTRIES["slope"].sections == ("slope",)
    finally:
        sys.modules.pop("line_of_a_job", None)


@pytest.mark.parametrize(
    ("kind_class", "reason"),
    [
        ("line_of_no_job:Slope", "line_of_no_job:Slope: there is no module 'line_of_no_job'"),
        ("tests.trainers.slope:Slop", "module 'tests.trainers.slope' has no 'Slop'"),
        ("tests.trainers.own_rows:OwnRows", "is not the class of the kind 'slope'"),
        ("__main__", "is no reference"),
    ],
)
def test_a_run_whose_kind_is_missing_is_not_damaged(
    folder: RunFolder, of_a_kind: Callable[[str], Sequence[Event]], kind_class: str, reason: str
) -> None:
    with pytest.raises(UnknownKind, match=re.escape(reason)) as caught:
        job_of(folder, of_a_kind(kind_class))
    assert str(caught.value).startswith(f"{folder.path}: its trials are of the kind of training 'slope'")
    assert "install its package, or call this in the folder of its module, or register" in str(caught.value)


def test_a_journal_without_the_metric_of_the_job_is_damage(made: RunFolder) -> None:
    lines, place = [], START
    for line in made.journal.read_bytes().splitlines():
        text = line.split(b" ", 3)[3].replace(b'"val_loss"', b'"loss"')
        encoded, place = encode_line(text, place)
        lines.append(encoded)
    made.journal.write_bytes(b"".join(lines))
    with pytest.raises(DamagedRun, match=r"an epoch has no 'val_loss', by which job.yaml selects the winner"):
        read_run(made)
