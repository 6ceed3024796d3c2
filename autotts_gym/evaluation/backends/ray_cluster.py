"""Workers on a Ray cluster."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.evaluation.backends.job import Job, JobResult, PackedJob
from autotts_gym.evaluation.backends.subprocess_worker import SubprocessWorker
from autotts_gym.evaluation.backends.worker_pool import WorkerPool
from autotts_gym.rollout.limits import TIME_LIMIT
from autotts_gym.traces.store import TraceStore


class RayWorker:
    """A worker on a Ray cluster: an actor with one core, which plays in a child process.

    The actor kills and restarts the child process if an episode exceeds the time limit.

    Args:
        time_limit: seconds of its own after which an episode is killed.
        stores: Ray object reference of each uploaded trace store, by the store's fingerprint. The
            workers of a pool share this dict, so that each store is uploaded once.
    """

    def __init__(self, time_limit: float, stores: dict[str, Any]) -> None:
        import ray

        self._ray = ray
        self._actor = ray.remote(num_cpus=1)(_Actor).remote(time_limit)
        self._stores = stores

    def play(self, job: Job) -> JobResult:
        fingerprint = job.store.card.fingerprint
        if fingerprint not in self._stores:
            # Upload the tables themselves: other machines do not have the store's folder.
            store = TraceStore(job.store.card, None, job.store.tables)
            self._stores[fingerprint] = self._ray.put(store)
        call = self._actor.play.remote(job.pack(), self._stores[fingerprint])
        result: JobResult | GivenUpError = self._ray.get(call)
        if isinstance(result, GivenUpError):
            raise result
        return result

    def close(self) -> None:
        with contextlib.suppress(Exception):  # the cluster may be gone, and the actor with it
            self._ray.kill(self._actor)


class _Actor:
    """The Ray actor behind a :class:`RayWorker`."""

    def __init__(self, time_limit: float) -> None:
        self._worker = SubprocessWorker(time_limit)

    def play(self, packed: PackedJob, store: TraceStore) -> JobResult | GivenUpError:
        try:
            return self._worker.play(packed.unpack(store))
        except GivenUpError as error:
            return error  # raised by RayWorker.play: Ray would wrap an exception in its own


def ray_pool(address: str, count: int | None = None, time_limit: float = TIME_LIMIT) -> WorkerPool:
    """Create a pool of workers on a Ray cluster.

    Args:
        address: address of the cluster as in ``ray.init``: ``"HOST:PORT"`` or ``"auto"``.
        count: number of workers; default, and maximum, one per core of the cluster.
        time_limit: seconds of its own after which an episode is killed.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'autotts-gym[ray]'") from error
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # fail at once; ray.init would retry for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"there is no Ray cluster at {address!r}: {error}") from error
    cores = int(ray.cluster_resources().get("CPU", 0))
    stores: dict[str, Any] = {}
    return WorkerPool(
        [RayWorker(time_limit, stores) for _ in range(max(1, min(count or cores, cores)))]
    )
