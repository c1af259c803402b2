"""One process at a time writes to a run in an object store, on whatever machine: it holds a lease and renews it.

An object store locks nothing, but shows to everyone what was written before. Whoever wants the lease leaves an object
of its own and then looks for those of others: of two at once, at least one sees the other, and withdraws.
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
from tune_jobs.location import Location
from tune_jobs.remote.clock import steady, store_time
from tune_jobs.remote.store import Store, StoreError, persistently

FOLDER = "lease"
RENEW_SECONDS = 15.0
STALE_SECONDS = 90.0
"""A lease that was not renewed for so long, by the store's clock, is nobody's."""
SURE_SECONDS = 45.0
"""Who renewed the lease longer ago asks before it writes anything else: another one may soon have it."""
_ATTEMPTS = 6
_READ_SECONDS = 3.0
_OURS: set[str] = set()
"""Tokens of the leases that this process has use for."""


class LeaseLost(Exception):
    """Another process has taken the run over."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, and what tells from here whether it lives."""

    host: str
    pid: int
    started: str = ""
    """What the system says of its start; a later process of the same number has another."""
    world: str = ""
    """The namespace that the number is of."""
    held: bool = False
    """It has looked, and was alone."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def here(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), pid=pid, started=_started(pid), world=_world())

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this machine and is gone, or this one, and has given up; not known of others."""
        if not (self.host == socket.gethostname() and self.world == _world() != ""):
            return False
        if _started(self.pid) != self.started:
            return True
        return self.pid == os.getpid() and self.token not in _OURS

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}" if self.host else "maybe of a later version of tune-jobs"


class Lease:
    """This process's right to write to a run.

    Args:
        store: of the run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner = Owner.here()
        self._name = f"{FOLDER}/{self._owner.token}.json"
        self._renewed = -STALE_SECONDS
        self._lost = False
        self._renewing = threading.Lock()

    def acquire(self) -> None:
        """Takes the lease.

        Raises:
            RunInUse: another process holds it; the message says which, and what to do.
            StoreError: the store cannot be asked.
        """
        _OURS.add(self._owner.token)
        try:
            self._acquire()
        except BaseException:
            _OURS.discard(self._owner.token)
            raise

    def renew(self) -> None:
        """Says that this process lives; now and then is enough.

        Raises:
            LeaseLost: another process has it.
            StoreError: the store cannot be asked.
        """
        self._renew(RENEW_SECONDS)

    def ensure(self) -> None:
        """Makes sure that this process has the lease; for whoever is about to write or to remove something.

        Raises:
            LeaseLost: another process has it.
            StoreError: the store cannot be asked, and it is long ago that it could.
        """
        self._renew(SURE_SECONDS)

    def release(self) -> None:
        """Gives it back; where the store does not hear of it, this process lets go of it all the same."""
        _OURS.discard(self._owner.token)
        self._store.delete(self._name)

    def _renew(self, seconds: float) -> None:
        """Unless it was renewed so few seconds ago."""
        if self._is_fresh(seconds):
            return
        with self._renewing:
            if self._is_fresh(seconds):  # another thread was faster
                return
            names = {one.name for one in self._store.objects(FOLDER)}
            # Who was silent for long may write its object in the very moment in which another one removes it.
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
                with suppress(StoreError):  # else it becomes stale
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
) -> list[tuple[Owner, float]]:
    """Who holds or wants the lease, and how many seconds ago each was heard of.

    Args:
        store: of the run.
        clear: removes the leases of the dead.
        but: an object that does not count.
        now_by: the object that was written just now, which tells the store's time; None asks the store.
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
        with suppress(FileNotFoundError):  # given back since
            # An object that goes away while it is read may look like a failure.
            owner = _owner(one.name, persistently(partial(store.get, one.name), _READ_SECONDS))
            if age < STALE_SECONDS and not owner.is_dead:
                found.append((owner, max(0.0, age)))
            elif clear:
                store.delete(one.name)
    return sorted(found, key=lambda pair: (not pair[0].held, pair[1]))


def in_use_error(store: Store, holder: tuple[Owner, float]) -> RunInUse:
    """What is said to whoever finds the lease taken."""
    owner, age = holder
    return RunInUse(
        f"{store.place}: another process is at work on this run ({owner}, heard of {age:.0f} s ago); wait for its end, "
        f"or stop it with Ctrl-C or SIGTERM. If its machine is gone, the run is free {STALE_SECONDS:.0f} s after it "
        "was last heard of"
    )


def _owner(name: str, content: bytes) -> Owner:
    """Whose the object is. Of one that cannot be understood, as of a later version, its name is all that is known."""
    unknown = Owner(host="", pid=0, held=True, token=Path(name).stem)
    try:
        values: Mapping[str, Any] = json.loads(content)
        known = {key: values[key] for key in asdict(unknown) if key in values}
    except (ValueError, TypeError):
        return unknown
    sound = all(isinstance(value, type(getattr(unknown, key))) for key, value in known.items())
    return replace(unknown, **known) if sound else unknown


def _started(pid: int) -> str:
    """The 22nd field of the process's line; empty where there is no such process, or no such system."""
    with suppress(OSError, IndexError):
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _world() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""
