"""Print the table of faults as Markdown: `python -m tests.faults.table FILE`."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return one row per kind of fault. Lines of the same kind are added up."""
    kinds: dict[str, tuple[int, int, int]] = {}
    for row in rows:
        injected, right, lost = kinds.get(row["fault"], (0, 0, 0))
        kinds[row["fault"]] = (
            injected + row["injected"],
            right + row["as_they_should"],
            lost + row["results_lost"],
        )
    lines = ["| Fault | injected | ended as they should | results lost |", "|---|---|---|---|"]
    lines += [
        f"| {fault} | {injected} | {right} | {lost} |" for fault, (injected, right, lost) in kinds.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()))
