"""README.md and docs/: everything that they show exists, is valid and runs, and everything that exists is shown.

Blocks of YAML with a `name` are whole jobs; others are merged into a small base job. Blocks of Python after
`<!-- runnable -->` are run next to a small run, with the names that the pages use.
"""

import re
import shlex
import shutil
import sys
import tomllib
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast, get_args, get_origin

import pandas as pd
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tune_jobs import Job, Run, run
from tune_jobs.cli.main import make_parser
from tune_jobs.driver.train_alone import split_configuration, train_one
from tune_jobs.job.checks import check_configuration, check_surroundings
from tune_jobs.job.file import apply_overrides, dump_yaml, parse_overrides, parse_yaml, read_yaml
from tune_jobs.job.job import job_fields
from tune_jobs.record.codes import Status
from tune_jobs.search_spaces import parsing
from tune_jobs.trainers import interface, kinds
from tune_jobs.trainers.data import SUFFIXES
from tune_jobs.trainers.data.settings import BuiltInLoss, BuiltInSource
from tune_jobs.trainers.pytorch.model_arguments import CnnArguments, LinearArguments, MlpArguments
from tune_jobs.trainers.pytorch.settings import (
    VALIDATION_LOSS,
    BuiltInMetric,
    BuiltInModel,
    Hyperparameters,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
JOB_FILE = ROOT / "docs" / "job-file.md"
RUN_NAME = "wine-csv-20260101T120000Z-abcd"
BASE: dict[str, Any] = {
    "name": "base",
    "data": {"source": "digits"},
    "model": {"name": "mlp"},
    "training": {"max_epochs": 27, "loss": "cross_entropy"},
    "search": {"space": {"lr": {"low": 1e-4, "high": 1.0, "log": True}}},
}
REQUIRED = "required"

Row = Mapping[str, str]


def page_id(page: Path) -> str:
    return page.name


every_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in any of `languages`."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def runnable_blocks(page: Path) -> list[str]:
    return re.findall(r"^<!-- runnable -->\n```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def tables(page: Path) -> dict[str, list[Row]]:
    """Return the rows of all tables by the first cell of their header. Each row maps the header's cells to its own."""
    found: dict[str, list[Row]] = {}
    header: list[str] | None = None
    for line in prose(page).splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if header is None:
            header = cells
            found.setdefault(header[0], [])
        elif not set(line) <= set("|-"):  # the line under the header
            assert len(cells) == len(header), f"{page.name}: {line}"
            found[header[0]].append(dict(zip(header, cells, strict=True)))
    return found


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Return the dotted names of all keys of a settings class that hold a value, and those of optional sections."""
    for name, field in (job_fields({}) if model is Job else model.model_fields).items():
        classes = [field.annotation, *get_args(field.annotation)]
        below = [c for c in classes if isinstance(c, type) and issubclass(c, BaseModel)]
        if not below or type(None) in classes:
            yield prefix + name, field
        for section in below:
            yield from leaves(section, f"{prefix}{name}.")


def literals(annotation: Any) -> set[str]:
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {text for part in get_args(annotation) for text in literals(part)}


def test_the_page_of_kinds_says_what_each_can_do() -> None:
    order = ("resumes", "exact", "seals_test", "tests_itself", "data_parallel", "vectorises", "inherits")
    rows = tables(ROOT / "docs" / "trainers.md")["Kind"]
    for entry in (entry for entry in kinds.known_kinds() if entry.reference.startswith("tune_jobs.")):
        (row,) = (row for row in rows if row["Kind"] == f"`{entry.name}`")
        kind, sections, *cells = row.values()
        assert sections == ", ".join(f"`{section}`" for section in entry.sections)
        able = cast("Any", entry.load()).capabilities
        assert cells == ["yes" if getattr(able, name) else "no" for name in order], kind


def test_the_kind_on_the_page_of_kinds_has_all_parts_and_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "trainers.md").read_text()
    kind, registration = re.findall(r"^<!-- kind -->\n```python\n(.*?)^```", page, flags=re.M | re.S)
    (tmp_path / "walk.py").write_text(kind)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kinds, "ENTRIES", dict(kinds.ENTRIES))
    exec(registration, {})
    try:
        job = Job.from_mapping(
            {"name": "walk", "walk": {"steps": 4}, "search": {"space": {"stride": {"values": [0.1, 0.5]}}}}
        )
        for protocol in (kinds.KindClass, interface.TrainerKind):
            parts = {*vars(protocol), *protocol.__annotations__}
            assert not {part for part in parts if not part.startswith("_") and not hasattr(job.kind, part)}
        assert job.selection.metric == "distance"
        distances = [result.metrics["distance"] for result in train_one(job, {"stride": 0.5})]
        assert len(distances) == 4
        assert distances[-1] < 1
    finally:
        sys.modules.pop("walk", None)


def code(cell: str) -> str:
    match = re.fullmatch(r"`([^`]*)`", cell)
    assert match, f"{cell!r} is no code"
    return match[1]


SCHEMAS: dict[str, type[BaseModel]] = {
    "Key": Job,
    "Hyperparameter": Hyperparameters,
    "Argument of `linear`": LinearArguments,
    "Argument of `mlp`": MlpArguments,
    "Argument of `cnn`": CnnArguments,
}


def documented(header: str) -> dict[str, Row]:
    rows = tables(JOB_FILE)[header]
    found = {code(row[header]): row for row in rows}
    assert len(found) == len(rows), "a key has two rows"
    return found


@pytest.mark.parametrize("header", SCHEMAS)
def test_the_page_of_the_job_file_has_exactly_the_keys_that_exist(header: str) -> None:
    assert set(documented(header)) == {name for name, _ in leaves(SCHEMAS[header])}


@pytest.mark.parametrize("header", SCHEMAS)
def test_the_page_of_the_job_file_has_the_defaults_and_the_choices(header: str) -> None:
    rows = documented(header)
    for name, field in leaves(SCHEMAS[header]):
        told = rows[name]["Default"]
        if header == "Key" and name == "selection.metric":
            assert code(told) == VALIDATION_LOSS.metric
        elif field.is_required():
            assert told == REQUIRED, name
        else:
            default = field.get_default()
            expected = list(default) if isinstance(default, tuple) else default
            assert parse_yaml(code(told)) == expected, f"{name}: {told}"
        missing = {text for text in literals(field.annotation) if f"`{text}`" not in rows[name]["Valid"]}
        assert not missing, f"{name}: {missing}"


def test_the_page_of_the_job_file_has_the_keys_of_an_entry_of_the_space() -> None:
    assert set(documented("Entry key")) == set(parsing._KEYS)


def test_the_page_of_the_job_file_names_what_is_built_in() -> None:
    rows = documented("Key")
    for key, built_in in {
        "data.source": (*get_args(BuiltInSource), *SUFFIXES),
        "model.name": get_args(BuiltInModel),
        "training.loss": get_args(BuiltInLoss),
        "training.metrics": get_args(BuiltInMetric),
    }.items():
        assert not [name for name in built_in if f"`{name}`" not in rows[key]["Valid"]]


@pytest.mark.parametrize(
    ("page", "header", "names"),
    [
        ("data.md", "`data.source`", get_args(BuiltInSource)),
        ("data.md", "`method`", sorted(literals(dict(leaves(Job))["data.split.method"].annotation))),
        (
            "training.md",
            "`optimizer`",
            sorted(literals(Hyperparameters.model_fields["optimizer"].annotation)),
        ),
        (
            "training.md",
            "`schedule.name`",
            sorted(literals(dict(leaves(Job))["training.schedule.name"].annotation)),
        ),
        ("training.md", "`training.loss`", get_args(BuiltInLoss)),
        ("training.md", "`training.metrics`", get_args(BuiltInMetric)),
        ("training.md", "`training.batching`", ["shuffle", "replacement", "sequential"]),
        ("results.md", "`status`", [status.value for status in Status if status.ended]),
    ],
)
def test_a_table_of_choices_is_complete(page: str, header: str, names: list[str]) -> None:
    cells = [row[header] for row in tables(ROOT / "docs" / page)[header]]
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(names)


def test_the_readme_shows_every_command() -> None:
    shown = {code(row["Command"]).split()[1] for row in tables(ROOT / "README.md")["Command"]}
    assert shown == set(_commands())


def test_every_name_of_the_architecture_exists() -> None:
    """Dotted names begin with a room, or with a class that another name or the interface of kinds has."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Architecture")[2]
    names = re.findall(r"`([A-Za-z_.]+\.[A-Za-z_]+)`", text)
    assert len(names) > 12
    classes = {name: getattr(interface, name) for name in ("Training", "TrainerKind")}
    for name in sorted(names, key=lambda name: name[0].isupper()):
        if name == "selection.json":
            continue
        first, *rest = name.split(".")
        value: Any = classes[first] if first in classes else import_module(f"tune_jobs.{first}")
        for part in rest:
            if isinstance(value, ModuleType) and not hasattr(value, part):
                value = import_module(f"{value.__name__}.{part}")
            else:
                value = getattr(value, part)
            if isinstance(value, type):
                classes[value.__name__] = value


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[><=~! ]", text)[0] for text in declared}
    assert {code(row["Package"]) for row in tables(ROOT / "docs" / "libraries.md")["Package"]} == names


@every_page
def test_every_relative_link_has_a_target(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert path.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, f"{page.name}: {target}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _commands() -> Mapping[str, ArgumentParser]:
    (commands,) = (action for action in make_parser()._actions if isinstance(action, _SubParsersAction))
    return commands.choices


def shown_commands(page: Path) -> list[str]:
    text = page.read_text()
    inline = re.findall(r"`(tune-jobs [^`\n]+)`", text)
    lines = [line for block in blocks(page, "sh", "console") for line in block.splitlines()]
    return [*inline, *(line.removeprefix("$ ") for line in lines if "tune-jobs " in line)]


@every_page
def test_every_command_shown_exists_with_its_options(page: Path) -> None:
    for command in shown_commands(page):
        _, name, *arguments = shlex.split(command)
        assert name in _commands(), command
        options, rest = _parse(command, [name, *arguments])
        if name == "train":
            configuration, overrides = split_configuration(parse_overrides(rest))
            job = _overridden(options.job, overrides)
            problems = check_configuration(job.facts, configuration)
            assert not problems, f"{command}: {problems}"
        elif name in {"run", "validate"}:
            _overridden(options.job, parse_overrides(rest))
        else:
            assert not rest, command


def _parse(command: str, arguments: list[str]) -> tuple[Any, list[str]]:
    if arguments[1:] == []:  # a command that is mentioned, not called
        arguments = [*arguments, *("X" for a in _commands()[arguments[0]]._actions if _is_needed(a))]
    try:
        return make_parser().parse_known_args(arguments)
    except SystemExit:
        pytest.fail(f"not understood: {command}")


def _is_needed(action: Any) -> bool:
    return not action.option_strings and action.nargs is None


def _overridden(path: str, overrides: list[tuple[str, Any]]) -> Job:
    """Return the job of the example that a command names, or the base job if it names none."""
    sections = read_yaml(ROOT / path) if path.endswith(".yaml") else BASE
    return Job.from_mapping(apply_overrides(sections, overrides))


@every_page
def test_every_job_shown_is_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        shown = parse_yaml(block)
        sections = (
            shown if "name" in shown else {**BASE, **{k: {**BASE.get(k, {}), **v} for k, v in shown.items()}}
        )
        Job.from_mapping(sections)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=page_id)
def test_every_example_is_a_valid_job(path: Path) -> None:
    job = Job.from_file(path)
    assert not check_surroundings(job.facts, job.tracking, job.folder)


@every_page
def test_every_block_of_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


@pytest.mark.slow
def test_functions_shown_as_one_s_own_work_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune_jobs.driver.train_alone import train_one

    for page in ("data.md", "training.md"):
        for block in blocks(ROOT / "docs" / page, "python"):
            with (tmp_path / "docs_code.py").open("a") as file:
                file.write(block)
    monkeypatch.chdir(tmp_path)
    job = Job.from_mapping(
        {
            "name": "own",
            "data": {
                "source": "docs_code:load",
                "arguments": {"n": 90},
                "split": {"method": "group", "by": "firm"},
            },
            "model": {"name": "docs_code:network", "arguments": {"width": 4}},
            "training": {
                "max_epochs": 1,
                "loss": "docs_code:pinball",
                "metrics": ["docs_code:share_within_ten"],
            },
            "search": {"space": {}},
            "selection": {"metric": "share_within_ten", "mode": "max"},
        }
    )
    (result,) = train_one(job, {"lr": 0.01, "model.width": 8})
    assert 0 <= result.metrics["share_within_ten"] <= 1


@pytest.fixture(scope="module")
def beside_a_run(ray_running: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a small version of the run and the files that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "examples").mkdir()
    small = [
        ("training.max_epochs", 3),
        ("search.trials", 2),
        ("search.method", "random"),  # a model needs a process of its own
        ("resources.max_concurrent", 1),
        ("storage", str(folder / "runs")),
    ]
    digits = apply_overrides(read_yaml(ROOT / "examples" / "digits.yaml"), small)
    (folder / "examples" / "digits.yaml").write_text(dump_yaml(digits))
    finished: Run = run(Job.from_file(ROOT / "examples" / "wine_csv.yaml", small))
    finished.path.rename(folder / "runs" / RUN_NAME)
    wines = pd.read_csv(ROOT / "examples" / "wine.csv")
    wines.drop(columns="cultivar").to_csv(folder / "new_wines.csv", index=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable_blocks(page)], ids=page_id)
def test_every_runnable_block_runs(
    page: Path, beside_a_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(shutil.copytree(beside_a_run, tmp_path / "copy"))
    for block in runnable_blocks(page):
        exec(compile(block, page.name, "exec"), {"__name__": "__main__"})


@pytest.mark.slow
def test_the_results_page_lists_the_run_folder_and_its_columns(beside_a_run: Path) -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    folder = beside_a_run / "runs" / RUN_NAME
    for path in folder.iterdir():
        assert re.search(rf"`{re.escape(path.name)}[/`]", page), path.name
    for name in ("trials", "epochs"):
        columns = pd.read_parquet(folder / f"{name}.parquet").columns
        for column in columns:
            shown = column if not column.startswith("config.") else "config.<name>"
            assert f"`{shown}`" in page or shown in {"accuracy", "f1"}, column


def test_the_runnable_blocks_are_found() -> None:
    assert sum(len(runnable_blocks(page)) for page in PAGES) >= 4
