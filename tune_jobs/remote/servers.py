"""The servers of object stores: find the right one, connect to it, and explain its failures."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tune_jobs.location import Location

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

ATTEMPTS = 3
"""Attempts of each request, within a second or two, by the store's own client."""
CONNECT_SECONDS = 5.0
"""Seconds for which the client waits for a connection."""
_VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "STORAGE_EMULATOR_HOST",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
)
"""Environment variables that say where the servers are, and which key is used."""
_REASONS = (
    (r"NO_SUCH_BUCKET|bucket does not exist|Bucket not found", "there is no such bucket"),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|EXPIRED"
        r"|InvalidAccessKeyId|ExpiredToken|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENTICATED|Permission denied"
        r"|OAuth2|[Cc]redentials",
        "access is denied: this machine's environment or role has no credentials, or its credentials do not allow this",
    ),
    (r"SLOW_DOWN|THROTTLING|HTTP status 429|RESOURCE_EXHAUSTED", "it asks for fewer requests (throttling)"),
    (r"NETWORK_CONNECTION|curlCode|UNAVAILABLE|Could not connect", "it cannot be reached{endpoint}"),
    (r"HTTP status 5\d\d|SERVICE_UNAVAILABLE|INTERNAL_FAILURE", "the server fails"),
)
"""Patterns in pyarrow's texts, each with its meaning in plain words; the first match counts."""


@cache
def file_system(scheme: str, bucket: str, variables: tuple[tuple[str, str], ...] = ()) -> "FileSystem":
    """Return pyarrow's file system for a bucket: one for the process, because it holds connections.

    Args:
        scheme: `s3`, `gs`, or `file` for this machine's own.
        bucket: Name of the bucket.
        variables: The result of `server_variables`.
    """
    from pyarrow import fs  # noqa: PLC0415 (slow, and most runs are in folders)

    environment = dict(variables)
    if scheme == "file":
        return fs.LocalFileSystem()
    endpoint = _endpoint(environment, scheme)
    if scheme == "gs":
        limit = timedelta(seconds=CONNECT_SECONDS)
        if endpoint is None:
            return fs.GcsFileSystem(retry_time_limit=limit)
        scheme, host = endpoint
        return fs.GcsFileSystem(anonymous=True, scheme=scheme, endpoint_override=host, retry_time_limit=limit)
    options = {"retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)}
    if endpoint is not None:
        options |= {"scheme": endpoint[0], "endpoint_override": endpoint[1]}
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None
    if region is None and endpoint is None:
        region = _region(bucket)
    return fs.S3FileSystem(
        region=region,
        connect_timeout=CONNECT_SECONDS,
        background_writes=False,  # with them, closing a failed stream would wait, and all other threads too
        allow_delayed_open=True,  # an object of a few megabytes is one request
        **options,
    )


def server_variables() -> tuple[tuple[str, str], ...]:
    """Return the environment variables that say where the servers are, with their values."""
    return tuple((name, os.environ[name]) for name in _VARIABLES if name in os.environ)


def server_of(place: Location) -> str:
    """Return the server that the environment names for `place`; empty for Amazon's or Google's own."""
    endpoint = _endpoint(dict(server_variables()), place.scheme)
    return "" if endpoint is None else f"{endpoint[0]}://{endpoint[1]}"


def address_of(place: Location) -> str:
    """Return the server that keeps `place`, as `https://host`."""
    if server := server_of(place):
        return server
    if place.scheme == "gs":
        return "https://storage.googleapis.com"
    region: str = file_system(place.scheme, place.bucket, server_variables()).region
    return f"https://s3.{region}.amazonaws.com"


def _endpoint(variables: Mapping[str, str], scheme: str) -> tuple[str, str] | None:
    """Return scheme and host of a server other than Amazon's or Google's own, from the variables of their clients."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if scheme == "s3" else ("STORAGE_EMULATOR_HOST",)
    text = next((variables[name] for name in names if variables.get(name)), None)
    if text is None:
        return None
    url = urlsplit(text if "://" in text else f"http://{text}")
    return url.scheme, f"{url.netloc}{url.path.rstrip('/')}"


def _region(bucket: str) -> str | None:
    """Return the region in which Amazon keeps the bucket; None if it does not say. The next request then says why."""
    from pyarrow import fs  # noqa: PLC0415 (see `file_system`)

    try:
        region: str = fs.resolve_s3_region(bucket)
    except OSError:
        return None
    return region


def reason_in(text: str, place: Location) -> str:
    """Return in plain words why a request failed; a text without a known reason is returned as it is."""
    server = server_of(place)
    own = "at Amazon, since AWS_ENDPOINT_URL is not set" if place.scheme == "s3" else "at Google"
    at = f" at {server}" if server else f" {own}"
    for pattern, words in _REASONS:
        if re.search(pattern, text):
            return words.format(endpoint=at)
    return " ".join(text.split())
