"""Messages of `run` before it starts Ray."""

from tests.tune_jobs.cli.conftest import Call


def test_the_address_decides_between_run_and_submit(call: Call) -> None:
    code, output, errors = call("run", "job.yaml", "--address", "http://127.0.0.1:8265")
    assert (code, output) == (2, [])
    assert errors == (
        "tune-jobs: --address http://127.0.0.1:8265: `run` joins the Ray at HOST:PORT, from a machine of the cluster; "
        "`tune-jobs submit JOB --address http://127.0.0.1:8265` sends the job there\n"
    )
