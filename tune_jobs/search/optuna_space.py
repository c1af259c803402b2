"""A search space in Optuna's terms."""

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from tune_jobs.search.history import Configuration
from tune_jobs.search_spaces import Choice, Domain, Float, Int, SearchSpace
from tune_jobs.search_spaces.values import exact


def distribution(domain: Domain) -> BaseDistribution:
    """Return the Optuna distribution with the same values."""
    match domain:
        case Float(low=low, high=high, log=log, step=step):
            return FloatDistribution(low, _highest(domain, high), log=log, step=step)
        case Int(low=low, high=high, log=log, step=step):
            return IntDistribution(low, int(_highest(domain, high)), log=log, step=step)
        case Choice(values=values) as choice:
            return CategoricalDistribution([_label(choice, value) for value in values])


def to_optuna(
    space: SearchSpace, configuration: Configuration
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return the parameters and distributions of an Optuna trial."""
    domains = {name: space.parameters[name].domain for name in configuration}
    parameters = {
        name: _label(domain, configuration[name]) if isinstance(domain, Choice) else configuration[name]
        for name, domain in domains.items()
    }
    return parameters, {name: distribution(domain) for name, domain in domains.items()}


def suggest(space: SearchSpace, trial: Trial) -> dict[str, Any]:
    """Ask `trial` for each active parameter, parents before their children, and return the configuration."""
    configuration: dict[str, Any] = {}
    for name in space.order:
        if name not in space.active(configuration):
            continue
        match space.parameters[name].domain:
            case Float(low=low, high=high, log=log, step=step) as domain:
                high = _highest(domain, high)
                value = trial.suggest_float(name, low, high, log=log, step=step)
                value = min(max(value, low), high)  # a logarithm and back may end beside a bound
                configuration[name] = _on_grid(domain, value)
            case Int(low=low, high=high, log=log, step=step) as domain:
                high = int(_highest(domain, high))
                configuration[name] = _on_grid(domain, trial.suggest_int(name, low, high, log=log, step=step))
            case Choice(values=values) as choice:
                labels = [_label(choice, value) for value in values]
                chosen = trial.suggest_categorical(name, labels)
                configuration[name] = choice.at(labels.index(chosen))
    return configuration


def _on_grid(domain: Float | Int, value: float) -> float:
    """Return the value, or the nearest of the grid: Optuna computes in doubles, which may end beside a step."""
    if domain.step is None or domain.contains(value):
        return value
    index = round((exact(value) - exact(domain.low)) / exact(domain.step))
    return domain.at(min(max(index, 0), (domain.size() or 1) - 1))


def _highest(domain: Float | Int, high: float) -> float:
    """Return the last value of the grid: Optuna warns if the steps do not end at `high`."""
    size = domain.size()
    return high if size is None or domain.step is None else domain.at(size - 1)


def _label(choice: Choice, value: Any) -> CategoricalChoiceType:
    """Return `value` as Optuna stores it: itself if all values are distinct texts and numbers, else its canonical text.

    Optuna compares with `==`, for which 1, 1.0 and true are equal.
    """
    values = choice.values
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    return value if plain and len(set(values)) == len(values) else choice.key(value)
