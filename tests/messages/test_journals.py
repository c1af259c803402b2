"""What is said of a run whose journal another version of tune-jobs, or another program, has written to."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.messages.conftest import Say
from tests.messages.snapshots import check
from tests.tune_jobs.conftest import make_run
from tests.tune_jobs.later import EARLIER, LATER, write_later
from tests.tune_jobs.submission.test_fetching import STRANGE, Sending, packed
from tune_jobs.errors import ClusterError, StorageFailed
from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.record.codes import Cause, Ending
from tune_jobs.record.events import NoticeAdded
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.record.lines import Place, encode_line
from tune_jobs.submission import fetching
from tune_jobs.submission.fetching import fetch_through
from tune_jobs.trainers.errors import TrainerError
from tune_jobs.worker.reporting import numbers_of

__all__ = ["make_run"]


def test_another_version_wrote_it(make_run: Callable[..., RunFolder], say: Say, tmp_path: Path) -> None:
    folder = make_run([{"losses": [2.0, 1.0]}])
    sound = folder.journal.read_bytes()
    write_later(folder.journal, LATER["an unknown event"])
    unnamed = say(f"show {folder.path}")
    write_later(folder.journal, LATER["a higher format"])
    said = {"of an unknown version": unnamed, "of a version that it names": say(f"show {folder.path}")}
    said["in a list"] = say("list runs")
    ledger = folder.holdout / LEDGER
    ledger.parent.mkdir(exist_ok=True)
    folder.journal.write_bytes(sound)
    ledger.write_text('{"number": 1, "time": 1.0, "trial_id": "0000", "reason": null, "fold": 3}\n')
    said["in the ledger of the holdout"] = say(f"show {folder.path}")
    ledger.unlink()
    folder.journal.write_bytes(EARLIER)
    said["of a version before format 1"] = say(f"show {folder.path}")
    said["in a list, before format 1"] = say("list runs")
    check("later_versions", said, {folder.path: "runs/small", tmp_path: "/work", Path(folder.name): "small"})


def test_it_has_lines_that_no_driver_wrote(
    make_run: Callable[..., RunFolder], say: Say, tmp_path: Path
) -> None:
    folder = make_run([{"losses": [2.0, 1.0]}])
    lines = folder.journal.read_bytes().splitlines(keepends=True)
    second = lines[1].split(b" ", 3)[3].rstrip(b"\n")

    def forged(text: bytes) -> list[bytes]:
        return [lines[0], encode_line(text, Place(1, lines[0][:8]))[0]]

    changed = {
        "one is damaged": [lines[0], lines[1][:-3] + b"?}\n", *lines[2:]],
        "one is lost": [lines[0], *lines[2:]],
        "one was replaced": [lines[0], encode_line(second, Place(1, b"0123abcd"))[0]],
        "a trial is created again": [*lines[:2], encode_line(second, Place(2, lines[1][:8]))[0]],
        "a trial is unknown": forged(
            second.replace(b"trial_created", b"trial_started").split(b',"number"')[0] + b"}"
        ),
        "a value is out of range": forged(second.replace(b'"number":0', b'"number":-1')),
        "a trial does not fit the search space": forged(second.replace(b'"lr":0.1', b'"lr":7.5')),
        "a value is missing": forged(second.replace(b'"number":0,', b"")),
        "a key is there twice": forged(second.replace(b'"number":0', b'"number":0,"number":0')),
        "it is nested too deep": forged(b"[" * 100_000),
    }
    said = {}
    for name, content in changed.items():
        folder.journal.write_bytes(b"".join(content))
        said[name] = say(f"show {folder.path}")
    folder.journal.write_bytes(b"".join(lines))
    job_file = folder.job.read_text()
    folder.job.write_text(job_file.replace("trials: 6", "trials: 7"))
    said["the job has more trials"] = say(f"show {folder.path}")
    folder.job.write_text(job_file.replace("metric: val_loss", "metric: val_accuracy"))
    said["the job selects by another metric"] = say(f"show {folder.path}")
    check(
        "damaged_journals", said, {folder.path: "runs/small", tmp_path: "/work", Path(folder.name): "small"}
    )


def test_another_program_changed_it_while_the_run_was_at_work(tmp_path: Path) -> None:
    def replace(path: Path) -> None:
        path.with_name("new").write_bytes(path.read_bytes())
        path.with_name("new").replace(path)

    def extend(path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    changes: dict[str, Callable[[Path], object]] = {
        "replaced": replace,
        "shortened": lambda path: os.truncate(path, 3),
        "extended": extend,
        "removed": Path.unlink,
        "moved": lambda path: path.parents[1].rename(tmp_path / "elsewhere"),
    }
    said = {}
    for name, change in changes.items():
        path = tmp_path / name / "journal" / "events.jsonl"
        path.parent.mkdir(parents=True)
        with Journal(path) as journal:
            journal.append(NoticeAdded(text="before"))
            change(path)
            with pytest.raises(StorageFailed) as caught:
                journal.append(NoticeAdded(text="after"))
        said[name] = re.sub(r"kept-\d{8}T\d{6}Z", "kept-TIME", str(caught.value))
    check("changed_journals", said, {tmp_path: "/work"})


def test_a_fetched_archive_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS_TO_BE_NOTICED", 0.0)
    said = {}
    for name, strange in {**STRANGE, "no archive": None}.items():
        with pytest.raises(ClusterError) as caught:
            fetch_through(
                Sending(b"no archive" if strange is None else packed(strange)), "/shared/run", tmp_path
            )
        said[name] = str(caught.value)
    check("fetched_archives", said, {})


def test_a_metric_is_no_number() -> None:
    said = {}
    for value in (None, "low", 10**30, "x" * 200):
        with pytest.raises(TrainerError) as caught:
            numbers_of({"epoch": 3, "val_loss": 0.5, "auc": value, "seconds": 1.0})
        said[repr(value)[:20]] = str(caught.value)
    check("wrong_metrics", said, {})


def test_the_sentences_of_ends() -> None:
    check("ends", {f"{type(code).__name__} {code}": code.sentence for code in (*Cause, *Ending)}, {})
