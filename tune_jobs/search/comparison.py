"""Like with like: which scores a model of the search may see, and on which scale.

Scores at different epochs are never put into one ranking: a good loss after one epoch is a bad one after nine, and
a model that ranks stopped trials behind finished ones takes the trials that were lucky to finish for the best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

FEWEST = 6
"""Trials that are compared; fewer say nothing."""


@dataclass(frozen=True)
class Comparison:
    """Trials that were all compared at one epoch, in the order in which they came to it."""

    epoch: int
    trials: Sequence[str]
    scores: Sequence[float]
    """Lower is better; infinite is lost."""


def well_filled(scores: Mapping[int, Mapping[str, float]], factor: int) -> Comparison | None:
    """The comparison at the highest epoch that enough trials have come to; None where none has enough.

    Enough is one in `factor + 1` of those at the first epoch. Of these about one in `factor` are promoted, so the
    choice falls on the second rung once that is filled; where trials are not held back, on a later one. Higher
    rungs hold fewer trials, and only good ones, which do not show a model where the bad ones are. (BOHB, Falkner
    et al. 2018, takes the highest epoch with a fixed number of trials.)
    """
    chosen = None
    most = len(next(iter(scores.values()), {}))
    for epoch, entries in scores.items():
        if len(entries) >= max(FEWEST, most / (factor + 1)):
            chosen = Comparison(epoch, tuple(entries), tuple(entries.values()))
    return chosen


def log_ranks(scores: Sequence[float]) -> np.ndarray:
    """Logarithms of ranks, scaled to mean 0 and deviation 1; equals share their mean rank.

    Ranks do not mind losses that explode. Their logarithm spreads the best and draws the rest together: on most
    tasks the worse half differ by chance alone, and a model should not spend itself on that.
    """
    values = np.log(rankdata(scores) - 0.5)
    deviation = values.std()
    return np.asarray((values - values.mean()) / deviation if deviation > 0 else np.zeros(len(values)))
