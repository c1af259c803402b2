"""Tell when the first trials of a run all failed alike: the code is wrong then, and not their configurations."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.record.codes import Cause
from tune_jobs.record.run_record import TrialRecord, failures

ENOUGH = 5
"""Like failures, without any other end of a trial, after which a run stops."""
_FRAME = re.compile(r'^\s+File\s"(?P<file>[^"]+)",\sline\s(?P<line>\d+),\sin\s(?P<function>.+)$')
_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3[.\d]*t?)[/\\]|^<")
_OWN = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class LikeFailures:
    """The failures of trials that all failed for one reason."""

    count: int
    reason: str
    """The reason of the first of them."""
    place: str
    """The place in the user's code, as `file, line 3, in function`; empty if its code was not at work."""

    @property
    def sentence(self) -> str:
        """Say what happened, and where."""
        where = f"in {self.place}" if self.place else "alike"
        return f"the first {self.count} trials all failed {where}: {self.reason}"


def like_failures(trials: Iterable[TrialRecord], earlier: Collection[str] = ()) -> LikeFailures | None:
    """Return the failures if enough trials ended, all by the same failure, and no other trial completed an epoch.

    Args:
        trials: All trials of a run.
        earlier: Ids of trials that do not count, because they ended before the run was resumed.
    """
    trials = [trial for trial in trials if trial.trial_id not in earlier]
    ended = [trial for trial in trials if trial.cause is not None and not trial.cut_off]
    if len(ended) < ENOUGH or any(trial.cause is not Cause.TRAINING_FAILED for trial in ended):
        return None
    if any(trial.epochs for trial in trials if trial.cause is None or trial.cut_off):
        return None
    places = {place_of(trial.details) for trial in ended}
    alike = len(failures(ended)) == 1 if places == {None} else len(places) == 1
    if not alike:
        return None
    found = next(iter(places))
    return LikeFailures(len(ended), ended[0].reason, found[1] if found else "")


def place_of(details: str) -> tuple[str, str] | None:
    """Return the type of the exception and the place of the user's code that raised it; None without such code.

    Args:
        details: A traceback as text, in which the exception that came first stands first.
    """
    place = None
    for line in details.splitlines():
        frame = _FRAME.match(line)
        if frame is not None:
            if not _LIBRARY.search(frame["file"]) and not frame["file"].startswith(_OWN):
                place = f"{frame['file']}, line {frame['line']}, in {frame['function']}"
        elif place is not None and line and not line[0].isspace():
            return line.partition(":")[0], place
    return None
