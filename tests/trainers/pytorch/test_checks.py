"""The facts that the PyTorch kind knows about a job before the run starts."""

from pathlib import Path

import pytest

from tune_jobs.trainers.data.settings import DataSettings
from tune_jobs.trainers.facts import Metric, Searched
from tune_jobs.trainers.kinds import kind_of
from tune_jobs.trainers.pytorch.checks import (
    check_configuration,
    facts,
    is_parameter,
    metrics,
    parameter_names,
    unused_parameters,
)
from tune_jobs.trainers.pytorch.settings import BuiltInMetric, ModelSettings, TrainingSettings

DATA = DataSettings(source="tables/rows.csv", target="y")
MLP, TRAINING = ModelSettings(name="mlp"), TrainingSettings(loss="mse", metrics=("mae", "r2"))


def test_a_configuration_is_judged_by_names_and_values():
    configuration = {
        "lr": 0.0,
        "model.hidden": [8, -1],
        "model.width": 3,
        "training.batching": "random",
        "momentum": 0.5,
        "learning_rate": 1,
    }
    found = check_configuration(MLP, TRAINING, configuration)
    assert [name for name, _ in found] == [
        "lr",
        "model.hidden",
        "model.width",
        "training.batching",
        "learning_rate",
    ]
    assert check_configuration(MLP, TRAINING, {"lr": 0.1, "model.hidden": [8]}) == []


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn"])
def test_every_name_that_is_called_valid_is_taken(model: str):
    settings = ModelSettings(name=model)
    names = parameter_names(settings)
    assert len(set(names)) == len(names)
    found = check_configuration(settings, TRAINING, dict.fromkeys(names, object()))
    assert not [message for _, message in found if "unknown" in message]


def test_a_parameter_that_an_optimizer_does_not_use_is_noticed():
    space = {
        "optimizer": Searched(values=("sgd", "adam")),
        "momentum": Searched(values=None),
        "beta1": Searched(values=None, depends_on=("optimizer",)),
        "max_iter": Searched(values=(3,)),
    }
    assert unused_parameters(space) == [
        "search.space.momentum does nothing for adam; add `when: {optimizer: [sgd]}`",
        "search.space.max_iter does nothing for adam, sgd; "
        "leave it out, or search optimizer with lbfgs among its values",
    ]
    assert unused_parameters({"momentum": Searched(values=(0.5,))}) == []  # the default optimizer is sgd
    assert unused_parameters({"beta2": Searched(values=(0.9,))}) == [
        "search.space.beta2 does nothing for sgd; "
        "leave it out, or search optimizer with adam or adamw among its values"
    ]


def test_an_argument_of_an_optimizer_by_reference_needs_one():
    own = "torch.optim:NAdam"
    betas = {"optimizer.betas": Searched(values=([0.9, 0.99],))}
    both = {"optimizer": Searched(values=("adam", own)), **betas}
    assert unused_parameters(both) == [
        "search.space.optimizer.betas does nothing for adam; add `when: {optimizer: [torch.optim:NAdam]}`"
    ]
    assert unused_parameters({"optimizer": Searched(values=(own,)), **betas}) == []
    assert unused_parameters(betas) == [
        "search.space.optimizer.betas does nothing for sgd; leave it out, or search optimizer with "
        "`package.module:function` among its values"
    ]


@pytest.mark.parametrize(
    ("loss", "name", "message"),
    [
        ("mine:loss", "loss.anything", None),
        ("cross_entropy", "loss.label_smoothing", None),
        ("huber", "loss.delta", None),
        ("huber", "loss.dleta", "loss huber has no argument 'dleta'; valid: delta; did you mean 'delta'?"),
        ("mse", "loss.delta", "loss mse has no argument 'delta'; valid: none"),
        ("mse", "optimizer.betas", None),
        ("mse", "training.schedule.arguments.gamma", None),
        (
            "mse",
            "training.loss_arguments",
            "cannot be searched: trials with different loss_arguments cannot be compared",
        ),
    ],
)
def test_arguments_of_losses_optimizers_and_schedules_are_parameters(
    loss: str, name: str, message: str | None
):
    found = check_configuration(MLP, TrainingSettings(loss=loss), {name: 0.5})
    assert found == ([] if message is None else [(name, message)])


def test_arguments_of_a_transform_are_parameters_if_there_is_one():
    window = {"data.window": 3}
    assert check_configuration(MLP, TRAINING, window, transform="mine:windows") == []
    assert check_configuration(MLP, TRAINING, window) == [
        ("data.window", "unknown parameter; it would be an argument of data.transform, not given")
    ]
    assert check_configuration(MLP, TRAINING, {"data.target": "y"}, transform="mine:windows") == [
        ("data.target", "cannot be searched: trials with different rows cannot be compared")
    ]
    assert is_parameter("data.window")
    assert not is_parameter("data.split.seed")


def test_metrics_have_directions_and_best_values_if_these_are_known():
    assert metrics(TRAINING) == [
        Metric(name="val_loss", direction="min", best=0.0, on_training="train_loss"),
        Metric(name="mae", direction="min", best=0.0),
        Metric(name="r2", direction="max", best=1.0),
    ]
    own = metrics(TrainingSettings(loss="mine:loss", metrics=("mine:gain",)))
    assert own == [
        Metric(name="val_loss", direction="min", on_training="train_loss"),
        Metric(name="gain"),
    ]


@pytest.mark.parametrize("name", BuiltInMetric.__args__)
def test_every_built_in_metric_has_a_direction(name: str):
    losses = ("mse", "cross_entropy")
    known = [m for loss in losses for m in metrics(TrainingSettings(loss=loss, metrics=(name,)))[1:]]
    assert all(metric.direction in {"min", "max"} for metric in known)


def test_facts_of_a_whole_job():
    known = facts({"data": DATA, "model": MLP, "training": TRAINING})
    assert known.title == "mlp on rows.csv"
    assert known.labels == {"data": "tables/rows.csv", "model": "mlp"}
    assert known.files == {"data.source": "tables/rows.csv"}
    assert (known.max_epochs, known.references, known.problems) == (27, [], [])
    assert [name for name, _ in known.missing(Path("/nowhere"))] == ["data.source"]
    assert known.metric("mae").best == 0.0
    assert known.metric("unheard_of") == Metric(name="unheard_of")


def test_facts_are_left_out_if_the_section_that_they_need_is_invalid():
    assert facts({}).metrics == ()
    assert facts({}).check({"learning_rate": 1}) == ()
    without_model = facts({"data": DATA, "training": TRAINING})
    assert without_model.max_epochs == 27
    assert without_model.parameter_names is None
    without_training = facts({"data": DATA, "model": MLP})
    assert without_training.max_epochs is None
    assert without_training.title == "mlp on rows.csv"
    assert without_training.parameter_names == parameter_names(MLP)


def test_functions_of_the_user_are_listed():
    own = facts(
        {
            "data": DataSettings(source="rows:load"),
            "model": ModelSettings(name="nets:net"),
            "training": TrainingSettings(loss="mse", metrics=("mae", "mine:gain")),
        }
    )
    assert own.references == [
        ("data.source", "rows:load"),
        ("model.name", "nets:net"),
        ("training.metrics", "mine:gain"),
    ]
    assert own.files == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.hidden", True),
        ("model.name", False),
        ("model.arguments.hidden", False),
        ("training.loss", False),
    ],
)
def test_arguments_of_the_model_are_parameters(name: str, expected: bool):
    assert is_parameter(name) is expected


def test_the_kind_is_chosen_by_its_sections_and_has_these_facts():
    kind = kind_of(["training"]).load()
    assert kind.facts({"training": TRAINING}).max_epochs == 27
    assert kind.changeable == ("data.source",)
