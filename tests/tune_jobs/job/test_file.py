"""The text of a job file, and the overrides of the command line."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.errors import JobError
from tune_jobs.job.file import YAML_1_1, apply_overrides, dump_yaml, parse_overrides, parse_yaml, read_yaml

# fmt: off
TEXTS = st.text(max_size=10) | st.sampled_from([
    "1e-4", "no", "null", "~", "true", "0x1f", "1_000", "2020-01-01", "<<", "=", "-", "?a", "!a", "&a", "*a",
    "a: b", "a #b", "'", '"', "[", "{", ".nan", ".inf", "+1", "---", "...", " a", "a ", "\t", "\x85", "\n\n a",
    "", "x" * 200, "x y " * 60, "\u2028", "\ufeff", "größe", "\x07",
])
# fmt: on
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=8,
)


def message(error: JobError) -> str:
    return "\n".join(map(str, error.problems))


# Reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-3", -3),
        (".5", 0.5),
        ("no", "no"),
        ("on", "on"),
        ("null", None),
        ("~", None),
        ("true", True),
        ("64", 64),
        ("full", "full"),
        ("[32, 64]", [32, 64]),
        ("{a: 1}", {"a": 1}),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("2020-13-45", "2020-13-45"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("{2: a, 0.5: b}", {"2": "a", "0.5": "b"}),
        ("[&a 1, &a 2, *a]", [1, 2, 2]),
        ("%YAML 1.1\n--- 1e-3", 0.001),
    ],
)
def test_yaml_values_have_the_types_of_a_job_file(text: str, value: Any) -> None:
    parsed = parse_yaml(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds nothing; a job file holds sections such as `data:` and `search:`"),
        ("# only a comment\n", "holds nothing; a job file holds sections such as `data:` and `search:`"),
        ("- a\n- b\n", "holds a list; a job file holds sections such as `data:` and `search:`"),
        ("just text", "holds 'just text'; a job file holds sections such as `data:` and `search:`"),
        ("a,b\n" + 1000 * "1,2\n", "holds 'a,b 1,2 1,2 ...2 1,2 1,2 1,2'; a job file holds sections"),
        ("seed: 1\nname: a\nseed: 2\n", 'not valid YAML: duplicate key "seed" (line 3)'),
        ("data:\n  a: 1\n  a: 2\n", 'not valid YAML: duplicate key "a" (line 3)'),
        ("name: [1\n", "not valid YAML: expected ',' or ']', but got '<stream end>' (line 2)"),
        ("a: 1\n\tb: 2\n", "not valid YAML: found character '\\t' that cannot start any token (line 2)"),
        ("a: *missing\n", "not valid YAML: found undefined alias 'missing' (line 1)"),
        (
            "a: 1\n---\nb: 2\n",
            "not valid YAML: expected a single document in the stream, but found another document (line 2)",
        ),
        ("a: !!python/name:os.system x\n", "not valid YAML: could not determine a constructor for the tag"),
        ("a: &a [*a]\n", "not valid YAML: nested too deeply, or an alias that contains itself"),
        ("- " * 1200, "not valid YAML: nested too deeply, or an alias that contains itself"),
        ("seed: " + "1" * 5000, "not valid YAML: a value cannot be read (Exceeds the limit (4300 digits)"),
        ("a: !!float x\n", "not valid YAML: a value cannot be read (could not convert string to float: 'x')"),
        ('a: "\\ud800"\n', "not valid YAML: a value cannot be read ('utf-8' codec can't encode character"),
        ("a: \x07\n", "not valid YAML: unacceptable character #x0007"),
    ],
)
def test_a_file_that_is_no_job_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(JobError) as caught:
        read_yaml(path)
    assert message(caught.value).startswith(f"{path}: {said}")
    assert caught.value.name == "the job file"


def test_files_that_cannot_be_read_are_named_with_what_to_do(tmp_path: Path) -> None:
    missing = tmp_path / "jbo.yaml"
    with pytest.raises(JobError) as caught:
        read_yaml(missing)
    assert message(caught.value) == f"{missing}: no such file; the current folder is {Path.cwd()}"
    with pytest.raises(JobError) as caught:
        read_yaml(tmp_path)
    assert message(caught.value) == f"{tmp_path}: a folder; give the job file in it"
    binary = tmp_path / "job.npz"
    binary.write_bytes(b"PK\xff\xfe")
    with pytest.raises(JobError) as caught:
        read_yaml(binary)
    assert message(caught.value).startswith(f"{binary}: cannot be read: 'utf-8' codec can't decode byte 0xff")


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused_with_one_problem(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        sections = read_yaml(path)
    except JobError as error:
        assert len(error.problems) == 1  # noqa: PT017 (either outcome is right)
    else:
        assert isinstance(sections, dict)


# Writing


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=3))
def test_written_values_are_read_back_with_types_and_order(sections: dict[str, Any]) -> None:
    read = parse_yaml(dump_yaml(sections))
    assert repr(read) == repr(sections)  # 1, 1.0 and True, -0.0 and 0.0, and the order of keys differ in it


def test_a_job_is_written_to_be_read_by_people() -> None:
    sections = {
        "name": "digits",
        "data": {"source": "my_data.sources:load", "note": "1e-4", "file": "a folder/x.csv"},
        "space": {
            "lr": {"low": 1e-6, "high": math.inf, "log": True},
            "model.hidden": {"values": [[32], [64]]},
        },
        "metrics": [f"metric number {number}" for number in range(6)],
    }
    assert dump_yaml(sections) == (
        "name: digits\n"
        'data:\n  source: "my_data.sources:load"\n  note: "1e-4"\n  file: a folder/x.csv\n'
        "space:\n"
        "  lr: {low: 1e-06, high: .inf, log: true}\n"
        "  model.hidden:\n"
        "    values:\n"
        "    - [32]\n"
        "    - [64]\n"
        "metrics: [metric number 0, metric number 1, metric number 2, metric number 3, metric number 4, "
        "metric number 5]\n"
    )


def test_a_file_of_one_key_is_a_block_that_more_can_follow() -> None:
    assert dump_yaml({"name": "a"}) == "name: a\n"
    assert dump_yaml({"name": "null"}) == "name: 'null'\n"
    assert dump_yaml({}) == "{}\n"


# Overrides as they are typed


@pytest.mark.parametrize(
    ("arguments", "pairs"),
    [
        ([], []),
        (["--a.b", "1"], [("a.b", 1)]),
        (["--a.b=1"], [("a.b", 1)]),
        (["--lr", "1e-4"], [("lr", 1e-4)]),
        (["--lr=-0.5"], [("lr", -0.5)]),
        (["--lr", "-1"], [("lr", -1)]),
        (["--lr", "-1e-3"], [("lr", -1e-3)]),
        (["--hidden", "[32, 64]"], [("hidden", [32, 64])]),
        (["--when={optimizer: sgd}"], [("when", {"optimizer": "sgd"})]),
        (["--name", "text with spaces"], [("name", "text with spaces")]),
        (["--name", "'64'"], [("name", "64")]),
        (["--name", "[unbalanced"], [("name", "[unbalanced")]),
        (["--name", "@home"], [("name", "@home")]),
        (["--a=b=c"], [("a", "b=c")]),
        (["--a="], [("a", None)]),
        (["--a", "null", "--b", "true"], [("a", None), ("b", True)]),
        (["--a", "1", "--a", "2"], [("a", 1), ("a", 2)]),
        (["--search.space.model.hidden.values", "[[8]]"], [("search.space.model.hidden.values", [[8]])]),
    ],
)
def test_overrides_are_read_as_yaml(arguments: list[str], pairs: list[tuple[str, Any]]) -> None:
    parsed = parse_overrides(arguments)
    assert parsed == pairs
    assert [type(value) for _, value in parsed] == [type(value) for _, value in pairs]


def test_all_arguments_that_are_no_overrides_are_listed() -> None:
    with pytest.raises(JobError) as caught:
        parse_overrides(["stray", "--a", "--b", "1", "-c", "--=3", "--last"])
    assert str(caught.value) == (
        "the command line: 5 problems\n"
        "  stray   not understood; an override is `--section.key value`\n"
        "  --a     has no value; write `--a VALUE`\n"
        "  -c      not understood; an override is `--section.key value`\n"
        "  --=3    not understood; an override is `--section.key value`\n"
        "  --last  has no value; write `--last VALUE`"
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["--a", "--a=1", "--", "=", "--a.b=[", "*x"]), max_size=5)
)
def test_any_arguments_are_understood_or_refused(arguments: list[str]) -> None:
    try:
        pairs = parse_overrides(arguments)
    except JobError as error:
        assert error.problems  # noqa: PT017 (either outcome is right)
    else:
        assert all(name for name, _ in pairs)


# Overrides applied


@pytest.mark.parametrize(
    ("override", "path"),
    [
        (("seed", 7), ("seed",)),
        (("search.trials", 100), ("search", "trials")),
        (("tracking.wandb.project", "demo"), ("tracking", "wandb", "project")),
        (("limits.minutes", 3), ("limits", "minutes")),
        (("search.space.lr.high", 0.1), ("search", "space", "lr", "high")),
        (("search.space.lr.wrong", 0.1), ("search", "space", "lr", "wrong")),
        (("search.space.beta1", 0.5), ("search", "space", "beta1")),
        (("search.space.model.hidden", {}), ("search", "space", "model.hidden")),
        (("search.space.model.hidden.values", [[8]]), ("search", "space", "model.hidden", "values")),
        (("search.space.model.type.values", [1]), ("search", "space", "model.type", "values")),
        (
            ("search.space.training.schedule.name", {"values": ["cosine"]}),
            ("search", "space", "training.schedule.name"),
        ),
        (
            ("search.space.training.schedule.step_size.low", 2),
            ("search", "space", "training.schedule.step_size", "low"),
        ),
        (
            ("search.space.momentum.when.optimizer", "sgd"),
            ("search", "space", "momentum", "when", "optimizer"),
        ),
        (
            ("search.space.model.dropout.when.model.activation", "relu"),
            ("search", "space", "model.dropout", "when", "model.activation"),
        ),
        (("model.arguments.hidden", [8]), ("model", "arguments", "hidden")),
    ],
)
def test_an_override_sets_the_key_of_its_dotted_name_and_no_other(
    override: tuple[str, Any], path: tuple[str, ...]
) -> None:
    sections = {"seed": 0, "search": {"space": {"lr": {"low": 1, "high": 2}}}, "tracking": {"wandb": None}}
    before = repr(sections)
    result: Any = apply_overrides(sections, [override])
    *above, key = path
    below = result
    for part in above:
        below = below[part]
    assert below.pop(key) == override[1]
    while above and not below:  # sections that were made for it
        key = above.pop()
        below = result
        for part in above:
            below = below[part]
        del below[key]
    assert set(result) <= set(sections)
    assert repr(sections) == before


def test_overrides_are_applied_in_order_and_share_nothing_with_what_they_were_made_of() -> None:
    split = {"train": 0.8}
    overrides = [("data.split", split), ("data.split.train", 0.5), ("seed", 1), ("seed", 2)]
    assert apply_overrides({}, overrides) == {"data": {"split": {"train": 0.5}}, "seed": 2}
    assert split == {"train": 0.8}


def test_an_override_cannot_lead_through_a_value() -> None:
    with pytest.raises(JobError) as caught:
        apply_overrides(
            {"model": "mlp", "search": {"points": [{}]}},
            [("model.name", "cnn"), ("search.points.0.lr", 1), ("seed", 1)],
        )
    assert str(caught.value) == (
        "the command line: 2 problems\n"
        "  model.name          model is 'mlp', not a section that can hold 'name'\n"
        "  search.points.0.lr  points is [{}], not a section that can hold 'lr'"
    )


# Texts that stand for much


def bomb(levels: int, width: int = 9) -> str:
    """Return a short text whose aliases stand for `width ** levels` values."""
    lists = (
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]" for level in range(1, levels + 1)
    )
    return "\n".join(["a0: &a0 x", *lists])


MERGED = "a: &a {x: 1}\n" + "\n".join(
    f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}' if n else '*a'] * 9)}]}}" for n in range(9)
)


@pytest.mark.parametrize("text", [bomb(9), bomb(60), bomb(30, 2), MERGED])
def test_aliases_that_stand_for_millions_of_values_are_refused_before_they_are_made(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(
        JobError, match="its aliases stand for more than 200,000 values; write the values once"
    ):
        read_yaml(file)


def test_an_alias_is_read() -> None:
    assert parse_yaml("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}") == {
        "a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["0x" + "f" * 5000, "0o" + "7" * 6000, "0b" + "1" * 20_000, "9" * 5000, "1_000" * 2000]
)
def test_whole_numbers_of_thousands_of_digits_are_one_message_in_any_form(tmp_path: Path, text: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"seed: {text}\n")
    with pytest.raises(JobError, match="not valid YAML: a value cannot be read"):
        read_yaml(file)
    ((name, value),) = parse_overrides(["--seed", text])
    assert (name, value) == ("seed", text), "on the command line it stays text, which no setting takes"


@pytest.mark.parametrize(
    "text",
    ["yes", "No", "y", "on", "010", "08", "1:30", "1:30.5", "1e-3", "1.0e-3", "1.0e3", "12e03", ".5", "1.", "-.inf",
     "0x10", "0b11", "1_000", "~", "'1'", "text"],
)  # fmt: skip
def test_yaml_of_other_tools_is_read_as_they_read_it(text: str) -> None:
    assert repr(parse_yaml(f"a: {text}", YAML_1_1)) == repr(yaml.safe_load(f"a: {text}"))
