"""A trainable is fetched once a run, and the next run fetches its own."""

from collections.abc import Iterator

import pytest
from ray.tune import registry as ray_registry
from ray.tune.registry import TRAINABLE_CLASS, _global_registry

from tune_jobs.tuning.ray_patches import trainables_remembered

NAME = "of the tests"


@pytest.fixture
def register() -> Iterator[object]:
    yield lambda value: _global_registry.register(TRAINABLE_CLASS, NAME, value)
    _global_registry.unregister(TRAINABLE_CLASS, NAME)


def test_it_is_fetched_once_inside_and_anew_outside(register) -> None:
    register(["first"])
    with trainables_remembered():
        first = _global_registry.get(TRAINABLE_CLASS, NAME)
        assert _global_registry.contains(TRAINABLE_CLASS, NAME)
        assert _global_registry.get(TRAINABLE_CLASS, NAME) is first
    assert _global_registry.get(TRAINABLE_CLASS, NAME) is not first
    register(["second"])
    with trainables_remembered():
        assert _global_registry.get(TRAINABLE_CLASS, NAME) == ["second"]


def test_what_is_not_there_is_not_there() -> None:
    with trainables_remembered():
        assert not _global_registry.contains(TRAINABLE_CLASS, "nobody's")


def test_a_ray_that_has_no_such_register_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ray_registry, "_global_registry")
    with trainables_remembered():
        assert not hasattr(ray_registry, "_global_registry")
