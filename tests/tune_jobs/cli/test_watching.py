"""Watching a run from another process: what is read and when it ends. The run folder stays unchanged."""

import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.processes import PATIENCE, running, wait_until
from tune_jobs.cli import watching
from tune_jobs.cli.main import main
from tune_jobs.cli.watching import JournalFollower, Restarted, Watched, Watching, watch
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.events import (
    RunEnded,
    RunResumed,
    RunStarted,
)
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal

MakeRun = Callable[..., RunFolder]
TRIALS = [{"losses": [0.5, 0.25]}, {"losses": [0.4], "status": Status.STOPPED_EARLY}]
HERE = f"{socket.gethostname()}:1"


@pytest.fixture
def journal(make_run: MakeRun) -> Path:
    return make_run(TRIALS).journal


# The journal as it grows


def test_a_follower_reads_what_is_new(journal: Path) -> None:
    events = read_journal(journal)
    follower = JournalFollower(journal)
    assert follower.read() == events
    assert follower.read() == []
    with Journal(journal) as own:
        own.append(event := RunResumed(trials=2, versions={}, notices=[]))
    assert follower.read() == [event]


def test_wherever_a_line_is_torn_the_follower_waits_for_the_rest(journal: Path, tmp_path: Path) -> None:
    content, events = journal.read_bytes(), read_journal(journal)
    growing = tmp_path / "events.jsonl"
    growing.touch()
    follower, read = JournalFollower(growing), []
    for size in range(0, len(content) + 1, 7):
        growing.write_bytes(content[:size])
        read += follower.read() or []
    growing.write_bytes(content)
    assert read + (follower.read() or []) == events


def test_a_torn_line_that_the_writer_replaces_is_read_once(journal: Path) -> None:
    content, events = journal.read_bytes(), read_journal(journal)
    follower = JournalFollower(journal)
    journal.write_bytes(content[:-9])
    assert follower.read() == events[:-1]
    with Journal(journal) as own:  # cuts it
        own.append(events[-1])
    assert follower.read() == events[-1:]


def test_events_before_a_damaged_line_are_shown_before_the_damage(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3].replace(b"0", b"1"), *lines[4:]]))
    follower = JournalFollower(journal)
    assert len(follower.read() or []) == 3
    with pytest.raises(watching.DamagedRun):
        follower.read()
    journal.write_bytes(b"".join(lines))  # it was half of a line from another machine
    assert len(follower.read() or []) == len(lines) - 3


def test_a_journal_that_was_cut_is_read_again(journal: Path) -> None:
    watched = Watching(RunFolder(journal.parent.parent))
    assert watched.poll()
    os.truncate(journal, 100)
    with pytest.raises(Restarted):
        watched.poll()


# How a watching ends


def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def texts(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def by(driver: str, folder: RunFolder, *, age: float = 1e6) -> None:
    """Write a journal of `driver` whose last change is `age` seconds ago."""
    events = read_journal(folder.journal)
    later = time.time() - age - events[-1].time
    folder.journal.unlink()
    with Journal(folder.journal) as journal:
        for event in events:
            moved = replace(event, time=event.time + later)
            journal.append(replace(moved, driver=driver) if isinstance(moved, RunStarted) else moved)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SECONDS_BETWEEN_READS", 0.02)
    monkeypatch.setattr(watching, "SECONDS_TO_SETTLE", 0.2)


@pytest.mark.parametrize("driver", [HERE, "elsewhere:1"])
@pytest.mark.parametrize("ending", list(Ending))
def test_a_run_that_has_ended_is_not_waited_for(make_run: MakeRun, ending: Ending, driver: str) -> None:
    folder, out = make_run(TRIALS, ending=ending), console()
    by(driver, folder)
    assert watch(folder, out) is Watched.ENDED
    assert texts(out) == "", "what is printed of an ended run comes from who prints it for `run`"


def test_a_run_whose_process_is_gone_was_killed(make_run: MakeRun) -> None:
    folder = make_run([*TRIALS, {"losses": [0.3], "status": Status.RUNNING}], ending=None)
    by(HERE, folder)
    assert watch(folder, console()) is Watched.KILLED


def test_a_run_that_was_killed_while_it_was_concluded_was_killed(make_run: MakeRun) -> None:
    folder = make_run(TRIALS, ending=None)
    by(HERE, folder)
    with Journal(folder.journal) as journal:
        journal.append(RunEnded(ending=Ending.ALL_TRIALS))
    assert watch(folder, console()) is Watched.KILLED


def test_a_process_that_is_gone_for_a_moment_is_not_taken_for_killed(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SECONDS_TO_SETTLE", PATIENCE)
    folder = make_run(TRIALS, ending=None)
    by(HERE, folder, age=0)
    watched = Watching(folder)
    watched.poll()
    assert watched.verdict() is None, "it may just be about to be resumed"


def test_a_process_that_was_at_work_just_now_may_have_ended_the_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last events of a process may become visible after its end."""
    folder = make_run(TRIALS, ending=None)
    by(HERE, folder)
    watched = Watching(folder)
    watched.poll()
    with Journal(folder.journal):
        assert watched.verdict() is None
    monkeypatch.setattr(watching, "SECONDS_TO_SETTLE", PATIENCE)
    assert watched.verdict() is None
    monkeypatch.setattr(watching, "SECONDS_TO_SETTLE", 0.0)
    wait_until(lambda: watched.verdict() is Watched.KILLED)


def test_a_watcher_of_another_machine_says_how_long_nothing_arrived(make_run: MakeRun) -> None:
    folder = make_run(TRIALS, ending=None)
    by("elsewhere:1", folder, age=185)
    watched = Watching(folder)
    watched.poll()
    assert watched.verdict() is None, "the lock of another machine may not be seen"
    assert watched.notice() == (
        "no event for 3 min 0 s. If the run's process (elsewhere:1) was killed, "
        f"continue it with `tune-jobs resume {folder.path}`"
    )
    with Journal(folder.journal):
        assert watched.notice() == "", "the lock is seen after all"
    by("elsewhere:1", folder, age=5)
    watched = Watching(folder)
    watched.poll()
    assert watched.notice() == ""


def test_lasting_damage_is_reported_with_the_cure(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SECONDS_TO_SETTLE", PATIENCE)
    folder = make_run(TRIALS)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join([*lines[:3], b"damaged\n", *lines[4:]]))
    watched = Watching(folder)
    assert len(watched.poll()) == 3
    assert watched.poll() == [], "it may be half written"
    monkeypatch.setattr(watching, "SECONDS_TO_SETTLE", 0.0)
    with pytest.raises(watching.DamagedRun, match=r"line 4 of .* is damaged; .*tune-jobs repair .* --cut"):
        watched.poll()


# From another process, as a user calls it

DRIVER = """
import sys, time
from pathlib import Path
from tune_jobs.record.events import *
from tune_jobs.record.journal import Journal
from tune_jobs.driver.preparation import this_process
path, step = Path(sys.argv[1]), Path(sys.argv[2])
def epochs(trial_id, *losses):
    return EpochsReported(trial_id=trial_id, worker="node:1", results=[
        {"epoch": epoch, "train_loss": loss, "val_loss": loss, "lr": 0.1, "seconds": 0.1}
        for epoch, loss in enumerate(losses, start=1)])
with Journal(path) as journal:
    journal.append(RunResumed(trials=3, versions={}, driver=this_process(), notices=["a [notice]"]))
    journal.append(TrialCreated(trial_id="0002", number=2, configuration={"lr": 0.3}))
    journal.append(TrialStarted(trial_id="0002"))
    journal.append(epochs("0002", 0.9, 0.125))
    step.touch()
    while step.exists():
        time.sleep(0.02)
    journal.append(TrialEnded(trial_id="0002", status=Status.FAILED, cause=Cause.TRAINING_FAILED, reason="too [hot]"))
    journal.append(RunEnded(ending=Ending.INTERRUPTED))
    journal.append(WinnerSelected(winner=None))
"""
"""Program of a run without training: it writes to the journal, waits for the removal of a file, and ends."""


@contextmanager
def driving(folder: RunFolder, step: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Continue the run of `folder` in a separate process until the file `step` is removed."""
    code = textwrap.dedent(DRIVER)
    with running([sys.executable, "-c", code, str(folder.journal), str(step)]) as process:
        wait_until(step.exists, process=process)
        yield process


@contextmanager
def watcher(folder: RunFolder, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start `tune-jobs watch` in a separate process and return when it has begun to print."""
    command = [sys.executable, "-m", "tune_jobs", "watch", str(folder.path)]
    with (
        output.open("wb") as file,
        running(command, stdout=file, stderr=subprocess.PIPE) as process,
    ):
        wait_until(lambda: output.stat().st_size or process.poll() is not None)
        yield process


def files(folder: RunFolder) -> set[str]:
    return {str(path.relative_to(folder.path)) for path in folder.path.rglob("*")}


@pytest.fixture
def interrupted(make_run: MakeRun) -> RunFolder:
    return make_run(TRIALS, ending=Ending.INTERRUPTED)


@pytest.fixture
def step(tmp_path: Path) -> Path:
    return tmp_path / "step"


@pytest.mark.slow
def test_a_run_is_watched_to_its_end(interrupted: RunFolder, step: Path, tmp_path: Path) -> None:
    before = files(interrupted)
    with driving(interrupted, step), watcher(interrupted, tmp_path / "out") as process:
        first = (tmp_path / "out").read_text()
        step.unlink()
        _, errors = process.communicate(timeout=PATIENCE)
    lines = (tmp_path / "out").read_text().splitlines()
    assert f"{interrupted.path.name}: " in first
    assert (
        "2 of 3 trials ended (1 running, 1 completed, 1 stopped early); best val_loss 0.125 (trial 0002"
        in first
    )
    assert "trial 0002 failed: too [hot]" in lines
    assert lines[-1] == f"run: {interrupted.path}"
    assert any(line.startswith("trial  status") for line in lines)
    assert process.returncode == 130
    assert errors.decode().startswith(
        "tune-jobs: interrupted; everything reported so far is saved. Continue with `tune-jobs resume "
    )
    assert files(interrupted) == before


@pytest.mark.slow
def test_ctrl_c_ends_the_watching_alone(interrupted: RunFolder, step: Path, tmp_path: Path) -> None:
    with driving(interrupted, step) as run, watcher(interrupted, tmp_path / "out") as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert run.poll() is None
    assert (process.returncode, errors) == (0, b"")
    assert (tmp_path / "out").read_text().splitlines()[-2:] == [
        f"no longer watched; the run continues: tune-jobs watch {interrupted.path}",
        f"run: {interrupted.path}",
    ]


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_is_watched(interrupted: RunFolder, step: Path, tmp_path: Path) -> None:
    with driving(interrupted, step) as run, watcher(interrupted, tmp_path / "out") as process:
        run.kill()
        _, errors = process.communicate(timeout=PATIENCE)
    lines = (tmp_path / "out").read_text().splitlines()
    assert process.returncode == 130
    assert errors.decode() == (
        "tune-jobs: the run's process was killed; everything reported so far is saved. Continue with "
        f"`tune-jobs resume {interrupted.path}`\n"
    )
    assert lines[-1] == f"run: {interrupted.path}"
    assert any("its process was killed" in line for line in lines)


@pytest.mark.slow
def test_a_run_that_is_resumed_while_it_is_watched_is_followed_on(
    interrupted: RunFolder, step: Path, tmp_path: Path
) -> None:
    """The second driver waits for the first one's lock: the watcher gives a dead run a few seconds, and no more."""
    loaded, second_step = tmp_path / "loaded", tmp_path / "second step"
    waiting = (
        f"import pathlib\nimport tune_jobs.record.journal as journal_module\n"
        f"journal_module.SECONDS_FOR_THE_LOCK = {PATIENCE}\n"
        f"pathlib.Path({str(loaded)!r}).touch()\nwith Journal(path) as journal:"
    )
    code = textwrap.dedent(DRIVER).replace('"0002"', '"0003"').replace("number=2", "number=3")
    code = code.replace("trials=3", "trials=4").replace("with Journal(path) as journal:", waiting)
    again = [sys.executable, "-c", code, str(interrupted.journal), str(second_step)]
    with (
        driving(interrupted, step) as first,
        watcher(interrupted, tmp_path / "out") as process,
        running(again) as second,
    ):
        wait_until(loaded.exists, "the second driver", process=second)
        first.kill()
        first.wait()
        wait_until(second_step.exists, "the second driver's events", process=second)
        second_step.unlink()
        process.communicate(timeout=PATIENCE)
    assert "trial 0003 failed: too [hot]" in (tmp_path / "out").read_text()
    assert process.returncode == 130, "the resumed run was interrupted, too"


def test_a_run_that_has_ended_is_shown_at_once_as_run_does(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(TRIALS)
    by(HERE, folder)
    with watcher(folder, tmp_path / "out") as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, b"")
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[0].startswith("trial  status")
    assert lines[-2:] == [f"report: tune-jobs report {folder.path}", f"run: {folder.path}"]


@pytest.mark.slow
def test_a_damaged_journal_is_one_message(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(TRIALS)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join([*lines[:3], b"damaged\n", *lines[4:]]))
    with watcher(folder, tmp_path / "out") as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.decode().startswith(f"tune-jobs: {folder.journal}: line 4 of ")
    assert errors.count(b"\n") == 1


@pytest.mark.slow
def test_a_damaged_journal_of_a_killed_run_is_the_message_and_not_that_it_was_killed(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run(TRIALS, ending=None)
    first, *others = read_journal(folder.journal)
    folder.journal.unlink()
    with Journal(folder.journal) as journal:
        for event in (replace(first, driver=HERE), *others):
            journal.append(event)
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    folder.journal.write_bytes(b"".join([*lines[:3], b"damaged\n", *lines[4:]]))
    with watcher(folder, tmp_path / "out") as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.decode().startswith(f"tune-jobs: {folder.journal}: line 4 of ")


@pytest.mark.parametrize("command", ["watch", "dashboard"])
def test_an_unknown_option_is_refused(
    make_run: MakeRun, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(make_run(TRIALS).path), "--search.trials", "3"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"--search.trials  not understood; see `tune-jobs {command} --help`" in captured.err


def test_a_folder_that_is_no_run_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"tune-jobs: {tmp_path}: not a run folder (it has no journal); "
        f"`tune-jobs list {tmp_path}` shows the runs in it\n"
    )


def test_a_run_that_was_killed_before_its_first_event(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.journal.touch()
    assert main(["watch", str(folder.path)]) == 1
    errors = capsys.readouterr().err
    assert "does not begin with the start of a run" in errors
    assert "run its job again" in errors
