"""Proposals made ahead: they block no worker, and none is made twice or skipped."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tune_jobs.search.conftest import SPACES, Space, created, history_of, reported, search, what_follows
from tune_jobs.search.history import Configuration, Observations, SearchHistory
from tune_jobs.search.methods import Method
from tune_jobs.search.proposals import Ahead, Immediate, OneAhead, Proposals
from tune_jobs.search_spaces import SearchSpace, parse_space

SPACE: Space = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}
GRID: Space = {"x": {"low": 1, "high": 40}}
POINTS = [{"x": number / 100, "y": 0.5} for number in range(12)]
PATIENCE = 30.0
"""Seconds until a test gives up. It waits for events, so it needs them only if something hangs."""


class Slow:
    """A method whose proposals take the seconds of a generator. It fills in at once."""

    def __init__(self, method: Method, seconds: Iterator[float]) -> None:
        self.method = method
        self.seconds = seconds

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        time.sleep(next(self.seconds))
        return self.method.propose(observations, number)

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        return self.method.fill_in(observations, number)


class Held:
    """A method that blocks each proposal until it is released."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.asked: list[tuple[int, Observations]] = []
        self.changed = threading.Condition()
        self.let_go = 0

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        with self.changed:
            self.asked.append((number, observations))
            place = len(self.asked)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.let_go >= place)
        return self.method.propose(observations, number)

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        return self.method.fill_in(observations, number)

    def wait_asked(self, times: int) -> None:
        """Return once it works on its proposal number `times`, counted from 1."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= times, PATIENCE)

    def release(self, more: int = 1_000) -> None:
        with self.changed:
            self.let_go += more
            self.changed.notify_all()


class Wrong:
    """A method that fails."""

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        raise ArithmeticError("no such matrix")

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        return {"x": 0.5, "y": number / 1000}


def ahead(method: Method, space: Space = SPACE, depth: int = 2) -> Ahead:
    parsed = parse_space(space)
    return Ahead(method, history_of(parsed), parsed, depth)


def take(proposals: Proposals, number: int) -> Configuration:
    """Take a configuration and create its trial."""
    configuration = proposals.take(number)
    assert configuration is not None
    proposals.apply(created(number, configuration))
    return configuration


def answer(proposals: Ahead, held: Held, times: int) -> None:
    """Release `times` proposals, if the method is asked so often."""

    def settled() -> bool:
        return len(held.asked) > held.let_go or not proposals._has_work()

    for _ in range(times):
        wait_for(settled)
        if len(held.asked) > held.let_go:
            held.release(1)
    wait_for(settled)


def search_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "search"]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    assert search_threads() == []
    yield
    assert search_threads() == []


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


# At once


def test_an_immediate_proposal_rests_on_every_event_before_it() -> None:
    space = parse_space(SPACES["numbers"])
    history, expected = history_of(space), history_of(space)
    with closing(Immediate(search(SPACES["numbers"], "gp"), history)) as proposals:
        for number in range(20):
            configuration = search(SPACES["numbers"], "gp").propose(expected.snapshot(), number)
            assert proposals.take(number) == configuration
            assert configuration is not None
            for event in (created(number, configuration), *what_follows(number, number % 5)):
                proposals.apply(event)
                expected.apply(event)


# One ahead


def run_with_one_worker(seconds: Iterator[float], trials: int = 16) -> list[Configuration]:
    """Run trials of any length one after the other, with a method that takes any time."""
    parsed = parse_space(SPACE)
    taken = []
    with closing(OneAhead(Slow(search(SPACE, "gp"), seconds), history_of(parsed))) as proposals:
        for number in range(trials):
            taken.append(take(proposals, number))
            for event in what_follows(number, sum(taken[-1].values())):
                time.sleep(next(seconds))
                proposals.apply(event)
    return taken


def random_seconds(seed: int) -> Iterator[float]:
    rng = Random(seed)
    return iter(
        lambda: rng.choice([0.0, 0.0, 0.001, 0.01]), None
    )  # two threads may ask at once: no generator can


def test_one_ahead_gives_the_same_however_fast_anything_is() -> None:
    first, *others = (run_with_one_worker(random_seconds(seed)) for seed in range(4))
    assert others == [first] * 3
    assert len({tuple(configuration.values()) for configuration in first}) == len(first)


def test_one_ahead_rests_on_what_was_known_when_the_trial_before_began() -> None:
    held = Held(search(SPACE))
    with closing(OneAhead(held, history_of(parse_space(SPACE)))) as proposals:
        held.release()
        first = take(proposals, 0)
        held.wait_asked(2)
        proposals.apply(reported(0, 0.5))
        take(proposals, 1)
        held.wait_asked(3)
    assert [number for number, _ in held.asked] == [0, 1, 2]
    assert [len(observations.configurations) for _, observations in held.asked] == [0, 1, 2]
    assert held.asked[1][1].scores[1] == {}
    assert held.asked[2][1].scores[1] == {"0000": 0.5}
    assert held.asked[1][1].configurations == {"0000": first}


def test_one_ahead_computes_while_the_trial_runs() -> None:
    held = Held(search(SPACE))
    with closing(OneAhead(held, history_of(parse_space(SPACE)))) as proposals:
        held.release(1)
        take(proposals, 0)
        held.wait_asked(2)  # no worker has asked for it yet
        held.release()


def test_one_ahead_continues_after_any_number_of_trials() -> None:
    with closing(OneAhead(search(SPACE), history_of(parse_space(SPACE)))) as proposals:
        expected = search(SPACE).propose(history_of(parse_space(SPACE)).snapshot(), 7)
        assert proposals.take(7) == expected


# Ahead


def test_a_worker_never_waits_for_a_slow_method() -> None:
    held = Held(search(SPACE))
    with closing(ahead(held)) as proposals:
        held.wait_asked(1)
        taken = [take(proposals, number) for number in range(6)]
        assert held.let_go == 0
        held.release()
    drawn = search(SPACE)
    history = history_of(parse_space(SPACE))
    for number, configuration in enumerate(taken):
        assert configuration == drawn.fill_in(history.snapshot(), number)
        history.apply(created(number, configuration))


def test_ready_proposals_are_given_in_their_order() -> None:
    held = Held(search(SPACE))
    with closing(ahead(held)) as proposals:
        answer(proposals, held, 2)
        assert [number for number, _ in held.asked] == [0, 1]
        first = held.asked[1][1].configurations
        assert list(first.values()) == [take(proposals, 0)]
        held.release()
        take(proposals, 1)


def test_ready_proposals_count_as_running_for_the_next() -> None:
    with closing(ahead(search(SPACE), depth=4)) as proposals:
        wait_for(lambda: len(proposals._ready) == 4)
        taken = [take(proposals, number) for number in range(4)]
    history = history_of(parse_space(SPACE))
    for number, configuration in enumerate(taken):
        assert configuration == search(SPACE).propose(history.snapshot(), number)
        history.apply(created(number, configuration))


def test_no_more_are_kept_ready_than_there_are_workers() -> None:
    held = Held(search(SPACE))
    held.release()
    with closing(ahead(held, depth=3)) as proposals:
        wait_for(lambda: len(proposals._ready) == 3)
        take(proposals, 0)
        held.wait_asked(4)
        wait_for(lambda: len(proposals._ready) == 3)
        assert len(held.asked) == 4


def test_proposals_based_on_fewer_scores_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_jobs.search.proposals.REST", 0.0)  # at once
    held = Held(search(SPACE))
    with closing(ahead(held)) as proposals:
        take(proposals, 0)
        answer(proposals, held, 9)
        before = len(held.asked)
        proposals.apply(reported(0, 0.5))
        answer(proposals, held, 9)
        anew = held.asked[before:]
        assert [number for number, _ in anew] == [1, 2]
        assert [observations.scores[1] for _, observations in anew] == [{"0000": 0.5}] * 2
        taken = [take(proposals, 1), take(proposals, 2)]
        assert taken == [search(SPACE).propose(observations, number) for number, observations in anew]
        held.release()


def test_ready_proposals_are_given_until_they_are_replaced() -> None:
    held = Held(search(SPACE))
    with closing(ahead(held)) as proposals:
        take(proposals, 0)
        answer(proposals, held, 9)
        ready = list(proposals._ready)
        proposals.apply(reported(0, 0.5))
        assert [take(proposals, 1), take(proposals, 2)] == ready
        held.release()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", ["gp", "random", "grid"])
def test_no_configuration_is_given_twice_however_fast_anything_is(method: str, seed: int) -> None:
    seconds = random_seconds(seed)
    space = parse_space(GRID)
    taken = []
    with closing(ahead(Slow(search(GRID, method), seconds), GRID, depth=3)) as proposals:
        for number in range(40):
            taken.append(take(proposals, number)["x"])
            for event in what_follows(number, taken[-1]):
                proposals.apply(event)
            time.sleep(next(seconds))
        assert proposals.take(40) is None
    assert sorted(taken) == list(range(1, 41)) == [point["x"] for point in space.grid()]


ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=12, max_size=12)
"""For each taken proposal: the number of released proposals before it, and whether a score is reported."""


def taken_while_held(
    method: Method, space: Space, answers: Sequence[tuple[int, bool]]
) -> list[Configuration]:
    held = Held(method)
    taken = []
    with closing(ahead(held, space)) as proposals:
        for number, (times, scored) in enumerate(answers):
            answer(proposals, held, times)
            if scored and number:
                proposals.apply(reported(number - 1, 0.5))
            taken.append(take(proposals, number))
        held.release()
    return taken


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@example([(0, False), (2, False)] * 6)  # filled in, and too late for the count of the next
@given(ANSWERS)
def test_no_point_is_skipped_if_a_proposal_comes_too_late(answers: list[tuple[int, bool]]) -> None:
    assert taken_while_held(search(SPACE, points=POINTS), SPACE, answers) == POINTS


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@example([(0, False), (2, False)] * 6)
@given(ANSWERS)
def test_no_grid_point_is_skipped_if_a_proposal_comes_too_late(
    answers: list[tuple[int, bool]],
) -> None:
    taken = taken_while_held(search(GRID, "grid"), GRID, answers)
    assert [configuration["x"] for configuration in taken] == list(range(1, 13))


def test_late_proposals_of_a_model_are_not_lost() -> None:
    """Otherwise its proposals would never be tried if trials are shorter than a fit."""
    held = Held(search(SPACE, "gp"))
    with closing(ahead(held)) as proposals:
        for number in range(20):
            take(proposals, number)
            proposals.apply(reported(number, number))
        answer(proposals, held, 1)  # for number 0, which was filled in long ago
        take(proposals, 20)
        (_, _), (number, observations) = held.asked
        late = search(SPACE, "gp").propose(observations, number)
        assert late != search(SPACE).propose(observations, number)
        take(proposals, 21)
        answer(proposals, held, 1)
        assert take(proposals, 22) == late
        held.release()


@pytest.mark.parametrize("seed", range(8))
def test_points_come_first_and_in_order_from_the_moment_a_run_begins(seed: int) -> None:
    seconds = random_seconds(seed)
    with closing(ahead(Slow(search(SPACE, "gp", points=POINTS), seconds), SPACE, depth=4)) as proposals:
        taken = []
        for number in range(len(POINTS)):
            taken.append(take(proposals, number))
            if number > 3:
                proposals.apply(reported(number - 4, 0.5))
                time.sleep(next(seconds))
    assert taken == POINTS


def test_a_space_that_is_used_up_has_none_left_and_the_thread_rests() -> None:
    held = Held(search({"x": {"values": [1, 2, 3]}}))
    held.release()
    with closing(ahead(held, {"x": {"values": [1, 2, 3]}}, depth=2)) as proposals:
        assert sorted(take(proposals, number)["x"] for number in range(3)) == [1, 2, 3]
        wait_for(lambda: len(proposals._ready) == 2)
        asked = len(held.asked)
        assert [proposals.take(3), proposals.take(3), proposals.take(3)] == [None] * 3
        time.sleep(0.05)
        assert len(held.asked) <= asked + 2


def of_space(make: Callable[[Method, SearchSpace], Proposals]) -> Callable[[Method], Proposals]:
    return lambda method: make(method, parse_space(SPACE))


MAKES = {
    "one ahead": of_space(lambda method, space: OneAhead(method, history_of(space))),
    "ahead": of_space(lambda method, space: Ahead(method, history_of(space), space, 2)),
}


def take_patiently(proposals: Proposals) -> None:
    """Take a configuration after the thread has failed: `Ahead` fills in until then."""
    for number in range(10_000):
        take(proposals, number)
        time.sleep(0.001)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_an_error_of_the_thread_is_raised_when_a_proposal_is_taken(
    make: Callable[[Method], Proposals],
) -> None:
    with closing(make(Wrong())) as proposals, pytest.raises(ArithmeticError, match="no such matrix"):
        take_patiently(proposals)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_closing_ends_the_thread_and_may_be_done_twice(make: Callable[[Method], Proposals]) -> None:
    proposals = make(search(SPACE))
    take(proposals, 0)
    proposals.close()
    assert search_threads() == []
    proposals.close()


def test_closing_waits_for_the_proposal_in_progress() -> None:
    held = Held(search(SPACE))
    proposals = ahead(held)
    held.wait_asked(1)
    closer = threading.Thread(target=proposals.close)
    closer.start()
    assert search_threads() == ["search"]
    held.release()
    closer.join(PATIENCE)
    assert search_threads() == []


def test_a_method_without_a_model_copies_no_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    history = history_of(parse_space(SPACE))
    proposals = Immediate(search(SPACE), history, with_model=False)
    expected = search(SPACE).propose(history.snapshot(), 3)
    monkeypatch.delattr(SearchHistory, "snapshot")
    assert proposals.take(3) == expected
