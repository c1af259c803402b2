"""`data.json` of a run: how rows are encoded, with a checksum, since one changed digit would spoil every row."""

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.errors import DamagedRun
from tune_jobs.files import replacing

if TYPE_CHECKING:
    from tune_jobs.trainers.data import DataInfo

CHECKSUM = "checksum"
"""Key of the CRC-32 of all else, as compact JSON with sorted keys."""


def write_info(info: "DataInfo", path: Path) -> None:
    """Writes `info` in one step."""
    mapping = info.to_mapping()
    with replacing(path) as file:
        file.write(json.dumps({**mapping, CHECKSUM: _sum(mapping)}, indent=1).encode())


def read_info(path: Path) -> "DataInfo":
    """What `write_info` wrote.

    Raises:
        DamagedRun: the file is missing or damaged.
    """
    from tune_jobs.trainers.data import DataInfo  # noqa: PLC0415 (imports pyarrow)

    try:
        return DataInfo.from_mapping(_checked(json.loads(path.read_bytes())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DamagedRun(
            f"{path}: cannot be read ({reason}); restore it from a copy, or from another run on the same data and "
            "the same split"
        ) from error


def _checked(mapping: dict[str, Any]) -> dict[str, Any]:
    """`mapping` without its checksum; files of the first version have none."""
    checksum = mapping.pop(CHECKSUM, None)
    if checksum not in {None, _sum(mapping)}:
        raise ValueError("it does not match its checksum")
    return mapping


def _sum(mapping: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(mapping, sort_keys=True, separators=(',', ':')).encode()):08x}"
