"""TensorBoard's event files, read back."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event as FileEvent
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from tests.tune_jobs.tracking.conftest import (
    CONFIGURATIONS,
    interrupted,
    make_folder,
    make_job,
    run_events,
    track,
    trial_records,
)
from tune_jobs.events import Event, in_force
from tune_jobs.folder import RunFolder
from tune_jobs.journal import read_journal
from tune_jobs.tracking import open_trackers


def file_events(file: Path) -> list[FileEvent]:
    """Events of a file: TFRecords, a length, its checksum, the bytes, their checksum."""
    data, events = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(FileEvent.FromString(data[12 : 12 + length]))
        data = data[12 + length + 4 :]
    return events


def files_of(folder: RunFolder, trial_id: str) -> list[Path]:
    """Event files of a trial, in the order in which they were begun: their names have whole seconds."""
    return sorted((folder.tensorboard / trial_id).iterdir())


def events_of(folder: RunFolder, trial_id: str) -> list[FileEvent]:
    return [event for file in files_of(folder, trial_id) for event in file_events(file)]


def scalars_of(folder: RunFolder, trial_id: str) -> list[tuple[tuple[str, int], float]]:
    return [
        ((value.tag, event.step), value.simple_value)
        for event in events_of(folder, trial_id)
        for value in event.summary.value
        if not value.tag.startswith("_hparams_")
    ]


def hparams_of(folder: RunFolder, trial_id: str) -> list[dict[str, object]]:
    found = []
    for event in events_of(folder, trial_id):
        for value in event.summary.value:
            if value.tag == "_hparams_/session_start_info":
                content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                found.append(
                    {
                        name: getattr(given, given.WhichOneof("kind"))
                        for name, given in content.session_start_info.hparams.items()
                    }
                )
    return found


def tracked(folder: RunFolder, *drivers: Sequence[Event]) -> RunFolder:
    """A run that was tracked by one driver after the other, each of which wrote its events."""
    for events in drivers:
        past = in_force([*read_journal(folder.journal), events[0]]) if folder.journal.exists() else []
        track(folder, events, open_trackers(make_job(tensorboard=True), folder, past))
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return tracked(make_folder(tmp_path_factory.mktemp("runs")), run_events())


def test_every_epoch_of_every_trial_is_there_once(straight: RunFolder) -> None:
    expected = {
        trial_id: {
            (name, epoch): np.float32(value)
            for epoch, values in epochs.items()
            for name, value in values.items()
            if name in {"train_loss", "val_loss", "accuracy", "lr"}
        }
        for trial_id, epochs in trial_records(run_events()).items()
    }
    expected["0000"]["best/val_loss", 3] = np.float32(0.4)
    expected["0001"]["best/val_loss", 1] = np.float32(0.8)
    found = {trial_id: scalars_of(straight, trial_id) for trial_id in CONFIGURATIONS}
    np.testing.assert_equal({trial_id: dict(pairs) for trial_id, pairs in found.items()}, expected)
    assert {trial_id: len(pairs) for trial_id, pairs in found.items()} == {
        trial_id: len(scalars) for trial_id, scalars in expected.items()
    }
    assert [len(files_of(straight, trial_id)) for trial_id in CONFIGURATIONS] == [1] * 4


def test_every_trial_that_ended_has_its_configuration(straight: RunFolder) -> None:
    assert {trial_id: hparams_of(straight, trial_id) for trial_id in CONFIGURATIONS} == {
        "0000": [{"lr": 0.1, "optimizer": "sgd", "model.hidden": "[64, 32]", "nesterov": True}],
        "0001": [{"lr": 1e-3, "optimizer": "adam", "model.hidden": "[]", "model.activation": "None"}],
        "0002": [{"lr": 10.0, "optimizer": "adam", "model.hidden": "[8]"}],
        "0003": [],
    }


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("place", range(1, len(run_events()), 3))
def test_a_resumed_run_adds_what_is_new_in_further_files(
    place: int, killed: bool, straight: RunFolder, tmp_path: Path
) -> None:
    first, second = interrupted(run_events(), place)
    if killed:  # so that nothing tells of an end
        first = run_events()[:place]
    folder = tracked(make_folder(tmp_path), first)
    files = {file: file.read_bytes() for file in folder.tensorboard.rglob("events*")}
    tracked(folder, second)
    assert all(file.read_bytes() == content for file, content in files.items())
    for trial_id in CONFIGURATIONS:
        found, expected = scalars_of(folder, trial_id), dict(scalars_of(straight, trial_id))
        steps = [key for key, _ in found]
        np.testing.assert_equal({key: dict(found)[key] for key in expected}, expected)
        # An interrupted trial has shown its best of then as well.
        assert {tag for tag, _ in set(steps) - expected.keys()} <= {"best/val_loss"}
        assert all(steps.count(step) == 1 for step in steps if step[0] != "best/val_loss")
        configurations = hparams_of(straight, trial_id)
        assert hparams_of(folder, trial_id)[: len(configurations)] == configurations
