import json
import math
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from benchmarks.digits_search import (
    EQUAL,
    OURS,
    RAY,
    TITLES,
    SearchRun,
    comparison,
    equal_trials,
    filled_in_line,
    job_of,
    loss_table,
    marks,
    parse_arguments,
    run_of_journal,
    search_run,
    to_json,
)
from tune_jobs.record.events import EpochsReported, Event, TrialCreated

ROOT = Path(__file__).parents[2]
ONE_WORKER = """
from benchmarks import digits_search
digits_search.WORKERS = 1
digits_search.main()
"""
"""The command with one worker: a second one takes longer to start than all trials take."""


def found(
    seed: int, epochs: int, *improvements: tuple[int, float], trials: int = 48, filled_in: int = 0
) -> SearchRun:
    return SearchRun(
        seed=seed,
        trials=trials,
        epochs=epochs,
        improvements=improvements,
        seconds=2.0 + seed,
        filled_in=filled_in,
    )


RESULTS = {
    OURS: [found(0, 120, (1, 0.9), (60, 0.3)), found(1, 128, (1, 0.8), (110, 0.2))],
    RAY: [found(0, 300, (1, 0.7), (150, 0.3)), found(1, 310, (1, 0.6), (101, 0.5))],
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_journal_gives_the_epochs_of_all_trials_in_the_order_of_reports() -> None:
    events: list[Event] = [
        *(
            TrialCreated(trial_id=trial, number=0, configuration={}, filled_in=trial == "0001")
            for trial in ("0000", "0001")
        ),
        *(
            EpochsReported(
                time=time, trial_id=trial, results=[{"val_loss": loss} for loss in losses], worker="w:1"
            )
            for time, trial, losses in [
                (10.0, "0000", [math.nan]),
                (11.0, "0001", [0.5, 0.6]),
                (12.5, "0000", [0.4, 0.7]),
                (13.0, "0000", []),  # a failure report without an epoch is no report of epochs
            ]
        ),
    ]

    run = run_of_journal(3, events)

    assert (run.seed, run.trials, run.epochs, run.seconds) == (3, 2, 5, 2.5)
    assert run.filled_in == 1
    assert run.improvements == [(2, 0.5), (4, 0.4)]
    assert [run.loss(epochs) for epochs in (1, 3, 5, 99)] == [math.inf, 0.5, 0.4, 0.4]
    assert run.final_loss == 0.4


def test_a_run_without_an_epoch_took_no_time_and_found_nothing() -> None:
    run = search_run(0, 1, [], [])

    assert (run.epochs, run.seconds, run.final_loss) == (0, 0.0, math.inf)


def test_marks_double_up_to_the_longest_run() -> None:
    assert marks(RESULTS) == [50, 100, 200]


def test_the_table_has_medians_and_quartiles_and_says_what_has_ended() -> None:
    header, _, ours, other = loss_table(RESULTS).splitlines()

    assert cells(header)[1:6] == ["50", "100", "200", "all", "trials"]
    assert cells(ours) == [
        TITLES[OURS],
        "0.8500 (0.8250 to 0.8750)",
        "0.5500 (0.4250 to 0.6750)",
        "ended",
        "0.2500 (0.2250 to 0.2750)",
        "48",
        "124 (120 to 128)",
        "2.5 (2.0 to 3.0)",
    ]
    assert cells(other)[3:5] == ["0.4000 (0.3500 to 0.4500)"] * 2


def test_runs_are_compared_seed_by_seed_at_the_epoch_at_which_ours_ended() -> None:
    text = comparison(RESULTS)

    # 0.7 and 0.3 after 120 epochs; 0.5 and 0.2 after 128.
    assert "higher by 0.3500 ± 0.0500, and higher in 2 of 2." in text
    assert "in 1 of 2 runs, after 150 (150 to 150) epochs." in text
    assert "more trials" not in text


def test_the_side_with_more_trials_is_compared_at_the_end() -> None:
    equal = [found(0, 298, (1, 0.1), trials=120), found(1, 305, (1, 0.2), trials=121)]

    assert "the loss of Ray Tune is higher by 0.2500 ± 0.0500." in comparison({**RESULTS, EQUAL: equal})


def test_the_trials_that_were_filled_in_are_a_share_of_each_side_of_ours() -> None:
    ours = [found(seed, 120, (1, 0.9), filled_in=filled_in) for seed, filled_in in enumerate((0, 6, 12))]
    equal = [found(0, 300, (1, 0.9), trials=100, filled_in=1)]

    text = filled_in_line({OURS: ours, RAY: RESULTS[RAY], EQUAL: equal})

    assert text.endswith(f"{TITLES[OURS]}: 12.5 (0.0 to 25.0); {TITLES[EQUAL]}: 1.0 (1.0 to 1.0).")


def test_one_seed_is_shown_without_an_error() -> None:
    assert "higher by 0.4000, and" in comparison({side: runs[:1] for side, runs in RESULTS.items()})


def test_ours_has_as_many_trials_as_the_other_s_epochs_buy_and_never_fewer() -> None:
    ours = found(0, 128, (1, 1.0))

    assert equal_trials(ours, found(0, 256, (1, 1.0))) == 96
    assert equal_trials(ours, found(0, 100, (1, 1.0))) == 48


def test_the_job_is_the_example_with_a_seed_and_two_workers(tmp_path: Path) -> None:
    job = job_of(7, 12, tmp_path)

    assert (job.seed, job.trials, job.resources.max_concurrent) == (7, 12, 2)
    assert job.kind.data.split.seed == 0
    assert parse_arguments([]).trials == job_of(7, 48, tmp_path).trials == 48


def test_further_arguments_are_keys_of_the_job(tmp_path: Path) -> None:
    overrides = parse_arguments(["--seeds", "2", "--search.method", "random"]).overrides

    assert job_of(0, 5, tmp_path, overrides).search.method == "random"


def test_the_json_holds_every_run_with_its_curve() -> None:
    read = json.loads(to_json(RESULTS))

    assert list(read["sides"]) == [OURS, RAY]
    assert read["sides"][OURS]["runs"][1]["improvements"] == [[1, 0.8], [110, 0.2]]


@pytest.mark.parametrize(
    "given",
    [
        ["--seeds", "0"],
        ["--trials", "few"],
        ["--out", "none/such/file.json"],
        ["--search.method", "best"],
        ["--search.method"],
    ],
)
def test_wrong_arguments_are_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(given)
    assert caught.value.code == 2


def test_ray_s_side_asks_for_the_parameters_that_apply_and_for_no_others(tmp_path: Path) -> None:
    from benchmarks.digits_ray import propose

    space = job_of(0, 1, tmp_path).search.space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    proposed = [propose(space, study.ask())["configuration"] for _ in range(40)]

    assert all(not space.problems(configuration) for configuration in proposed)
    assert {"momentum" in configuration for configuration in proposed} == {True, False}
    assert {tuple(configuration["model.hidden"]) for configuration in proposed} == {(32,), (64,), (128,)}


@pytest.mark.slow
def test_the_command_runs_both_sides_and_writes_their_curves(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_WORKER, "--seeds", "1", "--trials", "9", "--out", tmp_path / "out.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f"| {TITLES[OURS]} | " in done.stdout
    assert "Filled in, % of the trials" in done.stdout
    sides = json.loads((tmp_path / "out.json").read_text())["sides"]
    for side in (OURS, RAY):
        (run,) = sides[side]["runs"]
        assert run["trials"] == 9
        assert 9 <= run["epochs"] <= 9 * 27
        assert run["improvements"][-1][1] < run["improvements"][0][1]
    # Of nine, three continue from epoch 2 to 6, and one to 18.
    assert sides[OURS]["runs"][0]["epochs"] == 9 * 2 + 3 * 4 + 1 * 12
