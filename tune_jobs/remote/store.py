"""Objects under one place, whole at a time: what pyarrow's file systems do, with their failures in plain words."""

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from tune_jobs.location import Location

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")

ATTEMPTS = 3
"""Of each request, within a second or two, by the store's own client."""
CONNECT_SECONDS = 5.0
LONGEST_PAUSE = 10.0
"""Between attempts of `persistently`."""
_CHUNK = 8 << 20
_REASONS = (
    (r"NO_SUCH_BUCKET|bucket does not exist|Bucket not found", "there is no such bucket"),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|EXPIRED"
        r"|InvalidAccessKeyId|ExpiredToken|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENTICATED|Permission denied"
        r"|OAuth2|[Cc]redentials",
        "access is denied: this machine's environment or role gives no credentials, or such as may not do this",
    ),
    (r"SLOW_DOWN|THROTTLING|HTTP status 429|RESOURCE_EXHAUSTED", "it asks for fewer requests (throttling)"),
    (r"NETWORK_CONNECTION|curlCode|UNAVAILABLE|Could not connect", "it cannot be reached{endpoint}"),
    (r"HTTP status 5\d\d|SERVICE_UNAVAILABLE|INTERNAL_FAILURE", "the server fails"),
)


class StoreError(OSError):
    """A store does not do what was asked; `strerror` says why, in plain words.

    It is an error of input and output, as one of a disk would be.
    """

    def __init__(self, reason: str, uri: str) -> None:
        super().__init__(errno.EIO, reason, uri)


@dataclass(frozen=True)
class Stored:
    """An object."""

    name: str
    """Below the store's place."""
    size: int
    """In bytes."""
    modified: float
    """Unix time, by the store's clock."""


class Store:
    """Objects below one place, each written in one step: readers see the old one or the new one.

    All methods raise `StoreError` where the store cannot be asked, and those that read one object
    `FileNotFoundError` where there is none.

    Args:
        place: in an object store, or a folder, for which the same holds but for the single step.
    """

    def __init__(self, place: Location | Path) -> None:
        self.place = place
        self._base = place.path if isinstance(place, Location) else str(place)

    def put(self, name: str, content: bytes) -> None:
        """Writes an object; whole as well where it is interrupted."""
        with self._explained(name):
            try:
                self._write(name, iter([content]))
            except (KeyboardInterrupt, SystemExit):  # the client has maybe put a part of it there
                self._write(name, iter([content]))
                raise

    def upload(self, file: Path, name: str, size: int | None = None) -> None:
        """Writes an object with the content of a file, which may grow meanwhile.

        Args:
            file: to be sent.
            name: of the object.
            size: bytes of the file that are sent; None sends all that it has now.

        Raises:
            OSError: the file cannot be read to its end; then there is no such object. The same holds where the
                upload is interrupted.
        """
        with file.open("rb") as source, self._explained(name):
            try:
                self._write(
                    name, _chunks(source, os.fstat(source.fileno()).st_size if size is None else size)
                )
            except BaseException as error:
                if not isinstance(error, OSError) or error.errno is not None:
                    self.delete(name)  # not the store's fault: it has been given the first part
                raise

    def get(self, name: str) -> bytes:
        """The content of an object."""
        with self._explained(name), self._files.open_input_stream(self._path(name)) as stream:
            content: bytes = stream.read()
        return content

    def download(self, name: str, file: Path) -> None:
        """Writes the content of an object to a file, which is not whole where this fails."""
        with (
            self._explained(name),
            self._files.open_input_stream(self._path(name)) as stream,
            file.open("wb") as target,
        ):
            while chunk := stream.read(_CHUNK):
                target.write(chunk)

    def objects(self, under: str = "") -> list[Stored]:
        """All objects whose names begin with `under/`, in the order of their names.

        Those with an empty part, `.` or `..` in their names are not ours, and left out: such a name is nothing to
        make a path from, and nothing that pyarrow reads.
        """
        found = (
            Stored(name, info.size or 0, (info.mtime_ns or 0) / 1e9)
            for info in self._infos(under, recursive=True)
            if info.is_file and (name := self._name(info.path))
        )
        return sorted(found, key=lambda stored: stored.name)

    def folders(self, under: str = "") -> list[str]:
        """What comes between `under/` and a further slash in names of objects, sorted."""
        from pyarrow.fs import FileType  # noqa: PLC0415

        start = f"{under}/" if under else ""
        if isinstance(self.place, Location) and self.place.scheme == "gs":  # it lists none that nobody made
            below = (stored.name.removeprefix(start) for stored in self.objects(under))
            return sorted({name.partition("/")[0] for name in below if "/" in name})
        infos = self._infos(under, recursive=False)
        names = (self._name(info.path) for info in infos if info.type == FileType.Directory)
        return sorted(name.removeprefix(start) for name in names if name and name.startswith(start))

    def delete(self, name: str) -> None:
        """Removes an object, if there is one."""
        with self._explained(name), suppress(FileNotFoundError):
            self._files.delete_file(self._path(name))

    def delete_all(self, under: str) -> None:
        """Removes all objects whose names begin with `under/`."""
        if self.objects(under):  # a folder that is not there is a failure in some stores
            with self._explained(under), suppress(FileNotFoundError):
                self._files.delete_dir(self._path(under))

    def uri(self, name: str) -> str:
        """Of an object, as it is shown."""
        return f"{self.place}/{name}" if name else str(self.place)

    @property
    def _files(self) -> "FileSystem":
        if isinstance(self.place, Path):
            return file_system("file", "")
        return file_system(self.place.scheme, self.place.bucket, _surroundings())

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _name(self, path: str) -> str:
        """Of the object at `path`; empty where it is none of ours."""
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
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415

        with self._explained(under):
            selector = FileSelector(self._path(under), recursive=recursive, allow_not_found=True)
            found: list[FileInfo] = self._files.get_file_info(selector)
            if not found and isinstance(self.place, Location):
                bucket = self._files.get_file_info(self.place.bucket)
                if bucket.type == FileType.NotFound:
                    raise StoreError("there is no such bucket", self.uri(under))
        return found

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except (StoreError, FileNotFoundError):
            raise
        except OSError as error:
            if isinstance(self.place, Path):
                raise
            if "NO_SUCH_KEY" in str(error):  # removed in the middle of a call
                raise FileNotFoundError(errno.ENOENT, "there is no such object", self.uri(name)) from error
            raise StoreError(_reason(str(error), self.place), self.uri(name)) from error


def persistently(call: Callable[[], T], seconds: float, waiting: Callable[[], None] = lambda: None) -> T:
    """What `call` returns, which is tried again, after growing pauses, while the store cannot be asked.

    Args:
        call: may be made several times.
        seconds: how long to go on with that.
        waiting: called before each pause.

    Raises:
        StoreError: it could not be asked for so long.
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
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311 (so that not all come back at once)
            pause = min(2 * pause, LONGEST_PAUSE)


@cache
def file_system(scheme: str, bucket: str, surroundings: tuple[tuple[str, str], ...] = ()) -> "FileSystem":
    """Pyarrow's file system for a bucket; one for a process, since it holds connections.

    Args:
        scheme: `s3`, `gs`, or `file` for this machine's own.
        bucket: which.
        surroundings: of the environment variables, those that say where the servers are.
    """
    from pyarrow import fs  # noqa: PLC0415

    variables = dict(surroundings)
    if scheme == "file":
        return fs.LocalFileSystem()
    endpoint = _endpoint(variables, scheme)
    if scheme == "gs":
        limit = timedelta(seconds=CONNECT_SECONDS)
        if endpoint is None:
            return fs.GcsFileSystem(retry_time_limit=limit)
        scheme, host = endpoint
        return fs.GcsFileSystem(anonymous=True, scheme=scheme, endpoint_override=host, retry_time_limit=limit)
    options = {"retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)}
    if endpoint is not None:
        options |= {"scheme": endpoint[0], "endpoint_override": endpoint[1]}
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or None
    if region is None and endpoint is None:
        region = _region(bucket)
    return fs.S3FileSystem(
        region=region,
        connect_timeout=CONNECT_SECONDS,
        background_writes=False,  # else a stream that is given up waits for them, and all other threads with it
        allow_delayed_open=True,  # an object of a few megabytes is one request
        **options,
    )


_VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "STORAGE_EMULATOR_HOST",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
)


def _surroundings() -> tuple[tuple[str, str], ...]:
    return tuple((name, os.environ[name]) for name in _VARIABLES if name in os.environ)


def server_of(place: Location) -> str:
    """The server that the environment names for `place`; empty for Amazon's or Google's own."""
    endpoint = _endpoint(dict(_surroundings()), place.scheme)
    return "" if endpoint is None else f"{endpoint[0]}://{endpoint[1]}"


def address_of(place: Location) -> str:
    """The server that `place` is kept by, as `https://host`."""
    if server := server_of(place):
        return server
    if place.scheme == "gs":
        return "https://storage.googleapis.com"
    region: str = file_system(place.scheme, place.bucket, _surroundings()).region
    return f"https://s3.{region}.amazonaws.com"


def _endpoint(variables: Mapping[str, str], scheme: str) -> tuple[str, str] | None:
    """Scheme and host of a server other than Amazon's or Google's own, with the variables of their own clients."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if scheme == "s3" else ("STORAGE_EMULATOR_HOST",)
    text = next((variables[name] for name in names if variables.get(name)), None)
    if text is None:
        return None
    url = urlsplit(text if "://" in text else f"http://{text}")
    return url.scheme, f"{url.netloc}{url.path.rstrip('/')}"


def _region(bucket: str) -> str | None:
    """Where Amazon keeps the bucket; None where it does not say, and whoever asks next hears why."""
    from pyarrow import fs  # noqa: PLC0415

    try:
        region: str = fs.resolve_s3_region(bucket)
    except OSError:
        return None
    return region


def _reason(text: str, place: Location) -> str:
    """Why, in plain words; the client's own words where nobody has met them yet."""
    server = server_of(place)
    own = "at Amazon, since AWS_ENDPOINT_URL is not set" if place.scheme == "s3" else "at Google"
    at = f" at {server}" if server else f" {own}"
    for pattern, words in _REASONS:
        if re.search(pattern, text):
            return words.format(endpoint=at)
    return " ".join(text.split())


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(_CHUNK, size))):
        yield chunk
        size -= len(chunk)
