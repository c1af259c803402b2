"""The choice of the winner, by hand-made tables, and the file about it."""

import json
import math
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_jobs.errors import DamagedRun, RunFolderError
from tune_jobs.record.codes import Ending, Status
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.reading import JOB_FILE
from tune_jobs.record.run_record import RunRecord
from tune_jobs.results import open_run
from tune_jobs.selection.rule import RULE, rank, read_selection, select_winner, write_selection
from tune_jobs.trainers.settings import ScoreSettings

MakeRecord = Callable[..., RunRecord]
MakeRun = Callable[..., RunFolder]

NAN, INF = float("nan"), float("inf")

TABLES: dict[str, tuple[list[tuple[Status, list[float]]], list[int]]] = {
    "the lowest score over all epochs wins": (
        [
            (Status.COMPLETED, [0.9, 0.5, 0.8]),
            (Status.COMPLETED, [0.6, 0.6, 0.4]),
            (Status.COMPLETED, [0.3, 0.7, 0.9]),
        ],
        [2, 1, 0],
    ),
    "a trial that was stopped early may win": (
        [(Status.COMPLETED, [0.5]), (Status.STOPPED_EARLY, [0.4]), (Status.COMPLETED, [0.6])],
        [1, 0, 2],
    ),
    "failed, interrupted and running trials never win": (
        [
            (Status.FAILED, [0.1]),
            (Status.INTERRUPTED, [0.2]),
            (Status.RUNNING, [0.3]),
            (Status.PENDING, []),
            (Status.COMPLETED, [0.9]),
        ],
        [4],
    ),
    "of equals the one created first wins": (
        [(Status.COMPLETED, [0.5]), (Status.STOPPED_EARLY, [0.9, 0.4]), (Status.COMPLETED, [0.4])],
        [1, 2, 0],
    ),
    "zero and minus zero are equals": ([(Status.COMPLETED, [0.0]), (Status.COMPLETED, [-0.0])], [0, 1]),
    "not a number never wins": (
        [(Status.COMPLETED, [NAN, NAN]), (Status.COMPLETED, [NAN, 0.7]), (Status.COMPLETED, [0.8, NAN])],
        [2],  # nothing counts after an epoch that diverged
    ),
    "infinities never win": (
        [(Status.COMPLETED, [-INF]), (Status.COMPLETED, [INF]), (Status.COMPLETED, [-1e300])],
        [2],
    ),
    "a trial without an epoch never wins": ([(Status.COMPLETED, []), (Status.COMPLETED, [5.0])], [1]),
    "nobody wins where nobody succeeded": ([(Status.FAILED, [0.1]), (Status.COMPLETED, [NAN])], []),
    "nobody wins where nobody was": ([], []),
}


@pytest.mark.parametrize(("trials", "ranked"), TABLES.values(), ids=TABLES)
def test_rank(make_record: MakeRecord, trials: list[tuple[Status, list[float]]], ranked: list[int]) -> None:
    record = make_record([{"status": status, "losses": losses} for status, losses in trials])
    assert [candidate.trial.number for candidate in rank(record)] == ranked
    winner = select_winner(record)
    assert (winner.trial.number if winner else None) == (ranked[0] if ranked else None)


def test_with_mode_max_the_highest_wins_and_the_first_of_equals(make_record: MakeRecord) -> None:
    accuracies = [[0.5, 0.7], [0.9, 0.1], [NAN, 0.9], [INF, 0.2], [NAN, NAN]]
    record = make_record(
        [{"losses": [1.0, 1.0], "metrics": {"accuracy": values}} for values in accuracies],
        metric="accuracy",
        mode="max",
    )
    ranked = rank(record)
    assert [candidate.trial.number for candidate in ranked] == [1, 2, 0, 3]
    assert [(candidate.best.epoch, candidate.best.score) for candidate in ranked] == [
        (1, 0.9),
        (2, 0.9),
        (2, 0.7),
        (2, 0.2),
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Status), st.lists(st.floats(), max_size=3)), max_size=6))
def test_nothing_that_may_win_is_better_than_the_winner(
    make_record: MakeRecord, trials: list[tuple[Status, list[float]]]
) -> None:
    record = make_record([{"status": status, "losses": losses} for status, losses in trials])
    finite = [
        loss
        for status, losses in trials
        if status in {Status.COMPLETED, Status.STOPPED_EARLY}
        for loss in takewhile(math.isfinite, losses)  # nothing counts after an epoch that diverged
    ]
    winner = select_winner(record)
    assert (winner.best.score if winner else None) == (min(finite) if finite else None)


def test_the_selection_holds_the_rule_the_winner_and_all_that_it_rests_on(make_run: MakeRun) -> None:
    folder = make_run(
        [
            {"losses": [0.5, 0.2, 0.3], "configuration": {"lr": 0.2, "model.hidden": [8, 8]}},
            {"losses": [0.9], "status": Status.STOPPED_EARLY},
            {"status": Status.FAILED},
            {"losses": [0.1], "status": Status.FAILED},
        ]
    )
    selection = json.loads(folder.selection.read_text())
    assert len(selection["fingerprints"].pop(JOB_FILE)) == 64
    assert selection == {
        "rule": {"metric": "val_loss", "mode": "min", "text": RULE},
        "ending": "all_trials",
        "trials": {"completed": 1, "stopped_early": 1, "failed": 2},
        "winner": {
            "trial_id": "0000",
            "number": 0,
            "configuration": {"lr": 0.2, "model.hidden": [8, 8]},
            "score": 0.2,
            "epoch": 2,
            "checkpoint": "checkpoints/0000/epoch-000003.pt",
        },
        "test_seen": False,
        "seal": "",
        "fingerprints": {"data": "d", "split": "s", "space": "p"},
        "versions": {"python": "3"},
    }


def test_a_selection_without_a_winner_says_so(make_run: MakeRun) -> None:
    folder = make_run([{"status": Status.INTERRUPTED, "losses": [0.5]}], ending=Ending.INTERRUPTED)
    selection: dict[str, Any] = json.loads(folder.selection.read_text())
    assert selection["winner"] is None
    assert (selection["ending"], selection["trials"]) == ("interrupted", {"interrupted": 1})


def test_a_run_that_never_started_can_be_selected_from(folder: RunFolder) -> None:
    write_selection(RunRecord(ScoreSettings(metric="val_loss")), None, folder)
    selection: dict[str, Any] = json.loads(folder.selection.read_text())
    assert (selection["winner"], selection["ending"], selection["fingerprints"]) == (None, None, {})


# The written file, read again

TRIALS: list[dict[str, Any]] = [
    {"losses": [0.5, 0.2, 0.3], "configuration": {"lr": 0.2, "model.hidden": [8, 8]}},
    {"losses": [0.9], "status": Status.STOPPED_EARLY},
]


def test_the_selection_is_read_as_it_was_written(make_run: MakeRun) -> None:
    folder = make_run(TRIALS)
    record = open_run(folder.path).record
    assert read_selection(record, folder) == json.loads(folder.selection.read_text())["winner"]
    nobody = make_run([{"status": Status.FAILED}])
    assert read_selection(open_run(nobody.path).record, nobody) is None


def test_a_run_in_progress_has_no_selection_even_if_an_earlier_one_is_left(make_run: MakeRun) -> None:
    folder = make_run(TRIALS, ending=None)
    folder.selection.write_bytes(make_run(TRIALS).selection.read_bytes())
    with pytest.raises(RunFolderError, match="the run has not ended, so nothing is selected yet"):
        read_selection(open_run(folder.path).record, folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[]", "it contradicts the journal"),
        (b"3", "it contradicts the journal"),
        (b"{}", "it contradicts the journal"),
        (b'{"winner": null}', "it contradicts the journal"),
        (b"\xff", "codec can't decode"),
    ],
)
def test_repair_makes_a_damaged_selection_again(
    make_run: MakeRun, content: bytes | None, reason: str
) -> None:
    folder = make_run(TRIALS)
    if content is None:
        folder.selection.unlink()
    else:
        folder.selection.write_bytes(content)
    with pytest.raises(DamagedRun) as caught:
        read_selection(open_run(folder.path).record, folder)
    text = str(caught.value)
    assert text.startswith(f"{folder.selection}: cannot be read (")
    assert reason in text
    assert text.endswith(f"`tune-jobs repair {folder.path}` rebuilds it from the journal")


def test_one_changed_value_is_noticed(make_run: MakeRun) -> None:
    folder = make_run(TRIALS)
    content = folder.selection.read_text()
    for old, new in (
        ('"score": 0.2', '"score": 0.3'),
        ('"lr": 0.2', '"lr": 0.5'),
        ('"epoch": 2', '"epoch": 3'),
        ('"test_seen": false', '"test_seen": true'),
        ('"mode": "min"', '"mode": "max"'),
        ('"completed": 1', '"completed": 2'),
    ):
        assert content.count(old) == 1
        folder.selection.write_text(content.replace(old, new))
        with pytest.raises(DamagedRun, match="it contradicts the journal"):
            read_selection(open_run(folder.path).record, folder)
