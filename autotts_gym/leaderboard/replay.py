"""Replays of recorded episodes: each must end as it was recorded.

Bundled controllers, and trained policies, which contain no code, are played in this process. All
other programs are played in the sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError, GivenUpError
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.leaderboard.consistency import episode_name, row_name
from autotts_gym.leaderboard.entries import RefusalError
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.report.sources import Sources
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent
from autotts_gym.traces.store import TraceStore

#: Columns that are compared, in the order in which a difference is reported, and the attributes of
#: :class:`~autotts_gym.rollout.episode_results.EpisodeResults` with the same.
COMPARED: Final = {
    "answer": "answers",
    "tokens": "tokens",
    "sequential_tokens": "sequential_tokens",
    "actions": "actions",
    "probes": "probes",
    "correct": "correct",
    "settled_tokens": "settled_tokens",
}
#: Most episodes of a controller on an environment that are interpreted; more are worth compiling.
_MAX_INTERPRETED: Final = 1000


def replay(results: Results, sources: Sources, chosen: Mapping[int, NDArray[np.int64]]) -> None:
    """Play episodes again and compare them with the results.

    Args:
        results: the results.
        sources: their stores and controllers, all of them.
        chosen: indices of episodes, int64[K], by index of the run.

    Raises:
        RefusalError: an episode ends differently, or cannot be played; the message names the first.
    """
    numbers = sorted(chosen, key=lambda n: (results.runs[n].agent, results.runs[n].env, n))
    for (agent, env), group in groupby(
        numbers, key=lambda n: (results.runs[n].agent, results.runs[n].env)
    ):
        runs = [(results.runs[n], chosen[n]) for n in group]
        config = episode_config(results, agent)
        try:
            _replay_runs(results, runs, sources.agents[agent], sources.stores[env], config)
        except RefusalError:
            raise
        except (GivenUpError, AgentError, ValueError) as error:
            raise RefusalError(f"{row_name(runs[0][0])}: cannot be replayed: {error}") from error


def episode_config(results: Results, agent: str) -> EpisodeConfig:
    """The configuration with which an agent's episodes were played."""
    (billing,) = (record.billing for record in results.agents if record.name == agent)
    return replace(results.config, billing=billing)  # type: ignore[arg-type]


def _replay_runs(
    results: Results,
    runs: list[tuple[Run, NDArray[np.int64]]],
    agent: Agent,
    store: TraceStore,
    config: EpisodeConfig,
) -> None:
    """Replay runs of one controller on one environment."""
    count = sum(len(chosen) for _, chosen in runs)
    player = _player(agent, store, config, interpret=count <= _MAX_INTERPRETED)
    try:
        for run, chosen in runs:
            seeds, questions = (
                np.asarray(run.episodes[name], np.int64)[chosen] for name in ("seed", "question")
            )
            orders = branch_orders(results.order, seeds, questions, store, config.max_branches)
            played = player.play(questions, orders, run.beta or 0.0)
            _compare(run, chosen, played, results.version, killed=player.killed > 0)
    finally:
        if isinstance(player, Sandbox):
            player.close()


def _player(
    agent: Agent, store: TraceStore, config: EpisodeConfig, *, interpret: bool
) -> EpisodePlayer:
    if isinstance(agent, UntrustedAgent):
        return Sandbox(agent, store, config, settle=True)
    return Rollout(agent, store, config, interpret=interpret, settle=True)


def _compare(
    run: Run, chosen: NDArray[np.int64], played: EpisodeResults, version: str, *, killed: bool
) -> None:
    """Raise ``RefusalError`` for the first episode that did not end as recorded.

    Costs of episodes that a limit killed depend on the machine and are not compared.
    """
    for k, number in enumerate(chosen.tolist()):
        key = int(run.episodes["seed"][number]), int(run.episodes["question"][number])
        if (key in run.failures) != (k in played.failures):
            raise _differs(run, number, "outcome", *_outcomes(run, key, played, k), version)
        if killed and k in played.failures:
            continue
        for column, attribute in COMPARED.items():
            recorded = _plain(run.episodes.get(column, [None] * (number + 1))[number])
            replayed = _plain(getattr(played, attribute)[k])
            # Results of earlier versions have no settled tokens, or -1.
            is_absent = column == "settled_tokens" and recorded in (None, -1)
            if not is_absent and (recorded or "") != (replayed or ""):
                raise _differs(run, number, column, recorded, replayed, version)


def _outcomes(run: Run, key: tuple[int, int], played: EpisodeResults, k: int) -> tuple[str, str]:
    return (
        f"failed ({run.failures[key]})" if key in run.failures else "answered",
        f"failed ({played.failures[k]})" if k in played.failures else "answered",
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _differs(
    run: Run, number: int, what: str, recorded: object, replayed: object, version: str
) -> RefusalError:
    return RefusalError(
        f"{episode_name(run, number)}: {what} recorded {recorded!r} (by autotts_gym {version}), "
        f"replayed {replayed!r}"
    )
