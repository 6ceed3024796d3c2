"""Top-level functions of ``autotts_gym``: load, benchmark, train, discover, collect and solve.

Use them as ``autotts_gym.benchmark``, and so on; this package is imported on first use. Functions
with the name of an ``autotts`` command have its defaults.
"""

from autotts_gym.answers.grading import grade
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
from autotts_gym.api.fleet_simulation import calibrate, simulate
from autotts_gym.api.policy_training import train
from autotts_gym.api.question_answering import solve
from autotts_gym.api.trace_collection import add_probes, collect

__all__ = [
    "BenchmarkResult",
    "DiscoveryResult",
    "add_probes",
    "benchmark",
    "calibrate",
    "collect",
    "discover",
    "grade",
    "list_controllers",
    "list_envs",
    "load_controller",
    "load_env",
    "load_envs",
    "simulate",
    "solve",
    "train",
]
