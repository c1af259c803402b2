"""The place of a run in an object store, `s3://bucket/prefix`. Nothing in this module asks a server."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SCHEMES = ("s3", "gs")
"""Beginnings of the addresses of object stores."""
PLACE_FILE = ".place"
"""Name of the file beside the copies of runs that holds the place of the originals."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


def is_uri(text: str | Path) -> bool:
    """Return whether `text` means a place in an object store, valid or not."""
    return isinstance(text, str) and "://" in text


@dataclass(frozen=True)
class Location:
    """A bucket, and a prefix of the names of its objects."""

    scheme: str
    """`s3` or `gs`."""
    bucket: str
    prefix: str = ""
    """Prefix of the names of the objects, without slashes at its ends."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a place from its address.

        Raises:
            ValueError: `text` is no valid address; the message says what is valid.
        """
        scheme, _, rest = text.partition("://")
        if scheme not in SCHEMES:
            raise ValueError(f"given {text!r}; valid: a folder, or s3://bucket/prefix, or gs://bucket/prefix")
        bucket, _, prefix = rest.partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ValueError(
                f"given {text!r}, whose bucket is {bucket!r}; valid: 3 to 63 lower-case letters, digits, - and ., "
                f"as in {scheme}://bucket/prefix"
            )
        parts = [part for part in prefix.split("/") if part]
        if {".", ".."} & set(parts) or not prefix.isprintable() or set("?#\\") & set(prefix):
            raise ValueError(
                f"given {text!r}; valid: a prefix without `.` and `..` as parts, and without ?, # and \\"
            )
        return cls(scheme, bucket, "/".join(parts))

    @property
    def path(self) -> str:
        """Return bucket and prefix as one path, as pyarrow takes it."""
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket

    @property
    def name(self) -> str:
        """Return the last part of the path; for a run, its name."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Location":
        """Return the place that contains this one; a bucket contains itself."""
        return Location(self.scheme, self.bucket, self.prefix.rpartition("/")[0])

    def __truediv__(self, name: str) -> "Location":
        return Location(self.scheme, self.bucket, f"{self.prefix}/{name}" if self.prefix else name)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"


def location_of(run: Path) -> Location | None:
    """Return the place of the run that the folder `run` is a copy of; None if the folder is the run itself."""
    try:
        return Location.parse((run.parent / PLACE_FILE).read_text(encoding="utf-8")) / run.name
    except (OSError, ValueError):
        return None
