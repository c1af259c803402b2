"""The lines of a ledger on disk."""

from tune_jobs.holdout.ledger import LEDGER
from tune_jobs.record.folder import RunFolder


def ledger_lines(folder: RunFolder) -> list[str]:
    path = folder.holdout / LEDGER
    return path.read_text().splitlines() if path.exists() else []
