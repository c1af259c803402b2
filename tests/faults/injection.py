"""The number of injected faults, in a short and in a full form, and a count of their outcomes.

The short form is part of `make test` and the same each time. The full form draws new faults.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hypothesis import HealthCheck, settings

CHAOS = os.environ.get("TUNE_JOBS_CHAOS") == "1"
"""Return whether the full number of faults is injected."""


def examples(short: int, full: int = 500) -> settings:
    """Return the settings of a test that injects `short` generated faults, or `full` of them in the full form."""
    return settings(
        max_examples=full if CHAOS else short,
        derandomize=not CHAOS,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


class Tally:
    """Counts the faults of one kind by their outcome.

    Args:
        fault: The name of the fault in the table of faults.
    """

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.injected = 0
        self.outcomes: Counter[str] = Counter()
        """The number of faults that ended as they should."""
        self.results_lost = 0

    def row(self) -> Mapping[str, object]:
        """Return the line of the table."""
        return {
            "fault": self.fault,
            "injected": self.injected,
            "as_they_should": self.outcomes.total(),
            "results_lost": self.results_lost,
        }

    def report(self) -> None:
        """Append the line to the table file of the environment, if there is one and faults were injected."""
        table = os.environ.get("TUNE_JOBS_CHAOS_TABLE")
        if CHAOS and self.injected:
            print(self.row(), dict(self.outcomes))
            if table:
                with Path(table).open("a") as file:
                    file.write(json.dumps(self.row()) + "\n")
