"""The registered kinds of training. The module of a kind is imported when the kind is first used.

The sections of a job choose its kind: every kind has its own sections, and a job has those of one kind.

A further kind is one more entry: its name, the names of its sections, and the place of its class. Code with its own
kind registers it before it creates a job:

    register(KindEntry("walk", ("walk",), "my_package.walk:Walk"))

Workers find its module wherever the driver found it, if they see that folder.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from tune_jobs.trainers.facts import KindFacts
from tune_jobs.trainers.interface import Capabilities, TrainerKind
from tune_jobs.trainers.references import load_reference
from tune_jobs.trainers.settings import Settings


class KindClass(Protocol):
    """The class of a kind. It is called with its sections by their names, if all of them are valid."""

    name: str
    """The kind by name, as its `KindEntry` has it."""

    capabilities: Capabilities
    """Abilities of the kind's trainings. A job that asks for one that the kind lacks is refused."""

    sections: Mapping[str, type[Settings]]
    """Settings of the sections that belong to the kind, by name, in the order of a job file. A job may leave out a
    section if each of its keys has a default."""

    changeable: tuple[str, ...]
    """Keys of the sections that may change in a run that has begun, because no curve depends on them."""

    def __call__(self, **sections: Any) -> TrainerKind: ...

    def facts(self, sections: Mapping[str, Any]) -> KindFacts:
        """Return what the kind knows about a job from those of its sections that are valid. A static method."""

    def is_parameter(self, name: str) -> bool:
        """Return whether a dotted name that begins with one of the sections is a parameter of a configuration.

        It is a key of the section otherwise. A static method.
        """


@dataclass(frozen=True)
class KindEntry:
    """The place of a kind, and the sections that choose it."""

    name: str
    sections: tuple[str, ...]
    """Names of `KindClass.sections`, known without importing the class."""
    reference: str
    """Place of the class, as `package.module:Class`."""

    def load(self) -> KindClass:
        """Import the class of the kind; torch and its like are imported later, when a training starts."""
        module, _, name = self.reference.partition(":")
        return cast("KindClass", getattr(import_module(module), name))


ENTRIES: dict[str, KindEntry] = {}
"""Kinds by name; `register` adds them."""


def register(entry: KindEntry) -> None:
    """Make a kind known in this process. Workers need no call: the kind of a job travels to them.

    Raises:
        ValueError: Another kind has the name or one of the sections.
    """
    for other in ENTRIES.values():
        if other != entry and (other.name == entry.name or set(other.sections) & set(entry.sections)):
            raise ValueError(
                f"kind {entry.name!r} with {', '.join(entry.sections)}: {other.name!r} with "
                f"{', '.join(other.sections)} is registered; choose another name and other sections"
            )
    ENTRIES[entry.name] = entry


def register_class(name: str, reference: str) -> None:
    """Import and register a kind if this process does not know its name. The caller makes its module importable.

    Args:
        name: The kind by name.
        reference: Place of the class, as `package.module:Class`.

    Raises:
        ReferenceNotFound: The class cannot be imported.
        ValueError: It is the class of no kind of this name, or `register` refuses it.
    """
    if name in ENTRIES:
        return
    class_: Any = load_reference(reference)
    sections = getattr(class_, "sections", None)
    if getattr(class_, "name", None) != name or not isinstance(sections, Mapping):
        raise ValueError(f"{reference}: is not the class of the kind {name!r}")
    register(KindEntry(name, tuple(sections), reference))


def known_kinds() -> tuple[KindEntry, ...]:
    """Return all kinds, in the order of their registration."""
    return tuple(ENTRIES.values())


def known_sections() -> tuple[str, ...]:
    """Return the names of the sections of all kinds."""
    return tuple(section for entry in ENTRIES.values() for section in entry.sections)


def kind_of(sections: Collection[str]) -> KindEntry:
    """Return the kind that the names of a job's sections choose; the PyTorch kind if they choose none.

    If they choose several, the one that was registered first is returned. The sections of the others are then unknown
    keys of the job.
    """
    chosen = [entry for entry in ENTRIES.values() if set(entry.sections) & set(sections)]
    return chosen[0] if chosen else ENTRIES["pytorch"]


register(
    KindEntry("pytorch", ("data", "model", "training"), f"{__package__}.pytorch.kind:PyTorchKind"),
)
register(KindEntry("program", ("program", "length"), f"{__package__}.programs.kind:ProgramKind"))
