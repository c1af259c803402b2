"""Job files, sweep files, overrides and data files as nobody should write them, made by hypothesis.

Numbers that are valid are kept small where they would be computed with: what is tested is what is said of bad
input, not how long good input takes.
"""

import copy
import json
import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tune_jobs.job.file import dump_yaml

Sections = dict[str, Any]
Draw = Any

JOBS: tuple[Sections, ...] = (
    {
        "name": "small",
        "seed": 1,
        "data": {
            "source": "linear_gaussian",
            "arguments": {"n": 40, "features": 2, "sigma": 0.1, "seed": 0},
            "split": {"train": 0.6, "validation": 0.2, "test": 0.2, "method": "random", "seed": 0},
            "standardize": True,
        },
        "model": {"name": "mlp", "arguments": {"hidden": [4], "dropout": 0.1}},
        "training": {
            "max_epochs": 2,
            "loss": "mse",
            "metrics": ["mae", "r2"],
            "schedule": {"name": "step", "step_size": 1, "gamma": 0.5},
            "early_stopping": {"patience": 2, "min_delta": 0.0, "threshold": None},
            "batching": "shuffle",
            "clip_grad_norm": 1.0,
            "device": "cpu",
        },
        "search": {
            "space": {
                "lr": {"low": 1e-3, "high": 0.5, "log": True},
                "batch_size": {"values": [8, "full"]},
                "optimizer": {"values": ["sgd", "adam"]},
                "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
                "model.hidden": {"values": [[4], [8]]},
            },
            "method": "random",
            "trials": 2,
            "points": [{"lr": 0.1}],
        },
        "scheduler": {"method": "asha", "grace_epochs": 1, "reduction_factor": 2},
        "selection": {"metric": "val_loss", "mode": "min"},
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "max_concurrent": 2},
        "limits": {"minutes": None, "minutes_per_epoch": None, "retries_per_trial": 0},
        "tracking": {"wandb": None, "tensorboard": False},
        "storage": "runs",
    },
    {
        "name": "classes",
        "data": {"source": "rows.csv", "target": "kind", "split": {"method": "group", "by": "site"}},
        "model": {"name": "linear"},
        "training": {"max_epochs": 2, "loss": "cross_entropy", "metrics": ["accuracy"]},
        "search": {"space": {"lr": {"values": [0.1, 0.01]}}, "method": "grid", "trials": 2},
        "scheduler": {"method": "none"},
        "selection": {"metric": "accuracy", "mode": "max"},
    },
    {
        "name": "own",
        "data": {"source": "user_code:rows", "arguments": {"n": 30}},
        "model": {"name": "user_code:net", "arguments": {"width": 3}},
        "training": {"max_epochs": 1, "loss": "user_code:loss", "metrics": ["user_code:half"]},
        "search": {
            "space": {"lr": 0.1, "model.width": {"low": 1, "high": 4}},
            "method": "tpe",
            "trials": 2,
        },
        "scheduler": {"method": "median"},
        "selection": {"metric": "half", "mode": "min"},
    },
)

SWEEP: Sections = {
    "name": "a sweep",
    "program": "train.py",
    "method": "bayes",
    "metric": {"name": "val_loss", "goal": "minimize"},
    "run_cap": 12,
    "early_terminate": {"type": "hyperband", "min_iter": 3},
    "parameters": {
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1},
        "batch_size": {"values": [16, 32]},
        "dropout": {"distribution": "q_uniform", "min": 0, "max": 0.5, "q": 0.1},
        "momentum": {"distribution": "normal", "mu": 0.5, "sigma": 0.1},
        "width": {"distribution": "q_log_uniform", "min": 1, "max": 4, "q": 2},
        "model": {"parameters": {"layers": {"min": 1, "max": 3}, "act": {"value": "relu"}}},
    },
}

USER_CODE = """
import numpy as np
from torch import nn

some_text = "not a function"

def rows(n=30):
    random = np.random.default_rng(0)
    x = random.normal(size=(n, 2))
    return x, x.sum(1)

def net(width, input_shape, outputs):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.Linear(width, outputs))

def loss(outputs, targets):
    return ((outputs - targets) ** 2).mean()

def half(outputs, targets):
    return 0.5
"""

ROWS = "size,weight,site,kind\n" + "".join(
    f"{index * 0.5},{(index * 7) % 5},{'abcdef'[index % 6]},{'good' if index % 2 else 'bad'}\n"
    for index in range(36)
)

# Values


HUGE = (10**400, -(10**400), 2**63, 2**64, -(2**63) - 1, 10**18, 1e308, -1e308, 5e-324)
ODD = (math.nan, math.inf, -math.inf, -0.0, 0, -1, 1, 2, 0.5, 1e-9, True, False, None, "", [], {}, [[]], [{}])

letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
controls = st.text(
    st.sampled_from("\x00\x07\x1b\x7f\x85\r\n\t\u2028\u202e\ufeff\U0001f600é`'\"\\:#"), max_size=6
)
words = st.sampled_from(
    [
        "mse", "adam", "sgd", "full", "digits", "wine.csv", "missing.parquet", "rows.csv", "user_code:net",
        "user_code:some_text", "user_code:rows", "user_code:nothing", "no.such.module:f", "user_code", ":", "a:b:c",
        "os:getpid", "builtins:print", "..:x", "val_loss", "half", "cuda", "cpu", "cuda:99", "mps", "asha",
        "s3://bucket/x", "/", ".", "../..", "a" * 300, "x" * 5000 + ".csv", "~", "1e-4", "0x10", "no", "2024-01-01",
        "group", "time", "column", "stratified", "accuracy", "cnn", "mlp", "linear", "grid", "gp", "one_cycle",
    ]
)  # fmt: skip
scalars = st.one_of(
    st.sampled_from(ODD), st.sampled_from(HUGE), words, letters, controls,
    st.integers(-3, 12), st.floats(allow_nan=True, allow_infinity=True),
)  # fmt: skip
keys = st.one_of(
    words,
    letters,
    controls,
    st.sampled_from(["low", "high", "log", "step", "values", "when", "type", "name", "by"]),
)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=3),
    max_leaves=6,
)


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    nest: Any = []
    for _ in range(levels):
        nest = [nest]
    return nest


# Structures


Place = tuple[Any, Any]
"""A section or list, and the key or index in it."""


def places(tree: Any) -> list[Place]:
    """Every place of `tree` that holds a value."""
    found: list[Place] = []
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, below in pairs:
        found.append((tree, key))
        found += places(below)
    return found


@st.composite
def mutated(draw: Draw, originals: Sequence[Sections], least: int = 1) -> Sections:
    """One of `originals`, changed in a few places."""
    tree = copy.deepcopy(draw(st.sampled_from(list(originals))))
    for _ in range(draw(st.sampled_from([least, least, 2, 3]))):
        there = places(tree)
        if not there:
            break
        above, key = draw(st.sampled_from(there))
        match draw(st.sampled_from(["value", "value", "value", "drop", "add", "rename", "swap", "repeat"])):
            case "value":
                above[key] = draw(values)
            case "drop":
                del above[key]
            case "add" if isinstance(above, dict):
                above[draw(keys)] = draw(values)
            case "rename" if isinstance(above, dict):
                above[draw(keys)] = above.pop(key)
            case "swap":
                other, other_key = draw(st.sampled_from(there))
                above[key] = copy.deepcopy(other[other_key])
            case _:
                above[key] = [copy.deepcopy(above[key])] * draw(st.integers(0, 3))
    return tree


def as_text(tree: Any) -> str:
    """`tree` as YAML, or as JSON where our own writer has no words for it."""
    try:
        return dump_yaml(tree)
    except Exception:
        return json.dumps(tree)


@st.composite
def damaged(draw: Draw, texts: st.SearchStrategy[str]) -> bytes:
    """A text with damage in its letters and lines, as bytes."""
    text = draw(texts)
    lines = text.split("\n")
    place = draw(st.integers(0, len(lines) - 1))
    match draw(
        st.sampled_from(["cut", "line twice", "line gone", "tab", "insert", "bits", "indent", "swap", "long"])
    ):
        case "cut":
            text = text[: draw(st.integers(0, len(text)))]
        case "line twice":
            text = "\n".join([*lines[: place + 1], *lines[place:]])
        case "line gone":
            text = "\n".join([*lines[:place], *lines[place + 1 :]])
        case "tab":
            lines[place] = "\t" + lines[place]
            text = "\n".join(lines)
        case "insert":
            index = draw(st.integers(0, len(text)))
            piece = draw(
                st.one_of(controls, st.sampled_from(list("{}[]:,&*!|>%@`#-?'\"")), st.sampled_from(_TRICKS))
            )
            text = text[:index] + piece + text[index:]
        case "bits":
            raw = bytearray(text.encode("utf-8", "surrogatepass"))
            for _ in range(draw(st.integers(1, 4))):
                if raw:
                    raw[draw(st.integers(0, len(raw) - 1))] ^= 1 << draw(st.integers(0, 7))
            return bytes(raw)
        case "indent":
            lines[place] = " " * draw(st.integers(1, 5)) + lines[place].lstrip()
            text = "\n".join(lines)
        case "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
            text = "\n".join(lines)
        case _:
            text += draw(st.sampled_from(_TRICKS))
    return text.encode("utf-8", "surrogatepass")


_TRICKS = (
    "\nextra: " + "[" * 3000,
    "\nextra: " + "[" * 100 + "]" * 100,
    "\nextra: {a: " * 200,
    "\nextra: &a [*a]",
    "\nextra: &a {b: *a}",
    "\nextra: *nothing",
    "\nextra: !!python/object/apply:os.system ['true']",
    "\nextra: !!binary '****'",
    "\nextra: !!set {a, b}",
    "\nextra: !!omap [a: 1]",
    "\nextra: !!timestamp 2024-13-45",
    "\nextra: 2024-01-01",
    "\nextra: !mine {}",
    "\nextra: 0x" + "f" * 5000,
    "\nextra: " + "9" * 5000,
    "\nseed: 0x" + "f" * 5000,
    "\nname: second",
    "\n<<: {name: merged}",
    "\n? [a, b]\n: c",
    "\n? {a: 1}\n: c",
    "\n---\nname: another document\n",
    "\n...\n",
    "%YAML 1.1\n---\n",
    "\nextra: \"\\ud800\"",
    "\nextra: \"\\x1b[2J\"",
    "\n" + "k" * 3000 + ": 1",
    "\nnull: 1\ntrue: 2\n1.5: 3",
    "\n\"\\u0007\\e[31m\": 1",
)  # fmt: skip

job_texts: st.SearchStrategy[bytes] = st.one_of(
    mutated(JOBS).map(as_text).map(lambda text: text.encode("utf-8", "surrogatepass")),
    mutated(JOBS).map(as_text).map(lambda text: text.encode("utf-8", "surrogatepass")),
    damaged(mutated(JOBS, least=0).map(as_text)),
    st.dictionaries(keys | st.sampled_from([*JOBS[0]]), values, max_size=5)
    .map(as_text)
    .map(lambda text: text.encode("utf-8", "surrogatepass")),
    letters.map(lambda text: text.encode("utf-8")),
    st.binary(max_size=200),
)
"""Job files, as bytes."""

sweep_texts: st.SearchStrategy[bytes] = st.one_of(
    mutated([SWEEP]).map(as_text).map(lambda text: text.encode("utf-8", "surrogatepass")),
    damaged(mutated([SWEEP], least=0).map(as_text)),
    st.binary(max_size=200),
)
"""Sweep files, as bytes."""

_NAMES = (
    "search.trials", "training.max_epochs", "search.space.lr.high", "search.space.lr.when.optimizer", "seed",
    "search.space.model.hidden", "search.space", "search", "data.split.method", "data.source.deeper", "name.deeper",
    "tracking.wandb.project", "model.arguments.hidden", "search.points.0.lr", "a.b.c.d", "lr", "momentum", "model.x",
    "model.hidden", "training.schedule.name", "training.loss", "storage", "limits.minutes", "resources.cpus_per_trial",
    ".", "..", "search.", ".search", "search..trials", "=", "", "search.space.model", "search.space.lr.values.0",
    "selection.metric", "data.target", "scheduler.grace_epochs", "batch_size", "nesterov", "help", "version",
)  # fmt: skip
_argument = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    ),
    max_size=10,
)
"""What a shell can pass on: any bytes but a zero, those that are no UTF-8 as half surrogates."""


@st.composite
def _override(draw: Draw) -> list[str]:
    name = draw(st.one_of(st.sampled_from(_NAMES), st.sampled_from(_NAMES), _argument))
    value = draw(
        st.one_of(
            values.map(_inline), _argument, st.sampled_from(["[", "{a: ", "&a [*a]", "1e", "!!x", "'", "\t"])
        )
    ).replace("\0", "0")
    return draw(
        st.sampled_from([[f"--{name}", value], [f"--{name}={value}"], [f"--{name}"], [value], [f"-{name}", value]])
    )  # fmt: skip


def _inline(value: Any) -> str:
    return str(value) if isinstance(value, int | float) and abs(value) < 1e300 else json.dumps(value)


overrides: st.SearchStrategy[list[str]] = st.one_of(
    st.just([]),
    st.lists(_override(), max_size=2).map(lambda pairs: [argument for pair in pairs for argument in pair]),
)
"""Arguments after the job file."""

LONG_TRAINING = 4
"""Epochs that a test does not wait for."""

nearly_valid_jobs: st.SearchStrategy[bytes] = (
    mutated(JOBS).map(as_text).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
"""Job files with few faults, of which some turn out to be none."""
