"""Top-level functions of ``autotts_gym``: environments, controllers, and what to do with them.

``autotts_gym`` exports them, and imports this package on first use. Each function takes names and
paths as strings, and has the defaults of the ``autotts`` command of the same name.
"""

from autotts_gym.api.benchmark_result import BenchmarkResult
from autotts_gym.api.benchmark_run import benchmark
from autotts_gym.api.catalogue import (
    list_controllers,
    list_envs,
    load_controller,
    load_env,
    load_envs,
)
from autotts_gym.api.controller_search import DiscoveryResult, discover
from autotts_gym.api.policy_training import train
from autotts_gym.api.question_answering import solve
from autotts_gym.api.trace_collection import collect

__all__ = [
    "BenchmarkResult",
    "DiscoveryResult",
    "benchmark",
    "collect",
    "discover",
    "list_controllers",
    "list_envs",
    "load_controller",
    "load_env",
    "load_envs",
    "solve",
    "train",
]
