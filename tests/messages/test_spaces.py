"""What is said of search spaces and of W&B's sweep files."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.messages.conftest import Say
from tests.messages.jobs import write_job
from tests.messages.product import (
    READY_SPACES,
    Choice,
    Float,
    Int,
    Parameter,
    SearchSpace,
    SearchSpaceError,
    import_sweep,
    parse_space,
    ready_space,
)
from tests.messages.snapshots import check

SPACES = {
    "no section": "3",
    "an empty space": "{}",
    "entries that are none": "{lr: {}, a: {low: 1}, b: {values: []}, c: {values: 3}, d: {values: [1], low: 2}}",
    "values that are none": "{lr: [1, 2], a: {values: [1, 1]}, b: {values: [.nan]}, c: {values: [{1: .inf}]}}",
    "bounds": (
        "{lr: {low: 1, high: 0}, a: {low: 0, high: 1, log: true}, b: {low: x, high: .inf}, "
        "c: {low: 0.5, high: 1, type: int}, d: {low: 0, high: 1, type: integer}, e: {low: 0, high: 1, log: 3}}"
    ),
    "steps": (
        "{lr: {low: 0.0, high: 1.0, step: -1.0}, a: {low: 1.0, high: 2.0, log: true, step: 0.5}, "
        "b: {low: 1, high: 9, log: true, step: 2}, c: {low: 1, high: 9, step: 0}, "
        "d: {low: 0.0, high: 1.0, step: 1e-30}}"
    ),
    "large whole numbers": "{lr: {low: 0, high: 100000000000000000000}}",
    "keys": "{lr: {low: 1, hihg: 2}, a: {low: 0, high: 1, median: 3}}",
    "conditions": (
        "{lr: {low: 0, high: 1, when: 3}, a: {low: 0, high: 1, when: {b: 1}}, c: {low: 0, high: 1, when: {lr: []}}, "
        "optimizer: {values: [sgd, adam]}, momentum: {low: 0.0, high: 0.9, when: {optimizer: lion}}, "
        "eps: {low: 0.1, high: 0.2, when: {optimiser: adam}}}"
    ),
    "conditions in a circle": "{lr: {values: [1, 2], when: {a: 1}}, a: {values: [1, 2], when: {lr: 1}}}",
    "names": "{'learning rate': 1, 'a..b': 2, '': 3}",
}

SWEEPS = {
    "a sweep that is understood": """
        name: mine
        method: bayes
        run_cap: 20
        metric: {name: val_loss, goal: minimize, target: 0.1, impute: worst}
        program: train.py
        command: [python]
        early_terminate: {type: hyperband, max_iter: 100, s: 2, eta: 2.5, strict: true}
        project: p
        entity: e
        description: d
        controller: {type: cloud}
        parameters:
          fixed: {value: 3}
          listed: {values: [1, 2], probabilities: [0.2, 0.8]}
          learning_rate: {min: 0.1, max: 1.0}
          whole: {min: 1, max: 5}
          a: {distribution: log_uniform, min: -3, max: 0}
          b: {distribution: inv_log_uniform, min: 0, max: 3}
          c: {distribution: q_uniform, min: 0, max: 10, q: 2}
          d: {distribution: q_log_uniform_values, min: 1, max: 100, q: 3}
          e: {distribution: q_log_uniform, min: 0, max: 3, q: 0.5}
          f: {distribution: normal, mu: 1, sigma: 2}
          g: {distribution: q_normal, mu: 1, sigma: 2}
          h: {distribution: log_normal, mu: 1, sigma: 2}
          i: {distribution: q_log_normal, mu: 1, sigma: 2}
          j: {distribution: beta}
          k: {distribution: q_beta, q: 0.25}
          model: {parameters: {hidden: {values: [4, 8]}}}
    """,
    "another metric": """
        method: random
        metric: {name: loss, goal: maximize}
        early_terminate: {type: hyperband, min_iter: 3}
        parameters: {lr: {min: 0.1, max: 1.0}}
    """,
    "keys that are none": """
        methd: bayes
        nonsense: 1
        metric: {nam: x, goal: best}
        run_cap: -1
        name: 3
        parameters: {}
    """,
    "values that are none": """
        method: hyper
        metric: 3
        early_terminate: {type: median, min_iter: 0, eta: 1, itr: 3}
        run_cap: many
        parameters:
          a: {}
          b: {distribution: cauchy}
          c: {min: 1}
          d: {min: x, max: 3}
          e: {distribution: q_uniform, min: 0, max: 1, q: 0}
          f: {distribution: normal, sigma: -1}
          g: {min: 3, max: 1}
          h: {min: 1e-4, max: 0.2}
          r: {min: 2, max: 2}
          s: {values: [1, 2], probabilities: [1]}
          t: {values: [1, 2], probabilities: [1, 1]}
          i: {distribution: q_uniform, min: 2, max: 1, q: 1}
          j: {distribution: normal, mu: 1.0e+308, sigma: 1.0e+308}
          k: {distribution: log_uniform, min: 1, max: 1000}
          l: 3
          m: {min: 0, max: 1, step: 2}
          n: {parameters: {o: {value: 1}}, value: 3}
          p.q: {value: 1}
          p: {parameters: {q: {value: 2}}}
    """,
    "no parameters": "method: grid\n",
    "a grid, and early stopping that stops nothing": """
        method: grid
        early_terminate: {type: hyperband, max_iter: 27}
        parameters: {a: {values: [yes, no, yes, 010]}}
    """,
    "early stopping that is none": """
        method: random
        early_terminate: hyperband
        parameters: {lr: {min: 0.1, max: 1.0}}
    """,
    "early stopping without its numbers": """
        method: random
        early_terminate: {type: hyperband}
        parameters: {lr: {min: 0.1, max: 1.0}}
    """,
}


def test_spaces_of_jobs(place: Path, say: Say) -> None:
    write_job(place)
    said = {name: say(f'validate job.yaml --search.space "{text}"') for name, text in SPACES.items()}
    check("spaces", said, {place: "FOLDER"})


def test_sweep_files(place: Path, say: Say) -> None:
    said = {"no such file": say("import-sweep sweep.yaml")}
    for name, text in SWEEPS.items():
        (place / "sweep.yaml").write_text(text)
        said[name] = say("import-sweep sweep.yaml")
    check("sweeps", said, {place: "FOLDER"})


def test_spaces_in_python() -> None:
    def domain(make: Callable[..., Any], **arguments: Any) -> Callable[[], Any]:
        return lambda: make(**arguments)

    space = parse_space(
        {"lr": {"low": 0.1, "high": 1.0}, "n": {"low": 1, "high": 9, "step": 2}, "o": {"values": ["a", "b"]},
         "m": {"low": 0.0, "high": 1.0, "step": 0.25, "when": {"o": "a"}}}
    )  # fmt: skip
    calls: dict[str, Callable[[], Any]] = {
        "no tuple": domain(Choice, values=[1, 2]),
        "an object": domain(Choice, values=({1, 2},)),
        "a list in a number": domain(Float, low=[1], high=None),
        "text in a whole number": domain(Int, low="1", high=2.5),
        "no mapping": lambda: parse_space([1]),  # type: ignore[arg-type]
        "a key that is no text": lambda: parse_space({1: 2}),  # type: ignore[dict-item]
        "a name": lambda: SearchSpace({"a b": Parameter(Float(low=0.0, high=1.0))}),
        "an unknown ready space": lambda: ready_space("adm"),
        "a ready space of no close name": lambda: ready_space("zzz"),
        "no sweep": lambda: import_sweep([1]),  # type: ignore[arg-type]
        "a configuration": lambda: space.problems({"lr": 2, "n": 2, "o": "b", "m": 0.5, "x": 1}),
        "nothing given": lambda: space.problems({}),
        "a grid": lambda: list(space.grid()),
        "descriptions": lambda: [parameter.domain.describe() for parameter in space.parameters.values()],
        "a sample": lambda: sorted(space.sample(Random(0))),
    }
    said = {}
    for name, call in calls.items():
        try:
            given = call()
            said[name] = "\n".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
        except (SearchSpaceError, ValueError, TypeError) as error:
            said[name] = f"{type(error).__name__}\n{error}"
    check("spaces_in_python", said, {})


def test_ready_spaces() -> None:
    said = {name: f"{ready.description}\n{ready.source}" for name, ready in READY_SPACES.items()}
    check("ready_spaces", said, {})
