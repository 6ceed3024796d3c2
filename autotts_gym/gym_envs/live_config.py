"""Options of ``AutoTTS-Live-v0``, and the validated ones that it shares with ``AutoTTS-v0``."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Literal, Unpack

import numpy as np

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.gym_envs.env_config import CommonEnvOptions, EnvConfig
from autotts_gym.live.connection import (
    ConnectionOptions,
    expected_branch_tokens,
    expected_longest_tokens,
)
from autotts_gym.live.live_model import LiveModel
from autotts_gym.live.live_traces import LiveTraces
from autotts_gym.mdp import actions
from autotts_gym.mdp.batch import EpisodeStart
from autotts_gym.traces.branch_width import MAX_WIDTH


class LiveEnvOptions(ConnectionOptions, CommonEnvOptions, total=False):
    """Keyword arguments of ``AutoTTSLiveEnv``, where other functions pass them on."""

    live: LiveModel | None
    mean_tokens: float | None
    deadline: float | None
    questions: str | os.PathLike[str] | Sequence[AskedQuestion]
    render_mode: Literal["human", "rgb_array", "ansi"] | None


class LiveEnvConfig(EnvConfig):
    """The validated options that ``AutoTTS-Live-v0`` shares with ``AutoTTS-v0``.

    Args:
        live: the model.
        mean_tokens: expected tokens of a branch; by default those of the model's reference.
        options: options of ``AutoTTS-v0``, except ``env`` and ``questions``.

    Attributes:
        live_traces: the dataset that live episodes fill in.

    Raises:
        ValueError: an option is invalid; the message names it.
    """

    def __init__(
        self,
        live: LiveModel,
        mean_tokens: float | None = None,
        **options: Unpack[CommonEnvOptions],
    ) -> None:
        if mean_tokens is None:
            mean_tokens = expected_branch_tokens(live)
        if not mean_tokens > 0:
            raise ValueError(f"mean_tokens must be above 0, got {mean_tokens!r}")
        if "env" in options:
            raise ValueError(
                "env is not an option of a live environment; reference names an environment whose "
                "card is used"
            )
        width = options.get("max_branches")
        options["max_branches"] = width = MAX_WIDTH if width is None else width
        self.live_traces = LiveTraces(
            "live",
            live.interval,
            live.depth_limit,
            width,
            mean_tokens,
            live.protocol.probe_tokens,
            expected_longest_tokens(live, width),
        )
        super().__init__(self.live_traces, **options)


@functools.cache
def compile_episodes() -> None:
    """Compile what live episodes run, once per process.

    Without a cache of compiled code, as on a new machine, this takes up to a minute. In an episode,
    its deadline would pass meanwhile, and the other episodes of the process would wait.
    """
    traces = LiveTraces("live", interval=1, depth=2, width=1, mean_tokens=1.0, probe_tokens=1)
    batch = EnvConfig(traces, max_branches=1).batch(1)
    start = EpisodeStart(0, 0.5, np.arange(1), 0.0)
    batch.drawn_start(0)
    batch.reset([0], [start])
    batch.play(actions.BRANCH)
    batch.rewind(start, [actions.BRANCH])
    batch.conclude([0])
