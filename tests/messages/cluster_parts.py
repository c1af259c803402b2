"""The parts of the packages that speak of clusters; importing them imports Ray."""

from tune_jobs.cluster.capacity import Cluster, Node
from tune_jobs.cluster.node_checks import Answer, problem_of, refuse_unfit
from tune_jobs.cluster.placement import why_unplaced
from tune_jobs.cluster.reachability import token_problem
from tune_jobs.cluster.storage_check import StorageCheck
from tune_jobs.job.settings import ResourceSettings
from tune_jobs.record.storage_failures import storage_failures
from tune_jobs.tuning.ray_session import _USED_BY as PROCESSES_WITH_RAY
from tune_jobs.tuning.ray_session import _check_version as check_version
from tune_jobs.tuning.ray_session import _refuse_forked as refuse_forked
from tune_jobs.tuning.worker_loss import failure_after, loss_by

__all__ = [
    "PROCESSES_WITH_RAY",
    "Answer",
    "Cluster",
    "Node",
    "ResourceSettings",
    "StorageCheck",
    "check_version",
    "failure_after",
    "loss_by",
    "problem_of",
    "refuse_forked",
    "refuse_unfit",
    "storage_failures",
    "token_problem",
    "why_unplaced",
]
