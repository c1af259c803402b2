"""cluster.yaml and docs/cluster/: Ray and AWS accept them, and their clusters are as docs/cluster.md describes.

AWS is simulated by moto in this process. test_rayjob.py checks the Kubernetes file.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import click
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent
from ray.scripts.scripts import cli

from tests.processes import PATIENCE
from tune_jobs import open_run

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "cluster"
AWS, GCP, OWN = ROOT / "cluster.yaml", FOLDER / "gcp.yaml", FOLDER / "local.yaml"
SLURM, DOCKERFILE, RAYJOB, STACK = (
    FOLDER / name for name in ("slurm.sh", "Dockerfile", "rayjob.yaml", "aws.yaml")
)
LAUNCHERS = [AWS, GCP, OWN]
CLOUDS = [AWS, GCP]
TOKEN = "~/.ray/auth_token"
REGION = "us-west-2"
BUCKET = "runs-of-a-test"
GPU_TYPES = ("gpu-spot", "gpu-on-demand")

Config = dict[str, Any]

every_launcher = pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
every_cloud = pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.name)
every_file = pytest.mark.parametrize("path", [AWS, *sorted(FOLDER.iterdir())], ids=lambda path: path.name)


def read(path: Path) -> Config:
    config: Config = yaml.safe_load(path.read_text())
    return config


def node_types(path: Path) -> Mapping[str, Config]:
    types: Mapping[str, Config] = read(path)["available_node_types"]
    return types


def start_commands(path: Path) -> tuple[str, str]:
    """Return the lines that start Ray on the head and on a worker."""
    config = read(path)
    head, worker = (config[f"{node}_start_ray_commands"] for node in ("head", "worker"))
    assert head[:-1] == worker[:-1] == ["ray stop"]
    return head[-1], worker[-1]


def ray_options(command: str, *subcommand: str) -> dict[str, str]:
    """Return the options that `command` passes to `ray`. Ray must know each of them."""
    words = shlex.split(command)
    words = words[words.index(subcommand[0]) + 1 :]
    known = {
        name
        for name in subcommand
        for parameter in cli.commands[name].params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    given = {}
    for at, word in enumerate(words):
        if word == "--":
            break
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            given[option] = value if equals else words[at + 1] if at + 1 < len(words) else ""
    assert given.keys() <= known
    return given


def exported(command: str) -> dict[str, str]:
    """Return the variables that a line of shell exports."""
    variables = command.partition("export ")[2].partition(";")[0]
    return dict(re.findall(r"""(\w+)=("[^"]*"|[^\s"']+)""", variables))


def constraint(package: str) -> str:
    pinned = re.search(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert pinned is not None
    return pinned[1]


@every_launcher
def test_ray_takes_the_file(path: Path) -> None:
    validate_config(prepare_config(read(path)))


@every_launcher
def test_the_file_is_checked_at_all(path: Path) -> None:
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config({**read(path), "idle_timeout": 5}))


@every_launcher
def test_all_nodes_start_with_the_same_environment_and_ask_for_the_token(path: Path) -> None:
    head, worker = map(exported, start_commands(path))
    assert head == worker
    assert head["RAY_AUTH_MODE"] == "token"
    (profile,) = (command for command in read(path)["setup_commands"] if "~/.bashrc" in command)
    assert head.items() <= exported(profile).items()


@every_launcher
def test_all_nodes_are_set_up_alike(path: Path) -> None:
    config = read(path)
    assert config["setup_commands"] == read(AWS)["setup_commands"]
    assert config["file_mounts"] == read(AWS)["file_mounts"]
    assert "worker_setup_commands" not in config


@every_launcher
def test_the_dashboard_listens_on_loopback(path: Path) -> None:
    head, _ = start_commands(path)
    assert ray_options(head, "start")["--dashboard-host"] == "127.0.0.1"


@every_launcher
def test_workers_find_the_head(path: Path) -> None:
    head, worker = start_commands(path)
    port = ray_options(head, "start")["--port"]
    assert ray_options(worker, "start") == {"--address": f"$RAY_HEAD_IP:{port}"}
    assert ray_options(head, "start")["--autoscaling-config"] == "~/ray_bootstrap_config.yaml"


@every_file
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(AKIA|ASIA)\w{16}\b|-----BEGIN|\b[0-9a-f]{32,}\b", text)
    assert not re.search(r"(?i)\b(password|passwd|secret_access_key|api_key)\b\s*[:=]", text)
    assert not re.search(r"RAY_AUTH_TOKEN\s*[=:]", text)


@every_launcher
def test_the_token_comes_from_the_home_folder(path: Path) -> None:
    config = read(path)
    assert config["file_mounts"][TOKEN] == TOKEN
    assert config["setup_commands"][0] == f"chmod 700 ~/.ray && chmod 600 {TOKEN}"


@every_launcher
def test_what_is_copied_can_be_installed(path: Path, tmp_path: Path) -> None:
    """All files of the package are copied, and no files outside the project."""
    for remote, local in read(path)["file_mounts"].items():
        if local != TOKEN:
            assert remote == f"~/tune-jobs/{local}"
            copy = shutil.copytree if (ROOT / local).is_dir() else shutil.copy
            copy(ROOT / local, tmp_path / local)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from setuptools.build_meta import prepare_metadata_for_build_editable as prepare; prepare('.')",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    (entry_points,) = tmp_path.glob("*.dist-info/entry_points.txt")
    assert "tune-jobs" in entry_points.read_text()
    install = subprocess.run(
        ["make", "--dry-run", "install"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "-c constraints.txt -e ." in install.stdout


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = project["requires-python"].removeprefix(">=")
    for path in LAUNCHERS:
        install = next(command for command in read(path)["setup_commands"] if "make install" in command)
        assert f"uv python find {python})" in install
        assert f"~/.local/bin/uv python install {python}" in read(path)["setup_commands"]
    image = f"rayproject/ray:{constraint('ray')}-py{python.replace('.', '')}"
    assert f"FROM {image}\n" in DOCKERFILE.read_text()
    assert f"rayVersion: {constraint('ray')}\n" in RAYJOB.read_text()
    images = set(re.findall(r"registry\.example\.com/[\w./:-]+", DOCKERFILE.read_text() + RAYJOB.read_text()))
    assert images == {f"registry.example.com/tune-jobs:{project['version']}"}


def test_the_image_holds_what_is_copied_elsewhere() -> None:
    copied = {
        word
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY")
        for word in line.split()[2:-1]
    }
    assert copied == set(read(AWS)["file_mounts"].values()) - {TOKEN, "Makefile", "examples"}
    assert "-c constraints.txt" in DOCKERFILE.read_text()


@every_cloud
def test_the_head_can_start_machines(path: Path) -> None:
    """Ray needs the client of the cloud but does not install it."""
    (command,) = read(path)["head_setup_commands"]
    client = {AWS: "boto3", GCP: "google-api-python-client"}[path]
    assert f"pip install -q -c ~/tune-jobs/constraints.txt {client}" in command


@every_cloud
def test_it_grows_from_no_machine_and_shrinks_again(path: Path) -> None:
    config = read(path)
    assert config["idle_timeout_minutes"] == 5
    assert config["provider"]["cache_stopped_nodes"] is False
    types = node_types(path)
    assert set(types) == {"head", *GPU_TYPES}
    assert types["head"]["resources"] == {"CPU": 0}
    for name in GPU_TYPES:
        assert types[name]["min_workers"] == 0
        assert types[name]["max_workers"] == config["max_workers"]
        assert types[name]["resources"]["GPU"] == 1


@every_cloud
def test_spot_and_on_demand_machines_are_the_same_but_for_the_price(path: Path) -> None:
    spot, on_demand = (node_types(path)[name] for name in GPU_TYPES)
    market = {"InstanceMarketOptions", "scheduling"}
    for one, other in ((spot, on_demand), (on_demand, spot)):
        assert {key: value for key, value in one["node_config"].items() if key not in market} == {
            key: value for key, value in other["node_config"].items() if key not in market
        }
    assert spot["resources"] == on_demand["resources"]
    assert spot["priority"] > on_demand["priority"]


def started(path: Path, demand: Mapping[str, float], **types: Config) -> dict[str, int]:
    """Return the machines that Ray's autoscaler starts for one demand if only the head runs. It changes `types`."""
    config = read(path)
    for name, changes in types.items():
        config["available_node_types"][name.replace("_", "-")].update(changes)
    launch = AutoscalingConfig(config, skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=launch.get_node_type_configs(),
        max_num_nodes=launch.get_max_num_worker_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(dict(demand))]),
    )
    reply = ResourceDemandScheduler(event_logger=None).schedule(request)
    return {started.instance_type: started.count for started in reply.to_launch}


@every_cloud
def test_a_trial_that_waits_starts_a_spot_machine(path: Path) -> None:
    assert started(path, {"CPU": 1, "GPU": 0.25}) == {"gpu-spot": 1}


@every_cloud
def test_priorities_change_over_to_machines_at_full_price(path: Path) -> None:
    changed = started(path, {"GPU": 1}, gpu_spot={"priority": 0}, gpu_on_demand={"priority": 1})
    assert changed == {"gpu-on-demand": 1}


def test_a_refused_launch_does_not_change_over() -> None:
    """docs/cluster.md says so about Ray: otherwise users would not have to change the priorities by hand."""
    monitor = CloudResourceMonitor()
    refused = InstanceUpdateEvent(
        instance_type="gpu-spot", new_instance_status=Instance.ALLOCATION_FAILED, instance_id="i"
    )
    monitor.notify([refused])
    assert monitor.get_recoverable_resource_availabilities() == {}
    refused.new_instance_status = Instance.ALLOCATION_TIMEOUT
    monitor.notify([refused])
    assert set(monitor.get_recoverable_resource_availabilities()) == {"gpu-spot"}


@every_cloud
def test_nothing_is_started_for_what_no_machine_has(path: Path) -> None:
    assert started(path, {"GPU": 2}) == {}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Yield an AWS account with the stack of docs/cluster/aws.yaml. Keys that Ray makes go into `tmp_path`."""
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-a-test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        boto3.client("cloudformation").create_stack(
            StackName="tune-jobs",
            TemplateBody=STACK.read_text(),
            Parameters=[{"ParameterKey": "Bucket", "ParameterValue": BUCKET}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        yield


@pytest.mark.slow
def test_aws_starts_what_the_file_describes(account: None) -> None:
    from ray.autoscaler._private.aws.node_provider import (
        AWSNodeProvider,
    )  # the template is made for one region and account

    config = prepare_config(read(AWS))
    config = AWSNodeProvider.bootstrap_config(AWSNodeProvider.fillout_available_node_types_resources(config))
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, node_type in config["available_node_types"].items():
        provider.create_node(node_type["node_config"], {"ray-user-node-type": name}, 1)
        assert node_type["resources"].items() >= node_types(AWS)[name]["resources"].items()

    instances = {}
    for reservation in boto3.client("ec2").describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            assert tags["project"] == "tune-jobs"
            instances[tags["ray-user-node-type"]] = instance
    assert set(instances) == {"head", *GPU_TYPES}
    for name, instance in instances.items():
        assert (instance.get("InstanceLifecycle") == "spot") == (name == "gpu-spot")
        role = "tune-jobs-head" if name == "head" else "tune-jobs-worker"
        assert instance["IamInstanceProfile"]["Arn"].endswith(f"instance-profile/{role}")
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
    for volume in boto3.client("ec2").describe_volumes()["Volumes"]:
        assert volume["Encrypted"]
        assert {"Key": "project", "Value": "tune-jobs"} in volume["Tags"]

    groups = {group["GroupId"] for instance in instances.values() for group in instance["SecurityGroups"]}
    (group,) = boto3.client("ec2").describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    from_outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in from_outside] == [(22, 22)]


@pytest.mark.slow
def test_aws_makes_the_stack(account: None) -> None:
    resources = boto3.client("cloudformation").describe_stack_resources(StackName="tune-jobs")[
        "StackResources"
    ]
    assert {resource["ResourceStatus"] for resource in resources} == {"CREATE_COMPLETE"}
    assert [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]] == [BUCKET]
    profiles = {
        node_type["node_config"]["IamInstanceProfile"]["Name"] for node_type in node_types(AWS).values()
    }
    made = boto3.client("iam").list_instance_profiles()["InstanceProfiles"]
    assert {profile["InstanceProfileName"] for profile in made} == profiles


@pytest.mark.slow
def test_the_stack_is_sound() -> None:
    """Check the template with AWS's own checker."""
    checker = Path(sys.executable).with_name("cfn-lint")
    checked = subprocess.run(
        [str(checker), "--format", "json", str(STACK)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert json.loads(checked.stdout) == []


def test_the_head_may_end_machines_of_its_own_cluster_alone() -> None:
    assert f'aws:ResourceTag/ray-cluster-name": {read(AWS)["cluster_name"]}' in STACK.read_text()


def test_slurm_script_is_sound() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True, timeout=PATIENCE)
    (command,) = re.findall(r"^srun (.*)$", SLURM.read_text().replace("\\\n", " "), flags=re.MULTILINE)
    given = ray_options(command, "symmetric-run", "start")
    assert set(given) == {"--address", "--min-nodes", "--num-cpus", "--num-gpus"}
    assert exported(re.findall(r"^export RAY_AUTH_MODE.*$", SLURM.read_text(), flags=re.M)[0]) == exported(
        start_commands(AWS)[0]
    )


def test_slurm_script_says_how_it_is_used() -> None:
    asked = subprocess.run([str(SLURM)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert asked.returncode == 2
    assert asked.stderr == "usage: sbatch docs/cluster/slurm.sh JOB [--key value ...]\n"


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip"))),
    reason="`ray stop` of the script ends all Ray that it sees, so it gets namespaces: Linux, root, unshare and ip",
)
def test_slurm_script_runs_a_job_on_one_node(tmp_path: Path) -> None:
    """A stand-in replaces Slurm: its `srun` runs the given command on this machine."""
    programs = tmp_path / ".venv" / "bin"
    programs.parent.mkdir()
    programs.symlink_to(Path(sys.executable).parent)
    (slurm := tmp_path / "slurm").mkdir()
    for name, does in (("srun", 'exec "$@"'), ("scontrol", "echo 127.0.0.1")):
        (slurm / name).write_text(f"#!/bin/sh\n{does}\n")
        (slurm / name).chmod(0o755)
    overrides = [
        *("--search.trials", "2", "--search.method", "random", "--training.max_epochs", "3"),
        *("--resources.max_concurrent", "1", "--storage", str(tmp_path / "runs")),
    ]
    call = shlex.join([str(SLURM), "examples/digits.yaml", *overrides])
    namespaces = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--net"]
    done = subprocess.run(
        [*namespaces, "bash", "-c", f"ip link set lo up && {call}"],
        cwd=ROOT,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "PATH": f"{slurm}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_NODELIST": "node",
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert f"run: {run}\n" in done.stdout
    assert len(open_run(run).trials) == 2
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
