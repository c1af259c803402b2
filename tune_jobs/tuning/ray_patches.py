"""Ray Tune's register of trainables, asked once a run.

Ray Tune (2.60) asks a server for the trainable about three times a trial, and unpickles it anew: with many short
trials that is a fifth of the driver's time. A run has one trainable, and it does not change.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import registry as ray_registry


@contextmanager
def trainables_remembered() -> Iterator[None]:
    """Has what is asked for inside be fetched once; a Ray that keeps its register elsewhere is left as it is."""
    registry: Any = getattr(ray_registry, "_global_registry", None)
    if registry is None:
        yield
        return
    fetch, look = registry.get, registry.contains
    fetched: dict[tuple[str, str], Any] = {}

    def get(category: str, key: str) -> Any:
        if (category, key) not in fetched:
            fetched[category, key] = fetch(category, key)
        return fetched[category, key]

    def contains(category: str, key: str) -> bool:
        return (category, key) in fetched or bool(look(category, key))

    registry.get, registry.contains = get, contains
    try:
        yield
    finally:
        del registry.get, registry.contains
