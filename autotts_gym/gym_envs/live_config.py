"""The arguments that ``AutoTTS-Live-v0`` shares with ``AutoTTS-v0``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotts_gym.gym_envs.env_config import EnvConfig
from autotts_gym.live.connection import expected_branch_tokens
from autotts_gym.live.live_model import LiveModel
from autotts_gym.live.live_traces import LiveTraces


class LiveEnvConfig(EnvConfig):
    """The arguments of ``AutoTTS-Live-v0`` that it has in common with ``AutoTTS-v0``.

    Args:
        live: the model.
        mean_tokens: expected tokens of a branch; those of its reference by default.
        setting: those of ``AutoTTS-v0``.
    """

    def __init__(
        self,
        live: LiveModel,
        mean_tokens: float | None,
        setting: Mapping[str, Any],
    ) -> None:
        if mean_tokens is None:
            mean_tokens = expected_branch_tokens(live)
        if not mean_tokens > 0:
            raise ValueError(f"mean_tokens must be above 0, got {mean_tokens!r}")
        if "env" in setting:
            raise ValueError("a live environment has no env; reference= names one for its card")
        width = setting.get("max_branches", 64)
        self.live_replay = LiveTraces(
            "live", live.interval, live.depth_limit, width, mean_tokens, live.protocol.probe_tokens
        )
        super().__init__(self.live_replay, **setting)
