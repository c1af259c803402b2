"""The trackers of a job, and that they receive all events of a run."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tune_jobs.tracking.conftest import make_folder, make_job
from tests.tune_jobs.tracking.test_guest import Recorder
from tests.tune_jobs.tracking.test_tensorboard import ended_well, epochs_in_tensorboard
from tune_jobs.cluster.capacity import Cluster, Node
from tune_jobs.driver import followers
from tune_jobs.driver import lifecycle as driver
from tune_jobs.errors import ResourceError
from tune_jobs.record.events import RunEnded, RunStarted, WinnerSelected
from tune_jobs.record.folder import RunFolder
from tune_jobs.tracking.base import Guest, TrackedRun
from tune_jobs.tracking.opening import open_trackers
from tune_jobs.tuning import ray_session as ray_connection


def test_without_tracking_nothing_of_it_is_imported_or_made(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(make_job().to_yaml())
    code = (
        "import sys; from pathlib import Path; import tune_jobs.driver.lifecycle; from tune_jobs import Job;"
        "from tune_jobs.tracking.base import TrackedRun; from tune_jobs.tracking.opening import open_trackers;"
        "print(open_trackers(TrackedRun(Job.from_file('job.yaml'), Path('run'))));"
        "print({'wandb', 'tensorboardX', 'torch', 'ray'} & sys.modules.keys())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert output.stdout == "[]\nset()\n"
    assert [file.name for file in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.parametrize(
    ("package", "tracking"),
    [("wandb", {"wandb": {"project": "curves"}}), ("tensorboardX", {"tensorboard": True})],
)
def test_a_missing_package_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, tracking: dict[str, object]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ResourceError) as caught:
        open_trackers(TrackedRun(make_job(**tracking), make_folder(tmp_path).path))
    (key,) = tracking
    assert str(caught.value) == (
        f"tracking.{key}: the package {package} is not installed; install it with `pip install {package}`, or leave "
        f"tracking.{key} out of the job"
    )


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_trackers_receive_every_event_of_a_run_that_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    recorder = Recorder()

    @contextmanager
    def no_ray(*_: object) -> Iterator[Callable[[], Cluster]]:
        yield lambda: Cluster([Node("0", "here", {"CPU": 1.0})])

    def break_off(*_: object) -> None:
        raise error

    monkeypatch.setattr(ray_connection, "ray_connection", no_ray)
    monkeypatch.setattr(driver, "trial_task", break_off)
    monkeypatch.setattr(followers, "open_trackers", lambda *_: [Guest(recorder, "the recorder")])
    with pytest.raises(error):
        driver.run(make_job().model_copy(update={"storage": str(tmp_path)}))
    assert [type(event) for event in recorder.seen] == [RunStarted, RunEnded, WinnerSelected]
    assert recorder.closed.is_set()


def test_resume_finishes_trackers_that_a_killed_driver_left_open(
    make_run: Callable[..., RunFolder],
) -> None:
    """The run itself is over: Ray is not started."""
    folder = make_run([{"losses": [0.5, 0.25]}, {"losses": [0.75]}], changes={"tracking/tensorboard": True})
    assert not folder.tensorboard.exists()
    driver.resume(folder.path, [("search.trials", 2)])
    assert epochs_in_tensorboard(folder).keys() == ended_well(folder).keys() == {"0000", "0001"}
    assert epochs_in_tensorboard(folder)["0000"][2]["val_loss"] == 0.25
