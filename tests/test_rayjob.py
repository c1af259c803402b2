"""docs/cluster/rayjob.yaml against the fields that KubeRay and Kubernetes publish.

The fields of KubeRay are those of its version 1.6.2 (`ray.io/v1`; docs/reference/api.md in its repository), those of
pods the part of Kubernetes 1.28's that such a file may need. An unknown name is ignored or refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tune_jobs import Job
from tune_jobs.cli.main import make_parser
from tune_jobs.job.file import parse_yaml

RAYJOB = Path(__file__).resolve().parents[1] / "docs" / "cluster" / "rayjob.yaml"

TEXTS = {"*": str}
RESOURCES = {"requests": TEXTS, "limits": TEXTS}
METADATA = {"name": str, "namespace": str, "labels": TEXTS, "annotations": TEXTS}
VARIABLE = {
    "name": str,
    "value": str,
    "valueFrom": {"secretKeyRef": {"name": str, "key": str}, "configMapKeyRef": {"name": str, "key": str}},
}
CONTAINER = {
    "name": str,
    "image": str,
    "imagePullPolicy": str,
    "command": [str],
    "args": [str],
    "env": [VARIABLE],
    "resources": RESOURCES,
    "ports": [{"name": str, "containerPort": int, "protocol": str}],
    "volumeMounts": [{"name": str, "mountPath": str, "subPath": str, "readOnly": bool}],
}
POD_TEMPLATE = {
    "metadata": METADATA,
    "spec": {
        "serviceAccountName": str,
        "containers": [CONTAINER],
        "volumes": [
            {
                "name": str,
                "configMap": {"name": str, "items": [{"key": str, "path": str}]},
                "emptyDir": {"medium": str, "sizeLimit": str},
                "persistentVolumeClaim": {"claimName": str},
            }
        ],
        "nodeSelector": TEXTS,
        "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
        "restartPolicy": str,
    },
}
GROUP = {"resources": TEXTS, "labels": TEXTS, "rayStartParams": TEXTS, "template": POD_TEMPLATE}
CLUSTER = {
    "upgradeStrategy": {"type": str},
    "authOptions": {"mode": {"disabled", "token"}, "secretName": str, "enableK8sTokenAuth": bool},
    "suspend": bool,
    "managedBy": str,
    "autoscalerOptions": {
        "resources": RESOURCES,
        "image": str,
        "imagePullPolicy": str,
        "idleTimeoutSeconds": int,
        "upscalingMode": {"Default", "Aggressive", "Conservative"},
        "version": {"v1", "v2"},
        "env": [VARIABLE],
    },
    "headServiceAnnotations": TEXTS,
    "enableInTreeAutoscaling": bool,
    "gcsFaultToleranceOptions": {"redisAddress": str, "externalStorageNamespace": str},
    "headGroupSpec": {
        **GROUP,
        "enableIngress": bool,
        "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"},
    },
    "rayVersion": str,
    "workerGroupSpecs": [
        {
            **GROUP,
            "suspend": bool,
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "idleTimeoutSeconds": int,
            "numOfHosts": int,
            "scaleStrategy": {"workersToDelete": [str]},
        }
    ],
}
RAY_JOB = {
    "apiVersion": {"ray.io/v1"},
    "kind": {"RayJob"},
    "metadata": METADATA,
    "spec": {
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "rayClusterSpec": CLUSTER,
        "submitterPodTemplate": POD_TEMPLATE,
        "metadata": TEXTS,
        "clusterSelector": TEXTS,
        "submitterConfig": {"backoffLimit": int},
        "managedBy": str,
        "entrypoint": str,
        "runtimeEnvYAML": str,
        "jobId": str,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
        "entrypointResources": str,
        "entrypointNumCpus": float,
        "entrypointNumGpus": float,
        "ttlSecondsAfterFinished": int,
        "preRunningDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "suspend": bool,
    },
}
CONFIG_MAP = {
    "apiVersion": {"v1"},
    "kind": {"ConfigMap"},
    "metadata": METADATA,
    "data": TEXTS,
}


def problems(value: Any, fields: Any, where: str) -> Iterator[str]:
    """Return the parts of `value` that contradict `fields`: names (`*` is any), a list, a type, or a choice."""
    match fields:
        case dict() if isinstance(value, dict):
            for name, below in value.items():
                if name in fields or "*" in fields:
                    yield from problems(below, fields.get(name, fields.get("*")), f"{where}.{name}")
                else:
                    yield f"{where}.{name}: there is no such field"
        case [kind] if isinstance(value, list):
            for number, item in enumerate(value):
                yield from problems(item, kind, f"{where}[{number}]")
        case set() if value in fields:
            pass
        case type() if type(value) is fields:
            pass
        case _:
            yield f"{where}: {value!r}"


def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    config_map, ray_job = yaml.safe_load_all(RAYJOB.read_text())
    return config_map, ray_job


def test_all_fields_are_published_ones() -> None:
    config_map, ray_job = documents()
    assert [*problems(config_map, CONFIG_MAP, "ConfigMap"), *problems(ray_job, RAY_JOB, "RayJob")] == []


def test_a_wrong_field_is_found() -> None:
    _, ray_job = documents()
    ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    ray_job["spec"]["shutDownAfterJobFinishes"] = True
    ray_job["spec"]["submissionMode"] = "k8s"
    assert [problem.partition(":")[0] for problem in problems(ray_job, RAY_JOB, "RayJob")] == [
        "RayJob.spec.submissionMode",
        "RayJob.spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus",
        "RayJob.spec.shutDownAfterJobFinishes",
    ]


def test_the_token_is_asked_for_and_nothing_is_open_to_the_outside() -> None:
    _, ray_job = documents()
    cluster = ray_job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "enableIngress" not in cluster["headGroupSpec"]


def test_the_cluster_ends_with_the_job_and_a_job_with_its_day() -> None:
    _, ray_job = documents()
    assert ray_job["spec"]["shutdownAfterJobFinishes"] is True
    assert ray_job["spec"]["backoffLimit"] == 0
    assert ray_job["spec"]["activeDeadlineSeconds"] == 86_400


def test_head_and_workers_have_the_same_image_environment_and_account() -> None:
    _, ray_job = documents()
    cluster = ray_job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert len({pod["serviceAccountName"] for pod in pods}) == 1
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    variables = [container["env"] for pod in pods for container in pod["containers"]]
    assert all(each == variables[0] for each in variables)


def test_it_runs_a_command_and_a_job_of_this_repository() -> None:
    config_map, ray_job = documents()
    program, *words = ray_job["spec"]["entrypoint"].split()
    assert program == "tune-jobs"
    call = make_parser().parse_args(words)
    head = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    (volume,) = head["volumes"]
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    assert str(call.job).startswith(f"{mount['mountPath']}/")
    job = Job.from_mapping(parse_yaml(config_map["data"][Path(call.job).name]))
    assert job.storage.startswith("s3://")  # pods share no folder
