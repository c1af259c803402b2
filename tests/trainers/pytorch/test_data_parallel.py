"""Several workers train the same as one worker, and the arithmetic of their shares."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.conftest import USER_CODE
from tests.trainers.pytorch.worker_processes import WorkerProcesses
from tune_jobs.trainers.errors import DeviceError, Diverged, ModelError
from tune_jobs.trainers.pytorch.batching import Batches
from tune_jobs.trainers.pytorch.best import best_model
from tune_jobs.trainers.pytorch.data_parallel import (
    SINGLE_PROCESS,
    SingleProcess,
    share_of,
    unite_windows,
    window_of,
)
from tune_jobs.trainers.pytorch.settings import Optimizer, ScheduleName
from tune_jobs.trainers.pytorch.state import read_state
from tune_jobs.trainers.pytorch.tensors import TensorRows
from tune_jobs.trainers.pytorch.trainer import Trainer

ROWS = st.integers(1, 200)
WORKERS = st.integers(1, 9)


@given(rows=st.integers(0, 200), workers=WORKERS)
def test_shares_are_all_rows_once_and_alike_in_size(rows: int, workers: int) -> None:
    shares = [share_of(rows, rank, workers) for rank in range(workers)]
    taken = [start + i for start, size in shares for i in range(size)]
    assert taken == list(range(rows))
    sizes = [size for _, size in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@given(rows=ROWS, workers=WORKERS)
def test_windows_are_of_one_size_and_make_up_all_rows(rows: int, workers: int) -> None:
    values = torch.arange(rows)
    windows = [window_of(rows, rank, workers) for rank in range(workers)]
    assert len({size for _, size in windows}) == 1
    assert all(start >= 0 and start + size <= rows for start, size in windows)
    united = unite_windows([values[start : start + size] for start, size in windows], rows)
    assert united.tolist() == values.tolist()


class Member(SingleProcess):
    """One of several workers, without the parts that communicate with the others."""

    def __init__(self, rank: int, workers: int) -> None:
        self.rank, self.workers = rank, workers  # type: ignore[misc]  # class variables of `SingleProcess`


@given(rows=st.integers(1, 40), size=st.integers(1, 45), workers=st.integers(1, 5), seed=st.integers(0, 3))
def test_the_batches_of_the_workers_are_parts_of_the_batches_of_one_worker(
    rows: int, size: int, workers: int, seed: int
) -> None:
    data = TensorRows(torch.arange(float(rows)).unsqueeze(1), torch.arange(rows))
    whole = [y.clone() for _, y in Batches(data, "shuffle", size, seed).epoch()]
    parts = [Batches(data, "shuffle", size, seed, Member(rank, workers)) for rank in range(workers)]
    drawn = [[(x.clone(), y.clone()) for x, y in part.epoch()] for part in parts]
    for step, batch in enumerate(whole):
        shares = [part.shares[step] for part in parts]
        assert sum(shares) == pytest.approx(1)
        together = [drawn[rank][step] for rank in range(workers) if shares[rank]]
        assert torch.cat([y for _, y in together]).tolist() == batch.tolist()
        assert all(x.flatten().tolist() == y.tolist() for x, y in together)
        for rank in range(workers):
            taken = len(drawn[rank][step][1])
            assert taken == max(1, round(shares[rank] * len(batch)))  # never empty: DDP joins all workers


@pytest.fixture(scope="module")
def start_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], WorkerProcesses]]:
    made: dict[int, WorkerProcesses] = {}

    def start(workers: int) -> WorkerProcesses:
        if workers not in made:
            folder = tmp_path_factory.mktemp(f"workers{workers}")
            (folder / "user_code.py").write_text(USER_CODE)
            made[workers] = WorkerProcesses(workers, folder)
        return made[workers]

    yield start
    for one in made.values():
        one.end()
    WorkerProcesses.end_server()


def rows_of(results: Any) -> list[dict[str, float]]:
    return [{name: value for name, value in r.to_mapping().items() if name != "seconds"} for r in results]


def train(data_parallel: Any, plan: Any, data: Any, path: Path | None = None, until: int = 99) -> Any:
    """Continue from the checkpoint, if there is one, up to an epoch or the end. Return rows, weights and file."""
    results = []
    with Trainer(plan, data, threads=1, data_parallel=data_parallel) as trainer:
        if path is not None and path.exists() and data_parallel.rank == 0:
            with path.open("rb") as file:
                trainer.load(file)
        for result in trainer.epochs():
            results.append(result)
            if data_parallel.rank == 0 and result.epoch == until:
                break
    if path is not None and data_parallel.rank == 0:
        with path.open("wb") as file:
            trainer.save(file)
    weights = {name: value.numpy() for name, value in trainer.model.state_dict().items()}
    return rows_of(results), weights, trainer.stop_reason


def close(rows: list[dict[str, float]], others: list[dict[str, float]], rel: float = 1e-4) -> bool:
    return len(rows) == len(others) and all(
        row == pytest.approx(other, rel=rel, abs=1e-6) for row, other in zip(rows, others, strict=True)
    )


PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("regression", {"arguments": {"hidden": [5]}}),
    "linear": ("binary", {"loss": "binary_cross_entropy", "model": "linear", "metrics": ("accuracy",)}),
    "user": (
        "regression",
        {"model": "user_code:net", "arguments": {"width": 3}, "loss": "user_code:half_mse"},
    ),
    "clipped": ("regression", {"arguments": {"hidden": [5]}, "training": {"clip_grad_norm": 0.1}}),
    "full": ("classification", {"loss": "cross_entropy", "arguments": {"hidden": [5]}, "batch_size": "full"}),
    "single rows": ("regression", {"arguments": {"hidden": [5]}, "batch_size": 1}),
    "more workers than last rows": ("regression", {"arguments": {"hidden": [5]}, "batch_size": 10}),
}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("name", PLANS)
def test_several_workers_train_what_one_trains(
    start_workers, make_data, make_plan, user_code, name, workers
) -> None:
    kind, changes = PLANS[name]
    plan, data = make_plan(**changes), make_data(kind)
    alone, weights, outcome = train(SINGLE_PROCESS, plan, data)
    first, *others = start_workers(workers)(train, plan, data)
    assert close(first[0], alone)
    assert first[2] == outcome
    for name_, value in weights.items():
        assert first[1][name_] == pytest.approx(value, rel=1e-3, abs=1e-5)
    for other in others:  # bit for bit, with the scores that decide
        assert other[0] == first[0]
        assert all((other[1][name_] == value).all() for name_, value in first[1].items())


def without_pickles(data_parallel: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Call `function(data_parallel, *args)` and fail if torch.distributed unpickles anything."""
    refuse = patch("torch.distributed.distributed_c10d._unpickler", side_effect=AssertionError("unpickled"))
    with refuse:
        return function(data_parallel, *args)


def sent(data_parallel: Any, states: list[Any]) -> list[Any]:
    return [data_parallel.broadcast_state(state if data_parallel.rank == 0 else None) for state in states]


@pytest.mark.slow
def test_messages_between_workers_are_never_unpickled(start_workers, make_data, make_plan, tmp_path) -> None:
    """Otherwise, anyone with access to their ports could run code."""
    states = [None, {}, {"a": [1, "b", None], "large": torch.arange(300_000.0).numpy().tolist()}, None]
    assert start_workers(2)(without_pickles, sent, states) == [states, states]
    plan, data, file = make_plan(arguments={"hidden": [5]}), make_data(), tmp_path / "c.pt"
    straight = start_workers(2)(train, plan, data)
    start_workers(2)(train, plan, data, file, 2)
    assert start_workers(2)(without_pickles, train, plan, data, file)[0][0] == straight[0][0][2:]


@pytest.mark.slow
def test_images(start_workers, make_data, make_plan) -> None:
    plan = make_plan("cross_entropy", model="cnn", arguments={"channels": [3], "hidden": 4})
    data = make_data("classification", shape=(1, 6, 6))
    first, _ = start_workers(2)(train, plan, data)
    assert close(first[0], train(SINGLE_PROCESS, plan, data)[0])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer(start_workers, make_data, make_plan, optimizer) -> None:
    plan = make_plan(
        arguments={"hidden": [5], "activation": "tanh"}, optimizer=optimizer, lr=0.01, weight_decay=0.01
    )
    first, second = start_workers(2)(train, plan, make_data())
    # The history of a quasi-Newton step amplifies rounding.
    assert close(
        first[0], train(SINGLE_PROCESS, plan, make_data())[0], rel=1e-2 if optimizer == "lbfgs" else 1e-4
    )
    assert second[0] == first[0]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_schedules_and_early_stopping_decide_alike(start_workers, make_data, make_plan, schedule) -> None:
    plan = make_plan(
        arguments={"hidden": [5]},
        lr=0.3,
        training={
            "max_epochs": 8,
            "schedule": {"name": schedule, "step_size": 1, "patience": 0},
            "early_stopping": {"patience": 2},
        },
    )
    first, second = start_workers(2)(train, plan, make_data())
    alone = train(SINGLE_PROCESS, plan, make_data())
    assert close(first[0], alone[0])
    assert first[2] == second[2] == alone[2]
    assert first[0] == second[0]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("model", ["mlp", "user_code:Noisy"])
def test_a_training_of_several_workers_continues_from_its_checkpoint_bit_for_bit(
    start_workers, make_data, make_plan, user_code, tmp_path, model, optimizer
) -> None:
    """The cases include dropout and generators of user code."""
    plan, data, run_in_workers = (
        make_plan(model=model, optimizer=optimizer, lr=0.01),
        make_data(),
        start_workers(2),
    )
    straight, _ = run_in_workers(train, plan, data)
    run_in_workers(train, plan, data, tmp_path / "c.pt", 2)
    resumed, _ = run_in_workers(train, plan, data, tmp_path / "c.pt")
    assert resumed[0] == straight[0][2:]
    assert all((resumed[1][name] == value).all() for name, value in straight[1].items())


@pytest.mark.slow
def test_a_checkpoint_is_continued_with_another_number_of_workers(
    start_workers, make_data, make_plan, tmp_path
) -> None:
    plan, data, file = make_plan(arguments={"hidden": [5]}, optimizer="adam"), make_data(), tmp_path / "c.pt"
    start_workers(2)(train, plan, data, file, 1)
    with file.open("rb") as saved:
        assert best_model(plan, data.info, read_state(saved)) is not None
    start_workers(3)(train, plan, data, file, 2)
    rows, _, _ = train(SINGLE_PROCESS, plan, data, file)
    assert close(rows, train(SINGLE_PROCESS, plan, data)[0][2:])


@pytest.mark.slow
def test_batch_normalisation_with_statistics_of_each_worker(start_workers, make_data, make_plan) -> None:
    plan = make_plan(arguments={"hidden": [5], "batch_norm": True}, batch_size=10)
    first, second = start_workers(2)(train, plan, make_data(rows=24))
    assert second[0] == first[0]
    assert first[1]["1.running_mean"].any()
    plan = make_plan(arguments={"hidden": [5], "batch_norm": True}, batch_size=9)
    problems = start_workers(2)(failure, plan, make_data(rows=21))
    assert problems[0] == problems[1]
    assert "3 training rows" not in problems[0]
    assert "leave one in which 2 workers find 1 at the least" in problems[0]


@pytest.mark.slow
def test_every_worker_notices_a_divergence(start_workers, make_data, make_plan) -> None:
    assert (
        start_workers(2)(failure, make_plan(lr=1e30), make_data())
        == [failure(SINGLE_PROCESS, make_plan(lr=1e30), make_data())] * 2
    )


def failure(data_parallel: Any, plan: Any, data: Any) -> str:
    try:
        train(data_parallel, plan, data)
    except (ModelError, Diverged, DeviceError) as error:
        return str(error)
    return "none"


@pytest.mark.slow
def test_devices_of_several_workers(start_workers, make_data, make_plan) -> None:
    problems = start_workers(2)(failure, make_plan(training={"device": "cuda:1"}), make_data())
    assert (
        problems
        == [
            "device 'cuda:1' was asked for, and 2 workers train together, each on the CPU or on its own GPU; "
            "choose device: auto, cpu or cuda"
        ]
        * 2
    )
    assert start_workers(2)(failure, make_plan(training={"device": "auto"}), make_data()) == ["none"] * 2


def leave_at_once(data_parallel: Any, plan: Any, data: Any) -> int:
    with Trainer(plan, data, threads=1, data_parallel=data_parallel) as trainer:
        if data_parallel.rank == 0:
            return trainer.epoch
        return len(list(trainer.epochs()))


@pytest.mark.slow
def test_the_first_worker_may_leave_before_it_has_sent_its_state_to_the_others(
    start_workers, make_data, make_plan
) -> None:
    assert start_workers(2)(leave_at_once, make_plan(), make_data()) == [0, 0]
    assert len(start_workers(2)(train, make_plan(), make_data())[1][0]) == 4, "and they are as good as before"
