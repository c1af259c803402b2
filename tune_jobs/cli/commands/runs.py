"""The commands for a run folder: `show`, `list`, `test`, `report`, `dashboard`, `repair`."""

import argparse
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from tune_jobs.cli.parser import RUN, Commands, count, port
from tune_jobs.cli.summary import print_run
from tune_jobs.cli.tables import runs_display, trial_display
from tune_jobs.errors import RunFolderError
from tune_jobs.files import exists
from tune_jobs.location import Location, is_uri
from tune_jobs.record.journal import refuse_other_version
from tune_jobs.remote.working_copy import address_text, open_folder, pull_all
from tune_jobs.report.writing import write_report
from tune_jobs.results import open_run


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line."""
    show = commands.add("show", _show, "Show the trials of a run.", RUN)
    show.set_defaults(only_shows=True)
    show.add_argument(
        "--trial", metavar="ID", help="one trial: its epochs, how it ended, how to train it again"
    )
    show.add_argument(
        "--most", type=count, default=20, metavar="N", help="trials to show, best first (default 20)"
    )
    listing = commands.add("list", _list, "List the runs of a folder.")
    listing.set_defaults(only_shows=True)
    listing.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="(default runs)")
    test = commands.add("test", _test, "Open the holdout, once, for the winner.", RUN)
    test.add_argument("--again", action="store_true", help="look once more; needs --reason, and is recorded")
    test.add_argument("--reason", metavar="TEXT", help="why")
    report = commands.add("report", _report, "Write the report of a run, one HTML file.", RUN)
    report.add_argument("--output", metavar="FILE", type=Path, help="(default report.html in the run folder)")
    dashboard = commands.add("dashboard", _dashboard, "Serve the study of a run with optuna-dashboard.", RUN)
    dashboard.add_argument("--port", type=port, default=0, metavar="N", help="(default a free one)")
    repair = commands.add(
        "repair", _repair, "Rebuild the tables, the study and the dashboards' files from the journal.", RUN
    )
    repair.add_argument(
        "--cut",
        action="store_true",
        help="drop a damaged line of the journal and all behind it; a copy is kept",
    )


def _show(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    if options.trial is None:
        print_run(open_folder(options.run).path, console, options.most)
        return
    opened = open_run(options.run)
    trial_id = options.trial.zfill(4)
    if trial_id not in opened.record.trials:
        raise RunFolderError(f"{options.run}: no trial {options.trial!r}; `tune-jobs show RUN` lists them")
    for part in trial_display(opened, trial_id):
        console.print(part, markup=False)


def _list(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    place = options.folder
    folder, damaged = _copies(place) if is_uri(place) else (Path(place), [])
    if not exists(folder) or not folder.is_dir():
        raise RunFolderError(
            f"{folder}: no such folder; runs are kept in the folder that `storage:` of a job names"
        )
    runs, refused = runs_display(folder, damaged)
    if runs.row_count:
        console.print(runs)
    else:
        console.print(f"no runs in {place}", markup=False)
    for reason in refused:
        console.print(address_text(reason), style="red", markup=False)


def _copies(uri: str) -> tuple[Path, list[str]]:
    """Copy all runs at a place in an object store to this machine; see `pull_all`."""
    try:
        return pull_all(Location.parse(uri))
    except ValueError as error:
        raise RunFolderError(str(error)) from error


def _test(options: argparse.Namespace, rest: list[str], console: Console) -> None:
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

    folder = open_folder(options.run)
    refuse_other_version(folder.journal)
    with study_server(folder, options.port) as server:
        console.print(f"dashboard: http://{HOST}:{server.server_port}{PAGE}", markup=False)
        console.print("Ctrl-C ends it; the run is not touched", style="dim")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _repair(options: argparse.Namespace, rest: list[str], console: Console) -> None:
    from tune_jobs.driver.repair import repair  # noqa: PLC0415 (imports Optuna)

    for line in repair(options.run, cut=options.cut).lines:
        console.print(line, markup=False)
