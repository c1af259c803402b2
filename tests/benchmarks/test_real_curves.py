from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_curves import (
    TASKS,
    draw,
    main,
    make_table,
    parse_arguments,
    rank_correlations,
    report_lines,
    save_table,
    train_curve,
)
from tests.simulation.curve_tables import Table, load_table
from tests.simulation.made_up_tables import MakeTable
from tune_jobs.search_spaces import Choice
from tune_jobs.trainers.data.prepare import prepare_data
from tune_jobs.trainers.pytorch.plan import plan_training
from tune_jobs.trainers.pytorch.settings import TrainingSettings
from tune_jobs.trainers.pytorch.trainer import Trainer
from tune_jobs.trainers.settings import ScoreSettings


def small_table(name: str) -> Table:
    with ThreadPoolExecutor(1) as pool:
        return make_table(name, 4, 2, pool)


@pytest.mark.parametrize("name", TASKS)
def test_each_task_gives_a_table_of_curves_that_is_the_same_again(name: str, tmp_path: Path) -> None:
    save_table(small_table(name), tmp_path)

    table, again = load_table(tmp_path / f"{name}.npz"), small_table(name)

    assert table.parameters == TASKS[name].space.order
    assert (table.configurations, table.steps) == (4, 2)
    np.testing.assert_array_equal(table.points, again.points)
    for part in ("train", "valid", "test"):
        values = getattr(table, part)
        np.testing.assert_array_equal(values, getattr(again, part).astype(np.float32))
        assert len(np.unique(values[:, 0])) == 4
    assert not np.isin(table.test, table.valid).any()


def test_the_curve_is_that_of_the_trainer_alone() -> None:
    name, task = "breast_cancer_mlp_sgd", TASKS["breast_cancer_mlp_sgd"]
    configuration = draw(name, 1)[0]
    training = TrainingSettings(max_epochs=3, loss=task.loss, device="cpu")
    data = prepare_data(task.data, task.loss, Path()).for_trials()
    plan = plan_training(
        task.model, training, ScoreSettings(metric="val_loss"), {**task.fixed, **configuration}, seed=0
    )

    train, valid, _ = train_curve(name, 3, configuration)

    alone = list(Trainer(plan, data, threads=1).epochs())
    assert train.tolist() == [result.metrics["train_loss"] for result in alone]
    assert valid.tolist() == [result.metrics["val_loss"] for result in alone]


def test_nothing_follows_a_divergence() -> None:
    configuration = draw("diabetes_mlp_adam", 1)[0] | {"lr": 1e30}

    losses = train_curve("diabetes_mlp_adam", 3, configuration)

    assert losses.shape == (3, 3)
    assert np.isnan(losses).all()


def test_more_configurations_begin_with_the_same_ones_and_tasks_have_their_own() -> None:
    assert draw("digits_mlp_adam", 5)[:3] == draw("digits_mlp_adam", 3)
    assert draw("digits_mlp_adam", 1) != draw("digits_cnn_adam", 1)


@pytest.mark.parametrize("name", TASKS)
def test_configurations_are_points_of_a_space_of_numbers(name: str) -> None:
    space = TASKS[name].space

    assert not any(isinstance(parameter.domain, Choice) for parameter in space.parameters.values())
    assert not any(space.problems(configuration) for configuration in draw(name, 50))


def test_an_early_ranking_is_compared_with_that_by_the_lowest_loss() -> None:
    valid = np.array([[1.0, 3.0, 1.0], [2.0, 2.0, 0.9], [3.0, 1.0, 2.0], [np.nan, np.nan, np.nan]])
    table = Table("toy", ("lr",), np.arange(4.0)[:, None], valid, valid, valid)

    # Lowest: 1, 0.9, 1, and none.
    first, second = rank_correlations(table, [1, 2])

    assert first == pytest.approx(np.corrcoef([1, 2, 3, 4], [2.5, 1, 2.5, 4])[0, 1])
    assert second == pytest.approx(np.corrcoef([3, 2, 1, 4], [2.5, 1, 2.5, 4])[0, 1])


def test_the_report_has_a_line_a_table_and_no_epoch_that_was_not_trained(make_table: MakeTable) -> None:
    table = make_table("toy", configurations=20, steps=3, diverging=5)

    *_, head, _, line = report_lines(iter([(table, 90.0)]), 3)

    assert head == "| Task | epoch 1 | epoch 2 | epoch 3 | diverged | minutes |"
    assert line.startswith("| toy | ")
    assert line.endswith(" | 25% | 1.5 |")


@pytest.mark.slow
def test_the_command_writes_the_tables_that_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "curves"

    main(
        [*("--out", str(folder), "--configurations", "4", "--epochs", "2"), *("--tasks", "wine_mlp_rmsprop")]
    )

    assert [path.name for path in folder.iterdir()] == ["wine_mlp_rmsprop.npz"]
    np.testing.assert_array_equal(
        load_table(folder / "wine_mlp_rmsprop.npz").valid,
        small_table("wine_mlp_rmsprop").valid.astype(np.float32),
    )
    assert "| wine_mlp_rmsprop | " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--tasks", "mnist"], ["--configurations", "1"], ["--epochs", "0"], ["--processes", "0"]]
)
def test_a_wrong_command_line_makes_nothing(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--out", str(tmp_path / "curves"), *arguments])

    assert not (tmp_path / "curves").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SystemExit, match=r"--out: .*file/curves cannot be made"):
        main(["--out", str(tmp_path / "file" / "curves")])
