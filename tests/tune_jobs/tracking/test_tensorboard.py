"""TensorBoard's event files, read back by TensorBoard itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    get_experiment,
    list_session_groups,
    metadata,
)

from tests.tune_jobs.tracking.conftest import (
    CONFIGURATIONS,
    make_folder,
    make_job,
    run_events,
    track,
    trial_records,
)
from tune_jobs.record.events import HoldoutEvaluated, HoldoutUnsealed
from tune_jobs.record.folder import RunFolder
from tune_jobs.record.journal import read_journal
from tune_jobs.tracking.base import TrackedRun
from tune_jobs.tracking.opening import open_trackers

JOB = make_job(tensorboard=True)


def accumulated(path: Path) -> event_accumulator.EventAccumulator:
    accumulator = event_accumulator.EventAccumulator(str(path), size_guidance={event_accumulator.SCALARS: 0})
    accumulator.Reload()
    return accumulator


def scalars_of(folder: RunFolder, part: str) -> dict[tuple[str, int], float]:
    """Return the values by name and step, and fail if one comes twice."""
    accumulator = accumulated(folder.tensorboard / part)
    found: dict[tuple[str, int], float] = {}
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            assert (tag, event.step) not in found, f"{part}: {tag} of step {event.step} comes twice"
            found[tag, event.step] = event.value
    return found


def trial_folders(folder: RunFolder) -> list[Path]:
    return sorted(path for path in folder.tensorboard.iterdir() if path.is_dir() and path.name.isdecimal())


def epochs_in_tensorboard(folder: RunFolder) -> dict[str, dict[int, dict[str, float]]]:
    """Return the losses by trial and epoch, without the scores."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for path in trial_folders(folder):
        assert len(list(path.iterdir())) == 1
        for (tag, step), value in scalars_of(folder, path.name).items():
            if not tag.startswith("best/"):
                found.setdefault(path.name, {}).setdefault(step, {})[tag] = value
    return found


def ended_well(folder: RunFolder) -> dict[str, bool]:
    """Return whether each trial with a written end succeeded."""
    found = {}
    for path in trial_folders(folder):
        contents = accumulated(path).summary_metadata
        if metadata.SESSION_END_INFO_TAG in contents:
            content = contents[metadata.SESSION_END_INFO_TAG].plugin_data.content
            status = metadata.parse_session_end_info_plugin_data(content).status
            found[path.name] = status == api_pb2.STATUS_SUCCESS
    return found


class HParamsTab:
    """The content of the HParams tab for a folder, made by its own code."""

    def __init__(self, folder: RunFolder) -> None:
        multiplexer = plugin_event_multiplexer.EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(folder.tensorboard))
        multiplexer.Reload()
        provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder.tensorboard))
        self._context = backend_context.Context(TBContext(data_provider=provider))

    def experiment(self) -> Any:
        request = api_pb2.GetExperimentRequest(include_metrics=True)
        handler = get_experiment.Handler(RequestContext(), self._context, "0", request)
        return handler.run()

    def rows(self) -> list[Any]:
        experiment = self.experiment()
        columns = [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
        columns += [api_pb2.ColParams(hparam=info.name) for info in experiment.hparam_infos]
        request = api_pb2.ListSessionGroupsRequest(
            allowed_statuses=api_pb2.Status.values(), col_params=columns, start_index=0, slice_size=100
        )
        handler = list_session_groups.Handler(RequestContext(), self._context, "0", request)
        return sorted(handler.run().session_groups, key=lambda group: group.name)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = make_folder(tmp_path_factory.mktemp("runs"))
    track(folder, run_events(), open_trackers(TrackedRun(JOB, folder.path)))
    return folder


def test_every_epoch_of_every_trial_is_there_once_and_the_score(straight: RunFolder) -> None:
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
    np.testing.assert_equal(
        {trial_id: scalars_of(straight, trial_id) for trial_id in CONFIGURATIONS}, expected
    )


def test_the_tab_has_a_column_for_every_parameter_of_the_space_and_for_the_metrics(
    straight: RunFolder,
) -> None:
    experiment = HParamsTab(straight).experiment()
    columns = {info.name: info for info in experiment.hparam_infos}
    assert columns.keys() == JOB.search.space.parameters.keys()
    learning_rate = columns["lr"]
    assert learning_rate.type == api_pb2.DATA_TYPE_FLOAT64
    assert (learning_rate.domain_interval.min_value, learning_rate.domain_interval.max_value) == (1e-4, 10.0)
    values = [value.string_value for value in columns["model.hidden"].domain_discrete.values]
    assert values == ["[64, 32]", "[8]", "[]"]
    assert columns["nesterov"].type == api_pb2.DATA_TYPE_BOOL
    metrics = {info.name.tag: info.display_name for info in experiment.metric_infos}
    assert metrics == {
        "best/val_loss": "best val_loss",
        "val_loss": "last val_loss",
        "accuracy": "last accuracy",
    }


def test_the_tab_has_a_row_for_every_trial_with_its_configuration_and_its_score(straight: RunFolder) -> None:
    rows = HParamsTab(straight).rows()
    assert [[session.name for session in row.sessions] for row in rows] == [
        [trial_id] for trial_id in CONFIGURATIONS
    ]
    shown = [
        {name: getattr(value, value.WhichOneof("kind")) for name, value in row.hparams.items()}
        for row in rows
    ]
    assert shown == [
        {"lr": 0.1, "optimizer": "sgd", "model.hidden": "[64, 32]", "nesterov": True},
        {"lr": 1e-3, "optimizer": "adam", "model.hidden": "[]", "model.activation": "None"},
        {"lr": 10.0, "optimizer": "adam", "model.hidden": "[8]"},
        {"lr": 0.5, "optimizer": "adam", "model.hidden": "[8]"},
    ]
    scores = [
        {value.name.tag: (value.value, value.training_step) for value in row.metric_values} for row in rows
    ]
    assert scores[0]["best/val_loss"] == (pytest.approx(0.4), 3)
    assert scores[1]["best/val_loss"] == (pytest.approx(0.8), 1)
    assert [[session.status for session in row.sessions] for row in rows] == [
        [api_pb2.STATUS_SUCCESS],
        [api_pb2.STATUS_SUCCESS],
        [api_pb2.STATUS_FAILURE],
        [api_pb2.STATUS_UNKNOWN],  # its end was not seen
    ]


def test_the_result_of_the_test_is_there_once_the_holdout_was_opened(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    track(folder, run_events(), open_trackers(TrackedRun(JOB, folder.path)))
    ended = [
        path for trial_id in ("0000", "0001", "0002") for path in (folder.tensorboard / trial_id).iterdir()
    ]
    before = {path: path.read_bytes() for path in ended}
    assert not list(folder.tensorboard.glob("test-*"))
    past = read_journal(folder.journal)
    results = {"test_loss": 0.5, "test_accuracy": 0.75}
    opened = [
        HoldoutUnsealed(trial_id="0000"),
        HoldoutEvaluated(number=1, trial_id="0000", results=results),
    ]
    track(folder, opened, open_trackers(TrackedRun(JOB, folder.path, past)))
    assert scalars_of(folder, "test-1") == {("test_loss", 3): 0.5, ("test_accuracy", 3): 0.75}
    assert {path: path.read_bytes() for path in ended} == before
    assert len(HParamsTab(folder).rows()) == len(CONFIGURATIONS)
