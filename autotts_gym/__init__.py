"""Test-time scaling as a Gymnasium environment, replayed from recorded reasoning traces.

Importing the package registers ``AutoTTS-v0``, ``AutoTTS-Decisions-v0`` and
``AutoTTS-Live-v0``::

    import autotts_gym
    import gymnasium as gym

    env = gym.make("AutoTTS-v0")

The functions of :mod:`autotts_gym.api` are available from here, and are imported on first use::

    result = autotts_gym.benchmark(["self_consistency", "cmc"], "qwen2.5-coder-0.5b")
    print(result)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

from autotts_gym import _deprecated

if TYPE_CHECKING:
    from autotts_gym.api import (
        BenchmarkResult,
        DiscoveryResult,
        add_probes,
        benchmark,
        calibrate,
        collect,
        discover,
        grade,
        list_controllers,
        list_envs,
        load_controller,
        load_env,
        load_envs,
        simulate,
        solve,
        train,
    )
    from autotts_gym.imports.rollout_import import import_rollouts
    from autotts_gym.sandbox.player import Sandbox

__version__ = "0.1.0"

__all__ = [
    "BenchmarkResult",
    "DiscoveryResult",
    "Sandbox",
    "add_probes",
    "benchmark",
    "calibrate",
    "collect",
    "discover",
    "grade",
    "import_rollouts",
    "list_controllers",
    "list_envs",
    "load_controller",
    "load_env",
    "load_envs",
    "simulate",
    "solve",
    "train",
]

#: Modules of the names that are not those of ``autotts_gym.api``.
_ELSEWHERE = {
    "Sandbox": "autotts_gym.sandbox.player",
    "import_rollouts": "autotts_gym.imports.rollout_import",
}

_deprecated.install()

# Entry points are named, not imported: importing the package must stay quick.
register(
    id="AutoTTS-v0",
    entry_point="autotts_gym.gym_envs.autotts_env:AutoTTSEnv",
    vector_entry_point="autotts_gym.gym_envs.vector_env:AutoTTSVectorEnv",
)
register(
    id="AutoTTS-Decisions-v0",
    entry_point="autotts_gym.gym_envs.macro_env:MacroEnv",
    vector_entry_point="autotts_gym.gym_envs.macro_env:MacroVectorEnv",
)
# What a running model generates differs from time to time.
register(
    id="AutoTTS-Live-v0",
    entry_point="autotts_gym.gym_envs.live_env:AutoTTSLiveEnv",
    nondeterministic=True,
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_ELSEWHERE.get(name, "autotts_gym.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
