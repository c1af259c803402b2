"""Read and write `data.json` of a run: the encoding of rows.

The file has a checksum, because one changed digit would spoil every row. The run's first event has its SHA-256, because
the encoding of another run would spoil every row too.
"""

import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.errors import DamagedRun
from tune_jobs.files import parse_json, replacing

if TYPE_CHECKING:
    from tune_jobs.trainers.data import DataInfo

CHECKSUM = "checksum"
"""Key of the checksum: the CRC-32 of all other keys, as compact JSON with sorted keys."""


def write_info(info: "DataInfo", path: Path) -> None:
    """Write `info` in one step."""
    mapping = info.to_mapping()
    with replacing(path) as file:
        file.write(json.dumps({**mapping, CHECKSUM: _sum(mapping)}, indent=1).encode())


def read_info(path: Path, sha256: str | None) -> "DataInfo":
    """Read the file that `write_info` wrote.

    Args:
        path: The file.
        sha256: The SHA-256 that the journal has of the file; None if it has none, which is damage.

    Raises:
        DamagedRun: The file is missing or damaged, or not the one with which the run began.
    """
    from tune_jobs.trainers.data import DataInfo  # noqa: PLC0415 (imports pyarrow)

    try:
        content = path.read_bytes()
        mapping = _remove_checksum(parse_json(content))
        _compare(hashlib.sha256(content).hexdigest(), sha256)
        return DataInfo.from_mapping(mapping)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DamagedRun(
            f"{path}: cannot be read ({reason}); restore it from a copy, or from another run on the same data and "
            "the same split"
        ) from error


def _remove_checksum(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return `mapping` without its checksum."""
    checksum = mapping.pop(CHECKSUM, None)
    if checksum != _sum(mapping):
        raise ValueError("it does not match its checksum")
    return mapping


def _compare(sha256: str, expected: str | None) -> None:
    if sha256 != expected:
        raise ValueError("it is not the file with which the run began")


def _sum(mapping: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(mapping, sort_keys=True, separators=(',', ':')).encode()):08x}"
