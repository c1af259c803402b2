"""The command line: `tune-jobs COMMAND …`.

argparse reads commands and their few options; what is left over are dotted overrides of the job file, which
the job's own settings check, so that all problems come in one list. Torch and Ray are imported by the
commands that need them, after everything that can be checked without them.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console

from tune_jobs.cli.cluster_commands import (
    NOTHING_LEFT,
    add_commands,
    address_to_resume,
    is_jobs_address,
    refuse_jobs_address,
    resume_on_cluster,
)
from tune_jobs.cli.tables import (
    failures_display,
    plan_lines,
    runs_display,
    standing_lines,
    trial_display,
    trials_display,
)
from tune_jobs.errors import Interrupted, JobError, RunFolderError, TuneJobsError, UnfinishedRun
from tune_jobs.job.file import parse_overrides, read_yaml
from tune_jobs.job.from_sweep import job_from_sweep
from tune_jobs.job.job import Job
from tune_jobs.location import Location, is_uri
from tune_jobs.record.folder import RunFolder
from tune_jobs.remote.working_copy import open_folder, pull_all, shown
from tune_jobs.report.writing import write_report
from tune_jobs.search_spaces import Problem, SearchSpaceError
from tune_jobs.text import configuration_text, readable
from tune_jobs.tracking.opening import reminders
from tune_jobs.trainers.errors import CheckpointError, Diverged, TrainerError

Command = Callable[[argparse.Namespace, list[str], Console], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (0 done, 1 failed, 2 wrong input, 3 holdout opened, 130 interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a letter that the output's encoding lacks is spelled out
            stream.reconfigure(errors="backslashreplace")
    options, rest = _parser().parse_known_args(arguments)
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    command: Command = options.command
    try:
        _refuse_leftovers(options.parser, rest, overrides=options.overrides)
        command(options, rest, console)
    except TuneJobsError as error:
        return _complain(str(error), error.exit_code)
    except (TrainerError, SearchSpaceError) as error:
        return _complain(str(error), 1 if isinstance(error, Diverged | CheckpointError) else 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        return _complain(str(error), 1)
    return 0


def _refuse_leftovers(parser: argparse.ArgumentParser, rest: Sequence[str], *, overrides: bool) -> None:
    """What is left over is refused where the command takes no overrides, or where it is a misspelt option.

    It is taken for one where it is closer to an option of the command than to a key of a job.

    Raises:
        JobError: something is; the message names the options that were meant.
    """
    options = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
    options.remove("help")
    names = [argument.partition("=")[0] for argument in rest if argument.startswith("-")]
    close = {
        name: get_close_matches(name.lstrip("-"), [*Job.model_fields, *options], n=1)
        for name in names
        if "." not in name
    }
    problems = [
        Problem(name, f"no option of `{parser.prog}`; did you mean --{found[0]}?")
        for name, found in close.items()
        if found and found[0] in options
    ]
    if rest and not overrides and not problems:
        problems = [Problem(rest[0], f"not understood; see `{parser.prog} --help`")]
    if problems:
        raise JobError(problems, name="the command line")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"given {text!r}; valid: a whole number of at least 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"given {text!r}; valid: 0 to 65535, where 0 takes a free one")
    return int(text)


def _complain(message: str, exit_code: int) -> int:
    print(f"tune-jobs: {readable(shown(message))}", file=sys.stderr)  # noqa: T201 (the error stream of a command)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tune-jobs", description="Hyperparameter tuning for PyTorch on Ray Tune, with the test set sealed.",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('tune-jobs')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str, *positional: tuple[str, str]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        for argument, explanation in positional:
            added.add_argument(argument.lower(), metavar=argument, help=explanation)
        added.set_defaults(command=command, parser=added, overrides=False)
        return added

    job = ("JOB", "job file; keys are overridden by `--section.key value`")
    run_folder = ("RUN", "run folder, as `tune-jobs run` prints it")
    run_parser = add("run", _run, "Tune: search, select a winner, leave a run folder.", job)
    resume_parser = add(
        "resume", _resume, "Go on with a run that was interrupted, or extend it: `--search.trials 100`.",
        run_folder,
    )  # fmt: skip
    for parser_ in (run_parser, resume_parser):
        parser_.add_argument(
            "--address", metavar="HOST:PORT", help="head of a running Ray cluster; `auto`: this machine's"
        )
    add(
        "watch", _watch, "Show a run in progress, from another terminal or machine; Ctrl-C leaves the run alone.",
        run_folder,
    )  # fmt: skip
    validate = add(
        "validate", _validate, "Check a job and its data, and count what would run. Starts nothing.", job
    )
    train = add(
        "train", _train, "Train one configuration without Ray: `--lr 0.01 --model.hidden '[64]'`.", job
    )
    for parser_ in (run_parser, resume_parser, validate, train):
        parser_.set_defaults(overrides=True)
    show = add("show", _show, "Show the trials of a run.", run_folder)
    show.add_argument(
        "--trial", metavar="ID", help="one trial: its epochs, how it ended, how to train it again"
    )
    show.add_argument(
        "--most", type=_count, default=20, metavar="N", help="trials to show, best first (default 20)"
    )
    listing = add("list", _list, "List the runs of a folder.")
    listing.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="(default runs)")
    test = add("test", _test, "Open the holdout, once, for the winner.", run_folder)
    test.add_argument("--again", action="store_true", help="look once more; needs --reason, and is recorded")
    test.add_argument("--reason", metavar="TEXT", help="why")
    report = add("report", _report, "Write the report of a run, one HTML file.", run_folder)
    report.add_argument("--output", metavar="FILE", type=Path, help="(default report.html in the run folder)")
    dashboard = add("dashboard", _dashboard, "Serve the study of a run with optuna-dashboard.", run_folder)
    dashboard.add_argument("--port", type=_port, default=0, metavar="N", help="(default a free one)")
    mend = add(
        "repair",
        _repair,
        "Make the tables, the study and the dashboards' files anew, from the journal.",
        run_folder,
    )
    mend.add_argument(
        "--cut",
        action="store_true",
        help="drop a damaged line of the journal and all behind it; a copy is kept",
    )
    add_commands(add, job)
    add("import-sweep", _import_sweep, "Print a W&B sweep file as a job file.", ("SWEEP", "sweep file"))
    return parser


def _run(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.cli.progress import Standing  # noqa: PLC0415
    from tune_jobs.cli.views import make_view  # noqa: PLC0415
    from tune_jobs.driver.lifecycle import run  # noqa: PLC0415
    from tune_jobs.submission.handover import Handover  # noqa: PLC0415

    refuse_jobs_address(options.address)
    handover = Handover.from_environment()
    announcing = [] if handover is None else [handover.announcing(console)]
    if handover is not None:
        handover.check_versions()
    job = Job.from_file(options.job, parse_overrides(rest))
    beginning = f"{job.name}: {job.trials} trials; {_preparing(options.address)}"

    def tune() -> Path:
        with make_view(Standing(job, asked_at=time.time()), console, beginning) as view:
            return run(job, address=options.address, listeners=[view, *announcing], handover=handover).path

    _print_tuned(tune, console)


def _preparing(address: str | None) -> str:
    ray = "starting Ray and its workers" if address is None else "joining the cluster"
    return f"reading the data, {ray}"


def _resume(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.cli.progress import Standing  # noqa: PLC0415
    from tune_jobs.cli.views import make_view  # noqa: PLC0415
    from tune_jobs.driver.lifecycle import resume  # noqa: PLC0415
    from tune_jobs.driver.resumption import is_over, job_to_resume  # noqa: PLC0415
    from tune_jobs.holdout.rows import refuse_copy  # noqa: PLC0415
    from tune_jobs.record.journal import read_journal, refuse_if_in_use  # noqa: PLC0415
    from tune_jobs.submission.handover import Handover  # noqa: PLC0415

    address = address_to_resume(options.run, options.address)
    if is_jobs_address(address):
        resume_on_cluster(options.run, address, rest, console)
        return
    handover = Handover.from_environment()
    announcing = [] if handover is None else [handover.announcing(console)]
    overrides = parse_overrides(rest)
    folder = open_folder(options.run)
    refuse_copy(folder)
    if handover is not None:
        handover.enter(folder)
    refuse_if_in_use(folder.journal)  # before anything is announced
    past = read_journal(folder.journal)
    job = job_to_resume(folder, past, overrides)

    def tune() -> Path:
        if is_over(job, past):
            console.print(NOTHING_LEFT, markup=False)
            return resume(folder.path, overrides).path
        standing = Standing(job, past, asked_at=time.time())
        made = len(standing.record.trials)
        beginning = f"{job.name}: {job.trials} trials, of which {made} were made before; {_preparing(options.address)}"
        with make_view(standing, console, beginning) as view:
            return resume(folder.path, overrides, address=options.address, listeners=[view, *announcing]).path

    _print_tuned(tune, console)


def _watch(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.cli.watching import Watched, watch  # noqa: PLC0415
    from tune_jobs.driver.lifecycle import judged  # noqa: PLC0415
    from tune_jobs.results import open_run  # noqa: PLC0415

    folder = open_folder(options.run)
    watched = watch(folder, console)
    if watched is Watched.LEFT:
        console.print(
            f"no longer watched; the run goes on: tune-jobs watch {shown(str(folder.path))}", markup=False
        )
        console.print(f"run: {shown(str(folder.path))}", markup=False)
        return

    def ended() -> Path:
        if watched is Watched.KILLED:
            raise Interrupted(
                f"the run's process was killed; what was reported is on disk, and `tune-jobs resume {folder.path}` "
                "goes on",
                folder.path,
            )
        return judged(open_run(folder.path)).path

    _print_tuned(ended, console)


def _print_tuned(tune: Callable[[], Path], console: Console) -> None:
    """Tunes, and prints what came of it, in whatever way it ended."""
    try:
        path = tune()
    except UnfinishedRun as error:
        try:
            _print_run(error.path, console, most=5)
        except TuneJobsError:  # such as no selection, where the disk is full: why the run ended comes first
            console.print(f"run: {shown(str(error.path))}", markup=False)
        raise
    _print_run(path, console, most=5)


def _print_run(path: Path, console: Console, most: int) -> None:
    """The run's best trials, its failures and its winner; the last line is `run: PATH`."""
    from tune_jobs.results import open_run  # noqa: PLC0415

    opened = open_run(path)
    address = shown(str(path))
    console.print(trials_display(opened.record, most))
    hidden = len(opened.record.trials) - most
    if hidden > 0:
        more = f"and {hidden} more: tune-jobs show {address} --most {len(opened.record.trials)}"
        console.print(more, style="dim", markup=False)
    for line in failures_display(opened.record):
        console.print(line, style="red", markup=False)
    left = reminders(RunFolder(opened.path)) if opened.ending else []
    for line in (*standing_lines(opened), *left):
        console.print(line, markup=False)
    if opened.ending is not None and opened.record.trials:
        console.print(f"report: tune-jobs report {address}", style="dim", markup=False)
    console.print(f"run: {address}", markup=False)


def _validate(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.driver.preparation import prepare  # noqa: PLC0415

    job = Job.from_file(options.job, parse_overrides(rest))
    for line in plan_lines(job, prepare(job)):
        console.print(line, markup=False)


def _train(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.driver.train_alone import split_configuration, train_one  # noqa: PLC0415

    configuration, overrides = split_configuration(parse_overrides(rest))
    job = Job.from_file(options.job, overrides)
    console.print(f"configuration: {configuration_text(configuration) or 'defaults'}", markup=False)
    left_out = [name for name in job.search.space.active(configuration) if name not in configuration]
    if left_out:
        console.print(f"defaults are taken for: {', '.join(left_out)}", markup=False)
    for number, result in enumerate(train_one(job, configuration)):
        if number == 0:
            console.print("  ".join(f"{name:>12}" for name in result.to_mapping()), markup=False)
        # Nine digits tell any two single-precision numbers apart.
        console.print("  ".join(f"{value:>12.9g}" for value in result.to_mapping().values()), markup=False)


def _show(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    if options.trial is None:
        _print_run(open_folder(options.run).path, console, options.most)
        return
    from tune_jobs.results import open_run  # noqa: PLC0415

    opened = open_run(options.run)
    trial_id = options.trial.zfill(4)
    if trial_id not in opened.record.trials:
        raise RunFolderError(f"{options.run}: no trial {options.trial!r}; `tune-jobs show RUN` lists them")
    for part in trial_display(opened, trial_id):
        console.print(part, markup=False)


def _list(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    place = options.folder
    folder = _copies(place) if is_uri(place) else Path(place)
    if not folder.is_dir():
        raise RunFolderError(
            f"{folder}: no such folder; runs are kept in the folder that `storage:` of a job names"
        )
    runs = runs_display(folder)
    if runs.row_count:
        console.print(runs)
    else:
        console.print(f"no runs in {place}", markup=False)


def _copies(uri: str) -> Path:
    """The folder with this machine's copies of all runs at a place in an object store, up to date."""
    try:
        return pull_all(Location.parse(uri))
    except ValueError as error:
        raise RunFolderError(str(error)) from error


def _test(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.results import open_run  # noqa: PLC0415

    opened = open_run(options.run)
    results = opened.test(again=options.again, reason=options.reason)
    winner = opened.winner
    metric = opened.job.selection.metric
    console.print(f"winner: trial {winner.trial_id}, epoch {winner.epoch}", markup=False)
    console.print(f"{metric}: {winner.score:.6g} (validation, which chose the winner)", markup=False)
    for name, value in results.items():
        console.print(f"{name}: {value:.6g}", markup=False)


def _report(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    console.print(f"report: {write_report(options.run, options.output)}", markup=False)


def _dashboard(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.tracking.optuna_dashboard import HOST, PAGE, study_server  # noqa: PLC0415 (imports Optuna)

    with study_server(open_folder(options.run), options.port) as server:
        console.print(f"dashboard: http://{HOST}:{server.server_port}{PAGE}", markup=False)
        console.print("Ctrl-C ends it; the run is not touched", style="dim")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _repair(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.driver.repair import repair  # noqa: PLC0415

    for line in repair(options.run, cut=options.cut).lines:
        console.print(line, markup=False)


def _import_sweep(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    console.print(job_from_sweep(read_yaml(Path(options.sweep))), markup=False, end="")
