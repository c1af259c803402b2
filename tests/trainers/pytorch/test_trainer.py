import itertools

import numpy as np
import pytest
import torch

from tune_jobs.trainers.data import Rows, TrainingData
from tune_jobs.trainers.errors import CheckpointError, Diverged, ModelError
from tune_jobs.trainers.interface import StopReason
from tune_jobs.trainers.pytorch.best import best_evaluator, best_model
from tune_jobs.trainers.pytorch.trainer import Trainer


def linear_data(make_info, x, y, validation=None, **info):
    rows = Rows(np.asarray(x, np.float32), np.asarray(y, np.float32))
    return TrainingData(rows, validation or rows, make_info("regression", rows.x.shape[1:], **info))


def test_train_loss_is_the_mean_over_samples_with_a_short_last_batch(make_plan, make_info):
    # Batches of 2, 2 and 1 row. A rate of nearly 0 keeps the weights, so all samples meet the same model.
    data = linear_data(make_info, [[0.0]] * 5, [[1.0], [1.0], [2.0], [2.0], [10.0]])
    plan = make_plan(
        model="linear", arguments={"bias": False}, batch_size=2, lr=1e-30, training={"batching": "sequential"}
    )
    result = next(Trainer(plan, data, threads=1).epochs())
    assert result.metrics["train_loss"] == pytest.approx(
        (1 + 1 + 4 + 4 + 100) / 5
    )  # the mean of batches would be 35
    assert result.metrics["val_loss"] == pytest.approx(22.0)


def test_epochs_do_sgd_as_computed_by_hand(make_plan, make_info):
    data = linear_data(make_info, [[1.0], [2.0], [3.0]], [[2.0], [3.0], [5.0]])
    plan = make_plan(
        model="linear",
        arguments={"bias": False},
        batch_size=2,
        lr=0.1,
        momentum=0.5,
        training={"batching": "sequential", "max_epochs": 2},
    )
    trainer = Trainer(plan, data, threads=1)
    w, velocity = trainer.model[0].weight.item(), 0.0
    for result in trainer.epochs():
        losses = 0.0
        for batch in ([(1, 2), (2, 3)], [(3, 5)]):
            losses += sum((w * x - y) ** 2 for x, y in batch)
            gradient = sum(2 * x * (w * x - y) for x, y in batch) / len(batch)
            velocity = 0.5 * velocity + gradient
            w -= 0.1 * velocity
        assert result.metrics["train_loss"] == pytest.approx(losses / 3, rel=1e-4)
        assert trainer.model[0].weight.item() == pytest.approx(w, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_gradients_are_clipped_to_the_norm(make_plan, make_info, optimizer):
    data = linear_data(make_info, [[30.0, 40.0]], [[1000.0]])
    plan = make_plan(
        model="linear",
        arguments={"bias": False},
        optimizer=optimizer,
        lr=1.0,
        max_iter=1,
        training={"clip_grad_norm": 0.25, "max_epochs": 1},
    )
    trainer = Trainer(plan, data, threads=1)
    before = trainer.model[0].weight.detach().clone()
    list(trainer.epochs())
    step = trainer.model[0].weight.detach() - before
    assert step.flatten().tolist() == pytest.approx([0.15, 0.2], rel=1e-3)


def test_lbfgs_decays_weights(make_plan, make_info):
    data = linear_data(make_info, [[0.0]], [[0.0]])  # the loss has no gradient: only the decay is left
    plan = make_plan(
        model="linear", arguments={"bias": False}, optimizer="lbfgs", lr=0.5, max_iter=1, weight_decay=0.1
    )
    trainer = Trainer(plan, data, threads=1)
    before = trainer.model[0].weight.item()
    next(trainer.epochs())
    # The first step of L-BFGS is lr * min(1, 1 / |g|) * g.
    gradient = 0.1 * before
    assert trainer.model[0].weight.item() == pytest.approx(
        before - 0.5 * min(1, 1 / abs(gradient)) * gradient
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lbfgs"])
def test_linear_regression_finds_the_coefficients_that_made_the_data(make_plan, make_info, optimizer):
    generator = np.random.default_rng(0)
    truth = np.array([2.0, -1.0, 0.5])
    x = generator.normal(size=(400, 3))
    y = x @ truth[:, None] + 0.01 * generator.normal(size=(400, 1))
    data = linear_data(make_info, x, y, truth=tuple(truth))
    plan = make_plan(
        model="linear",
        metrics=["param_error"],
        optimizer=optimizer,
        lr=0.5 if optimizer == "lbfgs" else 0.05,
        batch_size=50,
        training={"max_epochs": 40},
    )
    last = list(Trainer(plan, data, threads=1).epochs())[-1]
    assert last.metrics["param_error"] < 0.01


@pytest.mark.parametrize("batching", ["shuffle", "replacement", "sequential"])
def test_a_batch_size_of_all_rows_or_more_is_full_descent_whatever_the_batching(
    make_data, make_plan, batching
):
    def losses(batch_size, how):
        plan = make_plan(batch_size=batch_size, training={"batching": how})
        return [result.metrics["train_loss"] for result in Trainer(plan, make_data(), threads=1).epochs()]

    assert losses(21, batching) == losses(1000, batching) == losses("full", "sequential")


def test_best_weights_are_those_of_the_scoring_epoch_and_stay_while_training_continues(
    make_plan, make_data, user_code
):
    # The score is 1, 3, NaN, 3, 2: epoch 2 is best, epoch 4 only equals it, and NaN never is.
    plan = make_plan(
        metrics=[f"{user_code}:scripted"],
        score={"metric": "scripted", "mode": "max"},
        lr=0.1,
        training={"max_epochs": 5},
    )
    trainer = Trainer(plan, make_data(), threads=1)
    after_epoch = {}
    for result in trainer.epochs():
        after_epoch[result.epoch] = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    assert (trainer.best.epoch, trainer.best.score) == (2, 3.0)
    for name, value in trainer.best_weights.items():
        assert torch.equal(value, after_epoch[2][name])
        assert not torch.equal(value, after_epoch[5][name])


def test_the_first_of_equal_epochs_is_best(make_plan, make_data):
    trainer = Trainer(make_plan(lr=1e-30), make_data(), threads=1)
    assert len({result.metrics["val_loss"] for result in trainer.epochs()}) == 1
    assert trainer.best.epoch == 1


def test_a_model_made_in_evaluation_mode_is_trained_in_training_mode(make_plan, make_data, user_code):
    trainer = Trainer(make_plan(model=f"{user_code}:Restless", batch_size=7), make_data(rows=21), threads=1)
    trainer.model.modes.clear()
    next(trainer.epochs())
    assert trainer.model.modes == [True, True, True, False]


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_a_model_may_train_on_a_tensor_that_it_kept_from_an_evaluation(
    make_plan, make_data, user_code, optimizer
):
    plan = make_plan(model=f"{user_code}:Caching", optimizer=optimizer)
    assert len(list(Trainer(plan, make_data(), threads=1).epochs())) == 4


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_model_in_double_precision_trains_on_rows_in_double_precision(
    make_plan, make_data, user_code, loss, optimizer
):
    data = make_data("classification" if loss == "cross_entropy" else "regression")
    plan = make_plan(loss, model=f"{user_code}:double", optimizer=optimizer)
    trainer = Trainer(plan, data, threads=1)
    results = list(trainer.epochs())
    assert {weight.dtype for weight in trainer.model.state_dict().values()} == {torch.float64}
    single = list(Trainer(make_plan(loss, model="linear", optimizer=optimizer), data, threads=1).epochs())
    for precise, result in zip(results, single, strict=True):
        assert precise.metrics["train_loss"] == pytest.approx(result.metrics["train_loss"], rel=1e-4)
        assert precise.metrics["train_loss"] != result.metrics["train_loss"]
    assert best_evaluator(plan, data.info, trainer.state_dict())(data.validation).metrics[
        "loss"
    ] == pytest.approx(trainer.best.score)


def test_a_model_that_changes_the_default_type_of_its_process_is_refused_each_time(
    make_plan, make_data, user_code
):
    for _ in range(2):
        with pytest.raises(ModelError, match=r"changes PyTorch's default type from float32 to float64"):
            Trainer(make_plan(model=f"{user_code}:defaulting"), make_data(), threads=1)
        assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("loss", ["user_code:Weighted", "huber"])
def test_arguments_of_a_configuration_change_the_loss_of_training_alone(
    make_plan, make_data, user_code, loss
):
    """The validation losses of trials with different arguments can be compared."""
    name = {"user_code:Weighted": "weight", "huber": "delta"}[loss]
    common = {"model": "linear", "arguments": {}, "lr": 1e-30, "training": {"loss_arguments": {name: 0.75}}}
    base = next(Trainer(make_plan(loss, **common), make_data(), threads=1).epochs()).metrics
    changed = make_plan(loss, **common, changes={"loss_arguments": {name: 0.25}})
    trainer = Trainer(changed, make_data(), threads=1)
    found = next(trainer.epochs()).metrics
    assert found["val_loss"] == base["val_loss"]
    assert found["train_loss"] < base["train_loss"]
    evaluated = best_evaluator(changed, make_data().info, trainer.state_dict())(make_data().validation)
    assert evaluated.metrics["loss"] == base["val_loss"]


def test_best_weights_give_the_best_score_again(make_plan, make_data):
    plan, data = (
        make_plan("cross_entropy", metrics=["accuracy"], lr=0.3, optimizer="adam"),
        make_data("classification"),
    )
    trainer = Trainer(plan, data, threads=1)
    results = {result.epoch: result for result in trainer.epochs()}
    evaluation = best_evaluator(plan, data.info, trainer.state_dict())(data.validation)
    best = results[trainer.best.epoch].metrics
    assert evaluation.metrics == {"loss": trainer.best.score, "accuracy": best["accuracy"]}
    assert trainer.best.score == min(result.metrics["val_loss"] for result in results.values())


def test_best_model_is_ready_to_use(make_plan, make_data):
    plan, data = make_plan("binary_cross_entropy"), make_data("binary")
    trainer = Trainer(plan, data, threads=1)
    list(trainer.epochs())
    model = best_model(plan, data.info, trainer.state_dict())
    assert not model.training
    assert model(torch.from_numpy(data.validation.x)).shape == (11, 1)
    with pytest.raises(CheckpointError, match="of another plan"):
        best_model(make_plan("binary_cross_entropy", seed=1), data.info, trainer.state_dict())


def test_without_a_score_that_is_a_number_there_is_no_best_epoch(make_plan, make_data, user_code):
    plan = make_plan(metrics=[f"{user_code}:always_nan"], score={"metric": "always_nan"})
    data = make_data()
    trainer = Trainer(plan, data, threads=1)
    list(trainer.epochs())
    assert trainer.stop_reason is StopReason.MAX_EPOCHS
    assert trainer.best is trainer.best_weights is None
    with pytest.raises(CheckpointError, match="no epoch's score was a finite number"):
        best_evaluator(plan, data.info, trainer.state_dict())


def test_a_diverging_training_yields_its_last_epoch_and_then_says_so(make_plan, make_data):
    trainer = Trainer(make_plan(lr=1e30), make_data(), threads=1)
    results = []
    with pytest.raises(
        Diverged, match=r"the training loss is (nan|inf) at epoch \d; lower lr \(it was 1e\+30\)"
    ):
        results.extend(trainer.epochs())
    assert results
    assert results[-1].diverged
    assert not any(result.diverged for result in results[:-1])
    assert trainer.stop_reason is None
    with pytest.raises(Diverged):
        next(trainer.epochs())


def test_a_validation_loss_that_is_no_number_is_named(make_plan, make_data, make_info):
    data = make_data()
    bad = Rows(np.full_like(data.validation.x, np.inf), data.validation.y)
    trainer = Trainer(make_plan(), TrainingData(data.train, bad, data.info), threads=1)
    results = trainer.epochs()
    assert np.isfinite(next(results).metrics["train_loss"])
    with pytest.raises(Diverged, match="the validation loss is nan at epoch 1"):
        next(results)
    assert trainer.best is None


def test_a_loaded_diverged_training_stays_diverged(make_plan, make_data):
    plan, data = make_plan(lr=1e30), make_data()
    trainer = Trainer(plan, data, threads=1)
    with pytest.raises(Diverged):
        list(trainer.epochs())
    other = Trainer(plan, data, threads=1)
    other.load_state_dict(trainer.state_dict())
    with pytest.raises(Diverged):
        list(other.epochs())


def test_outcomes(make_plan, make_data):
    def train(**early_stopping):
        plan = make_plan(lr=1e-9, training={"max_epochs": 5, "early_stopping": early_stopping})
        trainer = Trainer(plan, make_data(), threads=1)
        list(trainer.epochs())
        assert list(trainer.epochs()) == []
        return trainer.epoch, trainer.stop_reason

    assert train() == (5, StopReason.MAX_EPOCHS)
    assert train(patience=2, min_delta=1.0) == (3, StopReason.PATIENCE)
    assert train(threshold=1e6) == (1, StopReason.THRESHOLD)


def test_epochs_continue_after_the_last_one_of_an_earlier_iterator(make_plan, make_data):
    trainer = Trainer(make_plan(), make_data(), threads=1)
    first = list(itertools.islice(trainer.epochs(), 3))
    rest = list(trainer.epochs())
    assert [result.epoch for result in first + rest] == [1, 2, 3, 4]


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
@pytest.mark.parametrize("batch_size", [4, "full"])
def test_a_model_that_works_in_place_leaves_read_only_rows_and_its_curve_alone(
    make_plan, make_data, user_code, optimizer, batch_size
):
    plan = make_plan(
        f"{user_code}:greedy_loss", model=f"{user_code}:InPlace", optimizer=optimizer, batch_size=batch_size
    )

    def train(data):
        return [
            (r.metrics["train_loss"], r.metrics["val_loss"]) for r in Trainer(plan, data, threads=1).epochs()
        ]

    data = make_data()
    arrays = [data.train.x, data.train.y, data.validation.x, data.validation.y]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    read_only = train(data)
    assert all(np.array_equal(array, copy) for array, copy in zip(arrays, before, strict=True))
    assert train(make_data()) == read_only


def test_the_place_of_the_arrays_in_memory_does_not_matter(make_plan, make_data):
    def shifted(rows):
        buffer = np.zeros(rows.x.size + 1, np.float32)
        buffer[1:] = rows.x.ravel()
        return Rows(buffer[1:].reshape(rows.x.shape), rows.y)

    def train(data):
        return [
            (r.metrics["train_loss"], r.metrics["val_loss"])
            for r in Trainer(make_plan(), data, threads=1).epochs()
        ]

    data = make_data()
    assert train(TrainingData(shifted(data.train), shifted(data.validation), data.info)) == train(data)


def test_the_caller_s_threads_are_set_once(make_plan, make_data):
    before = torch.get_num_threads()
    try:
        trainer = Trainer(make_plan(), make_data(), threads=2)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        list(trainer.epochs())
        Trainer(make_plan(), make_data())
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_one_row_batches_and_batch_normalisation_are_refused_at_once(make_plan, make_data):
    plan = make_plan(arguments={"batch_norm": True}, batch_size=5)
    with pytest.raises(ModelError, match="21 training rows in batches of 5 leave one of a single row"):
        Trainer(plan, make_data(rows=21), threads=1)
    list(Trainer(plan, make_data(rows=22), threads=1).epochs())


def test_a_model_whose_output_changes_with_the_batch_is_an_error(make_plan, make_data, user_code):
    plan = make_plan(model=f"{user_code}:Squeezed", batch_size=5)
    with pytest.raises(ModelError, match=r"got outputs \[1\] and targets \[1, 1\]"):
        list(Trainer(plan, make_data(rows=21), threads=1).epochs())


@pytest.mark.parametrize(
    ("loss", "kind", "message"),
    [
        ("cross_entropy", "regression", "learns classes, and the targets are numbers"),
        ("mse", "classification", "loss mse learns numbers, and the targets are classes"),
        (
            "binary_cross_entropy",
            "regression",
            "two classes, or numbers from 0 to 1, and the targets go from -",
        ),
    ],
)
def test_losses_that_do_not_fit_the_targets_are_named(make_plan, make_data, loss, kind, message):
    with pytest.raises(ModelError, match=message):
        Trainer(make_plan(loss), make_data(kind), threads=1)


def test_class_numbers_beyond_the_outputs_are_named(make_plan, make_data):
    data = make_data("classification")
    data.validation.y[0] = 3
    with pytest.raises(ModelError, match="class numbers from 0 to 3, and the model has 3 outputs"):
        Trainer(make_plan("cross_entropy"), data, threads=1)


def test_metrics_and_score_are_checked_together(make_plan, make_data):
    plan = make_plan(metrics=["accuracy"], score={"metric": "mea"})
    with pytest.raises(
        ModelError, match=r"metric accuracy does not fit loss mse.*; the score's metric 'mea'"
    ):
        Trainer(plan, make_data(), threads=1)


def test_a_cnn_learns_from_images(make_plan, make_data):
    plan = make_plan("cross_entropy", model="cnn", arguments={"channels": [4]}, optimizer="adam", lr=0.01)
    results = list(Trainer(plan, make_data("classification", shape=(1, 4, 4), rows=60), threads=1).epochs())
    assert results[-1].metrics["train_loss"] < results[0].metrics["train_loss"]
