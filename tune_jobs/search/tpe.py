"""Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), given only comparable trials."""

import warnings
from collections.abc import Iterator
from random import Random

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from tune_jobs.search.comparison import Comparison
from tune_jobs.search.history import Configuration, Observations
from tune_jobs.search.optuna_space import suggest, to_optuna
from tune_jobs.search_spaces import SearchSpace

_ASKED = 3
"""Largest number of requests for another proposal if the sampler repeats one that was tried."""


class TpeModel:
    """Optuna's sampler, in a study that holds only the trials of one comparison and the trials without a score.

    In the run's own study, Optuna would rank every stopped trial behind every other one.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def rank(
        self, observations: Observations, comparison: Comparison, rng: Random
    ) -> Iterator[Configuration]:
        """Return proposals of the sampler."""
        study = optuna.create_study(sampler=_sampler(rng.randrange(2**32)))
        for trial, score in zip(comparison.trials, comparison.scores, strict=True):
            parameters, distributions = to_optuna(self._space, observations.configurations[trial])
            study.add_trial(create_trial(params=parameters, distributions=distributions, value=score))
        for configuration in observations.running_before(comparison.epoch):
            parameters, distributions = to_optuna(self._space, configuration)
            study.add_trial(
                create_trial(params=parameters, distributions=distributions, state=TrialState.RUNNING)
            )
        for _ in range(_ASKED):
            with np.errstate(all="ignore"):  # for ranges at the limits of doubles; the result is good enough
                configuration = suggest(self._space, study.ask())
            yield configuration


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # `group` keeps conditional parameters in one model; Optuna calls it experimental since 2.8.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, n_startup_trials=0, seed=seed
        )
