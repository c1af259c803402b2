"""Report trials that find no node within a minute, with the resource that is missing."""

import time
from collections.abc import Callable, Collection, Sequence

from tune_jobs.cluster.capacity import Bundle, bundle_text, missing_resource, workers_of

SECONDS_TO_PLACE = 60.0
"""Seconds that a trial may wait for a node before it is reported."""
SECONDS_BETWEEN_PLACEMENT_CHECKS = 1.0
"""Seconds between two checks of the waiting trials."""


class PlacementWatch:
    """Reports each trial that has waited for a place for a minute, once.

    Args:
        bundles: The bundles of one trial.
        free: Returns the resources that are free on each node now.
        tell: Called with the trial's id and the reason why it waits, in one line.
        seconds: Seconds that a trial may wait before it is reported; None means `SECONDS_TO_PLACE`.
        clock: Returns seconds.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        free: Callable[[], Sequence[Bundle]],
        tell: Callable[[str, str], None],
        *,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundles = bundles
        self._free = free
        self._tell = tell
        self._seconds = SECONDS_TO_PLACE if seconds is None else seconds
        self._clock = clock
        self._since: dict[str, float] = {}
        self._reported: set[str] = set()
        self._checked = float("-inf")

    def check(self, unplaced: Callable[[], Collection[str]]) -> None:
        """Note the trials that wait for a place now, at most once a second."""
        now = self._clock()
        if now < self._checked + SECONDS_BETWEEN_PLACEMENT_CHECKS:
            return
        self._checked = now
        waiting = set(unplaced())
        self._since = {trial_id: self._since.get(trial_id, now) for trial_id in waiting}
        self._reported &= waiting
        late = sorted(id_ for id_, since in self._since.items() if now - since >= self._seconds)
        for trial_id in late:
            if trial_id not in self._reported:
                self._reported.add(trial_id)
                self._tell(trial_id, why_unplaced(self._bundles, self._free(), self._seconds))


def why_unplaced(bundles: Sequence[Bundle], free: Sequence[Bundle], seconds: float) -> str:
    """Return why a trial of these bundles finds no place on nodes with so much free."""
    bundle, workers = workers_of(bundles)
    asked = bundle_text(bundle) if workers == 1 else f"{workers} workers of {bundle_text(bundle)} each"
    missing = missing_resource(bundle, free)
    most = (
        max((node.get(missing, 0.0) for node in free), default=0.0) if missing and missing in bundle else None
    )
    if missing is None:
        what = "and there is room on some machine, which Ray has not used yet"
        if workers > 1:
            what = "but there is room for only some of them"
    elif most is None:
        what = f"but no machine has {missing} free together"
    else:
        what = f"but too little {missing} is free: at most {most:g} on one machine"
    return (
        f"has waited {seconds:g} s for a machine; it asks for {asked}, {what}. Other work may use the machines, or one "
        "may be starting or lost; ask for less with `resources`, or add machines"
    )
