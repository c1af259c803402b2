"""One configuration without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.driver.train_alone import split_configuration, train_one
from tune_jobs.errors import JobError, TrainingFailed
from tune_jobs.job.job import Job
from tune_jobs.trainers.errors import TrainerError
from tune_jobs.trainers.interface import EpochResult

MakeSections = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("name", "of_job"),
    [
        ("lr", False),
        ("batch_size", False),
        ("model.hidden", False),
        ("model.deep.er", False),
        ("unheard_of", False),
        ("model.name", True),
        ("model.arguments", True),
        ("model.arguments.hidden", True),
        ("training.max_epochs", True),
        ("training.schedule.name", True),
        ("data.split.seed", True),
        ("seed", True),
        ("name", True),
        ("storage", True),
        ("search.trials", True),
    ],
)
def test_hyperparameters_and_arguments_of_the_model_are_the_configuration(name: str, of_job: bool) -> None:
    assert split_configuration([(name, 1)]) == (({}, [(name, 1)]) if of_job else ({name: 1}, []))


def test_a_configuration_is_trained_as_the_job_says(make_sections: MakeSections) -> None:
    job = Job.from_mapping(make_sections({"training/max_epochs": 3}))
    results = list(train_one(job, {"lr": 0.05, "optimizer": "adam", "batch_size": "full"}))
    assert [result.epoch for result in results] == [1, 2, 3]
    assert list(results[0].to_mapping()) == ["epoch", "train_loss", "val_loss", "mae", "lr", "seconds"]
    assert {result.metrics["lr"] for result in results} == {0.05}
    assert results[-1].metrics["val_loss"] < results[0].metrics["val_loss"]


def test_the_same_configuration_and_seed_give_the_same_epochs_bit_for_bit(
    make_sections: MakeSections,
) -> None:
    def losses(**changes: Any) -> list[float]:
        job = Job.from_mapping(make_sections({"training/max_epochs": 3, **changes}))
        return [result.metrics["val_loss"] for result in train_one(job, {"lr": 0.05, "model.hidden": [5]})]

    assert losses() == losses()
    assert losses(seed=1) != losses()


def test_a_configuration_overrides_the_model_s_arguments(make_sections: MakeSections) -> None:
    def losses(hidden: list[int], configuration: dict[str, Any]) -> list[float]:
        job = Job.from_mapping(make_sections({"training/max_epochs": 2, "model/arguments/hidden": hidden}))
        return [result.metrics["val_loss"] for result in train_one(job, configuration)]

    assert losses([4], {"model.hidden": [5, 5]}) == losses([5, 5], {})
    assert losses([4], {}) != losses([5, 5], {})


def test_all_problems_of_a_configuration_come_at_once_before_any_data_is_read(
    make_sections: MakeSections,
) -> None:
    job = Job.from_mapping(make_sections({"data/source": "no_such_data"}))
    with pytest.raises(JobError) as caught:
        next(
            train_one(
                job, {"lr": -1, "batch_size": "ful", "model.hiden": [3], "learning_rate": 0.1, "mometum": 1}
            )
        )
    lines = str(caught.value).splitlines()
    assert lines[:4] == [
        "the configuration: 5 problems",
        "  lr             given -1; valid: a number above 0",
        "  batch_size     given 'ful'; valid: a whole number or full; did you mean 'full'?",
        "  model.hiden    unknown parameter; did you mean 'model.hidden'?",
    ]
    assert lines[4] == "  learning_rate  unknown parameter; did you mean 'lr'?"
    assert lines[5] == "  mometum        unknown parameter; did you mean 'momentum'?"


def test_a_divergence_is_reported_after_its_epoch(make_sections: MakeSections) -> None:
    job = Job.from_mapping(make_sections({"training/max_epochs": 50, "model": {"name": "linear"}}))
    epochs: list[EpochResult] = []
    with pytest.raises(TrainerError, match="lower lr"):
        epochs.extend(train_one(job, {"lr": 1e30}))
    assert epochs[-1].diverged


def test_a_model_that_cannot_be_made_ready_is_one_message_too(
    tmp_path: Path, make_sections: MakeSections
) -> None:
    (tmp_path / "unready_code.py").write_text(
        "from torch import nn\n"
        "class Unready(nn.Linear):\n"
        "    def to(self, device):\n"
        "        raise OSError('no room')\n"
        "def unready(input_shape, outputs):\n"
        "    return Unready(input_shape[0], outputs)\n"
    )
    job = Job.from_mapping(make_sections({"model": {"name": "unready_code:unready"}}), tmp_path)
    with pytest.raises(TrainingFailed, match=r"^the training failed: OSError: no room\n.*unready_code.py"):
        train_one(job, {})


@pytest.mark.parametrize(
    ("fault", "said"), [("KeyError", "KeyError: 'k'"), ("SystemExit", "SystemExit: k"), ("Below", "Below: k")]
)
def test_an_error_of_user_code_is_one_message_with_its_place(
    tmp_path: Path, make_sections: MakeSections, fault: str, said: str
) -> None:
    (tmp_path / "faulty_code.py").write_text(
        "from torch import nn\n"
        f"class Below(BaseException): ...\nFAULT = {fault}\n"
        "class Faulty(nn.Linear):\n"
        "    calls = 0\n"
        "    def forward(self, x):\n"
        "        self.calls += 1\n"
        "        if self.calls > 2:\n"
        "            raise FAULT('k')\n"
        "        return super().forward(x)\n"
        "def faulty(input_shape, outputs):\n"
        "    return Faulty(input_shape[0], outputs)\n"
    )
    job = Job.from_mapping(make_sections({"model": {"name": "faulty_code:faulty"}}), tmp_path)
    with pytest.raises(TrainingFailed) as raised:
        list(train_one(job, {}))
    first, *place = str(raised.value).splitlines()
    assert first == f"the training failed: {said}"
    assert any("faulty_code.py" in line and "in forward" in line for line in place)
    assert not any("trainer.py" in line for line in place)
