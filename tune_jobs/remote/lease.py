"""The lease of a run in an object store: the one process that holds and renews it may write, on any machine.

An object store locks nothing, but shows to everyone what was written before. A process that wants the lease writes
its own object and then looks for those of others. Of two at once, at least one sees the other, and withdraws.
"""

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from tune_jobs.errors import RunInUse
from tune_jobs.files import parse_json
from tune_jobs.location import Location
from tune_jobs.remote.clock import steady, store_time
from tune_jobs.remote.store import Store, StoreError, call_with_retries

FOLDER = "lease"
"""Prefix of the names of the objects of all leases."""
RENEW_SECONDS = 15.0
"""Seconds after which a lease is due for renewal."""
STALE_SECONDS = 90.0
"""Seconds, by the store's clock, after which a lease that was not renewed is free."""
SURE_SECONDS = 45.0
"""Seconds after its last renewal from which a process checks the lease before it writes anything else."""
_ATTEMPTS = 6
"""Attempts to take a lease that another process wants at the same time."""
_READ_SECONDS = 3.0
"""Seconds for which this process tries to read the object of another lease."""
_OURS: set[str] = set()
"""Tokens of the leases that this process holds or wants."""


class LeaseLost(Exception):
    """Another process has taken over the run."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process, with the facts that show on its own machine whether it still exists."""

    host: str
    pid: int
    started: str = ""
    """The time of its start by the system. A later process with the same number has another one."""
    world: str = ""
    """The boot and the namespace in which `pid` is valid."""
    held: bool = False
    """Whether the process has found no other lease, and so holds the lease."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def here(cls) -> Self:
        """Return the owner for this process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), pid=pid, started=_start_time(pid), world=_world())

    @property
    def is_dead(self) -> bool:
        """Return whether the process has ended, or is this one and gave up the lease; False if that is unknown."""
        if not (self.host == socket.gethostname() and self.world == _world() != ""):
            return False
        if _start_time(self.pid) != self.started:
            return True
        return self.pid == os.getpid() and self.token not in _OURS

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}" if self.host else "maybe of a later version of tune-jobs"


class Lease:
    """The right of this process to write to a run.

    Args:
        store: The store of the run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner = Holder.here()
        self._name = f"{FOLDER}/{self._owner.token}.json"
        self._renewed = -STALE_SECONDS
        self._lost = False
        self._renewing = threading.Lock()

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            RunInUse: Another process holds it; the message says which, and what to do.
            StoreError: The store cannot be reached.
        """
        _OURS.add(self._owner.token)
        try:
            self._acquire()
        except BaseException:
            _OURS.discard(self._owner.token)
            raise

    def renew(self) -> None:
        """Renew the lease, if the last renewal is `RENEW_SECONDS` ago.

        Raises:
            LeaseLost: Another process has it.
            StoreError: The store cannot be reached.
        """
        self._renew(RENEW_SECONDS)

    def ensure(self) -> None:
        """Check that this process has the lease. Call it before anything is written or removed.

        Raises:
            LeaseLost: Another process has it.
            StoreError: The store cannot be reached, and the last renewal is `SURE_SECONDS` ago.
        """
        self._renew(SURE_SECONDS)

    def release(self) -> None:
        """Give the lease back. This process gives it up even if the store cannot be reached."""
        _OURS.discard(self._owner.token)
        self._store.delete(self._name)

    def _renew(self, seconds: float) -> None:
        """Renew the lease, unless it was renewed in the last `seconds`."""
        if self._is_fresh(seconds):
            return
        with self._renewing:
            if self._is_fresh(seconds):  # another thread was faster
                return
            names = {one.name for one in self._store.objects(FOLDER)}
            # A process that was silent for long may write its object at the moment in which another one removes it.
            others = holders(self._store, but=self._name, now_by=self._name) if len(names) > 1 else []
            if self._name not in names or any(
                owner.held and owner.token > self._owner.token for owner, _ in others
            ):
                self._lost = True
                raise LeaseLost
            self._write(held=True)

    def _is_fresh(self, seconds: float) -> bool:
        if self._lost:
            raise LeaseLost
        return steady() < self._renewed + seconds

    def _acquire(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._write(held=False)
                others = holders(self._store, clear=True, but=self._name, now_by=self._name)
                if not others:
                    self._write(held=True)
                    return
                self._store.delete(self._name)
            except StoreError:
                with suppress(StoreError):  # the object becomes stale by itself
                    self._store.delete(self._name)
                raise
            if attempt == _ATTEMPTS - 1 or any(owner.held for owner, _ in others):
                raise in_use_error(self._store, others[0])
            time.sleep(random.uniform(0.1, 0.5) * (attempt + 1))  # noqa: S311 (two at once: one comes first)

    def _write(self, *, held: bool) -> None:
        entry = {**asdict(self._owner), "held": held}
        now = steady()
        self._store.put(self._name, json.dumps(entry).encode())
        self._renewed = now


def holders(
    store: Store, *, clear: bool = False, but: str = "", now_by: str | None = None
) -> list[tuple[Holder, float]]:
    """List the processes that hold or want the lease, and the seconds since each last renewed it.

    Args:
        store: The store of the run.
        clear: Remove the leases of dead processes.
        but: Name of an object that does not count.
        now_by: Name of an object that was written just now and so shows the store's time; None asks the store.
    """
    stored = store.objects(FOLDER)
    now = next((one.modified for one in stored if one.name == now_by), None)
    if now is None:
        now = store_time(store.place) if isinstance(store.place, Location) else time.time()
    found = []
    for one in stored:
        if one.name == but:
            continue
        age = now - one.modified
        with suppress(FileNotFoundError):  # it was given back meanwhile
            # An object that goes away while it is read may look like a failure.
            owner = _owner(one.name, call_with_retries(partial(store.get, one.name), _READ_SECONDS))
            if age < STALE_SECONDS and not owner.is_dead:
                found.append((owner, max(0.0, age)))
            elif clear:
                store.delete(one.name)
    return sorted(found, key=lambda pair: (not pair[0].held, pair[1]))


def in_use_error(store: Store, holder: tuple[Holder, float]) -> RunInUse:
    """Return the error for a process that finds the lease taken."""
    owner, age = holder
    return RunInUse(
        f"{store.place}: another process is at work on this run ({owner}, last seen {age:.0f} s ago); wait until it "
        f"ends, or stop it with Ctrl-C or SIGTERM. If its machine is gone, the run becomes free "
        f"{STALE_SECONDS:.0f} s after the process was last seen"
    )


def _owner(name: str, content: bytes) -> Holder:
    """Return the owner that an object names. If it cannot be read, as from a later version, only its token is known."""
    unknown = Holder(host="", pid=0, held=True, token=Path(name).stem)
    try:
        values: Mapping[str, Any] = parse_json(content)
        known = {key: values[key] for key in asdict(unknown) if key in values}
    except (ValueError, TypeError):
        return unknown
    sound = all(isinstance(value, type(getattr(unknown, key))) for key, value in known.items())
    return replace(unknown, **known) if sound else unknown


def _start_time(pid: int) -> str:
    """Return the start time of a process, the 22nd field of its line in /proc; empty without a process or /proc."""
    with suppress(OSError, IndexError):
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _world() -> str:
    """Return the boot and the namespace in which process numbers are valid; empty if they are unknown."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""
