"""A copy follows its run while the run is watched, and reads new objects alone."""

from collections.abc import Callable

import pytest

from tests.tune_jobs.remote.copies import Machine, created, keep, machine, on_the_first
from tune_jobs.location import Location
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.remote import segments
from tune_jobs.remote.following import CopyFollower, keep_up_to_date
from tune_jobs.remote.mirror import mirrored
from tune_jobs.remote.segments import replace_journal
from tune_jobs.remote.store import Store
from tune_jobs.remote.working_copy import pull

__all__ = ["machine", "on_the_first"]


@pytest.fixture
def copy(make_run: Callable[..., RunFolder], s3: Location) -> RunFolder:
    """Return this machine's copy of a run that has ended."""
    return keep(make_run([{"losses": [2.0, 1.0]}, {"losses": [3.0]}]), s3)


@pytest.mark.slow
def test_a_follower_sees_the_run_grow(copy: RunFolder, s3: Location, machine: Machine) -> None:
    with machine("second"):
        there = pull(s3 / copy.name)
        with Journal(copy.journal) as journal, mirrored(copy, journal), keep_up_to_date(there):
            journal.append(created(2))
            while len(read_journal(there.journal)) < len(read_journal(copy.journal)):
                pass


@pytest.mark.slow
def test_a_follower_reads_new_objects_alone(
    copy: RunFolder, s3: Location, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)
    asked: list[str] = []
    get, objects = Store.get, Store.objects

    with machine("second"):
        there = pull(s3 / copy.name)
        follower = CopyFollower(there, Store(s3 / copy.name))
        follower.update()

        def grow(*numbers: int) -> None:
            """Append events. Each becomes a separate object."""
            with Journal(copy.journal) as journal:
                for number in numbers:
                    with mirrored(copy, journal):
                        journal.append(created(number))

        def names_asked_for() -> list[str]:
            asked.clear()
            with monkeypatch.context() as patch:
                patch.setattr(Store, "get", lambda self, name: (asked.append(name), get(self, name))[1])
                patch.setattr(
                    Store, "objects", lambda self, under="": (asked.append(under), objects(self, under))[1]
                )
                follower.update()
            assert there.journal.read_bytes() == copy.journal.read_bytes()
            return asked

        assert names_asked_for() == ["journal"]
        before = copy.journal.stat().st_size
        grow(2)
        assert names_asked_for() == ["journal", segments.segment_name(2, before)]
        grow(3, 4)
        assert len(names_asked_for()) == 3
        there.journal.write_bytes(there.journal.read_bytes()[:before])  # as `repair --cut` may, in between
        grow(5)
        assert len(names_asked_for()) > 4, "all is read"
        then = there.journal.read_bytes()
        replace_journal(Store(s3 / copy.name), then[:before])
        copy.journal.write_bytes(then[:before])
        grow(6)
        names_asked_for()
        (aside,) = there.journal.parent.glob("*elsewhere*")
        assert aside.read_bytes() == then


def test_a_follower_has_all_files_at_the_end(copy: RunFolder, s3: Location, machine: Machine) -> None:
    with machine("second"):
        there = pull(s3 / copy.name)
        with keep_up_to_date(there):
            Store(s3 / copy.name).put("report.html", b"new")
        assert there.report.read_bytes() == b"new"
