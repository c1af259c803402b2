"""W&B's files, read back in their record format: blocks of 32 KiB with records of W&B's own protocol."""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, FILE_HEADER, CHUNK_HEADER = 32 * 1024, 7, 7
FULL, LAST = 1, 4


@dataclass
class ReadRun:
    """One W&B run, from its file."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    steps_of: dict[str, str] = field(default_factory=dict)
    """The x axis of each metric or pattern of metrics."""
    exit_code: int | None = None

    @property
    def epochs(self) -> dict[int, dict[str, float]]:
        """Return the values by step, without W&B's own."""
        return {
            step: {name: float(value) for name, value in row.items() if not name.startswith("_")}
            for step, row in self.history.items()
        }


def read_run(file: Path) -> ReadRun:
    """Return the W&B run in `file`, and fail if a step comes twice."""
    read = ReadRun()
    for record in read_records(file):
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                read.run_id, read.name, read.group = run.run_id, run.display_name, run.run_group
                read.job_type, read.project, read.tags = run.job_type, run.project, list(run.tags)
                read.config = {item.key: json.loads(item.value_json) for item in run.config.update}
                read.config.pop("_wandb", None)
            case "history":
                step = int(record.history.step.num)
                assert step not in read.history, f"{file}: step {step} comes twice"
                _update(read.history.setdefault(step, {}), record.history.item)
            case "summary":
                _update(read.summary, record.summary.update)
            case "metric":
                metric = record.metric
                read.steps_of[metric.name or metric.glob_name] = metric.step_metric
            case "exit":
                read.exit_code = record.exit.exit_code
    return read


def _update(values: dict[str, Any], items: Iterable[Any]) -> None:
    """Store items, whose keys may be paths."""
    for item in items:
        *above, key = item.nested_key or [item.key]
        below = values
        for name in above:
            below = below.setdefault(name, {})
        below[key] = json.loads(item.value_json)


def read_runs(folder: Path) -> dict[str, ReadRun]:
    """Return the W&B runs in `folder` by the part of their ids after the run folder's name. Ids must be unique."""
    found: dict[str, ReadRun] = {}
    for file in sorted(folder.glob("*/*.wandb")):
        run = read_run(file)
        part = run.run_id.removeprefix(f"{run.group}-")
        assert part not in found, f"{part} has two folders"
        found[part] = run
    return found


def read_records(file: Path) -> Iterator[Any]:
    """Yield the records of `file` without a torn end."""
    from wandb.proto import wandb_internal_pb2  # a third of a second in each process that collects tests

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    position, whole = FILE_HEADER, b""
    while position + CHUNK_HEADER <= len(data):
        if BLOCK - position % BLOCK < CHUNK_HEADER:  # the rest of a block is padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + CHUNK_HEADER])
        chunk = data[position + CHUNK_HEADER : position + CHUNK_HEADER + length]
        if kind == 0 or len(chunk) < length:
            return
        whole += chunk
        position += CHUNK_HEADER + length
        if kind in {FULL, LAST}:
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""
