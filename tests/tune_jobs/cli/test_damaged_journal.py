"""Every command reports a journal with lost, doubled, moved or forged lines in one message, and changes nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.faults.command_line import assert_refused, call
from tune_jobs.record.events import EpochsReported, Event, HoldoutUnsealed, TrialCreated, TrialStarted
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.lines import START, encode_line

COMMANDS = (
    "show RUN", "show RUN --trial 0", "test RUN", "report RUN", "repair RUN", "resume RUN",
    "resume RUN --search.trials 99",
)  # fmt: skip
Lines = Sequence[bytes]


def forged(*events: Event) -> Callable[[Lines], Lines]:
    """Return a change that appends events with right checksums."""

    def change(lines: Lines) -> Lines:
        place, made = START, []
        for text in [line.split(b" ", 3)[3] for line in lines]:
            line, place = encode_line(text.rstrip(b"\n"), place)
            made.append(line)
        assert made == lines, "the journal was sound"
        for event in events:
            line, place = encode_line(json.dumps(event.to_mapping()).encode(), place)
            made.append(line)
        return made

    return change


STRANGE = TrialStarted(trial_id="0077")
ROWS = [{"epoch": 1, "val_loss": 0.5, "seconds": 1.0}]
CHANGES: Mapping[str, Callable[[Lines], Lines]] = {
    "lost": lambda lines: [*lines[:1], *lines[2:]],
    "lost before the last": lambda lines: [*lines[:-2], *lines[-1:]],
    "doubled": lambda lines: [*lines[:2], *lines[1:]],
    "swapped": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "joined": lambda lines: [*lines, *lines],
    "an unknown trial is started": forged(STRANGE),
    "an unknown trial reports": forged(EpochsReported(trial_id="0077", results=ROWS, worker="node:1")),
    "the holdout is opened for an unknown trial": forged(HoldoutUnsealed(trial_id="0077")),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_damaged_journal_is_one_message(
    make_run: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    run, sound = (make_run([{"losses": [2.0, 1.0]}, {"losses": [3.0]}]) for _ in range(2))
    run.journal.write_bytes(b"".join(CHANGES[how](run.journal.read_bytes().splitlines(keepends=True))))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for command in COMMANDS:
        refused = call(tmp_path, *(str(run.path) if word == "RUN" else word for word in command.split()))
        assert_refused(refused, codes=(1,))
        assert f"{run.journal}: line " in refused.errors
        assert "repair" in refused.errors
        assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    listed = call(tmp_path, "list", str(run.path.parent))
    assert listed.code == 0, listed.description
    rows = {line.split()[0]: line.split()[1:] for line in listed.output.splitlines() if line}
    assert rows[run.name] == ["damaged"]
    assert rows[sound.name] != ["damaged"]
    assert call(tmp_path, "repair", str(run.path), "--cut").code == 0
    assert call(tmp_path, "show", str(run.path)).code == 0


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [
        ({"lr": 0.1, "optimizer": "lion"}, "optimizer: lion (text) is not valid; valid is sgd, adam"),
        ({"lr": 0.1, "optimizer": ["adam"]}, 'optimizer: ["adam"] (a list) is not valid'),
        ({"lr": "0.1", "optimizer": "adam"}, 'lr: "0.1" (text) is not valid'),
        ({"lr": True, "optimizer": "adam"}, "lr: true"),
        ({"lr": float("nan"), "optimizer": "adam"}, "lr: "),
        ({"lr": 0.6, "optimizer": "adam"}, "lr: 0.6 (a number) is not valid; valid is 0.001 to 0.5, log scale"),
        ({"lr": 0.1, "optimizer": "adam", "model.depth": 3}, "model.depth: there is no such parameter"),
        ({"lr": 0.1, "optimizer": "adam", "\x1b]0;x\x07": 3}, "\\x1b]0;x\\x07: there is no such parameter"),
        ({"lr": 0.1}, "optimizer: missing"),
        ({}, "lr: missing"),
    ],
)  # fmt: skip
def test_a_trial_that_does_not_fit_the_search_space_is_one_message(
    make_run: Callable[..., RunFolder], tmp_path: Path, configuration: Mapping[str, object], problem: str
) -> None:
    run = make_run([{"losses": [2.0, 1.0], "configuration": {"lr": 0.1, "optimizer": "sgd"}}])
    assert call(tmp_path, "show", str(run.path)).code == 0
    change = forged(TrialCreated(trial_id="0001", number=1, configuration=configuration))
    run.journal.write_bytes(b"".join(change(run.journal.read_bytes().splitlines(keepends=True))))
    for command in COMMANDS:
        refused = call(tmp_path, *(str(run.path) if word == "RUN" else word for word in command.split()))
        assert_refused(refused, codes=(1,))
        assert (
            f"{run.journal}: trial 0001 does not fit the search space of the job ({problem}" in refused.errors
        )
    assert "damaged" in call(tmp_path, "list", str(run.path.parent)).output
