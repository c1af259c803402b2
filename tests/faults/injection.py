"""How many faults are injected, in a short form and in a full one, and what becomes of them.

The short form is part of `make test` and the same each time; the full one draws anew.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hypothesis import HealthCheck, settings

CHAOS = os.environ.get("TUNE_JOBS_CHAOS") == "1"
"""Are faults injected in full?"""


def examples(short: int, full: int = 500) -> settings:
    """Settings of a test that injects `short` made-up faults, or `full` of them in the full form."""
    return settings(
        max_examples=full if CHAOS else short,
        derandomize=not CHAOS,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


class Tally:
    """Counts the faults of one kind, by what became of them.

    Args:
        fault: what is injected, as the table of faults calls it.
    """

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.injected = 0
        self.outcomes: Counter[str] = Counter()
        """Of those that ended as they should."""
        self.results_lost = 0

    def row(self) -> Mapping[str, object]:
        """The line of the table."""
        return {
            "fault": self.fault,
            "injected": self.injected,
            "as_they_should": self.outcomes.total(),
            "results_lost": self.results_lost,
        }

    def report(self) -> None:
        """Adds the line to the table that the environment names, if there is one and faults were injected."""
        table = os.environ.get("TUNE_JOBS_CHAOS_TABLE")
        if CHAOS and self.injected:
            print(self.row(), dict(self.outcomes))
            if table:
                with Path(table).open("a") as file:
                    file.write(json.dumps(self.row()) + "\n")
