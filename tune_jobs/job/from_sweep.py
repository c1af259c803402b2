"""Convert a W&B sweep file to the text of a job file."""

from collections.abc import Mapping
from typing import Any

from tune_jobs.job.file import dump_yaml
from tune_jobs.search_spaces import import_sweep
from tune_jobs.trainers.kinds import kind_of

_TO_FILL_IN = "# Fill in these sections, which a sweep file does not have:\n"


def job_from_sweep(sweep: Mapping[str, Any]) -> str:
    """Return the text of a job file with the search of `sweep`; keys that a sweep lacks are left to fill in.

    Raises:
        SearchSpaceError: The sweep has entries without an equivalent in a job; the error lists all of them.
    """
    imported = import_sweep(sweep)
    facts = kind_of(()).load().facts({})
    given = imported.space.to_mapping()
    space: dict[str, Any] = {}
    renamed = []
    for name, entry in given.items():
        ours = facts.aliases.get(name, name)
        if ours != name and (ours in given or ours in space):
            ours = name
        if ours != name:
            renamed.append(f"{name} is called {ours} here")
        space[ours] = entry
    scheduler: dict[str, Any] = {"method": "none"}
    if imported.stopping is not None:
        scheduler = {
            "method": "asha_stopping",
            "grace_epochs": imported.stopping.first,
            "reduction_factor": imported.stopping.factor,
        }
    sections: dict[str, Any] = {"scheduler": scheduler}
    if imported.metric:
        sections["selection"] = {"metric": imported.metric, "mode": imported.mode}
    search: dict[str, Any] = {"space": space, "method": imported.method}
    if imported.trials is not None:
        search["trials"] = imported.trials
    notices = "".join(f"# {notice}\n" for notice in (*imported.notices, *renamed))
    name = dump_yaml({"name": _job_name(imported.name)})
    return notices + name + _TO_FILL_IN + facts.template + dump_yaml({"search": search, **sections})


def _job_name(name: str | None) -> str:
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in name or ""
    )
    return kept.lstrip("-_.")[:80] or "sweep"
