"""Trials that two workers train together, under a real Ray: the curves, failures and deaths."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.tune_jobs.runs import events_of, job_in
from tune_jobs import Job, Run, run
from tune_jobs.driver.train_alone import train_one
from tune_jobs.record.events import TrialPromoted, WorkerLost

CODE = """
    import os, pathlib, signal
    import torch.distributed as dist
    from torch import nn

    def make(input_shape, outputs, how, folder):
        return Model(nn.Linear(input_shape[0], outputs), how, pathlib.Path(folder))

    class Model(nn.Module):
        def __init__(self, inner, how, folder):
            super().__init__()
            self.inner, self.how, self.folder, self.calls = inner, how, folder, 0

        def train(self, mode=True):
            self.calls += mode
            second = dist.is_initialized() and dist.get_rank() == 1
            if self.calls == 6:  # twice an epoch, and once before
                if self.how == "second raises" and second:
                    raise RuntimeError("the user's own fault")
                once = self.folder / "died"
                if self.how == "second dies once" and second and not once.exists():
                    once.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().train(mode)

        def forward(self, x):
            return self.inner(x)
"""


def make_job(folder: Path, changes: dict[str, Any]) -> Job:
    both = {"resources/workers_per_trial": 2, "resources/max_concurrent": 1, "training/device": "cpu"}
    job = job_in(folder, {**both, **changes})
    (folder / "together.py").write_text(textwrap.dedent(CODE))
    return job


def curve_of(made: Run, trial_id: str) -> list[tuple[float, ...]]:
    own = made.epochs[made.epochs["trial_id"] == trial_id]
    return list(own[["epoch", "train_loss", "val_loss", "lr"]].itertuples(index=False, name=None))


def test_the_first_bundle_is_of_a_process_that_takes_nothing(tmp_path: Path) -> None:
    job = make_job(tmp_path, {})
    assert job.resources.bundles[0] == {}
    assert len(job.resources.bundles) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
class TestUnderRay:
    def test_a_search_is_that_of_one_worker_up_to_rounding(self, tmp_path: Path) -> None:
        changes = {
            "search/trials": 9,
            "training/metrics": ["mae"],
            "search/space/batch_size": {"values": [8, 7]},
        }
        made = run(make_job(tmp_path, changes))
        assert not made.trials["status"].isin(["failed", "interrupted"]).any()
        assert any(isinstance(event, TrialPromoted) for event in events_of(made))
        assert sorted(made.trials["epochs"]) == [1] * 6 + [3] * 2 + [9], "no epoch is wasted"
        for trial_id, record in made.record.trials.items():
            alone = [
                (r.epoch, r.metrics["train_loss"], r.metrics["val_loss"], r.metrics["lr"])
                for r, _ in zip(
                    train_one(made.job, record.configuration), curve_of(made, trial_id), strict=False
                )
            ]
            for own, other in zip(curve_of(made, trial_id), alone, strict=True):
                assert own == pytest.approx(other, rel=1e-3)
        assert made.load_model() is not None
        assert made.test()["test_mae"] > 0

    def test_failures_and_deaths(self, tmp_path: Path) -> None:
        hows = ["", "second dies once", "second raises"]
        changes = {
            "model/name": "together:make",
            "model/arguments": {"folder": str(tmp_path)},
            "scheduler/method": "none",
            "training/max_epochs": 5,
            "search/space": {
                "lr": 0.05,
                "model.how": {"values": hows},
            },
            "search/points": [{"model.how": how} for how in hows],
            "search/trials": len(hows),
        }
        made = run(make_job(tmp_path, changes))
        trials = made.trials.set_index("trial_id")
        assert list(trials["status"]) == ["completed", "completed", "failed"]
        assert trials["reason"]["0002"] == "RuntimeError: the user's own fault"
        assert [epoch for epoch, *_ in curve_of(made, "0002")] == [1, 2]
        losses = [event for event in events_of(made) if isinstance(event, WorkerLost)]
        assert [loss.trial_id for loss in losses] == ["0001"]
        assert "it crashed, was killed" in losses[0].reason
        assert not losses[0].node_lost
        assert curve_of(made, "0001") == curve_of(made, "0000"), "bit for bit, though in other workers"
        assert [epoch for epoch, *_ in curve_of(made, "0001")] == [1, 2, 3, 4, 5]
