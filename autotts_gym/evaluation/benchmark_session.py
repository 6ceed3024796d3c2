"""A whole benchmark: ``plan_benchmark`` decides what is played, ``play_benchmark`` plays it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation import field_protocol, published_protocol
from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.backends import WorkerPool
from autotts_gym.evaluation.benchmark import run
from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord, Results
from autotts_gym.evaluation.runs import IncompleteRun
from autotts_gym.evaluation.summary import write_summary
from autotts_gym.evaluation.trusted_programs import remember_trusted
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.traces.branch_width import MAX_WIDTH, default_width
from autotts_gym.traces.splits import split_of
from autotts_gym.traces.store import TraceStore

#: Values of β, where none are given; the published protocol has the same.
DEFAULT_BETAS = published_protocol.BETAS
#: Name of a protocol.
Protocol = Literal["paper", "field"]
#: Seeds of the branch orders, where none are given.
DEFAULT_SEEDS = "0-9"


@dataclass(frozen=True)
class BenchmarkPlan:
    """What a benchmark plays.

    Attributes:
        agents: agents; one without β is played once.
        betas: values of β.
        seeds: seeds of the branch orders.
        order: how branch orders are drawn, see :mod:`autotts_gym.rollout.branch_orders`.
        config: configuration of the episodes.
        configs: configurations by agent, for those that differ from ``config``.
        protocol: name of the protocol, for the record; empty without a protocol.
    """

    agents: Sequence[Agent]
    betas: Sequence[float]
    seeds: Sequence[int]
    order: Order
    config: EpisodeConfig
    configs: Mapping[str, EpisodeConfig]
    protocol: str

    def config_of(self, agent: Agent) -> EpisodeConfig:
        """The configuration of an agent's episodes."""
        return self.configs.get(agent.name, self.config)

    def episode_count(self, stores: Mapping[str, TraceStore]) -> int:
        """Number of episodes on ``stores``, cached ones included."""
        return sum(
            (len(self.betas) if agent.takes_beta else 1) * len(self.seeds) * store.card.questions
            for agent in self.agents
            for store in stores.values()
            if self.can_play(agent.name, store)
        )

    def can_play(self, agent: str, store: TraceStore) -> bool:
        """Whether an agent is played on a store: the protocol ``field`` leaves some out."""
        return self.protocol != "field" or field_protocol.can_play(agent, store)


def default_seeds(protocol: str | None) -> str:
    """Seeds of the branch orders where none are given, such as ``"0-9"``."""
    return published_protocol.SEEDS if protocol == "paper" else DEFAULT_SEEDS


def default_betas(protocol: str | None) -> tuple[float, ...]:
    """Values of β where none are given."""
    return field_protocol.BETAS if protocol == "field" else DEFAULT_BETAS


def _protocol_agents(protocol: str | None) -> list[Agent]:
    """The agents that a protocol plays."""
    names = {"paper": published_protocol.AGENTS, "field": field_protocol.AGENTS}
    return [load(name) for name in names.get(protocol or "", ())]


def plan_benchmark(
    agents: Sequence[Agent],
    betas: Sequence[float],
    seeds: Sequence[int],
    *,
    protocol: Protocol | None = None,
    order: Order | None = None,
    billing: Literal["tokens", "interval"] | None = None,
    stores: Mapping[str, TraceStore] | None = None,
    max_branches: int | None = None,
    budget: int | None = None,
    action_limit: int | None = None,
    latency_weight: float = 0.0,
) -> BenchmarkPlan:
    """Plan a benchmark.

    Args:
        agents: agents; a protocol plays its own before them.
        betas: values of β.
        seeds: seeds of the branch orders.
        protocol: ``"paper"`` for the published agents, orders and billing; ``"field"`` for all
            bundled controllers, see :mod:`autotts_gym.evaluation.field_protocol`.
        order: how branch orders are drawn; default ``"random"``.
        billing: default ``"tokens"``; with the protocol ``"paper"``, of agents that it does not
            name: ``"interval"``.
        stores: environments that will be played, for the default of ``max_branches``.
        max_branches: N, the maximum width of an episode, branches; default 64, or the smallest
            number of branches of a question of ``stores``; with the protocol ``"paper"``, 64.
        budget: B, tokens of an episode; None for no budget.
        action_limit: number of actions after which an episode fails; None for no limit.
        latency_weight: w in [0, 1], which controllers can read.

    Raises:
        ValueError: there is no agent, or an argument is out of range.
    """
    if protocol not in (None, *get_args(Protocol)):
        raise ValueError(f'protocol must be "paper", "field" or None, got {protocol!r}')
    is_paper = protocol == "paper"
    if is_paper and (order or billing):
        raise ValueError('protocol="paper" sets order and billing: leave them out')
    if action_limit is not None and action_limit < 1:
        raise ValueError(f"action_limit must be at least 1, got {action_limit}")
    played = list(dict.fromkeys([*_protocol_agents(protocol), *agents]))
    if not played:
        raise ValueError('give a controller, such as "cmc", or protocol="paper"')
    if max_branches is None:
        max_branches = MAX_WIDTH if is_paper or not stores else default_width(stores.values())
    config = EpisodeConfig(
        max_branches=max_branches,
        billing=billing or ("interval" if is_paper else "tokens"),
        budget=budget,
        step_limit=action_limit,
        latency_weight=latency_weight,
    )
    configs = {
        agent.name: replace(config, billing=published_protocol.BILLING[agent.name])
        for agent in played
        if is_paper and agent.name in published_protocol.BILLING
    }
    chosen_order: Order = "published" if is_paper else order or "random"
    return BenchmarkPlan(played, betas, seeds, chosen_order, config, configs, protocol or "")


def play_benchmark(
    plan: BenchmarkPlan,
    stores: Mapping[str, TraceStore],
    folder: str | os.PathLike[str],
    *,
    interpret: bool = False,
    pool: WorkerPool | None = None,
    progress: Callable[[str, int], None] = lambda label, episodes: None,
) -> tuple[Results, Analysis]:
    """Play agents on environments; write episodes, summary and plots.

    Args:
        plan: what is played.
        stores: environments by name.
        folder: folder of the results; it also holds the cache of played episodes.
        interpret, pool, progress: see :func:`autotts_gym.evaluation.benchmark.run`.

    Returns:
        The results, and their analysis.

    Raises:
        ValueError: see :func:`autotts_gym.evaluation.benchmark.run`.
    """
    folder = Path(folder)
    configs = {agent.name: plan.config_of(agent) for agent in plan.agents}
    # Read the splits first: an invalid ``set.yaml`` should fail before any episode is played.
    splits = {name: split_of(store.path) for name, store in stores.items()}
    remember_trusted(plan.agents)
    played = list(
        run(
            plan.agents,
            stores,
            plan.betas,
            plan.seeds,
            folder,
            order=plan.order,
            config=configs,
            interpret=interpret,
            settle=True,
            can_play=plan.can_play,
            pool=pool,
            progress=progress,
        )
    )
    results = Results(
        agents=[AgentRecord.from_agent(agent, configs[agent.name]) for agent in plan.agents],
        environments=[
            EnvironmentRecord.from_store(name, store, splits[name])
            for name, store in stores.items()
        ],
        runs=[row for row in played if not isinstance(row, IncompleteRun)],
        incomplete=[row for row in played if isinstance(row, IncompleteRun)],
        order=plan.order,
        seeds=list(plan.seeds),
        config=plan.config,
        protocol=plan.protocol,
    )
    results.save(folder)
    return results, _write_summary_and_plots(results, folder)


def _write_summary_and_plots(results: Results, folder: Path) -> Analysis:
    """Write ``summary.csv``, and the plots if at least one run is complete."""
    from autotts_gym.evaluation.plots import save_figures

    analysis = Analysis.from_results(results)
    write_summary(results, analysis, folder / "summary.csv")
    if results.runs:
        save_figures(analysis, folder, results.synthetic)
    return analysis
