"""Check that nodes have the same software and see the storage, before they train trials or as they join.

Ray may end while nodes are asked. Most calls would then start another Ray, so none is made. The functions import Ray:
the driver imports this module before it has checked the job, and before `tuning.ray_session` sets Ray's variables.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tune_jobs.cluster.capacity import Node
from tune_jobs.cluster.storage_check import StorageCheck
from tune_jobs.errors import ResourceError
from tune_jobs.versions import ALIKE, differences, versions_here

if TYPE_CHECKING:
    from pathlib import Path

    from ray import ObjectRef

    from tune_jobs.location import Location

SECONDS_TO_ANSWER = 120.0
"""Seconds in which a node must answer; it may have to start a process and to fetch the user's modules."""
SECONDS_BETWEEN_ANSWER_CHECKS = 0.5
"""Seconds between two tests whether the checks are cancelled."""


class ChecksCancelled(Exception):
    """The checks ended before all nodes had answered, because the answers are no longer needed."""


def _never() -> bool:
    return False


class Question(Protocol):
    """A question to a node in addition to its versions. It is sent to the node."""

    def answer(self, node: str) -> str | None:
        """Return the problem of the node of that name, in one line, or None. It is called on the node."""
        ...


@dataclass(frozen=True)
class Answer:
    """The answer of a node."""

    versions: Mapping[str, str]
    wrong: str | None


def check_nodes(
    nodes: Sequence[Node],
    question: Question | None = None,
    over: Callable[[], bool] = _never,
    packages: Sequence[str] = (),
) -> dict[str, str | None]:
    """Ask all nodes at the same time.

    Args:
        nodes: The nodes.
        question: The question that they answer, in addition to their versions.
        over: Returns whether to stop at once.
        packages: Names of packages whose versions are compared, beside those of `ALIKE`.

    Returns:
        The answer of each node to the question, by its name.

    Raises:
        ResourceError: Nodes do not answer, or have other versions than this process; the message names them all.
        ChecksCancelled: `over` returned True, or Ray has ended.
    """
    if not nodes:
        return {}
    here = versions_here((*ALIKE, *packages))
    answers = _ask(nodes, _Asked(tuple(here), question), over)
    refuse_unfit({node.name: problem_of(answer, here) for node, answer in zip(nodes, answers, strict=True)})
    return {
        node.name: answer.wrong
        for node, answer in zip(nodes, answers, strict=True)
        if not isinstance(answer, str)
    }


def refuse_unfit(problems: Mapping[str, str | None]) -> None:
    """Check that no node has a problem.

    Raises:
        ResourceError: Some nodes have one; the message names them all.
    """
    unfit = [f"{name}: {problem}" for name, problem in problems.items() if problem is not None]
    if unfit:
        raise ResourceError(
            f"{len(unfit)} of {len(problems)} nodes cannot take trials of this run: {'; '.join(unfit)}"
        )


def check_storage(nodes: Sequence[Node], place: "Path | Location", over: Callable[[], bool] = _never) -> None:
    """Check that all nodes can write and read where the checkpoints of a run go.

    Raises:
        ResourceError: Some nodes cannot, or have another place under that name.
        RunFolderError, OSError: This process cannot.
        ChecksCancelled: See `check_nodes`.
    """
    check = StorageCheck.put(place)
    try:
        check.raise_unless_shared(check_nodes(nodes, check, over))
    finally:
        check.remove()


def problem_of(answer: Answer | str, here: Mapping[str, str]) -> str | None:
    """Return the problem of a node, or None; `answer` is a sentence if the node gave no answer."""
    if isinstance(answer, str):
        return answer
    if differing := differences(here, answer.versions):
        return f"{differing}; install the same versions on every node, with the project's constraints.txt"
    return None


@dataclass(frozen=True)
class _Asked:
    """The versions that a node is asked for, by package, and perhaps a question."""

    packages: tuple[str, ...]
    question: Question | None


def _answer(asked: _Asked, node: str) -> Answer:
    """Answer the question, on the node."""
    question = asked.question
    return Answer(versions_here(asked.packages), None if question is None else question.answer(node))


def _ask(nodes: Sequence[Node], what: _Asked, over: Callable[[], bool]) -> list[Answer | str]:
    import ray  # noqa: PLC0415 (see the module)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 (see the module)

    task = ray.remote(_answer)
    asked: list[ObjectRef[Answer]] = []
    try:
        for node in nodes:
            _raise_if_over(over)
            there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
            how = task.options(num_cpus=0, max_retries=1, scheduling_strategy=there)
            asked.append(how.remote(what, node.name))
        answered = _wait_for_answers(asked, over)
    except BaseException:  # an interrupt does not wait for silent nodes
        _cancel(asked)
        raise
    _cancel([one for one in asked if one not in answered])
    return [
        _read_answer(one) if one in answered else f"did not answer within {SECONDS_TO_ANSWER:g} s"
        for one in asked
    ]


def _wait_for_answers(
    asked: "Sequence[ObjectRef[Answer]]", over: Callable[[], bool]
) -> "Sequence[ObjectRef[Answer]]":
    import ray  # noqa: PLC0415 (see the module)

    until = time.monotonic() + SECONDS_TO_ANSWER
    while True:
        left = until - time.monotonic()
        answered, silent = ray.wait(
            list(asked), num_returns=len(asked), timeout=max(0.0, min(left, SECONDS_BETWEEN_ANSWER_CHECKS))
        )
        _raise_if_over(over)
        if not silent or left <= 0:
            return answered


def _raise_if_over(over: Callable[[], bool]) -> None:
    import ray  # noqa: PLC0415 (see the module)

    if over() or not ray.is_initialized():
        raise ChecksCancelled


def _cancel(asked: "Sequence[ObjectRef[Answer]]") -> None:
    import ray  # noqa: PLC0415 (see the module)

    for one in asked:
        if ray.is_initialized():
            ray.cancel(one, force=True)


def _read_answer(asked: "ObjectRef[Answer]") -> Answer | str:
    import ray  # noqa: PLC0415 (see the module)
    from ray.exceptions import RayError  # noqa: PLC0415 (see the module)

    try:
        return ray.get(asked)
    except RayError as error:
        return _failure(error)


def _failure(error: Exception) -> str:
    text = str(error)
    if "No module named 'tune_jobs" in text:
        return "tune-jobs is missing there, or installed for another Python; install it in the same way on every node"
    if "Can't get attribute" in text:
        return "another version of tune-jobs is installed there; install the same one on every node"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"could not be checked ({lines[-1][:300] if lines else type(error).__name__})"
