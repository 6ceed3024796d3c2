"""``play_benchmark``: a whole benchmark, from loaded agents to a folder of results."""

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
    """Play agents on environments, and write the folder of results.

    Args:
        agents: agents; one without β is played once.
        stores: environments by name.
        betas: values of β.
        seeds: seeds of the branch orders.
        folder: folder of the results: episodes, summary, plots and cached episodes.
        order: how branch orders are drawn, see :mod:`autotts_gym.rollout.branch_orders`.
        config: configuration of the episodes; the default one if None.
        configs: configurations by agent, for those that differ from ``config``.
        protocol: name of the protocol, for the record.
        interpret, pool, progress: see :func:`autotts_gym.evaluation.benchmark.run`.

    Raises:
        ValueError: see :func:`autotts_gym.evaluation.benchmark.run`.
    """
    folder, config = Path(folder), config or EpisodeConfig()
    each = {agent.name: (configs or {}).get(agent.name, config) for agent in agents}
    # Before the episodes: a set file that cannot be read fails at once.
    splits = {name: split_of(store.path) for name, store in stores.items()}
    rows = list(
        run(
            agents,
            stores,
            betas,
            seeds,
            folder,
            order=order,
            config=each,
            interpret=interpret,
            settle=True,
            pool=pool,
            progress=progress,
        )
    )
    results = Results(
        agents=[AgentRecord.from_agent(agent, each[agent.name]) for agent in agents],
        environments=[
            EnvironmentRecord.from_store(name, store, splits[name])
            for name, store in stores.items()
        ],
        runs=[row for row in rows if not isinstance(row, IncompleteRun)],
        incomplete=[row for row in rows if isinstance(row, IncompleteRun)],
        order=order,
        seeds=list(seeds),
        config=config,
        protocol=protocol,
    )
    results.save(folder)
    _write_figures(results, folder)
    return results


def _write_figures(results: Results, folder: Path) -> None:
    """Write the summary, and the plots if there is a complete run."""
    from autotts_gym.evaluation.plots import FIGURES, save_frontier

    analysis = Analysis.from_results(results)
    write_summary(results, analysis, folder / "summary.csv")
    if results.runs:
        synthetic = [env.name for env in results.environments if env.synthetic]
        for name, cost in FIGURES.items():
            save_frontier(analysis, folder / f"{name}.png", cost, synthetic)
