"""The checkpoints that a run keeps."""

from collections.abc import Callable
from random import Random

import pytest

from tune_jobs.checkpoints import retention as retention_module
from tune_jobs.checkpoints.retention import (
    KEEP_BEST_TRIALS,
    Retention,
    find_unneeded,
    prune_checkpoints,
    sync_checkpoints,
)
from tune_jobs.record.codes import Cause, Status
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord


def test_ended_trials_keep_their_checkpoints_only_among_the_best(
    folder: RunFolder, make_record: Callable[..., RunRecord]
) -> None:
    best = [{"losses": [float(loss)]} for loss in range(KEEP_BEST_TRIALS + 2)]
    others = [
        {"losses": [-1.0], "status": Status.FAILED},
        {"losses": [float("nan")]},
        {"losses": [99.0], "status": Status.RUNNING},
        {"losses": [99.0], "status": Status.PENDING},
        {"losses": [99.0], "status": Status.INTERRUPTED},
        {"losses": [99.0], "status": Status.STOPPED_EARLY, "cause": Cause.TIME_LIMIT},
    ]
    record = make_record([*best, *others])
    for trial_id in record.trials:
        (folder.checkpoints / trial_id).mkdir()
        (folder.checkpoints / trial_id / "epoch-000001.pt").touch()
    prune_checkpoints(folder.checkpoints, find_unneeded(record))
    kept = sorted(int(path.name) for path in folder.checkpoints.iterdir())
    running, pending, interrupted, out_of_time = range(len(best) + 2, len(best) + 6)
    assert kept == [*range(KEEP_BEST_TRIALS), running, pending, interrupted, out_of_time]
    prune_checkpoints(folder.checkpoints, find_unneeded(record))
    assert sorted(int(path.name) for path in folder.checkpoints.iterdir()) == kept


def test_existing_checkpoints_of_the_best_are_forced_to_the_disk(
    folder: RunFolder, make_record: Callable[..., RunRecord]
) -> None:
    record = make_record([{"losses": [1.0]}, {"losses": [2.0]}, {"losses": [3.0], "status": Status.FAILED}])
    (folder.checkpoints / "0000").mkdir()
    (folder.checkpoints / "0000" / "epoch-000001.pt").write_bytes(b"weights")
    (folder.checkpoints / "0000" / "epoch-000002.pt").symlink_to(folder.path / "gone")
    sync_checkpoints(folder, record)


def test_each_end_deletes_what_a_look_at_all_trials_would_delete(
    folder: RunFolder, make_record: Callable[..., RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Random(0)
    kinds = [{}, {}, {}, {"status": Status.FAILED}, {"status": Status.INTERRUPTED, "cause": Cause.RUN_ENDED}]
    trials = [{"losses": [order.random()], **order.choice(kinds)} for _ in range(40)]
    record = make_record(trials)
    ended, record.trials = list(record.trials.values()), {}
    retention = Retention(record, folder.checkpoints)
    asked: list[int] = []
    prune = retention_module.prune_checkpoints
    monkeypatch.setattr(
        retention_module, "prune_checkpoints", lambda place, ids: asked.append(len(ids)) or prune(place, ids)
    )
    for trial in ended:
        record.trials[trial.trial_id] = trial
        (folder.checkpoints / trial.trial_id).mkdir()
        retention.end(trial.trial_id)()
        left = {path.name for path in folder.checkpoints.iterdir()}
        assert left == record.trials.keys() - find_unneeded(record)
    assert set(asked) == {1}, "an end looks at one trial, not at all"
    late = folder.checkpoints / min(find_unneeded(record))
    late.mkdir()
    retention.end_run()()
    assert not late.exists()
