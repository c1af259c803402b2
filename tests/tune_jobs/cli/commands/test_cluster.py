"""Messages before a cluster is asked, and the choice of the cluster."""

import pytest

from tests.tune_jobs.cli.conftest import Call
from tune_jobs.cli.commands.cluster import ADDRESS_VARIABLE, address_to_resume


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("search.trails", "data.source; did you mean 'search.trials'?\n"),
        ("limits.minuts", "data.source; did you mean 'limits.minutes'?\n"),
        ("model.name", "data.source\n"),
    ],
)
def test_a_key_that_cannot_change_is_refused_before_a_cluster_is_asked(
    call: Call, key: str, said: str
) -> None:
    code, output, errors = call(
        "resume", "/shared/a-1-abcd", "--address", "http://127.0.0.1:1", f"--{key}", "3"
    )
    assert (code, output) == (2, [])
    assert errors.startswith("tune-jobs: resume a-1-abcd: 1 problem\n")
    assert (
        f"  {key}  not a key that can change in a run that has begun; valid: search.trials, limits, "
        in errors
    )
    assert errors.endswith(said)


@pytest.mark.parametrize(
    ("run", "given", "where"),
    [
        ("small-20260101T000000Z-abcd", None, "http://127.0.0.1:1"),
        ("small-20260101T000000Z-abcd", "10.0.0.1:6379", "10.0.0.1:6379"),
        ("runs/small-20260101T000000Z-abcd", None, None),
        ("s3://bucket/runs/small-20260101T000000Z-abcd", None, None),
        (".", None, None),
    ],
)
def test_a_run_that_is_unknown_here_is_resumed_on_the_cluster_of_the_environment(
    run: str, given: str | None, where: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "http://127.0.0.1:1")
    assert address_to_resume(run, given) == where
    monkeypatch.delenv(ADDRESS_VARIABLE)
    assert address_to_resume(run, given) == given
