"""Read and write whole objects below one place, through pyarrow, with its failures in plain words."""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from tune_jobs.location import Location
from tune_jobs.remote.servers import file_system, reason_in, server_variables

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")

LONGEST_PAUSE = 10.0
"""Longest pause between two attempts of `call_with_retries`, in seconds."""

_CHUNK = 8 << 20
"""Bytes that are read and written at a time."""


class StoreError(OSError):
    """A request to a store failed; `strerror` says why, in plain words.

    It is an `OSError`, like the error of a disk.
    """

    def __init__(self, reason: str, uri: str) -> None:
        super().__init__(errno.EIO, reason, uri)


@dataclass(frozen=True)
class Stored:
    """An object of a store."""

    name: str
    """Name below the store's place."""
    size: int
    """Size in bytes."""
    modified: float
    """Time of the last change, in Unix time by the store's clock."""


class Store:
    """Objects below one place, each written in one step: readers see the old one or the new one.

    All methods raise `StoreError` if the store cannot be reached. Those that read one object raise
    `FileNotFoundError` if there is none.

    Args:
        place: The place in an object store. A folder works too, but does not write in one step.
    """

    def __init__(self, place: Location | Path) -> None:
        self.place = place
        self._base = place.path if isinstance(place, Location) else str(place)

    def put(self, name: str, content: bytes) -> None:
        """Write an object. It is whole even if the call is interrupted."""
        with self._explain_errors(name):
            try:
                self._write(name, iter([content]))
            except (KeyboardInterrupt, SystemExit):  # the client may have stored a part of it
                self._write(name, iter([content]))
                raise

    def upload(self, file: Path, name: str, size: int | None = None) -> None:
        """Write an object with the content of a file, which may grow meanwhile.

        Args:
            file: The file to send.
            name: The name of the object.
            size: Number of bytes to send; None sends the whole file as it is now.

        Raises:
            OSError: The file cannot be read to its end. There is no such object then, nor after an interruption.
        """
        with file.open("rb") as source, self._explain_errors(name):
            try:
                self._write(
                    name, _chunks(source, os.fstat(source.fileno()).st_size if size is None else size)
                )
            except BaseException as error:
                if not isinstance(error, OSError) or error.errno is not None:
                    self.delete(name)  # not the store's fault: it may have stored the first part
                raise

    def get(self, name: str) -> bytes:
        """Read an object."""
        with self._explain_errors(name), self._files.open_input_stream(self._path(name)) as stream:
            content: bytes = stream.read()
        return content

    def download(self, name: str, file: Path) -> None:
        """Write the content of an object to a file. The file is incomplete if this fails."""
        with (
            self._explain_errors(name),
            self._files.open_input_stream(self._path(name)) as stream,
            file.open("wb") as target,
        ):
            while chunk := stream.read(_CHUNK):
                target.write(chunk)

    def objects(self, under: str = "") -> list[Stored]:
        """List the objects whose names begin with `under/`, in the order of their names.

        Names with an empty part, `.` or `..` are left out. They are not ours, no path can be made from them, and
        pyarrow does not read them.
        """
        found = (
            Stored(name, info.size or 0, (info.mtime_ns or 0) / 1e9)
            for info in self._infos(under, recursive=True)
            if info.is_file and (name := self._name(info.path))
        )
        return sorted(found, key=lambda stored: stored.name)

    def folders(self, under: str = "") -> list[str]:
        """List the parts between `under/` and a further slash in names of objects, sorted."""
        from pyarrow.fs import FileType  # noqa: PLC0415 (slow, and most runs are in folders)

        start = f"{under}/" if under else ""
        if (
            isinstance(self.place, Location) and self.place.scheme == "gs"
        ):  # it lists only folders that were made as such
            below = (stored.name.removeprefix(start) for stored in self.objects(under))
            return sorted({name.partition("/")[0] for name in below if "/" in name})
        infos = self._infos(under, recursive=False)
        names = (self._name(info.path) for info in infos if info.type == FileType.Directory)
        return sorted(name.removeprefix(start) for name in names if name and name.startswith(start))

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        with self._explain_errors(name), suppress(FileNotFoundError):
            self._files.delete_file(self._path(name))

    def delete_all(self, under: str) -> None:
        """Remove all objects whose names begin with `under/`."""
        if self.objects(under):  # some stores fail if the folder is missing
            with self._explain_errors(under), suppress(FileNotFoundError):
                self._files.delete_dir(self._path(under))

    def uri(self, name: str) -> str:
        """Return the address of an object, for messages."""
        return f"{self.place}/{name}" if name else str(self.place)

    @property
    def _files(self) -> "FileSystem":
        if isinstance(self.place, Path):
            return file_system("file", "")
        return file_system(self.place.scheme, self.place.bucket, server_variables())

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _name(self, path: str) -> str:
        """Return the name of the object at `path`; empty if it is not one of ours."""
        name = path.removeprefix(f"{self._base}/")
        return "" if name == path or {"", ".", ".."} & set(name.split("/")) else name

    def _write(self, name: str, chunks: Iterator[bytes]) -> None:
        if isinstance(self.place, Path):
            Path(self._path(name)).parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._files.open_output_stream(self._path(name)) as stream:
                for chunk in chunks:
                    stream.write(chunk)
        except FileNotFoundError as error:
            raise StoreError("there is no such bucket", self.uri(name)) from error

    def _infos(self, under: str, *, recursive: bool) -> "list[FileInfo]":
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415 (see `folders`)

        with self._explain_errors(under):
            selector = FileSelector(self._path(under), recursive=recursive, allow_not_found=True)
            found: list[FileInfo] = self._files.get_file_info(selector)
            if not found and isinstance(self.place, Location):
                bucket = self._files.get_file_info(self.place.bucket)
                if bucket.type == FileType.NotFound:
                    raise StoreError("there is no such bucket", self.uri(under))
        return found

    @contextmanager
    def _explain_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (StoreError, FileNotFoundError):
            raise
        except OSError as error:
            if isinstance(self.place, Path):
                raise
            if "NO_SUCH_KEY" in str(error):  # removed in the middle of a call
                raise FileNotFoundError(errno.ENOENT, "there is no such object", self.uri(name)) from error
            raise StoreError(reason_in(str(error), self.place), self.uri(name)) from error


def call_with_retries(call: Callable[[], T], seconds: float, waiting: Callable[[], None] = lambda: None) -> T:
    """Return what `call` returns; call it again, after growing pauses, while the store cannot be reached.

    Args:
        call: The function to call; it may be called several times.
        seconds: Seconds for which the call is repeated.
        waiting: Called before each pause.

    Raises:
        StoreError: The store could not be reached for that long.
    """
    until = time.monotonic() + seconds
    pause = 0.1
    while True:
        try:
            return call()
        except StoreError:
            left = until - time.monotonic()
            if left <= 0:
                raise
            waiting()
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311 (clients should not all return at once)
            pause = min(2 * pause, LONGEST_PAUSE)


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(_CHUNK, size))):
        yield chunk
        size -= len(chunk)
