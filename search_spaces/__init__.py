"""Search spaces: the configurations that a search may propose.

    from random import Random
    from tune_jobs.search_spaces import parse_space

    space = parse_space({
        "optimizer": {"values": ["sgd", "adam"]},
        "lr": {"low": 1e-4, "high": 1.0, "log": True},
        "momentum": {"low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
    })
    space.sample(Random(0))                              # with momentum only if sgd was drawn
    space.problems({"optimizer": "adam", "lr": 10.0})    # lr: … valid is 0.0001 to 1.0, log scale

This package knows neither what a parameter does nor which method searches a space.
"""

from tune_jobs.problem import Problem
from tune_jobs.search_spaces.catalogue import READY_SPACES, ReadySpace, ready_space
from tune_jobs.search_spaces.domains import Choice, Domain, Float, Int
from tune_jobs.search_spaces.errors import SearchSpaceError
from tune_jobs.search_spaces.parsing import parse_space
from tune_jobs.search_spaces.space import Parameter, SearchSpace
from tune_jobs.search_spaces.wandb_sweeps import ImportedSweep, import_sweep

__all__ = [
    "READY_SPACES",
    "Choice",
    "Domain",
    "Float",
    "ImportedSweep",
    "Int",
    "Parameter",
    "Problem",
    "ReadySpace",
    "SearchSpace",
    "SearchSpaceError",
    "import_sweep",
    "parse_space",
    "ready_space",
]
