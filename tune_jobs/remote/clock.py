"""The time by a store's own clock, which dates its objects. This machine's clock may be minutes off."""

import http.client
import threading
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from tune_jobs.location import Location
from tune_jobs.remote.servers import address_of

SECONDS_TO_ANSWER = 3.0
"""Seconds to wait for the answer of a server."""
SECONDS_BETWEEN_QUESTIONS = 60.0
"""Seconds between two questions to a server. In between, this machine's clock counts the seconds."""
_differences: dict[str, tuple[float, float]] = {}
"""By server: the seconds by which its clock was ahead of `steady`, and the time of that question."""
_asking = threading.Lock()


def store_time(place: Location) -> float:
    """Return the Unix time of a store, to about a second; this machine's time if the store's server is silent.

    Every answer of a server carries its time. Neither a key nor the right to write is needed.
    """
    server = address_of(place)
    with _asking:
        if server not in _differences or steady() > _differences[server][1] + SECONDS_BETWEEN_QUESTIONS:
            told = _ask(server, place.bucket)
            now = steady()
            _differences[server] = ((time.time() if told is None else told) - now, now)
        return _differences[server][0] + steady()


def steady() -> float:
    """Return seconds of a clock that is never set. If the system has one, it runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _ask(server: str, bucket: str) -> float | None:
    url = urlsplit(server)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(url.netloc, timeout=SECONDS_TO_ANSWER)
        try:
            connection.request("HEAD", f"{url.path}/{bucket}")
            date = connection.getresponse().getheader("Date")
        finally:
            connection.close()
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except (OSError, ValueError, http.client.HTTPException):
        return None
