"""Runs with sealed rows: their first event, their openings, and the lines of their ledger on disk."""

from tune_jobs.files import sha256_of
from tune_jobs.holdout import rows as holdout
from tune_jobs.holdout.ledger import LEDGER, LedgerEntry, openings_in, read_openings, write_ledger
from tune_jobs.record.events import HoldoutEvaluated, RunStarted, TrialCreated
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import Journal, read_journal
from tune_jobs.trainers.data import Rows


def seal(folder: RunFolder, rows: Rows) -> RunStarted:
    """Seal the rows, and return the first event of the run."""
    holdout.seal(folder, rows)
    with holdout.rows_path(folder).open("rb") as file:
        fingerprints = {holdout.SEALED: sha256_of(file)}
    return RunStarted(name="small", job_folder="", trials=1, rows={}, fingerprints=fingerprints, versions={})


def begin(folder: RunFolder, rows: Rows) -> RunFolder:
    """Seal the rows and begin the journal, with four trials."""
    with Journal(folder.journal) as journal:
        journal.append(seal(folder, rows))
        for number in range(4):
            journal.append(TrialCreated(trial_id=f"{number:04d}", number=number, configuration={}))
    return folder


def unseal(
    folder: RunFolder, trial_id: str, *, again: bool = False, reason: str | None = None
) -> tuple[Rows, int]:
    with Journal(folder.journal) as journal:
        return holdout.unseal(folder, journal, trial_id, again=again, reason=reason)


def ledger_lines(folder: RunFolder) -> list[str]:
    path = folder.holdout / LEDGER
    return path.read_text().splitlines() if path.exists() else []


def record_results(folder: RunFolder, number: int, results: dict[str, float]) -> None:
    """Record results of an opening, as `test` does."""
    with Journal(folder.journal) as journal:
        opening = openings_in(journal.past)[number - 1]
        journal.append_to_past(
            [
                HoldoutEvaluated(
                    number=number, trial_id=opening.trial_id, results=results, reason=opening.reason
                )
            ]
        )
        write_ledger(folder, openings_in(journal.past))


def openings(folder: RunFolder) -> list[LedgerEntry]:
    return read_openings(folder, read_journal(folder.journal))
