"""``play_benchmark``: plays agents on environments and writes a folder of results."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from autotts_gym.controllers.agent import Agent
from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.backends import WorkerPool
from autotts_gym.evaluation.benchmark import run
from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord, Results
from autotts_gym.evaluation.runs import IncompleteRun
from autotts_gym.evaluation.summary import write_summary
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.traces.splits import split_of
from autotts_gym.traces.store import TraceStore


def play_benchmark(
    agents: Sequence[Agent],
    stores: Mapping[str, TraceStore],
    betas: Sequence[float],
    seeds: Sequence[int],
    folder: str | os.PathLike[str],
    *,
    order: Order = "random",
    config: EpisodeConfig | None = None,
    configs: Mapping[str, EpisodeConfig] | None = None,
    protocol: str = "",
    interpret: bool = False,
    pool: WorkerPool | None = None,
    progress: Callable[[str, int], None] = lambda label, episodes: None,
) -> Results:
    """Play agents on environments; write episodes, summary and plots.

    Args:
        agents: agents; one that ignores β is played once per seed, not once per β.
        stores: environments by name.
        betas: values of β.
        seeds: seeds of the branch orders.
        folder: folder of the results; it also holds the cache of played episodes.
        order: how branch orders are drawn, see :mod:`autotts_gym.rollout.branch_orders`.
        config: configuration of the episodes; ``EpisodeConfig()`` by default.
        configs: configuration by agent name, in place of ``config``.
        protocol: name of the protocol, which is written to the results.
        interpret, pool, progress: see :func:`autotts_gym.evaluation.benchmark.run`.

    Raises:
        ValueError: see :func:`autotts_gym.evaluation.benchmark.run`.
    """
    folder, config = Path(folder), config or EpisodeConfig()
    agent_configs = {agent.name: (configs or {}).get(agent.name, config) for agent in agents}
    # Read the splits first: an invalid ``set.yaml`` should fail before any episode is played.
    splits = {name: split_of(store.path) for name, store in stores.items()}
    played = list(
        run(
            agents,
            stores,
            betas,
            seeds,
            folder,
            order=order,
            config=agent_configs,
            interpret=interpret,
            settle=True,
            pool=pool,
            progress=progress,
        )
    )
    results = Results(
        agents=[AgentRecord.from_agent(agent, agent_configs[agent.name]) for agent in agents],
        environments=[
            EnvironmentRecord.from_store(name, store, splits[name])
            for name, store in stores.items()
        ],
        runs=[row for row in played if not isinstance(row, IncompleteRun)],
        incomplete=[row for row in played if isinstance(row, IncompleteRun)],
        order=order,
        seeds=list(seeds),
        config=config,
        protocol=protocol,
    )
    results.save(folder)
    _write_summary_and_plots(results, folder)
    return results


def _write_summary_and_plots(results: Results, folder: Path) -> None:
    """Write ``summary.csv``, and the plots if at least one run is complete."""
    from autotts_gym.evaluation.plots import FIGURES, save_frontier

    analysis = Analysis.from_results(results)
    write_summary(results, analysis, folder / "summary.csv")
    if results.runs:
        synthetic = [env.name for env in results.environments if env.synthetic]
        for name, cost in FIGURES.items():
            save_frontier(analysis, folder / f"{name}.png", cost, synthetic)
