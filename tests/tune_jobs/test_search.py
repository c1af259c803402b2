"""What is proposed, without Ray Tune's loop: labels, grids, and what the study is told."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from search_spaces import parse_space
from tune_jobs.job_sections import SearchSettings
from tune_jobs.reports import Report
from tune_jobs.search import OptunaSearcher, grid_in_order

SPACE = {"a": {"values": [1, True, 1.0, "1", [1], "[1]"]}, "b": {"low": 1, "high": 2}}


def searcher(space: dict[str, Any], trials: int = 20, storage: Any = None, **settings: Any) -> OptunaSearcher:
    return OptunaSearcher(
        parse_space(space),
        SearchSettings.model_validate({"space": space, **settings}),
        trials=trials,
        seed=0,
        storage=storage or InMemoryStorage(),
        created=lambda *_: None,
    )


def proposals(search: OptunaSearcher, count: int) -> list[dict[str, Any]]:
    given = (search.suggest(str(number)) for number in range(count))
    return [proposal["configuration"] for proposal in given if proposal is not None]


def test_values_that_python_calls_equal_are_all_tried() -> None:
    tried = [repr(c["a"]) for c in proposals(searcher(SPACE, trials=12, method="grid"), 12)]
    assert sorted(set(tried)) == sorted(["1", "True", "1.0", "'1'", "[1]", "'[1]'"])
    assert all(tried.count(value) == 2 for value in tried)


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_proposals_are_points_of_the_space(method: str) -> None:
    space = parse_space(SPACE)
    for configuration in proposals(searcher(SPACE, method=method), 20):
        assert space.problems(configuration) == ()


def test_a_grid_holds_every_configuration_once_those_of_points_first() -> None:
    space = parse_space({"x": {"values": [1, 2]}, "y": {"values": ["a", "b"]}})
    given = list(grid_in_order(space, [{"y": "b"}, {"y": "b"}, {"x": 2, "y": "b"}, {"x": 1, "y": "a"}]))
    assert given == [{"x": 1, "y": "b"}, {"x": 2, "y": "b"}, {"x": 1, "y": "a"}, {"x": 2, "y": "a"}]


def report(epoch: int, score: float | None, **how: Any) -> dict[str, Any]:
    return Report(epoch=epoch, results=(), score=score, rung=True, **how).to_result()


def test_every_trial_ends_in_an_honest_state() -> None:
    storage = InMemoryStorage()
    search = searcher({"lr": {"low": 0.1, "high": 1.0}}, storage=storage)
    for name in ("full", "stopped", "failed", "died", "no_score", "left_open"):
        search.suggest(name)
    search.on_trial_result("full", report(1, 0.5))
    search.on_trial_result("full", report(1, 0.5))  # again, after its worker was lost
    search.on_trial_complete("full", report(9, 0.25, outcome="done", full_length=True))
    search.on_trial_result("stopped", report(1, 0.75))
    search.on_trial_complete("stopped", report(3, 0.7))
    search.on_trial_complete("failed", report(3, 0.1, failure="raised"))
    search.on_trial_complete("died", None, error=True)
    search.on_trial_complete("no_score", report(1, None))
    assert search.has_open_trials
    search.close()
    (study,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=study.study_name, storage=storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL", "FAIL"]
    assert trials[0].intermediate_values == {1: 0.5, 9: 0.25}
    assert trials[0].value == 0.25
    assert trials[1].intermediate_values == {1: 0.75, 3: 0.7}


def test_a_trial_that_ends_while_it_waits_is_pruned_at_its_last_rung() -> None:
    storage = InMemoryStorage()
    search = searcher({"lr": {"low": 0.1, "high": 1.0}}, storage=storage)
    search.suggest("waited")
    search.on_trial_result("waited", report(1, 0.75))
    search.on_trial_result("waited", report(3, 0.7))
    search.on_trial_complete("waited")  # Ray Tune has no result of a paused trial
    (study,) = optuna.get_all_study_summaries(storage)
    (trial,) = optuna.load_study(study_name=study.study_name, storage=storage).trials
    assert trial.state.name == "PRUNED"
    assert trial.intermediate_values == {1: 0.75, 3: 0.7}


def test_nothing_is_proposed_while_none_may_start_and_the_search_is_not_over_while_trials_wait() -> None:
    space = {"lr": {"low": 0.1, "high": 1.0}}
    may_start, unfinished = False, True
    search = OptunaSearcher(
        parse_space(space),
        SearchSettings.model_validate({"space": space}),
        trials=1,
        seed=0,
        storage=InMemoryStorage(),
        created=lambda *_: None,
        may_start=lambda: may_start,
        unfinished=lambda: unfinished,
    )
    assert search.suggest("a") is None
    may_start = True
    assert isinstance(search.suggest("a"), dict)
    assert search.exhausted
    assert search.suggest("b") is None
    unfinished = False
    assert search.suggest("b") == "FINISHED"


def test_nothing_is_proposed_after_the_last_trial_or_the_deadline(tmp_path: Path) -> None:
    search = searcher({"lr": {"low": 0.1, "high": 1.0}}, trials=1)
    assert isinstance(search.suggest("a"), dict)
    assert search.suggest("b") == "FINISHED"
    assert search.exhausted
