"""The list of parts whose files are complete."""

from pathlib import Path

from tune_jobs.tracking.finished_parts import FILE, FinishedParts


def test_a_part_is_closed_up_to_the_end_that_was_noted_and_for_no_other(tmp_path: Path) -> None:
    closed = FinishedParts(tmp_path / "made")
    closed.add("0001", 1795600372.2199523)
    for parts in (closed, FinishedParts(tmp_path / "made")):
        assert parts.holds("0001", 1795600372.2199523)
        assert not parts.holds("0001", 1795600373.0)
        assert not parts.holds("0001", None)
        assert not parts.holds("0002", 1795600372.2199523)


def test_a_part_that_ends_once_more_is_noted_once_more(tmp_path: Path) -> None:
    closed = FinishedParts(tmp_path)
    closed.add("0001", 1.0)
    closed.add("0001", 2.0)
    for parts in (closed, FinishedParts(tmp_path)):
        assert parts.holds("0001", 2.0)
        assert not parts.holds("0001", 1.0)


def test_a_line_that_was_torn_costs_its_own_part_alone(tmp_path: Path) -> None:
    closed = FinishedParts(tmp_path)
    closed.add("0001", 1.0)
    closed.add("0002", 2.0)
    file = tmp_path / FILE
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        torn = FinishedParts(tmp_path)
        assert not torn.holds("0002", 2.0)
        torn.add("0003", 3.0)
        again = FinishedParts(tmp_path)
        assert again.holds("0003", 3.0)
        assert again.holds("0001", 1.0) == torn.holds("0001", 1.0)
