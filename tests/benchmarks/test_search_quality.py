import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contestants import ROWS
from benchmarks.search_quality import (
    Assignment,
    Outcome,
    difference_table,
    group,
    main,
    marks_within,
    mean_table,
    parse_arguments,
    run_replay,
    seed_of,
    task_table,
    to_json,
)
from tests.simulation.curve_tables import Table
from tests.simulation.made_up_tables import MakeTable

SCRIPT = Path(main.__code__.co_filename)
SHARED = Path(__file__).parents[3] / "shared" / "data" / "curves"


def outcome(row: str, task: str, seed: int, regrets: dict[int, float], test: float = 0.5) -> Outcome:
    return Outcome(
        row=row,
        task=task,
        seed=seed,
        steps=200,
        trials=70,
        improvements=tuple(regrets.items()),
        test_loss=10 * test,
        test_regret=test,
        seconds=2.0,
    )


OUTCOMES = [
    outcome("random", "b", 1, {1: 1.0, 101: 0.7}, test=0.3),
    outcome("random", "b", 0, {1: 1.0, 100: 0.5}, test=0.1),
    outcome("random", "a", 1, {1: 0.2}),
    outcome("random", "a", 0, {1: 0.2}),
    *(outcome("ray", task, seed, {1: 0.9}) for task in "ab" for seed in (0, 1)),
]
RESULTS = group(OUTCOMES, ["ray", "random"], ["a", "b"])


def save(table: Table, folder: Path) -> None:
    np.savez(
        folder / f"{table.name}.npz",
        hp=table.points,
        hp_names=np.array(table.parameters),
        train=table.train,
        valid=table.valid,
        test=table.test,
    )


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_regret_is_that_of_the_last_improvement() -> None:
    found = outcome("ray", "a", 0, {1: 3.0, 3: 2.0, 5: 1.0})

    assert [found.regret(step) for step in (1, 2, 3, 4, 5, 1_000)] == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]


def test_tasks_and_replays_have_different_seeds() -> None:
    assert len({seed_of(task, number) for task in ("a", "b") for number in range(10)}) == 20
    assert seed_of("a", 0) == seed_of("a", 0)


def test_regret_is_shown_at_the_marks_within_the_budget_and_at_its_end() -> None:
    assert marks_within(1_000) == [100, 200, 400, 700, 1_000]
    assert marks_within(250) == [100, 200, 250]
    assert marks_within(50) == [50]


def test_outcomes_are_in_the_order_of_rows_tasks_and_seeds() -> None:
    assert list(RESULTS) == ["ray", "random"]
    assert [one.seed for one in RESULTS["random"]["b"]] == [0, 1]


def test_the_table_of_means_has_a_row_each_with_standard_errors() -> None:
    lines = mean_table(RESULTS, steps=200).splitlines()

    assert cells(lines[0])[1:] == ["100", "200", "test", "trials", "s a replay"]
    # At 100: 0.2 and 0.75 in the two tasks; the error of the second is 0.25, and of the mean half of it.
    assert cells(lines[3]) == [
        *(ROWS["random"].title, "0.475 ± 0.125", "0.400 ± 0.050", "0.350 ± 0.050", "70", "2.0"),
    ]


def test_one_seed_is_shown_without_an_error() -> None:
    one_seed = group([one for one in OUTCOMES if one.seed == 0], ["ray", "random"], ["a", "b"])

    assert cells(mean_table(one_seed, steps=200).splitlines()[3])[1] == "0.350"


def test_differences_to_the_first_row_are_taken_seed_by_seed() -> None:
    lines = difference_table(RESULTS, steps=200).splitlines()

    assert len(lines) == 3
    assert cells(lines[2])[:2] == [ROWS["random"].title, "-0.425 ± 0.125"]


def test_the_table_of_tasks_shows_regret_and_test_loss() -> None:
    lines = task_table(RESULTS, steps=200).splitlines()

    assert cells(lines[3]) == ["b", "0.900 / 5.0000", "0.600 / 2.0000"]


def test_the_json_holds_every_replay_with_its_regret_over_steps() -> None:
    read = json.loads(to_json(RESULTS, steps=200))

    assert read["steps"] == 200
    assert read["rows"]["random"]["title"] == ROWS["random"].title
    assert read["rows"]["random"]["tasks"]["b"][0]["improvements"] == [[1, 1.0], [100, 0.5]]


def test_quick_lowers_what_is_not_given() -> None:
    full, quick = (parse_arguments(["--curves", "x", *more]) for more in ([], ["--quick"]))

    assert (full.steps, full.seeds, full.rows) == (1_000, 10, list(ROWS))
    assert (quick.steps, quick.seeds) == (200, 1)
    assert parse_arguments(["--curves", "x", "--quick", "--seeds", "3"]).seeds == 3


@pytest.mark.parametrize("given", [["--seeds", "0"], ["--rows", "best"], ["--steps", "many"]])
def test_wrong_arguments_are_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--curves", "x", *given])
    assert caught.value.code == 2


def test_tables_that_cannot_be_used_end_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^--curves: .*: no such folder; give one that holds"):
        main(["--curves", str(tmp_path / "none")])
    alike = np.ones((4, 3))
    save(Table("alike", ("x",), np.arange(4.0)[:, None], alike, alike, alike), tmp_path)
    with pytest.raises(SystemExit, match=r"^--curves: alike: half of the configurations or more are as good"):
        main(["--curves", str(tmp_path)])


def test_results_that_could_not_be_written_are_refused_before_anything_is_replayed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--curves", "x", "--out", str(tmp_path / "none" / "out.json")])
    assert caught.value.code == 2


def test_a_replay_says_what_was_selected_and_can_be_repeated(tmp_path: Path, make_table: MakeTable) -> None:
    table = make_table()
    save(table, tmp_path)
    assignment = Assignment(row="random", table=tmp_path / "toy.npz", seed=0, steps=100, workers=4)

    first, again = run_replay(assignment), run_replay(assignment)

    assert replace(first, seconds=0) == replace(again, seconds=0)
    assert (first.steps, first.row, first.task) == (100, "random", "toy")
    assert first.test_loss in table.test
    assert run_replay(replace(assignment, seed=1)).improvements != first.improvements


@pytest.mark.slow
def test_the_command_prints_every_row_and_writes_the_results(tmp_path: Path, make_table: MakeTable) -> None:
    for name in ("toy", "other", "third"):
        save(make_table(name), tmp_path)

    done = subprocess.run(
        [
            *(sys.executable, SCRIPT, "--curves", tmp_path, "--quick", "--steps", "110"),
            *("--out", tmp_path / "out.json"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""
    for row in ROWS.values():
        assert sum(line.startswith(f"| {row.title} | ") for line in done.stdout.splitlines()) >= 1
    assert [line for line in done.stdout.splitlines() if line.startswith("| toy | ")] == []  # third by name
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert list(rows) == list(ROWS)
    assert all(list(of_row["tasks"]) == ["other", "third"] for of_row in rows.values())


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the tables of real curves are not there ({SHARED})")
@pytest.mark.parametrize("row", ["ray", "random"])
def test_real_curves_are_replayed(row: str) -> None:
    table = sorted(SHARED.glob("*.npz"))[0]

    found = run_replay(Assignment(row=row, table=table, seed=0, steps=100, workers=4))

    assert found.steps == 100
    assert 0 <= found.regret(100) < found.regret(1)
    assert math.isfinite(found.test_loss)
