"""Your own tracker: every epoch and every end as a line of JSON.

Named in a job file, it follows the run from the driver:

    tracking: {trackers: ["own_tracker:JsonLines"]}
"""

import json

from tune_jobs.record.events import EpochsReported, Event, TrialEnded
from tune_jobs.record.run_record import RunRecord
from tune_jobs.tracking import TrackedRun, new_results


class JsonLines:
    """Write `lines.jsonl` into the run folder; start again from the earlier events if the run is resumed."""

    def __init__(self, run: TrackedRun) -> None:
        self._record = RunRecord(run.job.selection)
        self._file = (run.path / "lines.jsonl").open("w")
        for event in run.events:
            self(event)

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochsReported):
            for result in new_results(self._record, event):  # a trial may repeat epochs
                self._write(trial=event.trial_id, **result)
        elif isinstance(event, TrialEnded):
            self._write(trial=event.trial_id, status=event.status, reason=event.reason)
        self._record.apply(event)

    def close(self) -> None:
        self._file.close()

    def _write(self, **values: object) -> None:
        self._file.write(json.dumps(values) + "\n")
