from random import Random

import pytest

from tune_jobs.search_spaces import READY_SPACES, SearchSpaceError, parse_space, ready_space

NAMES = {
    "lr", "batch_size", "optimizer", "momentum", "nesterov", "weight_decay", "beta1", "beta2", "eps",
    "model.hidden", "model.dropout",
    "training.schedule.name", "training.schedule.gamma", "training.schedule.warmup",
}  # fmt: skip


@pytest.mark.parametrize("name", READY_SPACES)
def test_a_ready_space_is_described_and_uses_the_names_of_the_job_file(name: str) -> None:
    ready = READY_SPACES[name]
    assert ready.description.endswith(".")
    assert set(ready.space.parameters) <= NAMES
    assert ready_space(name) is ready.space
    assert parse_space(ready.space.to_mapping()) == ready.space
    assert ready.space.problems(ready.space.sample(Random(0))) == ()


def test_an_unknown_ready_space_gets_the_closest_name() -> None:
    with pytest.raises(SearchSpaceError, match="there is no ready space 'adm'; did you mean 'adam'"):
        ready_space("adm")
