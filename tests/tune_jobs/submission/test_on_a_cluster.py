"""The commands of a laptop against a real head that requires a token and has credentials for an object store."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.head_node import Head, head_node
from tests.processes import PATIENCE
from tests.tune_jobs.remote.object_stores import BUCKET, CREDENTIALS, s3_server
from tests.tune_jobs.submission.laptop import put_job
from tune_jobs import open_run
from tune_jobs.record.codes import Ending

pytestmark = pytest.mark.slow

NETS = """
import json, os, pathlib, sys, time
from layers import linear

def make(input_shape, outputs, tell="", gate=""):
    if tell:
        told_of = {os.path.realpath(at) for at in [".", pathlib.Path(__file__).parent, *sys.path]}
        installed = tuple({os.path.realpath(at) for at in (sys.prefix, sys.base_prefix)})
        seen = [os.path.join(at, name) for folder in told_of if not folder.startswith(installed)
                for at, _, names in os.walk(folder) for name in names]
        here = [os.path.join(at, name) for at, _, names in os.walk(".") for name in names]
        pathlib.Path(tell).write_text(json.dumps({"here": here, "seen": seen}))
    while gate and not os.path.exists(gate):
        time.sleep(0.1)
    return linear(input_shape[0], outputs)
"""

TABLES = """
import numpy as np

def load():
    rows = np.loadtxt("rows.csv", delimiter=",", skiprows=1)
    return rows[:, :2], rows[:, 2]
"""


@pytest.fixture(scope="module")
def credentials() -> Iterator[dict[str, str]]:
    """Yield the variables with which an object store is reached."""
    with s3_server() as address:
        yield {**CREDENTIALS, "AWS_ENDPOINT_URL": address}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the head keeps copies of what is in the object store."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def head(credentials: dict[str, str], cache: Path) -> Iterator[Head]:
    with head_node(**credentials, TUNE_JOBS_CACHE=str(cache)) as made:
        yield made


@pytest.fixture
def laptop(tmp_path: Path) -> Path:
    """Make a folder with a job, its data and its modules."""
    folder = tmp_path / "laptop"
    folder.mkdir()
    (folder / "rows.csv").write_text("a,b,y\n" + "".join(f"{i % 7},{i},{2 * i}\n" for i in range(90)))
    (folder / "nets.py").write_text(NETS)
    (folder / "layers.py").write_text("import torch\n\ndef linear(n, m):\n    return torch.nn.Linear(n, m)\n")
    put_job(folder, str(tmp_path / "shared"), "nets:make")
    return folder


def submitted(head: Head, laptop: Path, *overrides: str) -> str:
    """Return the id of a run that has begun."""
    said = head.call("submit", "job.yaml", *overrides, folder=laptop)
    assert said.returncode == 0, said.stderr
    assert "the run has begun" in said.stdout
    return said.stdout.splitlines()[-1].removeprefix("submission: ")


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()


def test_a_run_is_stopped_continued_without_the_machine_that_submitted_it_followed_and_fetched(
    head: Head, laptop: Path, tmp_path: Path
) -> None:
    gate, seen_by_trials = tmp_path / "gate", tmp_path / "seen"
    (laptop / "tables.py").write_text(TABLES)
    name = submitted(
        head, laptop, "--model.arguments.gate", str(gate), "--model.arguments.tell", str(seen_by_trials),
        "--include", "rows.csv", "--data.source", "tables:load", "--data.target", "null",
    )  # fmt: skip
    remove(laptop)
    run = tmp_path / "shared" / name
    assert head.call("status", name).stdout.splitlines()[1].startswith("state: running (for ")
    sent = {"job.yaml", "rows.csv", "nets.py", "layers.py", "tables.py"}
    assert {path.name for path in (run / "submitted").iterdir()} == sent
    assert (run / "submitted").stat().st_mode & 0o077 == 0

    check_that_it_stops_and_continues(head, name, run)

    gate.touch()
    last = finish(head, name, run)
    trial = json.loads(seen_by_trials.read_text())
    assert sorted(trial["here"]) == ["./layers.py", "./nets.py", "./tables.py"]
    seen = {Path(path).name for path in trial["seen"]}
    assert ("nets.py" in seen, "rows.csv" in seen) == (True, False)
    check_what_is_fetched(head, last, run, tmp_path)


def check_that_it_stops_and_continues(head: Head, name: str, run: Path) -> None:
    """Stop it, continue it in a later submission, and stop it by the name of the first one."""
    busy = head.call("resume", name, "--address", head.url)
    assert busy.returncode == 2
    assert busy.stderr.startswith(f"tune-jobs: {name}: is running; `tune-jobs logs {name} --follow")

    stopped = head.call("stop", name)
    assert stopped.returncode == 0, stopped.stderr
    resume = f"tune-jobs resume {run} --address {head.url}"
    assert stopped.stdout.splitlines() == ["stopped; what was reported is kept", f"resume: {resume}"]
    assert open_run(run).ending is Ending.INTERRUPTED
    assert head.call("stop", name).stderr.startswith(
        f"tune-jobs: {name}: is over (stopped, and can be resumed)"
    )
    assert head.call("logs", name, "--follow").returncode == 130
    shutil.rmtree(run / "modules")  # as in a run that was submitted to an earlier version

    again = head.call("resume", name, "--address", head.url)
    assert again.returncode == 0, again.stderr
    later = f"{name}-r2"
    assert f"later: {later}: running" in head.call("status", name).stdout
    assert head.call("logs", name).stderr.startswith(
        f"{later} has gone on with the run (running): tune-jobs logs"
    )
    ended = head.call("stop", name)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        f"{later} has gone on with the run of {name}",
        *stopped.stdout.splitlines(),
    ]
    assert (
        head.call("status", later).stdout.splitlines()[1].startswith("state: stopped, and can be resumed (")
    )


def finish(head: Head, name: str, run: Path) -> str:
    """Continue the run up to its end with one trial more. Return the name of the last submission."""
    wrong = head.call("resume", name, "--address", head.url, "--seed", "3")
    assert wrong.returncode == 2
    assert "not a key that can change in a run that has begun" in wrong.stderr
    assert f"{name}-r3" not in head.call("status").stdout
    resumed = head.call("resume", str(run), "--address", head.url, "--search.trials", "3")
    assert resumed.returncode == 0, resumed.stderr
    last = f"{name}-r3"
    assert resumed.stdout.splitlines()[-1] == f"submission: {last}"
    followed = head.call("logs", last, "--follow")
    assert (followed.returncode, followed.stderr) == (0, "")
    assert followed.stdout.splitlines()[-1] == f"run: {run}"
    assert head.call("logs", last).stdout == followed.stdout
    done = open_run(run)
    assert (done.ending, len(done.record.trials)) == (Ending.ALL_TRIALS, 3)
    assert {path.name for path in (run / "modules").glob("*.py")} >= {"nets.py", "layers.py"}
    assert not list((run / "modules").rglob("rows.csv"))
    status = head.call("status", last).stdout.splitlines()
    assert status[0] == f"submission: {last}"
    assert status[1].startswith("state: done (after ")
    assert status[2].startswith("winner: trial ")
    assert status[3:] == [f"run: {run}", f"next: tune-jobs fetch {last} --address {head.url}"]
    assert name in head.call("status", COLUMNS="40").stdout
    over = head.call("resume", str(run), "--address", head.url)
    assert over.returncode == 0, over.stderr
    assert over.stdout.startswith("nothing is left to do; `--search.trials N` asks for more trials")
    return last


def check_what_is_fetched(head: Head, last: str, run: Path, folder: Path) -> None:
    """Fetch the run through the server and from its folder; compare what the copies can do with what the run can."""
    # Like a machine that does not see the run folder.
    fetched_by, *given_up = on_laptop(head, FETCH, head.url, run, folder / "got").splitlines()
    assert given_up == [f"{run}: the cluster did not send it within 0 s", "[]"]
    fetched = Path(fetched_by)
    assert (
        head.call("fetch", last, "--output", str(folder / "copied")).stdout
        == f"run: {folder}/copied/{run.name}\n"
    )
    run.rename(folder / "away")
    for copy in (fetched, folder / "copied" / run.name):
        best = open_run(copy).winner
        assert {path.name for path in (copy / "checkpoints").iterdir()} == {best.trial_id}
        assert best.checkpoint.is_file()
        assert not list(copy.rglob("rows.*"))
    assert on_laptop(
        head, "from tune_jobs import open_run; print(open_run(sys.argv[1]).load_model())", fetched
    )
    refused = head.call("test", str(fetched))
    assert (refused.returncode, "a copy without the test rows" in refused.stderr) == (2, True)
    (folder / "away").rename(run)
    tested = head.call("test", str(run))
    assert "test_loss: " in tested.stdout, tested.stderr


FETCH = """
from pathlib import Path
from tune_jobs.errors import ClusterError
from tune_jobs.submission import fetching
from tune_jobs.submission.client import JobsServer
server = JobsServer(sys.argv[1])
print(fetching.fetch_through(server, sys.argv[2], Path(sys.argv[3])))
fetching.SECONDS_TO_SEND = 0
try:
    fetching.fetch_through(server, sys.argv[2], Path(sys.argv[3]) / "not")
except ClusterError as error:
    print(error)
print([one.submission_id for one in server._client.list_jobs() if (one.submission_id or "")[:6] == "fetch-"])
"""
"""Program that fetches a run through the server, gives up at once when it fetches it again, and prints what is left."""


def on_laptop(head: Head, program: str, *arguments: object) -> str:
    """Run a Python program with arguments and return its output."""
    said = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}", *map(str, arguments)],
        env=head.surroundings,
        cwd=head.home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_parts_that_the_cluster_lacks_are_reported_at_once(head: Head, laptop: Path, tmp_path: Path) -> None:
    refused = head.call("submit", "job.yaml", "--resources.gpus_per_trial", "1", folder=laptop)
    assert refused.returncode == 2
    assert (
        "refused: resources.gpus_per_trial: a trial asks for 1, but the largest machine of the cluster has 0"
        in refused.stderr
    )
    assert not list((tmp_path / "shared").glob("*"))


def test_a_data_file_that_only_the_laptop_has_is_an_error_that_says_how_to_send_it(
    head: Head, laptop: Path
) -> None:
    absent = head.call("submit", "job.yaml", "--data.source", "/nowhere/rows.csv", folder=laptop)
    assert absent.returncode == 2
    assert "valid but for the data, which the cluster checks: /nowhere/rows.csv" in absent.stdout
    assert "no such file: /nowhere/rows.csv. An absolute path is one of the cluster" in absent.stderr


def test_a_machine_of_other_versions_is_refused_by_the_driver(head: Head, laptop: Path) -> None:
    program = (
        "import platform, sys; from tune_jobs.cli.main import main; "
        "platform.python_version = lambda: '3.12.7'; sys.exit(main(sys.argv[1:]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, "submit", "job.yaml"],
        cwd=laptop, env=head.surroundings, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert said.returncode == 2
    assert "the versions differ: Python 3.12.7 where the job was submitted and 3.11." in said.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": ""},
            "requires its token, and none was given; export RAY_AUTH_MODE=token",
        ),
        (
            {"RAY_AUTH_MODE": ""},
            "requires its token, and RAY_AUTH_TOKEN is not sent because RAY_AUTH_MODE is not token; ",
        ),
        ({"RAY_AUTH_TOKEN": ""}, "requires its token, and none was given; export RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": "0" * 32}, "requires its token, and the one in RAY_AUTH_TOKEN is wrong; export"),
    ],
)
def test_a_missing_token_is_an_error_with_its_cure(
    head: Head, laptop: Path, changes: dict[str, str], words: str
) -> None:
    commands = (("status",), ("submit", "job.yaml")) if len(changes) == 2 else (("status",),)
    for command in commands:
        said = head.call(*command, folder=laptop, **changes)
        assert said.returncode == 2
        assert words in said.stderr
        assert len(said.stderr.splitlines()) == 1
        assert "0" * 32 not in said.stderr


def test_the_port_that_nodes_join_is_not_the_one_to_submit_at(head: Head, laptop: Path) -> None:
    said = head.call("submit", "job.yaml", "--address", f"http://127.0.0.1:{head.port}", folder=laptop)
    assert said.returncode == 2
    assert "it is not the dashboard of a Ray cluster (nodes join at another port)" in said.stderr


def test_a_name_that_the_cluster_does_not_know(head: Head) -> None:
    for command in (
        ("status", "x"),
        ("logs", "x"),
        ("stop", "x"),
        ("fetch", "x"),
        ("resume", "x", "--address", head.url),
    ):
        said = head.call(*command)
        assert said.returncode == 2
        assert said.stderr.startswith(f"tune-jobs: x: no submission of that name at {head.url}; known: ")


def test_a_run_in_an_object_store_is_resumed_elsewhere_and_fetched_with_and_without_credentials(
    head: Head, laptop: Path, cache: Path, credentials: dict[str, str], tmp_path: Path
) -> None:
    put_job(laptop, f"s3://{BUCKET}/runs", "linear")
    nowhere = head.call("submit", "job.yaml", "--storage", "s3://nobodys-bucket/runs", folder=laptop)
    assert nowhere.returncode == 2
    assert "there is no such bucket" in nowhere.stderr
    assert "The driver runs on the cluster's head" in nowhere.stderr
    said = head.call("submit", "job.yaml", folder=laptop)
    assert said.returncode == 0, said.stderr
    name = said.stdout.splitlines()[-1].removeprefix("submission: ")
    assert said.stdout.splitlines()[-2] == f"run: s3://{BUCKET}/runs/{name}"
    followed = head.call("logs", name, "--follow")
    assert followed.stdout.splitlines()[-1] == f"run: s3://{BUCKET}/runs/{name}"
    remove(laptop)
    shutil.rmtree(cache)  # as on another head

    place = f"s3://{BUCKET}/runs/{name}"
    resumed = head.call("resume", place, "--address", head.url, "--search.trials", "3")
    assert resumed.returncode == 0, resumed.stderr
    assert head.call("logs", f"{name}-r2", "--follow").returncode == 0

    own = {**credentials, "TUNE_JOBS_CACHE": str(tmp_path / "own")}
    direct = head.call("fetch", name, "--output", str(tmp_path / "direct"), **own)
    assert direct.returncode == 0, direct.stderr
    assert not list((tmp_path / "own").rglob("rows.*"))
    through = head.call(
        "fetch", name, "--output", str(tmp_path / "through"), AWS_ENDPOINT_URL="http://127.0.0.1:1",
        **CREDENTIALS, TUNE_JOBS_CACHE=str(tmp_path / "none"),
    )  # fmt: skip
    assert through.returncode == 0, through.stderr
    assert "the cluster is asked for it" in through.stdout
    for kind in ("direct", "through"):
        fetched = open_run(tmp_path / kind / name)
        assert len(fetched.record.trials) == 3
        assert fetched.winner.checkpoint.is_file()
        assert not list(fetched.path.rglob("rows.*"))
        refused = head.call("test", str(fetched.path), **own)
        assert f"with its path: {place}" in refused.stderr
    looks = tmp_path / "looks"
    shown = head.call("show", place, **{**own, "TUNE_JOBS_CACHE": str(looks)})
    assert name in shown.stdout, shown.stderr
    assert not list(looks.rglob("rows.*"))
    tested = head.call("test", place, **own)
    assert "test_loss: " in tested.stdout, tested.stderr
