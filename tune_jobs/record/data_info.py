"""Read and write `data.json` of a run: the encoding of rows.

The file has a checksum, because one changed digit would spoil every row.
"""

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


def read_info(path: Path) -> "DataInfo":
    """Read the file that `write_info` wrote.

    Raises:
        DamagedRun: The file is missing or damaged.
    """
    from tune_jobs.trainers.data import DataInfo  # noqa: PLC0415 (imports pyarrow)

    try:
        return DataInfo.from_mapping(_remove_checksum(parse_json(path.read_bytes())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DamagedRun(
            f"{path}: cannot be read ({reason}); restore it from a copy, or from another run on the same data and "
            "the same split"
        ) from error


def _remove_checksum(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return `mapping` without its checksum; a file without one is taken as it is."""
    checksum = mapping.pop(CHECKSUM, None)
    if checksum not in {None, _sum(mapping)}:
        raise ValueError("it does not match its checksum")
    return mapping


def _sum(mapping: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(mapping, sort_keys=True, separators=(',', ':')).encode()):08x}"
