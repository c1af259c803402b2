import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tune_jobs.trainers.errors import ModelError
from tune_jobs.trainers.pytorch.schedules import Schedule
from tune_jobs.trainers.pytorch.settings import ScheduleSettings
from tune_jobs.trainers.pytorch.trainer import Trainer

LR = 0.4


def rates(settings, epochs, steps=3, scores=None, mode="min"):
    """Return the rate of every step of a training, epoch by epoch."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=LR)
    schedule = Schedule(
        optimizer, ScheduleSettings(**settings), lr=LR, max_epochs=epochs, steps_per_epoch=steps, mode=mode
    )
    found = []
    for epoch in range(epochs):
        row = []
        for _ in range(steps):
            row.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_batch()
        found.append(row)
        schedule.after_epoch(scores[epoch] if scores else 1.0)
    return found


def by_epoch(*args, **kwargs):
    found = rates(*args, **kwargs)
    assert all(len(set(row)) == 1 for row in found)
    return [row[0] for row in found]


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({"name": "constant"}, lambda e: LR),
        ({"name": "step", "step_size": 2, "gamma": 0.5}, lambda e: LR * 0.5 ** (e // 2)),
        ({"name": "exponential", "gamma": 0.9}, lambda e: LR * 0.9**e),
        ({"name": "cosine", "min_lr": 0.1}, lambda e: 0.1 + (LR - 0.1) * (1 + math.cos(math.pi * e / 7)) / 2),
        ({"name": "cosine", "min_lr": 2.0}, lambda e: LR),
    ],
)
def test_rates_of_epochs_follow_their_closed_form(settings, formula):
    assert by_epoch(settings, 7) == pytest.approx([formula(epoch) for epoch in range(7)])


def one_cycle(step, total, warmup):
    """Up half a cosine from lr/25 to lr, down half a cosine to lr/250000; the peak is at step warmup * total - 1."""
    peak = warmup * total - 1
    low, high, share = (
        (LR / 25, LR, step / peak)
        if step <= peak
        else (LR / 25e4, LR, (total - 1 - step) / (total - 1 - peak))
    )
    return high + (low - high) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize("warmup", [0.3, 0.5])
def test_one_cycle_follows_its_closed_form_batch_by_batch(warmup):
    found = [rate for row in rates({"name": "one_cycle", "warmup": warmup}, 4, steps=5) for rate in row]
    assert found == pytest.approx([one_cycle(step, 20, warmup) for step in range(20)])
    assert max(found) == pytest.approx(LR)


@given(epochs=st.integers(1, 12), steps=st.integers(1, 4), share=st.integers(2, 12))
@settings(max_examples=80, deadline=None)
def test_one_cycle_works_for_any_number_of_steps(epochs, steps, share):
    # If warmup * steps is exactly 1, PyTorch's own schedule divides 0 by 0.
    found = rates({"name": "one_cycle", "warmup": 1 / share}, epochs, steps)
    assert all(0 < rate <= LR * (1 + 1e-9) for row in found for rate in row)


@pytest.mark.parametrize(
    ("mode", "scores", "expected"),
    [
        # Patience 1: the second epoch in a row without improvement reduces the rate of the next.
        ("min", [5, 4, 4, 4, 4, 4], [LR, LR, LR, LR, LR / 2, LR / 2]),
        ("max", [-5, -4, -4, -4, -3, -3], [LR, LR, LR, LR, LR / 2, LR / 2]),
        ("min", [5, 6, 4, 5, 3, 2], [LR] * 6),
        ("min", [5, math.nan, math.nan, 1, 1, 1], [LR, LR, LR, LR / 2, LR / 2, LR / 2]),
    ],
)
def test_plateau_waits_for_the_score_of_its_mode(mode, scores, expected):
    settings = {"name": "plateau", "gamma": 0.5, "patience": 1}
    assert by_epoch(settings, 6, scores=scores, mode=mode) == pytest.approx(expected)


def test_plateau_stays_above_min_lr_and_gamma_1_keeps_the_rate():
    falling = by_epoch({"name": "plateau", "gamma": 0.1, "patience": 0, "min_lr": 0.03}, 5)
    assert falling == pytest.approx([0.4, 0.4, 0.04, 0.03, 0.03])
    assert by_epoch({"name": "plateau", "gamma": 1.0, "patience": 0}, 3) == [LR] * 3


def test_results_hold_the_rate_of_the_last_step(make_plan, make_data):
    plan = make_plan(lr=LR, batch_size=7, training={"schedule": {"name": "one_cycle"}})
    found = [result.metrics["lr"] for result in Trainer(plan, make_data(rows=21), threads=1).epochs()]
    assert found == pytest.approx([one_cycle(step, 12, 0.3) for step in (2, 5, 8, 11)])


def test_plateau_is_judged_by_the_score_not_by_the_loss(make_plan, make_data, user_code):
    plan = make_plan(
        lr=LR,
        metrics=[f"{user_code}:scripted"],  # 1, 3, NaN, 3
        score={"metric": "scripted", "mode": "max"},
        training={"schedule": {"name": "plateau", "patience": 0, "gamma": 0.5}},
    )
    found = [result.metrics["lr"] for result in Trainer(plan, make_data(), threads=1).epochs()]
    assert found == pytest.approx([LR, LR, LR, LR / 2])


def test_a_schedule_by_reference_takes_a_step_after_each_epoch_or_batch(user_code):
    by_name = by_epoch({"name": "step", "step_size": 2, "gamma": 0.5}, 5)
    reference = {"name": "torch.optim.lr_scheduler:StepLR", "arguments": {"step_size": 2, "gamma": 0.5}}
    assert by_epoch(reference, 5) == by_name
    found = rates(
        {"name": f"{user_code}:warm_up", "arguments": {"start": 0.25}, "every": "batch"}, 2, steps=2
    )
    assert [rate for row in found for rate in row] == pytest.approx(
        [LR * share for share in (0.25, 0.4375, 0.625, 0.8125)]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "torch.optim.lr_scheduler:StepLR"}, "missing a required argument: 'step_size'"),
        ({"name": "user_code:no_module", "arguments": {}}, "cannot be called|returned a str"),
    ],
)
def test_schedules_that_do_not_fit_say_why(user_code, settings, message):
    with pytest.raises(ModelError, match=message):
        rates(settings, 2)
