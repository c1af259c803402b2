"""A submitted run in an object store whose credentials the cluster has."""

import shutil
from pathlib import Path

import pytest

from tests.head_node import head_node
from tests.tune_jobs.remote.object_stores import BUCKET, CREDENTIALS, s3_server
from tests.tune_jobs.submission.laptop import put_job
from tune_jobs import open_run

pytestmark = pytest.mark.slow


def test_it_is_resumed_elsewhere_and_fetched_with_and_without_credentials(tmp_path: Path) -> None:
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    (laptop / "rows.csv").write_text("a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(90)))
    put_job(laptop, f"s3://{BUCKET}/runs", "linear")
    with s3_server() as address:
        credentials = {**CREDENTIALS, "AWS_ENDPOINT_URL": address}
        with head_node(**credentials, TUNE_JOBS_CACHE=str(tmp_path / "cache")) as head:
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
            shutil.rmtree(laptop)
            shutil.rmtree(tmp_path / "cache")  # as on another head

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
