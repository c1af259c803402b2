"""The private parts of Ray that the driver uses: a test fails if another Ray version changes its part."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private import serialization, worker
from ray._private.node import Node
from ray.core.generated.common_pb2 import ErrorType, RayErrorInfo
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import registry as ray_registry
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.registry import TRAINABLE_CLASS, _global_registry
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

import tune_jobs
from tests.processes import start
from tune_jobs.tuning.ray_patches import (
    WorkerOutOfMemory,
    actor_of,
    ask_without_waiting,
    dead_server,
    first_to_run,
    forget_ended,
    last_error_of,
    memory_kills_end_actors,
    mend_handover,
    remember_trainables,
    trial_id_of,
)

NAME = "of the tests"


def trial_of(trial_id: str, **how: Any) -> Trial:
    return Trial(NAME, config={"trial_id": trial_id}, stub=True, **how)


# Trials


def test_a_trial_carries_our_id_and_its_actor() -> None:
    class Actor:
        class get_auto_filled_metrics:  # noqa: N801 (the name is Ray's)
            @staticmethod
            def remote(**_: Any) -> None:
                return

    trial, actor = trial_of("0007"), Actor()
    assert trial_id_of(trial) == "0007" != trial.trial_id
    assert actor_of(trial) is None
    trial.set_ray_actor(actor)
    assert actor_of(trial) is actor


def test_the_last_error_of_a_trial_is_the_one_that_ray_tune_received(tmp_path: Path) -> None:
    trial = trial_of("0007")
    trial.storage = SimpleNamespace(trial_driver_staging_path=str(tmp_path))
    assert last_error_of(trial) is None
    trial.handle_error(ValueError("of another kind"))
    assert "of another kind" in str(last_error_of(trial))
    trial.handle_error(RayActorError(error_msg="it is gone"))
    error = last_error_of(trial)
    assert isinstance(error, RayActorError)
    assert "it is gone" in str(error)


class Controller(TuneController):
    """Ray Tune's own controller, with trials and without anything started."""

    def __init__(self, *trials: Trial) -> None:
        super().__init__(reuse_actors=True)
        for trial in trials:
            self.add_trial(trial)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_trial_that_was_being_handed_over_can_be_chosen_again() -> None:
    trial = trial_of("0007")
    controller = Controller(trial)
    controller._resetting_trials.add(trial)
    assert controller._maybe_reuse_cached_actor(trial), "Ray Tune gives it no other worker"
    mend_handover(controller, trial)
    assert trial.status == Trial.PAUSED
    assert trial in controller._paused_trials
    assert not controller._maybe_reuse_cached_actor(trial)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_trials_that_have_ended_are_retried_no_more_and_forgotten() -> None:
    ended, open_ = trial_of("0000"), trial_of("0001")
    controller = Controller(ended, open_)
    controller._get_trial_checkpoints()
    forget_ended(controller._wrapped(), lambda trial_id: trial_id == "0000")
    assert [trial.status for trial in (ended, open_)] == [Trial.TERMINATED, Trial.PENDING]
    assert controller.get_trials() == [open_]
    assert controller.get_live_trials() == {open_}
    assert controller._trial_metadata.keys() == {open_.trial_id}
    holders = [name for name, value in vars(controller).items() if isinstance(value, set) and ended in value]
    assert holders == []
    assert first_to_run(controller) is open_


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_ray_tune_continues_with_its_step_while_it_has_no_trial() -> None:
    class NoTrialYet(SearchGenerator):
        asked = 0

        def is_finished(self) -> bool:
            return False

        def next_trial(self) -> None:
            self.asked += 1

    controller = Controller()
    controller._search_alg = searcher = NoTrialYet(Searcher())
    with ask_without_waiting():
        controller._maybe_update_trial_queue()
    assert searcher.asked == 1


# Processes


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_the_servers_of_ray_are_known_by_their_names() -> None:
    processes = worker._global_node.all_processes
    assert processes.keys() == {"raylet", "gcs_server"}, "and no process is started that a run does not need"
    assert processes["raylet"][0].process.poll() is None
    assert dead_server() is None


def test_without_ray_no_server_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_global_node", None)
    assert dead_server() is None


def test_a_server_that_died_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = start(["true"])
    dead.wait()
    node = Node.__new__(Node)
    node.all_processes = {"log_monitor": [], "raylet": [SimpleNamespace(process=dead)]}
    monkeypatch.setattr(worker, "_global_node", node)
    assert dead_server() == "raylet"


def raised_by_ray(message: str) -> Exception:
    """Return Ray's error for a worker that its memory monitor has ended."""

    class Context(serialization.SerializationContext):
        def __init__(self) -> None:
            pass

        def _deserialize_error_info(self, data: Any, metadata_fields: Any) -> RayErrorInfo:
            return RayErrorInfo(error_message=message)

    kind = str(ErrorType.Value("OUT_OF_MEMORY")).encode()
    return Context()._deserialize_object(b"", kind, None, None)


def test_a_worker_that_the_memory_monitor_ends_is_a_dead_actor_inside_alone() -> None:
    with memory_kills_end_actors():
        error = raised_by_ray("it took too much")
        assert type(error) is WorkerOutOfMemory
        assert isinstance(error, RayActorError)
        assert str(error) == "it took too much"
    assert type(raised_by_ray("it took too much")) is OutOfMemoryError


# The register of trainables


@pytest.fixture
def register() -> Iterator[object]:
    yield lambda value: _global_registry.register(TRAINABLE_CLASS, NAME, value)
    _global_registry.unregister(TRAINABLE_CLASS, NAME)


def test_it_is_fetched_once_inside_and_again_outside(register) -> None:
    register(["first"])
    with remember_trainables():
        first = _global_registry.get(TRAINABLE_CLASS, NAME)
        assert _global_registry.contains(TRAINABLE_CLASS, NAME)
        assert _global_registry.get(TRAINABLE_CLASS, NAME) is first
    assert _global_registry.get(TRAINABLE_CLASS, NAME) is not first
    register(["second"])
    with remember_trainables():
        assert _global_registry.get(TRAINABLE_CLASS, NAME) == ["second"]


def test_a_missing_trainable_stays_missing() -> None:
    with remember_trainables():
        assert not _global_registry.contains(TRAINABLE_CLASS, "nobody's")


def test_a_ray_that_has_no_such_register_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray_registry, "_global_registry")
    with remember_trainables():
        assert not hasattr(ray_registry, "_global_registry")


# Where private parts are imported


def test_private_parts_of_ray_are_imported_in_one_module_of_a_package() -> None:
    package = Path(tune_jobs.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            parts = [name.split(".") for name in names]
            if any(first == "ray" and any(one.startswith("_") for one in rest) for first, *rest in parts):
                found.add(str(path.relative_to(package)))
    assert found == {"tuning/ray_patches.py", "cluster/ray_internals.py", "worker/train_group.py"}
