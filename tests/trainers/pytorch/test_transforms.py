"""The user's transform of encoded rows."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tune_jobs.trainers.data import Rows
from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.best import best_evaluator, best_model
from tune_jobs.trainers.pytorch.trainer import Trainer


def cut(data, length):
    """Return the data with the last columns alone."""

    def rows(one):
        return Rows(np.ascontiguousarray(one.x[:, -length:]), one.y)

    info = replace(data.info, input_shape=(length,))
    return replace(data, train=rows(data.train), validation=rows(data.validation), info=info)


def test_training_and_evaluation_get_the_transformed_rows(make_data, make_plan, user_code):
    data = make_data()
    for rows in (data.train, data.validation):
        rows.x.flags.writeable = False
    plan = make_plan(changes={"transform": f"{user_code}:window", "transform_arguments": {"length": 3}})
    trainer, expected = (
        Trainer(plan, data, threads=1), Trainer(make_plan(), cut(data, 3), threads=1),
    )  # fmt: skip
    curves = [[result.metrics for result in one.epochs()] for one in (trainer, expected)]
    assert curves[0] == curves[1]
    state = trainer.state_dict()
    assert best_evaluator(plan, data.info, state)(data.validation).metrics["loss"] == trainer.best.score
    assert best_model(plan, data.info, state)(torch.zeros(2, 3)).shape == (2, 1)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("window", {"width": 2}, "data.transform user_code:window cannot be called with arguments ['width']"),
        ("window", {"length": "2"}, "data.transform user_code:window failed with {'length': '2'}: TypeError"),
        (
            "summed",
            {},
            "turned rows of shape [21, 4] into float32 of shape [21]; it must return numbers [21, …]",
        ),
        ("centred", {}, "gives the first row another value alone than among the others"),
    ],
)
def test_transforms_that_do_not_fit_say_why(make_data, make_plan, user_code, function, arguments, message):
    plan = make_plan(changes={"transform": f"{user_code}:{function}", "transform_arguments": arguments})
    with pytest.raises(ModelError, match=re.escape(message)):
        Trainer(plan, make_data(), threads=1)
