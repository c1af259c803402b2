"""Ray Train's workers, within the resources that Ray Tune has set aside for their trial.

Ray Train (2.60) would make its own placement group beside that of the trial, and wait for it: trials would take
twice the resources that they need, and wait for each other. It would also ask the cluster's autoscaler again for what
Ray Tune has asked for, and start actors that supervise this.

This is the only module of the workers that uses private parts of Ray. They are here and not in
`tuning.ray_patches`, because workers import nothing from the driver.
"""

import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psutil  # type: ignore[import-untyped]  # a copy that is part of Ray
import ray
import torch.distributed as dist
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.callbacks.accelerators import AcceleratorSetupCallback
from ray.train.v2._internal.callbacks.backend_setup import BackendSetupCallback
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group.placement_group_handle import PlacementGroupHandle
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from tune_jobs.job.settings import ResourceSettings

DEATHS = (RayActorError, OutOfMemoryError)
"""Errors that Ray raises for an actor whose process has died."""
LONGEST_WAIT = timedelta(days=7)
"""Longest wait of workers for each other. Ray notices deaths, and the job limits the time of an epoch."""
_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a trial continues from its last checkpoint in any case
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
}


class TrainGroup:
    """The workers of a trial under Ray Train, from a process of the trial that takes no resources itself.

    Args:
        resources: Resources of one trial.
        function: The function that runs in every worker. It handles its failures itself.
        config: The argument of `function`.
    """

    def __init__(
        self, resources: ResourceSettings, function: Callable[[dict[str, Any]], None], config: dict[str, Any]
    ) -> None:
        self.failure: Exception | None = None
        """The error that ended the workers; None if there is none."""
        self._over = threading.Event()
        self._trainer = _Trainer(
            function,
            train_loop_config=config,
            torch_config=_TorchConfig(
                backend="cpu:gloo,cuda:nccl" if resources.gpus_per_trial else "cpu:gloo"
            ),
            scaling_config=ScalingConfig(
                num_workers=resources.workers_per_trial,
                use_gpu=bool(resources.gpus_per_trial),
                resources_per_worker=dict(resources.bundles[-1]),
            ),
            run_config=RunConfig(
                name=uuid4().hex,
                storage_path=_folder(),
                failure_config=FailureConfig(
                    max_failures=0, controller_failure_limit=0, max_preemption_failures=0
                ),
            ),
        )
        threading.Thread(target=self._run, name="Ray Train", daemon=True).start()

    @property
    def over(self) -> bool:
        """Return whether Ray Train has ended."""
        return self._over.is_set()

    def end(self) -> None:
        """End all workers at once."""
        if self._trainer.controller is not None:
            ray.kill(self._trainer.controller)  # its workers die with it

    def _run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.failure = _root_of(error)
        finally:
            self._over.set()


def _root_of(error: Exception) -> Exception:
    """Return the death of a worker if that has ended Ray Train, otherwise the error itself."""
    failures = getattr(error, "worker_failures", {}).values()
    deaths = [getattr(failure, "health_check_failure", None) for failure in failures]
    return next((death for death in deaths if isinstance(death, DEATHS)), error)


class _Trainer(TorchTrainer):
    controller: Any = None

    def _create_default_callbacks(self) -> list[Any]:
        needed = (AcceleratorSetupCallback, BackendSetupCallback)
        return [callback for callback in super()._create_default_callbacks() if isinstance(callback, needed)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        arguments["scaling_policy"] = _Fixed(self.train_run_context.scaling_config)
        kind: Any = ray.remote(num_cpus=0)(_Controller)
        self.controller = kind.remote(**arguments)
        ray.get(self.controller.run.remote())
        return ray.get(self.controller.get_result.remote())


class _Fixed(FixedScalingPolicy):
    """A scaling policy that requests no resources, because the trial already has them."""

    def _maybe_send_resource_request(self) -> None:
        pass

    def _send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass


class _TrialsOwn(PlacementGroupHandle):
    """The placement group of the trial, which Ray Tune has made and removes."""

    @property
    def placement_group(self) -> PlacementGroup:
        group = get_current_placement_group()
        assert group is not None
        return group

    def ready(self) -> Any:
        return self.placement_group.ready()

    def wait(self, timeout_seconds: float = 30) -> bool:
        return True

    def shutdown(self) -> None:
        pass


class _WorkerGroup(WorkerGroup):
    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> PlacementGroupHandle:
        return _TrialsOwn()


class _Controller(TrainController):
    worker_group_cls = _WorkerGroup

    def __init__(self, **arguments: Any) -> None:
        os.environ.update(_ENVIRONMENT)
        super().__init__(**arguments)


class _TorchConfig(TorchConfig):
    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):
    """Connects workers on the address by which Ray knows their machine.

    PyTorch would listen on all addresses, and connect to the address that the machine's name resolves to.
    """

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        address, port = worker_group.execute_single(0, _open_store)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, _join, backend_config.backend, rank, len(worker_group), address, port
                )
                for rank in range(len(worker_group))
            ]
        )


_store: TCPStore | None = None


def _open_store() -> tuple[str, int]:
    """Open the store where workers meet, in the first worker, and return its address and port."""
    global _store  # noqa: PLW0603 (it is open as long as the process lives)
    address = _own_address()
    listener = socket.create_server((address, 0))
    port = listener.getsockname()[1]
    _store = TCPStore(
        address, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    return address, port


def _join(backend: str, rank: int, workers: int, address: str, port: int) -> None:
    interface = _interface_of(_own_address())
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    store = _store if rank == 0 else TCPStore(address, port)
    dist.init_process_group(backend, store=store, rank=rank, world_size=workers, timeout=LONGEST_WAIT)


def _own_address() -> str:
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def _interface_of(address: str) -> str | None:
    """Return the name of the network interface with this address; None if there is none."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    return None


def _folder() -> str:
    """Return the folder where Ray Train writes only a marker, inside the temporary folder of this Ray."""
    node: Any = ray._private.worker._global_node
    return f"{node.get_session_dir_path()}/train"
