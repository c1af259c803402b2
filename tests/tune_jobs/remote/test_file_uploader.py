"""Changed files reach the store, and no file in the store is ahead of the journal there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_jobs.remote.copies import created, keep, machine, on_the_first, wait_for
from tune_jobs.files import replacing
from tune_jobs.location import Location
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.remote import mirror
from tune_jobs.remote.mirror import mirrored
from tune_jobs.remote.segments import read_from
from tune_jobs.remote.store import Store

__all__ = ["machine", "on_the_first"]


@pytest.fixture
def copy(make_run: Callable[..., RunFolder], s3: Location) -> RunFolder:
    """Return this machine's copy of a run in progress."""
    return keep(make_run([{"losses": [2.0]}], ending=None), s3)


def test_no_file_in_the_store_knows_more_than_the_journal(
    copy: RunFolder, s3: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "FILES_SECONDS", 0.0)
    monkeypatch.setattr(mirror, "GROUP_SECONDS", 3600.0)
    store = Store(s3 / copy.name)
    seen: list[tuple[int, int]] = []
    upload = Store.upload

    def put(name: str, number: int) -> None:
        with replacing(copy.path / name) as file:  # the uploader never sees half a file
            file.write(str(number).encode())

    def looked_at(self: Store, file: Path, name: str, size: int | None = None) -> None:
        if name in ("a.txt", "b.txt"):
            seen.append((int(file.read_text()), len(read_from(store))))
        if name == "a.txt":  # while one file is sent, the next one is replaced
            journal.append(created(len(seen)))
            put("b.txt", journal.size)
        upload(self, file, name, size)

    with Journal(copy.journal) as journal, mirrored(copy, journal):
        monkeypatch.setattr(Store, "upload", looked_at)
        put("b.txt", 0)
        put("a.txt", 0)
        wait_for(lambda: bool(seen) and seen[-1][0] > 0)
    assert all(has >= told for told, has in seen)


def test_files_that_changed_are_sent_and_those_that_went_go(copy: RunFolder, s3: Location) -> None:
    store = Store(s3 / copy.name)
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        for name in (
            "report.html",
            "wandb/run-1/a.wandb",
            ".hidden",
            "x.tmp",
            "study.log.lock",
            "ray/x",
            "checkpoints/0/x",
            "submitted/.settings/x.tmp",
            "submitted/words.lock",
            "modules/package/words.lock",
            "submitted/.rows.csv.12.tmp",
            "modules/__pycache__/nets.pyc",
        ):
            (copy.path / name).parent.mkdir(parents=True, exist_ok=True)
            (copy.path / name).write_text(name)
        (copy.path / "wandb" / "latest-run").symlink_to("run-1")
        (copy.path / "dangling.lock").symlink_to("nothing")
    names = {one.name for one in store.objects()}
    assert {"report.html", "wandb/run-1/a.wandb"} <= names
    theirs = {name for name in names if name.startswith(("submitted/", "modules/"))}
    assert theirs == {"submitted/.settings/x.tmp", "submitted/words.lock", "modules/package/words.lock"}
    assert not [
        n
        for n in names - theirs
        if "hidden" in n or "tmp" in n or "lock" in n or n.startswith(("ray", "checkp", "lease"))
    ]
    with Journal(copy.journal) as journal, mirrored(copy, journal):
        copy.report.write_text("other")
        (copy.path / "wandb/run-1/a.wandb").unlink()
    assert store.get("report.html") == b"other"
    assert "wandb/run-1/a.wandb" not in {one.name for one in store.objects()}
