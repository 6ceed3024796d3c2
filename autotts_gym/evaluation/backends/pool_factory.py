"""``create_pool``: the workers of a benchmark, from its options."""

from __future__ import annotations

from autotts_gym.evaluation.backends.ray_cluster import ray_pool
from autotts_gym.evaluation.backends.worker_pool import WorkerPool, local_pool
from autotts_gym.utils.processes import core_count


def create_pool(
    workers: int | None, time_limit: float, ray_address: str | None = None
) -> WorkerPool | None:
    """Create worker processes on this machine or on a Ray cluster.

    Args:
        workers: number of processes; by default one for each core. 0 plays in this process.
        time_limit: seconds of its own after which an episode fails.
        ray_address: address of a Ray cluster; None for this machine.

    Returns:
        The pool; None to play in this process.

    Raises:
        ValueError: an argument is out of range.
    """
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    if not time_limit > 0:
        raise ValueError(f"time_limit must be above 0 seconds, got {time_limit:g}")
    if ray_address is not None:
        return ray_pool(ray_address, workers, time_limit)
    return None if workers == 0 else local_pool(workers or core_count(), time_limit)
