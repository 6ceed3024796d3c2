"""Execution backends: in-process, supervised subprocesses, and Ray clusters.

A controller is arbitrary code and may never return. It therefore runs in a child process, which is
supervised by its parent: the ledger of the running episode and the results so far are in shared
memory. An episode that exceeds its time limit, or that crashes its process, is killed and counts
as failed at its cost so far; a new process continues with the next episode.
"""

from autotts_gym.evaluation.backends.in_process import InProcessWorker
from autotts_gym.evaluation.backends.job import Job, JobResult, Worker
from autotts_gym.evaluation.backends.pool_factory import create_pool
from autotts_gym.evaluation.backends.ray_cluster import ray_pool
from autotts_gym.evaluation.backends.subprocess_worker import SubprocessWorker
from autotts_gym.evaluation.backends.worker_pool import WorkerPool, local_pool

__all__ = [
    "InProcessWorker",
    "Job",
    "JobResult",
    "SubprocessWorker",
    "Worker",
    "WorkerPool",
    "create_pool",
    "local_pool",
    "ray_pool",
]
