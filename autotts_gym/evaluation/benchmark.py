"""The benchmark: agents × environments × β × seeds, every question once per seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from autotts_gym.controllers.agent import Agent
from autotts_gym.evaluation.backends import InProcessWorker, Job, WorkerPool
from autotts_gym.evaluation.result_cache import ResultCache
from autotts_gym.evaluation.results import Incomplete, Run
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.traces.store import TraceStore

#: Seeds that are played and written together: few enough to lose little, enough to be quick.
_BLOCK: Final = 10


def run(
    agents: Sequence[Agent],
    stores: dict[str, TraceStore],
    betas: Sequence[float],
    seeds: Sequence[int],
    folder: Path,
    *,
    order: Order = "random",
    terms: EpisodeConfig | Mapping[str, EpisodeConfig] | None = None,
    interpret: bool = False,
    settle: bool = False,
    team: WorkerPool | None = None,
    progress: Callable[[str, int], None] = lambda label, episodes: None,
) -> Iterator[Run | Incomplete]:
    """Play what is missing and yield the rows of the table, in the order of the arguments.

    The rows are the same whoever plays, and whatever was kept from before.

    Args:
        agents: an agent without β is played once.
        stores: environments by name.
        betas, seeds: the grid.
        folder: where cells are kept, in ``cells/``.
        terms: the same for all, or each agent's own by its name.
        settle: work out settled tokens, see :mod:`autotts_gym.mdp.settled_tokens`.
        team: who plays; this process by itself by default, where nothing ends an endless program.
        progress: called with a label and the number of episodes that were just finished.

    Raises:
        ValueError: β is outside [0, 1], two agents have one name, or a store has too few branches
            for ``terms``.
    """
    outside = [beta for beta in betas if not 0 <= beta <= 1]
    if outside:
        raise ValueError(f"beta must be within [0, 1], got {outside[0]}")
    _check_names(agents)
    # Whatever is named twice is played once; β may come as integers, and cells go by floats.
    betas, seeds = list(dict.fromkeys(map(float, betas))), list(dict.fromkeys(seeds))
    (folder / "cells").mkdir(parents=True, exist_ok=True)

    rows: list[tuple[str, ResultCache]] = []
    known: dict[str, ResultCache] = {}  # the same traces may go by two names
    jobs: dict[Job, ResultCache] = {}
    for agent in dict.fromkeys(agents):
        untried = True  # the very first job of an agent that nothing was kept of
        own = terms[agent.name] if isinstance(terms, Mapping) else terms or EpisodeConfig()
        for env, store in stores.items():
            for beta in betas if agent.takes_beta else [None]:
                cells = ResultCache(folder / "cells", agent, beta, store, order, own, settle)
                rows.append((env, known.setdefault(cells.key, cells)))
                missing = sorted(set(seeds) - cells.seeds)
                kept = len(seeds) - len(missing)
                untried = untried and not cells.seeds
                progress(_label(agent, beta, env), kept * store.card.questions)
                if missing:
                    TraceDataset({env: store}).check_width(own.max_branches)
                if known[cells.key] is cells:
                    for _, block in groupby(missing, key=lambda seed: seed // _BLOCK):
                        some = tuple(block)
                        knob = beta or 0.0
                        job = Job(agent, knob, store, own, order, some, interpret, settle, untried)
                        untried = False
                        jobs[job] = cells
                        cells.open += 1
    for job, played in (team or WorkerPool([InProcessWorker()])).play(jobs):
        cells = jobs[job]
        cells.finish(job, played)
        for env in [env for env, some in rows if some is cells]:
            progress(_label(job.agent, cells.beta, env), job.count)
        while rows and not rows[0][1].open:
            env, cells = rows.pop(0)
            yield cells.row(env, seeds)
    for env, cells in rows:
        yield cells.row(env, seeds)


def _label(agent: Agent, beta: float | None, env: str) -> str:
    return f"{agent.name}{'' if beta is None else f' β={beta:g}'} on {env}"


def _check_names(agents: Sequence[Agent]) -> None:
    named = {agent.name: agent for agent in agents}
    for agent in agents:
        other = named[agent.name]
        if agent != other:
            raise ValueError(
                f"{agent.path} and {other.path} would both be called {agent.name!r} in the "
                "results: rename one"
            )
