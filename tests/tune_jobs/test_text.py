"""Values in the form for people, and foreign text without control characters."""

import ast
import json
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.text import (
    closest,
    configuration_text,
    count_text,
    did_you_mean,
    duration_text,
    list_text,
    number_text,
    one_line,
    readable,
    time_text,
    train_command,
    without_long_lines,
)

ROOT = Path(__file__).parents[2] / "tune_jobs"
SAFE = re.compile(r"quoted\(.*|.*_command\(.*|(.*\.)?(id|trial_id)|submission_id|at|flags|len\(.*")
"""Values in commands that need no quotes, or have them."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"),
        (1234567.0, "1.235e+06"),
        (1e-9, "1e-09"),
        (0.5, "0.5"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (64, "64"),
        (10**20, "100000000000000000000"),
        (True, "true"),
        (None, ""),
        ("full", "full"),
        ([32, 64], "[32, 64]"),
        ({"a": "b"}, '{"a": "b"}'),
    ],
)
def test_numbers_have_four_digits_and_other_values_their_form_in_a_job(value: object, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7530, "2 h 5 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations_are_rounded_before_they_are_divided(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_configuration_is_one_line() -> None:
    configuration = {
        "lr": 0.0123456,
        "batch_size": 64,
        "model.hidden": [8, 8],
        "nesterov": True,
        "optimizer": "sgd",
    }
    assert configuration_text(configuration) == (
        "lr=0.01235 batch_size=64 model.hidden=[8, 8] nesterov=true optimizer=sgd"
    )
    assert configuration_text({}) == ""


@pytest.mark.parametrize(("number", "text"), [(0, "0 trials"), (1, "1 trial"), (2000, "2,000 trials")])
def test_one_is_singular(number: int, text: str) -> None:
    assert count_text(number, "trial") == text


@pytest.mark.parametrize(("numbers", "text"), [([2], "2"), ([2, 6], "2 and 6"), ([2, 6, 18], "2, 6 and 18")])
def test_the_last_of_several_numbers_comes_after_and(numbers: list[int], text: str) -> None:
    assert list_text(numbers) == text


def test_a_time_is_shown_in_utc_to_the_minute() -> None:
    assert time_text(1795594440.9) == "2026-11-25 08:14 UTC"


def test_a_shell_reads_the_exact_configuration_from_its_command() -> None:
    command = train_command(
        Path("a job's.yaml"), {"lr": 0.1 + 0.2, "act": "$HOME", "hidden": [8, 8], "full": True}
    )
    assert shlex.split(command) == [
        *("tune-jobs", "train", "a job's.yaml"),
        *("--lr", "0.30000000000000004", "--act", "$HOME", "--hidden", "[8, 8]", "--full", "true"),
    ]
    assert train_command(Path("job.yaml"), {}) == "tune-jobs train job.yaml"


def test_lines_and_tabs_stay_and_control_characters_are_spelled_out() -> None:
    assert readable("é\t▁\n\x1b[2J\r\u202e") == "é\t▁\n\\x1b[2J\\r\\u202e"


@pytest.mark.parametrize(
    ("value", "line"), [("a\n  b\tc", "a b c"), ("\x1b[2J", "\\x1b[2J"), ("", ""), (3, "3"), ("é ▁", "é ▁")]
)
def test_foreign_text_is_one_line_without_control_characters(value: object, line: str) -> None:
    assert one_line(value) == line


def test_nothing_is_suggested_if_nothing_is_close() -> None:
    assert did_you_mean("weight", ["height_of_all", "lr"]) == ""
    assert did_you_mean("epoch", ["lr", "epochs"]) == "; did you mean 'epochs'?"
    assert closest("epoch", ["lr", "epochs"]) == "epochs"
    assert closest("epoch", ["epochs"], cutoff=0.99) is None


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e300, 1e300) | st.integers() | st.booleans() | st.lists(st.integers()))
def test_a_number_is_shown_within_a_thousandth(value: Any) -> None:
    read = json.loads(number_text(value))
    assert read == pytest.approx(value, rel=1e-3) if isinstance(value, float) else read == value


def test_the_middle_of_a_very_long_line_is_left_out() -> None:
    assert without_long_lines("short\nlines") == "short\nlines"
    first, second = without_long_lines(f"given {'x' * 100_000}!\nnext").split("\n")
    assert second == "next"
    assert first.startswith("given xxx")
    assert first.endswith("x!")
    assert "(98,007 characters left out)" in first
    assert len(first) < 2100


def unquoted_words() -> Iterator[str]:
    """Yield the values in commands of messages, such as `tune-jobs show {run}`, that no shell may split."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
            before = ""
            for part in text.values:
                if isinstance(part, ast.Constant):
                    before += str(part.value)
                    continue
                value, before = ast.unparse(part.value), before + "x"  # type: ignore[attr-defined]
                if re.search(r"tune-jobs [a-z]+ [^`]*$", before) and not SAFE.fullmatch(value):
                    yield f"{path.relative_to(ROOT)}:{part.lineno}: {value}"


def test_a_shell_takes_each_command_of_a_message_as_it_is_shown() -> None:
    """A folder may have a blank in its path."""
    assert list(unquoted_words()) == []
