"""What is said of a run whose journal another version of tune-jobs has written to."""

from collections.abc import Callable
from pathlib import Path

from tests.messages.conftest import Say
from tests.messages.snapshots import check
from tests.tune_jobs.conftest import make_run
from tests.tune_jobs.later import EARLIER, LATER, write_later
from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.record.codes import Cause, Ending
from tune_jobs.record.folder import RunFolder

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


def test_the_sentences_of_ends() -> None:
    check("ends", {f"{type(code).__name__} {code}": code.sentence for code in (*Cause, *Ending)}, {})
