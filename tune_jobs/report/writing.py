"""Write the report of a run into its folder, or to another file."""

from contextlib import suppress
from pathlib import Path

from tune_jobs.errors import RunFolderError
from tune_jobs.files import exists, reason_of, replacing
from tune_jobs.record.reading import read_run
from tune_jobs.remote.working_copy import at_work, open_folder


def write_report(path: str | Path, output: Path | None = None) -> Path:
    """Write the report of the run in the folder at `path`, whether the run has ended or is in progress.

    Args:
        path: The run folder.
        output: The file; None is `report.html` in the run folder.

    Returns:
        The file, which was replaced as a whole.

    Raises:
        RunFolderError: The path is no run folder, or the file cannot be written.
        DamagedRun: The journal, the job or the ledger of the holdout is damaged.
    """
    from tune_jobs.report.page import make_page, render  # noqa: PLC0415 (plotly, Optuna and pandas: seconds)

    folder = open_folder(path)
    in_progress = at_work(folder)  # checked first: if the run ends in between, its end is in the journal
    stored = read_run(folder)
    page = make_page(folder, stored.job, stored.record, stored.events, in_progress=in_progress)
    target = folder.report if output is None else output
    if exists(target) and not target.is_file():
        raise RunFolderError(
            f"{target}: not a file, so it cannot be replaced; give another one with `--output FILE`"
        )
    content = render(page).encode("utf-8", "backslashreplace")  # a path may have no UTF-8 form
    try:
        with suppress(FileNotFoundError):
            _write(target, content)
            return target
        _write(target, content)  # of two writers at once, one takes the other's file for a leftover
    except OSError as error:
        raise RunFolderError(
            f"{target}: cannot be written ({reason_of(error, target.parent)}); give another file with `--output FILE`"
        ) from error
    return target


def _write(target: Path, content: bytes) -> None:
    with replacing(target) as file:
        file.write(content)
