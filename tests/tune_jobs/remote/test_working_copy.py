"""A copy of a run equals the run on any machine, and data that only one machine has are never lost."""

import fcntl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_jobs.remote.copies import Machine, append, created, keep, machine, on_the_first
from tests.tune_jobs.remote.object_stores import Proxy
from tune_jobs import open_run
from tune_jobs.cli.tables import ending_text
from tune_jobs.errors import RunFolderError
from tune_jobs.location import Location, location_of
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, in_use, read_journal
from tune_jobs.remote import working_copy
from tune_jobs.remote.mirror import mirrored
from tune_jobs.remote.segments import read_from
from tune_jobs.remote.store import Store
from tune_jobs.remote.working_copy import (
    address_text,
    at_work,
    checkpoints_of,
    copies_folder,
    open_folder,
    pull,
    pull_all,
)
from tune_jobs.report.writing import write_report

__all__ = ["machine", "on_the_first"]


@pytest.fixture
def copy(make_run: Callable[..., RunFolder], s3: Location) -> RunFolder:
    """Return this machine's copy of a run that has ended."""
    return keep(make_run([{"losses": [2.0, 1.0]}, {"losses": [3.0]}]), s3)


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {
        path.relative_to(folder.path).as_posix(): path.read_bytes()
        for path in folder.path.rglob("*")
        if path.is_file()
    }


def test_another_machine_has_the_same_files_and_the_test_rows_only_if_it_continues_the_run(
    copy: RunFolder, s3: Location, machine: Machine
) -> None:
    Store(s3 / copy.name).put("submitted/rows.csv", b"1,2")
    with machine("second"):
        there = pull(s3 / copy.name)
        expected = contents(copy)
        rows = expected.pop("holdout/rows.npz")
        assert contents(there) == expected
        pull(s3 / copy.name, without=())
        assert contents(there)["holdout/rows.npz"] == rows
        assert contents(there)["submitted/rows.csv"] == b"1,2"
        assert (there.holdout / "rows.npz").stat().st_mode & 0o777 == 0o400
        assert there.holdout.stat().st_mode & 0o777 == 0o700
        assert there.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_copy_knows_the_place_of_its_run(copy: RunFolder, s3: Location, tmp_path: Path) -> None:
    place = s3 / copy.name
    assert location_of(copy.path) == place
    assert checkpoints_of(copy) == place / "checkpoints"
    assert open_run(copy.path).address == open_run(str(place)).address == str(place)
    assert address_text(f"{copy.journal}: line 3; `tune-jobs resume {copy.path}`") == (
        f"{place}/journal/events.jsonl: line 3; `tune-jobs resume {place}`"
    )
    assert address_text(f"on this machine, in {copy.path}") == f"on this machine, in {copy.path}"
    plain = RunFolder(tmp_path / "runs" / "x")
    assert location_of(plain.path) is None
    assert checkpoints_of(plain) == plain.checkpoints
    assert address_text(str(plain.path)) == str(plain.path)


def test_events_that_a_killed_driver_did_not_send_stay_and_are_sent_later(
    copy: RunFolder, s3: Location
) -> None:
    place = s3 / copy.name
    append(copy, created(2), created(3))
    with copy.journal.open("ab") as file:
        file.write(b"torn")
    pull(place, without=())
    assert read_journal(copy.journal)[-1] == created_at(copy, 3)
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        pass
    assert read_from(Store(place)) == copy.journal.read_bytes()


def created_at(folder: RunFolder, number: int) -> object:
    return next(e for e in read_journal(folder.journal) if getattr(e, "number", None) == number)


def test_a_run_that_was_continued_elsewhere_is_followed(
    copy: RunFolder, s3: Location, machine: Machine
) -> None:
    with machine("second"):
        there = pull(s3 / copy.name, without=())
        with Journal(there.journal) as journal, mirrored(there, journal):
            journal.append(created(2))
            there.report.write_text("new")
            there.selection.write_text("changed")
    with copy.journal.open("ab") as file:
        file.write(b"torn")
    here = pull(s3 / copy.name)
    assert contents(here) == contents(there)
    assert not list(copy.journal.parent.glob("*elsewhere*")), "half a line is nothing to keep"


def test_of_two_histories_that_of_the_store_counts_and_the_other_is_kept_aside(
    copy: RunFolder, s3: Location, machine: Machine
) -> None:
    append(copy, created(7))
    mine = copy.journal.read_bytes()
    with machine("second"):
        there = pull(s3 / copy.name, without=())
        with Journal(there.journal) as journal, mirrored(there, journal):
            journal.append(created(2))
    pull(s3 / copy.name)
    assert copy.journal.read_bytes() == there.journal.read_bytes()
    (aside,) = copy.journal.parent.glob("*elsewhere*")
    assert aside.read_bytes() == mine


def test_a_run_in_progress_on_this_machine_is_left_alone(copy: RunFolder, s3: Location) -> None:
    append(copy, created(2))
    before = contents(copy)
    with Journal(copy.journal):
        assert pull(s3 / copy.name).path == copy.path
        assert contents(copy) == before


def test_whether_a_process_is_at_work_is_known_elsewhere(
    copy: RunFolder, s3: Location, machine: Machine
) -> None:
    with machine("second"):
        there = pull(s3 / copy.name)
    assert not at_work(there)
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        assert at_work(there)
    assert not at_work(there)


def test_a_machine_with_a_wrong_clock_sees_that_the_run_lives(
    make_run: Callable[..., RunFolder], s3: Location, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = keep(make_run([{"losses": [2.0]}], ending=None), s3)
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        true = time.time
        monkeypatch.setattr(time, "time", lambda: true() + 120.0)
        with machine("second"):
            there = open_run(str(s3 / copy.name))
            assert there.in_progress
            assert ending_text(there) == "in progress"
            assert "its process was killed" not in write_report(there.path).read_text()
    with machine("second"):
        assert not open_run(str(s3 / copy.name)).in_progress


def test_a_reader_does_not_look_like_a_process_at_work(
    copy: RunFolder, s3: Location, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine("second"):
        there = pull(s3 / copy.name)
        with Journal(copy.journal) as journal, mirrored(copy, journal):
            journal.append(created(2))
        looks = []
        compare = working_copy._whole_lines_in_common

        def compare_and_check(one: bytes, other: bytes) -> int:
            looks.append(in_use(there.journal))
            with there.journal.open("rb") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and yet no process can begin to write
            return compare(one, other)

        monkeypatch.setattr(working_copy, "_whole_lines_in_common", compare_and_check)
        pull(s3 / copy.name)
        assert looks == [False]
        assert there.journal.read_bytes() == copy.journal.read_bytes()


def test_all_runs_of_a_place(
    copy: RunFolder, make_run: Callable[..., RunFolder], s3: Location, machine: Machine
) -> None:
    other = keep(make_run([{"losses": [1.0]}]), s3)
    Store(s3 / "no-run").put("x", b"1")
    with machine("second"):
        home, damaged = pull_all(s3)
        assert damaged == []
        assert sorted(p.name for p in home.iterdir() if RunFolder(p).is_run) == sorted(
            [copy.name, other.name]
        )


@pytest.mark.slow
def test_no_run_and_no_store(copy: RunFolder, s3: Location, proxy: Proxy, machine: Machine) -> None:
    with pytest.raises(RunFolderError, match=rf"^{s3}/nothing: no run is kept there; `tune-jobs list"):
        open_folder(f"{s3}/nothing")
    with pytest.raises(RunFolderError, match="there is no such bucket"):
        open_folder("s3://no-such-bucket/x/y")
    with pytest.raises(RunFolderError, match="RUN: given 's3://B/x'"):
        open_folder("s3://B/x")
    copies_folder(s3)  # of this server's address
    proxy.mode = "down"
    with machine("second"), pytest.raises(RunFolderError, match=r"cannot be read .it cannot be reached"):
        pull(s3 / copy.name)


def test_a_folder_of_copies_that_cannot_be_made(s3: Location, tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "file").write_text("")
    with machine("file"), pytest.raises(RunFolderError, match="TUNE_JOBS_CACHE"):
        copies_folder(s3)
