"""The sentences of the report page."""

from typing import get_args

import pytest

from tests.tune_jobs.runs import job_in
from tune_jobs.job.settings import SchedulerMethod, SearchMethod
from tune_jobs.record.run_record import RunRecord
from tune_jobs.report.sentences import request


@pytest.mark.parametrize("key", ["search", "scheduler"])
def test_every_method_has_words(key, tmp_path):
    for method in get_args({"search": SearchMethod, "scheduler": SchedulerMethod}[key]):
        space = {"lr": {"values": [0.1, 0.2]}}
        job = job_in(tmp_path, {f"{key}/method": method, "search/space": space, "search/trials": 2})
        assert "the lowest val_loss on the validation rows chooses." in request(job, RunRecord(job.selection))
