"""The one rule that chooses the winner: by validation alone, from the record of the run."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.files import parse_json, replacing
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.run_record import RunRecord, TrialRecord
from tune_jobs.text import quoted
from tune_jobs.trainers.scores import BestEpoch

RULE = (
    "The winner is the completed or early-stopped trial with the best score; the score of a trial is the best "
    "value of the selection metric over its epochs, on validation rows; trials without a finite score are left "
    "out; of equals the one created first wins. Its weights are those of the scoring epoch."
)
"""The rule in words, for `selection.json`."""


@dataclass(frozen=True)
class Candidate:
    """A trial that may win, and the epoch that gives its score."""

    trial: TrialRecord
    best: BestEpoch


def rank(record: RunRecord) -> list[Candidate]:
    """List all trials that may win, best first."""
    candidates = [
        Candidate(trial, best)
        for trial in record.trials.values()
        if trial.status.selectable and (best := record.best(trial.trial_id)) is not None
    ]
    return sorted(
        candidates, key=lambda candidate: (record.score.cost(candidate.best.score), candidate.trial.number)
    )


def select_winner(record: RunRecord) -> Candidate | None:
    """Choose the winner; None if no trial succeeded."""
    ranked = rank(record)
    return ranked[0] if ranked else None


def winner_mapping(winner: Candidate) -> dict[str, Any]:
    """Return the winner as `selection.json` holds it."""
    return {
        "trial_id": winner.trial.trial_id,
        "number": winner.trial.number,
        "configuration": winner.trial.configuration,
        "score": winner.best.score,
        "epoch": winner.best.epoch,
        "checkpoint": winner.trial.checkpoint,
    }


def write_selection(record: RunRecord, winner: Candidate | None, folder: RunFolder) -> None:
    """Write the rule, its outcome and all that it rests on to `selection.json`."""
    with replacing(folder.selection) as file:
        file.write(json.dumps(_selection(record, winner), indent=2).encode())


def _selection(record: RunRecord, winner: Candidate | None) -> dict[str, Any]:
    started = record.started
    return {
        "rule": {"metric": record.score.metric, "mode": record.score.mode, "text": RULE},
        "ending": record.ending,
        "trials": Counter(trial.status for trial in record.trials.values()),
        "winner": winner and winner_mapping(winner),
        "test_seen": record.test_seen,
        "seal": started.seal if started else "",
        "fingerprints": started.fingerprints if started else {},
        "versions": started.versions if started else {},
    }


def read_selection(record: RunRecord, folder: RunFolder) -> dict[str, Any] | None:
    """Return the winner, with which all of `selection.json` must agree; None if no trial succeeded.

    Raises:
        RunFolderError: The run has not ended.
        DamagedRun: The file is damaged, or contradicts the journal.
    """
    if record.ended is None:
        raise RunFolderError(f"{folder.path}: the run has not ended, so nothing is selected yet")
    winner = select_winner(record)
    reason = "it contradicts the journal"
    try:
        if _sorted(parse_json(folder.selection.read_bytes())) == _sorted(_selection(record, winner)):
            return None if winner is None else winner_mapping(winner)
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error)
    raise DamagedRun(
        f"{folder.selection}: cannot be read ({reason}); `tune-jobs repair {quoted(folder.path)}` rebuilds it from the "
        "journal"
    )


def _sorted(selection: Any) -> str:
    """Return a selection as text, in which values that are not numbers equal themselves."""
    return json.dumps(selection, sort_keys=True)
