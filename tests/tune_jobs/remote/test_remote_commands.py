"""Every command that takes RUN also takes `s3://bucket/prefix/run` and shows this place."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.trainers.slope import slope_registered
from tests.tune_jobs.later import LATER, SAID, line_of
from tests.tune_jobs.remote.copies import Machine, keep, machine, on_the_first
from tests.tune_jobs.remote.object_stores import CREDENTIALS, Proxy, environment
from tune_jobs import open_run
from tune_jobs.cli.main import main
from tune_jobs.location import Location
from tune_jobs.record.codes import Status
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal
from tune_jobs.remote.mirror import mirrored
from tune_jobs.remote.segments import read_from, segment_name, segments
from tune_jobs.remote.store import Store
from tune_jobs.remote.working_copy import open_folder

__all__ = ["machine", "on_the_first"]

Call = Callable[..., tuple[int, list[str], str]]
JOB = """
name: tiny
data: {source: linear_gaussian, arguments: {n: 60}}
model: {name: linear}
training: {max_epochs: 3, loss: mse}
search: {space: {lr: {low: 1e-3, high: 0.5, log: true}}, trials: 3}
resources: {max_concurrent: 1}
"""
LINE = """
name: tiny
slope: {epochs: 3}
search: {space: {rate: {low: 1e-3, high: 0.5, log: true}}, method: random, trials: 3}
selection: {metric: error}
resources: {max_concurrent: 1}
"""
"""A job of the small kind: the kind of training does not matter to the commands."""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run_command(*arguments: object) -> tuple[int, list[str], str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, [line.rstrip() for line in captured.out.splitlines()], captured.err

    return run_command


@pytest.fixture
def run(make_run: Callable[..., RunFolder], s3: Location) -> Location:
    """Return a run that has ended on another machine."""
    return s3 / keep(make_run([{"losses": [2.0, 1.0]}, {"losses": [3.0]}]), s3).name


@pytest.fixture
def unfinished(make_run: Callable[..., RunFolder], s3: Location) -> Location:
    folder = make_run([{"losses": [2.0]}, {"losses": [1.0], "status": Status.RUNNING}], ending=None)
    return s3 / keep(folder, s3).name


def test_show_names_the_place_and_not_the_copy(
    call: Call, run: Location, tmp_path: Path, machine: Machine
) -> None:
    with machine("second"):
        code, output, errors = call("show", run)
    assert (code, errors) == (0, "")
    assert output[-3:] == [
        f"holdout: sealed; `tune-jobs test {run}` opens it, once",
        f"report: tune-jobs report {run}",
        f"run: {run}",
    ]
    assert str(tmp_path) not in "\n".join(output)


def test_list_shows_all_runs_of_a_place(
    call: Call, run: Location, unfinished: Location, s3: Location, machine: Machine
) -> None:
    with machine("second"):
        code, output, _ = call("list", s3)
        assert code == 0
        assert {run.name, unfinished.name} <= {line.split()[0] for line in output if line}
        assert call("list", s3 / "empty")[:2] == (0, [f"no runs in {s3 / 'empty'}"])
        assert call("list", "s3://no-such-bucket/x")[0] == 2


@pytest.mark.slow
def test_report_repair_and_fetch(
    call: Call, run: Location, tmp_path: Path, machine: Machine, make_run: Callable[..., RunFolder]
) -> None:
    store = Store(run)
    store.put("checkpoints/0000/epoch-000002.pt", b"the winner's")
    store.put("checkpoints/0001/epoch-000001.pt", b"a loser's")
    with machine("second"):
        assert call("report", run, "--output", tmp_path / "r.html")[0] == 0
        assert (tmp_path / "r.html").is_file()
        code, output, _ = call("fetch", run, "--output", tmp_path / "fetched")
        assert (code, output[-1]) == (0, f"run: {tmp_path / 'fetched' / run.name}")
    fetched = tmp_path / "fetched" / run.name
    assert [path.name for path in (fetched / "checkpoints").rglob("*.pt")] == ["epoch-000002.pt"]
    assert open_run(fetched).address == str(fetched)
    store.delete("trials.parquet")
    events = read_from(store).count(b"\n")
    with machine("third"):
        code, output, _ = call("repair", run)
        assert (code, output[0]) == (0, f"journal: {events} events, all intact")
    assert store.get("trials.parquet")


def test_a_run_that_lacks_an_object_is_damaged_in_the_list_and_the_others_are_as_usual(
    call: Call, run: Location, unfinished: Location, s3: Location, machine: Machine
) -> None:
    store = Store(run)
    (segment,) = segments(store)
    content = store.get(segment.name)
    end = content.index(b"\n") + 1
    store.put(segment_name(1, end), content[end:])
    store.delete(segment.name)
    for name in ("first", "second"):  # with an old copy, and without
        with machine(name):
            code, output, _ = call("list", s3)
            rows = {line.split()[0]: line.split()[1] for line in output[1:]}
            assert (code, rows) == (0, {run.name: "damaged", unfinished.name: "killed"})
            code, _, errors = call("show", run)
            assert code == 1
            assert f"lacks its bytes 0 to {end - 1}" in errors


Change = Callable[[bytes, bytes], list[tuple[int, int, bytes]]]
SEGMENTS: dict[str, Change] = {
    "of another run": lambda own, other: [(1, 0, own[: middle(own)]), (1, middle(own), other[middle(own) :])],
    "joined": lambda own, other: [(1, 0, own), (2, len(own), other)],
    "joined to itself": lambda own, other: [(1, 0, own), (2, len(own), own)],
    "doubled": lambda own, other: [(1, 0, own[: middle(own)]), (1, middle(own), own[: middle(own)])],
    "swapped": lambda own, other: [
        (1, 0, own[middle(own) :]), (1, len(own) - middle(own), own[: middle(own)]),
    ],
    "of a later term that lacks lines": lambda own, other: [(1, 0, own), (2, middle(own), own[middle(own) + 200 :])],
}  # fmt: skip
"""Segments of a journal, as term, first byte and content."""


def middle(content: bytes) -> int:
    """Return the end of a line in the middle."""
    return content.index(b"\n", len(content) // 2) + 1


@pytest.mark.slow
@pytest.mark.parametrize("how", SEGMENTS)
def test_the_chain_of_lines_holds_across_the_objects_of_a_journal(
    call: Call, run: Location, unfinished: Location, s3: Location, machine: Machine, how: str
) -> None:
    store = Store(run)
    own, other = read_from(store), read_from(Store(unfinished))
    for segment in segments(store):
        store.delete(segment.name)
    for term, start, content in SEGMENTS[how](own, other):
        store.put(segment_name(term, start), content)
    with machine("second"):
        for command in ("show", "report", "repair", "test", "resume"):
            code, _, errors = call(command, run)
            assert code == 1, command
            assert re.search(rf"{run}/journal/events.jsonl: line \d+ of \d+ ", errors), command
        rows = {line.split()[0]: line.split()[1] for line in call("list", s3)[1][1:]}
        assert rows == {run.name: "damaged", unfinished.name: "killed"}
        assert call("repair", run, "--cut")[0] == (0 if how != "swapped" else 1)
        if how != "swapped":  # then no line can be kept
            assert own.startswith(read_from(store))
            assert call("show", run)[0] == 0


def test_a_damaged_journal_is_cut_in_the_store_too(call: Call, run: Location, machine: Machine) -> None:
    store = Store(run)
    (segment,) = segments(store)
    lines = store.get(segment.name).splitlines(keepends=True)
    store.put(segment.name, b"".join([*lines[:3], b"0" + lines[3], *lines[4:]]))
    with machine("second"):
        code, _, errors = call("show", run)
        assert code == 1
        assert errors.startswith(f"tune-jobs: {run}/journal/events.jsonl: line 4 of {len(lines)} is damaged")
        assert f"tune-jobs repair {run} --cut" in errors
        code, _, errors = call("repair", run, "--cut")
        assert (code, errors) == (0, "")
    assert read_from(store) == b"".join(lines[:3])
    with machine("third"):
        assert call("show", run)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show", "test", "report", "resume", "repair", "repair --cut", "fetch"])
def test_a_run_of_a_later_version_is_refused_and_stays_in_the_store_as_it_is(
    call: Call, run: Location, machine: Machine, command: str
) -> None:
    store = Store(run)
    (segment,) = segments(store)
    content = store.get(segment.name)
    store.put(segment.name, content + line_of(LATER["an unknown event"], content.splitlines(keepends=True)))
    before = {one.name: store.get(one.name) for one in store.objects()}
    name, *options = command.split()
    with machine("second"):
        code, output, errors = call(name, run, *options)
    assert (code, output) == (2, [])
    assert SAID in errors
    assert errors.startswith(f"tune-jobs: {run}: line ")
    assert {one.name: store.get(one.name) for one in store.objects()} == before


def test_a_killed_run_and_one_in_progress(
    call: Call, unfinished: Location, s3: Location, machine: Machine
) -> None:
    with machine("second"):
        code, output, _ = call("show", unfinished)
        assert (code, output[-1]) == (0, f"run: {unfinished}")
        assert output[-2].endswith(f"its process was killed; continue with `tune-jobs resume {unfinished}`")
        code, output, errors = call("watch", unfinished)
        assert (code, output[-1]) == (130, f"run: {unfinished}")
        assert f"`tune-jobs resume {unfinished}`" in errors
    folder = open_folder(str(unfinished))
    with Journal(folder.journal) as journal, mirrored(folder, journal), machine("second"):
        code, output, _ = call("show", unfinished)
        assert "in progress" in output[-2]
        code, _, errors = call("resume", unfinished)
        assert code == 2
        assert re.match(
            rf"tune-jobs: {unfinished}: another process is at work on this run \(.*:\d+, last seen", errors
        )


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_is_one_message(
    call: Call, run: Location, proxy: Proxy, machine: Machine
) -> None:
    proxy.mode = "down"
    with machine("second"):
        for command in ("show", "test", "resume", "watch", "report"):
            code, output, errors = call(command, run)
            assert (code, output) == (2, []), command
            assert errors == f"tune-jobs: {run}: cannot be read (it cannot be reached at {proxy.address})\n"


def test_a_run_is_refused_before_ray_starts_if_the_store_cannot_be_written(
    call: Call, s3: Location, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    code, _, errors = call("run", "job.yaml", "--storage", "s3://no-such-bucket/x")
    assert code == 2
    assert "storage: cannot write to s3://no-such-bucket/x (there is no such bucket)" in errors


@pytest.fixture(scope="module")
def ray_running(s3_address: str, gs_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start one Ray for all runs of this process, with the way to both stores in its environment."""
    from tune_jobs.tuning.ray_session import ray_connection

    ways = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": s3_address,
        "STORAGE_EMULATOR_HOST": gs_address,
        "TUNE_JOBS_CACHE": str(tmp_path_factory.mktemp("workers")),
    }
    with ExitStack() as stack:
        with environment(ways):
            stack.enter_context(ray_connection())
        stack.enter_context(slope_registered())
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_from_run_to_test_on_three_machines(
    call: Call, place: Location, tmp_path: Path, machine: Machine
) -> None:
    """Return a place in a store of Amazon's kind or of Google's."""
    (tmp_path / "job.yaml").write_text(LINE)
    code, output, errors = call("run", "job.yaml", "--storage", place)
    assert (code, errors) == (0, "")
    assert re.fullmatch(rf"run: {place}/tiny-\w+-\w+", output[-1])
    run = output[-1].removeprefix("run: ")
    with machine("second"):
        code, output, errors = call("resume", run)
        assert (code, errors, output[-1]) == (0, "", f"run: {run}")
        assert output[0].startswith("nothing is left to do")
        code, output, _ = call("resume", run, "--search.trials", 5)
        assert (code, output[-1]) == (0, f"run: {run}")
        assert call("watch", run)[0] == 0
        code, output, errors = call("test", run)
        assert (code, errors) == (0, "")
        assert output[-1].startswith("test_error: ")
    with machine("third"):
        assert len(open_run(run).trials) == 5
        code, output, errors = call("test", run)
        assert (code, output) == (3, [])
        assert "were read before" in errors
        assert call("test", run, "--again", "--reason", "to see")[0] == 0
    shown = call("show", run)[1]
    assert any("test" in line and "opened" in line for line in shown), shown
