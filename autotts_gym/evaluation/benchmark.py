"""The benchmark: plays agents on environments for each β and seed, every question once per seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from autotts_gym.controllers.agent import Agent
from autotts_gym.evaluation.backends import InProcessWorker, Job, WorkerPool
from autotts_gym.evaluation.result_cache import ResultCache
from autotts_gym.evaluation.runs import IncompleteRun, Run
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.traces.branch_width import default_width
from autotts_gym.traces.store import TraceStore

#: Number of seeds that are played and cached together: small enough to lose little work when
#: interrupted, large enough to be fast.
_BLOCK: Final = 10


def run(
    agents: Sequence[Agent],
    stores: Mapping[str, TraceStore],
    betas: Sequence[float],
    seeds: Sequence[int],
    folder: str | os.PathLike[str],
    *,
    order: Order = "random",
    config: EpisodeConfig | Mapping[str, EpisodeConfig] | None = None,
    interpret: bool = False,
    settle: bool = False,
    can_play: Callable[[str, TraceStore], bool] = lambda agent, store: True,
    pool: WorkerPool | None = None,
    progress: Callable[[str, int], None] = lambda label, episodes: None,
) -> Iterator[Run | IncompleteRun]:
    """Play all episodes that are not cached; yield the runs in the order of the arguments.

    Results depend neither on the pool nor on what was cached.

    Args:
        agents: agents; one that ignores β is played once per seed, not once per β.
        stores: environments by name.
        betas: values of β.
        seeds: seeds of the branch orders.
        folder: folder of the cache, which is its subfolder ``cells/``.
        order: how branch orders are drawn, see :mod:`autotts_gym.rollout.branch_orders`.
        config: configuration of the episodes of all agents, or a configuration by agent name;
            by default
            :class:`~autotts_gym.mdp.trace_dataset.EpisodeConfig` with 64 branches, or the fewest of
            a question.
        interpret: run controllers as plain Python even if they can be compiled.
        settle: compute settled tokens, see :mod:`autotts_gym.mdp.settled_tokens`.
        can_play: whether an agent, given by its name, is played on a store.
        pool: workers that play; by default the current process, which cannot interrupt a program
            that never returns.
        progress: called with a label and the number of episodes that were just finished.

    Raises:
        ValueError: a β is outside [0, 1], two agents have the same name, or a store has fewer
            branches than the configuration opens.
    """
    outside = [beta for beta in betas if not 0 <= beta <= 1]
    if outside:
        raise ValueError(f"beta must be within [0, 1], got {outside[0]}")
    _check_names(agents)
    # Duplicates are played once. β may be given as integers, but cache keys contain floats.
    betas, seeds = list(dict.fromkeys(map(float, betas))), list(dict.fromkeys(seeds))
    cells = Path(folder) / "cells"
    cells.mkdir(parents=True, exist_ok=True)

    rows: list[tuple[str, ResultCache]] = []
    caches: dict[str, ResultCache] = {}  # the same traces may have two names
    jobs: dict[Job, ResultCache] = {}
    for agent in dict.fromkeys(agents):
        is_trial = True  # the first job of an agent without cached results
        if isinstance(config, Mapping):
            agent_config = config[agent.name]
        else:
            agent_config = config or EpisodeConfig(default_width(stores.values()))
        for env, store in stores.items():
            if not can_play(agent.name, store):
                continue
            for beta in betas if agent.takes_beta else [None]:
                cache = ResultCache(cells, agent, beta, store, order, agent_config, settle)
                rows.append((env, caches.setdefault(cache.key, cache)))
                missing = sorted(set(seeds) - cache.seeds)
                cached = len(seeds) - len(missing)
                is_trial = is_trial and not cache.seeds
                progress(_label(agent, beta, env), cached * store.card.questions)
                if missing:
                    TraceDataset({env: store}).check_width(agent_config.max_branches)
                if caches[cache.key] is not cache:
                    continue
                for _, block in groupby(missing, key=lambda seed: seed // _BLOCK):
                    job = Job(
                        agent,
                        beta or 0.0,
                        store,
                        agent_config,
                        order,
                        tuple(block),
                        interpret=interpret,
                        settle=settle,
                        is_trial=is_trial,
                    )
                    is_trial = False
                    jobs[job] = cache
                    cache.pending += 1
    for job, result in (pool or WorkerPool([InProcessWorker()])).play(jobs):
        cache = jobs[job]
        cache.add(job, result)
        for env in [env for env, row_cache in rows if row_cache is cache]:
            progress(_label(job.agent, cache.beta, env), job.count)
        while rows and not rows[0][1].pending:
            env, cache = rows.pop(0)
            yield cache.run(env, seeds)
    for env, cache in rows:
        yield cache.run(env, seeds)


def _label(agent: Agent, beta: float | None, env: str) -> str:
    return f"{agent.name}{'' if beta is None else f' β={beta:g}'} on {env}"


def _check_names(agents: Sequence[Agent]) -> None:
    by_name = {agent.name: agent for agent in agents}
    for agent in agents:
        other = by_name[agent.name]
        if agent != other:
            raise ValueError(
                f"{agent.path} and {other.path} would both be called {agent.name!r} in the "
                "results: rename one"
            )
