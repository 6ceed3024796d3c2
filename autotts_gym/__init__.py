"""Test-time scaling as a Gymnasium environment, replayed from recorded reasoning traces.

Importing the package registers ``AutoTTS-v0``, ``AutoTTS-Decisions-v0`` and
``AutoTTS-Live-v0``::

    import autotts_gym
    import gymnasium as gym

    env = gym.make("AutoTTS-v0")

Everything else is imported from where it lives: ``autotts_gym.traces``, ``autotts_gym.gym_envs.autotts_env``,
``autotts_gym.gym_envs.vector_env``, ``autotts_gym.gym_envs.wrappers``, ``autotts_gym.controllers``,
``autotts_gym.evaluation``, ``autotts_gym.collection``, ``autotts_gym.live``,
``autotts_gym.learning``.
"""

from gymnasium.envs.registration import register

from autotts_gym import _deprecated

__version__ = "0.1.0"

_deprecated.install()

# Entry points are named, not imported: importing the package must stay quick.
register(
    id="AutoTTS-v0",
    entry_point="autotts_gym.gym_envs.autotts_env:AutoTTSEnv",
    vector_entry_point="autotts_gym.gym_envs.vector_env:AutoTTSVectorEnv",
)
register(
    id="AutoTTS-Decisions-v0",
    entry_point="autotts_gym.gym_envs.macro_env:make",
    vector_entry_point="autotts_gym.gym_envs.macro_env:MacroVectorEnv",
)
# What a running model generates differs from time to time.
register(
    id="AutoTTS-Live-v0",
    entry_point="autotts_gym.gym_envs.live_env:AutoTTSLiveEnv",
    nondeterministic=True,
)
