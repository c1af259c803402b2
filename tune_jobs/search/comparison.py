"""Comparisons of scores at one epoch, for the models of the search, and their scale.

Scores at different epochs are never ranked together: a good loss after one epoch is a bad one after nine, and a model
that ranks stopped trials behind finished ones prefers trials that were lucky to finish.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 6
"""Smallest number of trials in a comparison; fewer say too little."""


@dataclass(frozen=True)
class Comparison:
    """Trials that were compared at one epoch, in the order in which they reached it."""

    epoch: int
    trials: Sequence[str]
    scores: Sequence[float]
    """Scores of the trials: lower is better; infinite if the trial diverged."""


def choose_comparison(scores: Mapping[int, Mapping[str, float]], factor: int) -> Comparison | None:
    """Return the comparison at the highest epoch that enough trials have reached; None if there is none.

    Enough is one in `factor + 1` of the trials at the first epoch. About one in `factor` is promoted, so this is the
    second rung once that is filled, or a later one if trials do not wait. Higher rungs hold fewer trials, and only
    good ones, which do not show a model where the bad ones are. (BOHB, Falkner et al. 2018, takes the highest epoch
    with a fixed number of trials.)
    """
    chosen = None
    most = len(next(iter(scores.values()), {}))
    for epoch, entries in scores.items():
        if len(entries) >= max(FEWEST, most / (factor + 1)):
            chosen = Comparison(epoch, tuple(entries), tuple(entries.values()))
    return chosen


def log_ranks(scores: Sequence[float]) -> np.ndarray:
    """Return the logarithms of the ranks, scaled to mean 0 and deviation 1; equal scores share their mean rank.

    Exploding losses do not affect ranks. The logarithm spreads the best scores and compresses the rest: on most tasks
    the worse half differs only by chance, and a model should not fit that.
    """
    values = np.log(_mean_ranks(scores) - 0.5)
    deviation = values.std()
    return np.asarray((values - values.mean()) / deviation if deviation > 0 else np.zeros(len(values)))


def _mean_ranks(scores: Sequence[float]) -> np.ndarray:
    """Return the ranks from 1. SciPy has the same in a package that each driver would import for half a second."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
