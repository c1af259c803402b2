"""Claim an opening of the holdout in the object store, before the test rows are read: only one machine succeeds.

A claim is one object. A machine that makes one then looks for others with the same number, and withdraws
its own if there are any. So two machines never both continue.
"""

import json
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_jobs.files import parse_json
from tune_jobs.remote.store import Store, StoreError

FOLDER = "holdout/claims"
"""Prefix of the names of all claims."""
LEDGER = "holdout/ledger.jsonl"
"""Name of the ledger, in the run folder and in the store."""
_ATTEMPTS = 6
"""Attempts to claim a number that another machine wants at the same time."""


class ClaimedElsewhere(Exception):
    """Another process has claimed this opening."""


def claim(store: Store, entry: Mapping[str, Any]) -> None:
    """Record in the store that the holdout is opened. Only after this may the rows be read.

    Args:
        store: The store of the run.
        entry: The new line of the ledger; its `number` is claimed.

    Raises:
        ClaimedElsewhere: The number was claimed before.
        StoreError: The store cannot be reached. If the connection was lost in the middle, the claim may stay.
    """
    number = int(entry["number"])
    for attempt in range(_ATTEMPTS):
        name = f"{FOLDER}/{number:06d}-{secrets.token_hex(8)}.json"
        try:
            store.put(name, json.dumps(entry).encode())
            others = [other for other in _claims(store, number) if other != name]
        except StoreError:
            _withdraw(store, name)
            raise
        if not others:
            return
        store.delete(name)
        time.sleep(random.uniform(0.1, 0.5) * (attempt + 1))  # noqa: S311 (two at once: one comes first)
        if set(others) & set(_claims(store, number)):
            break
    raise ClaimedElsewhere


def update_ledger(run: Path, store: Store, names: Sequence[str]) -> None:
    """Bring the ledger of a copy up to date, and add the claims that are in no ledger.

    Args:
        run: The copy.
        store: The store of the run.
        names: Names of all objects of the store.
    """
    path = run / LEDGER
    here = path.read_bytes() if path.exists() else b""
    kept = store.get(LEDGER) if LEDGER in names else b""
    content = here if here.startswith(kept) else kept
    known = {_number(line) for line in content.splitlines()}
    for name in sorted(name for name in names if name.startswith(f"{FOLDER}/")):
        entry = _entry(store, name)
        if entry is not None and _number(entry) not in known:
            content += entry + b"\n"
            known.add(_number(entry))
    if content != here:
        part = path.with_name(f".{path.name}.tmp")
        part.write_bytes(content)
        part.replace(path)


def _claims(store: Store, number: int) -> list[str]:
    return [one.name for one in store.objects(FOLDER) if one.name.startswith(f"{FOLDER}/{number:06d}-")]


def _withdraw(store: Store, name: str) -> None:
    try:
        store.delete(name)
    except StoreError:  # the claim may stay: then the holdout counts as opened, which is safe
        return


def _entry(store: Store, name: str) -> bytes | None:
    try:
        return store.get(name)
    except FileNotFoundError:  # withdrawn since
        return None


def _number(line: bytes) -> int | None:
    try:
        return int(parse_json(line)["number"])
    except (ValueError, KeyError, TypeError):
        return None
