"""A journal that another version wrote to: it is refused, and neither cut nor called damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_jobs.later import EARLIER, LATER, PLACES, SAID, SAID_OF_EARLIER, write_later
from tune_jobs import open_run, resume
from tune_jobs.driver.repair import repair
from tune_jobs.errors import EarlierVersion, LaterVersion
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, in_use, read_journal, refuse_other_version
from tune_jobs.versions import versions_here

MakeRun = Callable[..., RunFolder]

READERS: dict[str, Callable[[Path], object]] = {
    "open_run": open_run,
    "resume": resume,
    "repair": repair,
    "repair --cut": lambda path: repair(path, cut=True),
    "Journal": lambda path: Journal(RunFolder(path).journal),
    "read_journal": lambda path: read_journal(RunFolder(path).journal),
    "refuse_other_version": lambda path: refuse_other_version(RunFolder(path).journal),
}


@pytest.fixture
def folder(make_run: MakeRun) -> RunFolder:
    return make_run([{"losses": [2.0, 1.0]}, {"losses": [3.0]}])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", LATER)
def test_every_reader_refuses_it_and_leaves_the_run_as_it_is(
    folder: RunFolder, kind: str, place: str
) -> None:
    number = write_later(folder.journal, LATER[kind], place)
    before = contents(folder)
    for read in READERS.values():
        with pytest.raises(LaterVersion, match=f"line {number} of its journal {SAID}") as caught:
            read(folder.path)
        assert "damaged" not in str(caught.value)
        assert "`pip install --upgrade tune-jobs`" in str(caught.value)
    assert contents(folder) == before
    assert not in_use(folder.journal), "a refusal keeps no lock"


def test_the_version_that_wrote_it_is_named_if_the_journal_says_it(folder: RunFolder) -> None:
    write_later(folder.journal, LATER["a higher format"])
    here = versions_here(["tune-jobs"])["tune-jobs"]
    with pytest.raises(LaterVersion) as caught:
        open_run(folder.path)
    assert str(caught.value) == (
        f"{folder.path}: line {len(folder.journal.read_bytes().splitlines())} of its journal {SAID} 9.1.0, and this "
        f"version ({here}) does not know what it says; nothing was changed. Use the later version for this run: "
        "`pip install --upgrade tune-jobs`"
    )


@pytest.mark.parametrize("lines", [1, 5, None])
def test_every_reader_refuses_a_journal_before_format_1_and_advises_the_version_that_wrote_it(
    folder: RunFolder, lines: int | None
) -> None:
    folder.journal.write_bytes(b"".join(EARLIER.splitlines(keepends=True)[:lines]))
    before = contents(folder)
    for read in READERS.values():
        with pytest.raises(EarlierVersion, match=f"line 1 of its journal {SAID_OF_EARLIER}") as caught:
            read(folder.path)
        assert "Use the version that wrote it" in str(caught.value)
        assert "pip" not in str(caught.value)
    assert contents(folder) == before


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
