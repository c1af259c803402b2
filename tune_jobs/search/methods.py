"""The methods of the search: each maps observations and a number to the next configuration.

A method keeps no state on which its answers depend. All randomness comes from the seed and the number of the proposal.
So a method that is rebuilt on a replayed history makes the same proposals.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from random import Random
from typing import Any, Protocol

import numpy as np

from tune_jobs.job.settings import SearchSettings
from tune_jobs.search.comparison import Comparison, choose_comparison, log_ranks
from tune_jobs.search.features import Features
from tune_jobs.search.gaussian_process import GaussianProcess, KernelParameters
from tune_jobs.search.history import Configuration, Key, Observations
from tune_jobs.search_spaces import SearchSpace

WARM_UP = 10
"""Number of first configurations that are drawn at random, because a model has too little data."""
MOST_FITTED = 300
"""Largest number of trials that a Gaussian process's parameters are fitted to; the time grows with its cube."""
MOST_REGARDED = 1_000
"""Largest number of trials that a Gaussian process uses: the last ones that were compared."""
_DRAWS = 200
"""Largest number of random draws for one configuration. If all were tried before, the space is listed instead."""


class Method(Protocol):
    """A search method."""

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        """Return configuration `number`, from 0, which was never tried before; None if none is left."""

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        """Return a configuration without using a model, for a worker that would have to wait."""


class Model(Protocol):
    """A model that ranks configurations by the observations."""

    def rank(
        self, observations: Observations, comparison: Comparison, rng: Random
    ) -> Iterable[Configuration]:
        """Return configurations worth a trial, the most promising first."""


@dataclass(frozen=True)
class RandomSearch:
    """Random search: each parameter is drawn independently, after the points of the job.

    Args:
        space: The search space.
        points: Configurations to try first; parameters that they leave out are drawn.
        seed: Seed of all draws.
    """

    space: SearchSpace
    points: Sequence[Configuration]
    seed: int

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        rng = Random(f"{self.seed} {number}")  # noqa: S311 (chance, not secrecy)
        given = self.points[number] if number < len(self.points) else {}
        drawn = (self.space.sample(rng, given) for _ in range(_DRAWS))
        unplanned = (self.space.sample(rng) for _ in range(_DRAWS if given else 0))
        return first_untried(self.space, chain(drawn, unplanned, _list_space(self.space)), observations.tried)

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        return self.propose(observations, number)


class GridSearch:
    """Grid search: each configuration once; first one for each point, among those that agree with it."""

    def __init__(self, space: SearchSpace, points: Sequence[Configuration]) -> None:
        self._rest = grid_in_order(space, points)
        self._listed: list[Configuration] = []

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        """Return configuration `number` of the grid, whatever the observations."""
        self._listed += islice(self._rest, max(0, number + 1 - len(self._listed)))
        return self._listed[number] if number < len(self._listed) else None

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        return self.propose(observations, number)


@dataclass(frozen=True)
class ModelSearch:
    """Search with a model; a share of random configurations keeps a wrong model from narrowing the search.

    Args:
        random: Draws the first configurations and a share of the later ones.
        model: Ranks configurations.
        random_share: Probability that a configuration is drawn at random.
        factor: One in this many trials is promoted from a rung.
    """

    random: RandomSearch
    model: Model
    random_share: float
    factor: int

    def propose(self, observations: Observations, number: int) -> Configuration | None:
        rng = Random(f"model {self.random.seed} {number}")  # noqa: S311 (chance, not secrecy)
        comparison = choose_comparison(observations.scores, self.factor)
        warm = number >= max(WARM_UP, len(self.random.points))
        if not warm or comparison is None or rng.random() < self.random_share:
            return self.random.propose(observations, number)
        ranked = self.model.rank(observations, comparison, rng)
        best = first_untried(self.random.space, ranked, observations.tried)
        return self.random.propose(observations, number) if best is None else best

    def fill_in(self, observations: Observations, number: int) -> Configuration | None:
        return self.random.propose(observations, number)


class GaussianProcessModel:
    """Random configurations, ranked by a Gaussian process on the logarithms of ranks.

    It takes the best of a few hundred random configurations, not the optimum over the whole space: the optimum would be
    where the model knows least and errs most. Trials without a score count with the score that the model predicts
    (Ginsbourger et al. 2010, "kriging believer"), and part of the uncertainty counts in favour of a configuration. So
    simultaneous proposals differ.
    """

    candidates = 200
    doubt = 0.5
    """Number of standard deviations that are subtracted from the predicted score."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._features = Features(space)
        self._fitted: dict[tuple[int, Sequence[float]], KernelParameters] = {}
        """The last fit, by its data: the epoch of the comparison, and its first scores."""

    def rank(
        self, observations: Observations, comparison: Comparison, rng: Random
    ) -> Iterator[Configuration]:
        """Return the candidates, the most promising first."""
        candidates = [self._space.sample(rng) for _ in range(self.candidates)]
        if self._features.size == 0:
            return iter(candidates)
        process = self._process(observations, comparison)
        mean, deviation = process.predict(self._features.encode(candidates))
        return (candidates[index] for index in np.argsort(mean - self.doubt * deviation, kind="stable"))

    def _process(self, observations: Observations, comparison: Comparison) -> GaussianProcess:
        x = self._features.encode([observations.configurations[trial] for trial in comparison.trials])
        y = log_ranks(comparison.scores)
        seen = trials_to_fit(len(y))
        hyperparameters = self._hyperparameters(comparison.epoch, x[:seen], comparison.scores[:seen])
        x, y = x[-MOST_REGARDED:], y[-MOST_REGARDED:]
        process = GaussianProcess(hyperparameters, x, y)
        running = observations.running_before(comparison.epoch)
        if not running:
            return process
        x_open = self._features.encode(running)
        expected, _ = process.predict(x_open)
        return GaussianProcess(hyperparameters, np.vstack([x, x_open]), np.concatenate([y, expected]))

    def _hyperparameters(self, epoch: int, x: np.ndarray, scores: Sequence[float]) -> KernelParameters:
        basis = (epoch, tuple(scores))
        if basis not in self._fitted:
            self._fitted = {basis: KernelParameters.fit(x, log_ranks(scores))}
        return self._fitted[basis]


def trials_to_fit(trials: int) -> int:
    """Return how many of the first trials of a comparison the kernel's parameters are fitted to.

    A new fit happens only after a sixth more trials, and depends only on those trials.
    """
    trials = min(trials, MOST_FITTED)
    seen = 1
    while (more := max(seen + 1, int(seen * 7 / 6))) <= trials:
        seen = more
    return seen


def first_untried(
    space: SearchSpace, configurations: Iterable[Configuration], tried: Collection[Key]
) -> Configuration | None:
    """Return the first of `configurations` whose key is not among `tried`."""
    return next((c for c in configurations if space.key(c) not in tried), None)


def grid_in_order(space: SearchSpace, points: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each configuration of the grid once; first one for each point, among those that agree with it."""
    tried: list[dict[str, str]] = []
    for point in points:
        for configuration in space.grid():
            if _agrees(space, configuration, point) and _keys(space, configuration) not in tried:
                tried.append(_keys(space, configuration))
                yield configuration
                break
    yield from (c for c in space.grid() if _keys(space, c) not in tried)


def _agrees(space: SearchSpace, configuration: Configuration, point: Configuration) -> bool:
    keys = _keys(space, configuration)
    return all(keys.get(name) == key for name, key in _keys(space, point).items())


def _keys(space: SearchSpace, configuration: Configuration) -> dict[str, str]:
    return dict(space.key(configuration))


def _list_space(space: SearchSpace) -> Iterator[Configuration]:
    """Yield all configurations of a finite space, none of an infinite one; the check happens at the first use."""
    if space.grid_size() is not None:
        yield from space.grid()


def make_method(settings: SearchSettings, factor: int, seed: int) -> Method:
    """Return the method that the settings name.

    Args:
        settings: Space, method and points.
        factor: One in this many trials is promoted from a rung.
        seed: Seed of all draws.
    """
    space = settings.space
    random = RandomSearch(space, settings.points, seed)
    match settings.method:
        case "random":
            return random
        case "grid":
            return GridSearch(space, settings.points)
        case "gp":
            return ModelSearch(random, GaussianProcessModel(space), random_share=0.1, factor=factor)
        case "tpe":
            from tune_jobs.search.tpe import TpeModel  # noqa: PLC0415 (imports Optuna)

            return ModelSearch(random, TpeModel(space), random_share=0.5, factor=factor)
