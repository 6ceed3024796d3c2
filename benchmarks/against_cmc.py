"""Compare controllers with the Confidence Momentum Controller, as in the documentation.

For each environment and β of CMC, the table shows the tokens at which a controller reaches CMC's
accuracy along its own β, as a percentage of CMC's tokens; its sequential tokens at that point, as a
percentage of CMC's; and its accuracy gain at equal tokens. With ``--within-latency``, only points
with at most CMC's sequential tokens count. ``--cost sequential_tokens`` exchanges the two costs.
Intervals are paired bootstrap intervals over questions and seeds.

Several trained policies, or folders of ``autotts discover``, each made on a part of the questions
or of the environments, are evaluated *out of fold*: each plays the questions and environments on
which it was not made, and their episodes are combined into one row.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_agent import PolicyAgent
from autotts_gym.evaluation import benchmark
from autotts_gym.evaluation.analysis import Analysis, Cost, Row, Scope
from autotts_gym.evaluation.bootstrap import Estimate
from autotts_gym.evaluation.comparison import OTHER_COST
from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord, Results
from autotts_gym.evaluation.runs import IncompleteRun, Run
from autotts_gym.mdp.trace_dataset import BILLINGS, EpisodeConfig
from autotts_gym.traces import registry
from autotts_gym.traces.branch_width import default_width
from autotts_gym.traces.splits import split_of
from autotts_gym.traces.store import TraceStore

BETAS = (0.25, 0.5, 0.75, 1.0)
KNOBS = tuple(round(0.1 * k, 1) for k in range(11))
NEW = "new"
#: Names of the costs in headings.
NAMES = {"tokens": "tokens", "sequential_tokens": "sequential"}


def play(
    agents: Sequence[str],
    stores: dict[str, TraceStore],
    betas: Sequence[float],
    seeds: int,
    folder: Path,
    config: EpisodeConfig,
) -> list[list[Run]]:
    """Play agents; returns the runs of each."""
    played = []
    for agent in agents:
        rows = list(
            benchmark.run([load(agent)], stores, betas, range(seeds), folder, config=config)
        )
        assert not any(isinstance(row, IncompleteRun) for row in rows)
        played.append([row for row in rows if isinstance(row, Run)])
    return played


@dataclass(frozen=True)
class Contender:
    """A controller that is compared with CMC.

    Attributes:
        agent: name or path, as for ``autotts benchmark``.
        made_on: rows of the questions on which it was made; None for all.
        environments: digests of the environments on which it was made; None for all.
    """

    agent: str
    made_on: list[int] | None
    environments: list[str] | None = None

    @classmethod
    def load(cls, place: str) -> Contender:
        """Load a controller, a trained policy, or the result of ``autotts discover``."""
        run = Path(place) / "run.json"
        if run.exists():
            content = json.loads(run.read_text("utf-8"))
            program = Path(place) / f"{Path(place).resolve().name}.py"
            return cls(str(program), content["questions"], list(content["data"].values()))
        agent = load(place)
        return cls(place, agent.card["questions"] if isinstance(agent, PolicyAgent) else None)

    def unseen(self, questions: int, digest: str) -> np.ndarray:
        """bool[questions], the questions of an environment on which it was not made."""
        if self.environments is not None and digest not in self.environments:
            return np.ones(questions, bool)
        mask = np.full(questions, self.made_on is not None)
        mask[self.made_on or []] = False
        return mask


def out_of_fold(
    contenders: Sequence[Contender],
    played: Sequence[Sequence[Run]],
    stores: dict[str, TraceStore],
) -> list[Run]:
    """Combine the runs of several contenders, each on what it was not made on."""
    joined = []
    for rows in zip(*played, strict=True):
        card = stores[rows[0].env].card
        masks = np.stack(
            [contender.unseen(card.questions, card.fingerprint) for contender in contenders]
        )
        if (masks.sum(axis=0) != 1).any():
            raise SystemExit(
                "each question of each environment must be left out of exactly one fold"
            )
        kept = [mask[row.episodes["question"]] for row, mask in zip(rows, masks, strict=True)]
        table = {
            key: np.concatenate(
                [np.asarray(row.episodes[key])[mask] for row, mask in zip(rows, kept, strict=True)]
            )
            for key in rows[0].episodes
        }
        order = np.lexsort((table["question"], table["seed"]))
        table = {key: column[order] for key, column in table.items()}
        joined.append(replace(rows[0], episodes=table))
    return joined


def other_ratio(analysis: Analysis, scope: Scope, row: Row, cost: Cost, value: float) -> float:
    """The other cost of the sweep at a value of a cost, relative to that of a row."""
    sweep = analysis.rows_in(scope, NEW)
    costs, others = (
        np.array([analysis.estimate(scope, one, metric).value for one in sweep])
        for metric in (cost, OTHER_COST[cost])
    )
    order = np.argsort(costs)
    at = np.exp(np.interp(np.log(value), np.log(costs[order]), np.log(others[order])))
    return float(at / analysis.estimate(scope, row, OTHER_COST[cost]).value)


def formatted(estimate: Estimate, scale: float, form: str) -> str:
    value, low, high = (
        f"{scale * x:{form}}" for x in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def analyze(
    contenders: Sequence[Contender],
    stores: dict[str, TraceStore],
    config: EpisodeConfig,
    seeds: int,
    folder: Path,
) -> Analysis:
    """Play CMC and the contenders, several of them out of fold, as the agents "cmc" and ``NEW``."""
    (cmc,) = play(["cmc"], stores, BETAS, seeds, folder, config)
    agents = [contender.agent for contender in contenders]
    played = play(agents, stores, KNOBS, seeds, folder, config)
    rows = played[0] if len(played) == 1 else out_of_fold(contenders, played, stores)
    rows = [replace(row, agent=NEW) for row in rows]
    results = Results(
        agents=[AgentRecord.from_agent(load("cmc"), config)],
        environments=[
            EnvironmentRecord.from_store(n, s, split_of(s.path)) for n, s in stores.items()
        ],
        runs=[*cmc, *rows],
        incomplete=[],
        order="random",
        seeds=list(range(seeds)),
        config=config,
        protocol="",
    )
    return Analysis.from_results(results)


def comparison_table(
    analysis: Analysis, title: str, *, within: bool, cost: Cost = "tokens"
) -> Table:
    """The comparison with each β of CMC, a row for each environment and for averages.

    Args:
        analysis: of the agents "cmc" and ``NEW``.
        title: title of the table.
        within: count points with at most CMC's other cost only.
        cost: the cost that is compared at equal accuracy.
    """
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("environment")
    name, other = (NAMES[key] for key in (cost, OTHER_COST[cost]))
    headings = ("CMC's β", "accuracy", "tokens", "sequential", f"% of {name} at equal accuracy")
    for heading in (*headings, f"% of {other} there", f"accuracy gain at equal {name}"):
        table.add_column(heading, justify="right")
    for scope in analysis.scopes:
        for row in analysis.rows_in(scope, "cmc"):
            comparison = analysis.compare(scope, NEW, row, cost, within_both=within)
            there = other_ratio(analysis, scope, row, cost, comparison.cost.value)
            table.add_row(
                scope.name,
                f"{row.beta:g}",
                f"{100 * analysis.estimate(scope, row, 'correct').value:.1f}",
                f"{analysis.estimate(scope, row, 'tokens').value:,.0f}",
                f"{analysis.estimate(scope, row, 'sequential_tokens').value:,.0f}",
                formatted(comparison.cost_ratio, 100, ".0f"),
                f"{100 * there:.0f}",
                formatted(comparison.accuracy_gain, 100, "+.1f"),
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("controllers", nargs="+", help="a controller, or its folds")
    parser.add_argument("--env", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--out", type=Path, help="folder of the episode cache")
    parser.add_argument("--cost", choices=list(NAMES), default="tokens", help="cost to compare")
    parser.add_argument(
        "--within-latency",
        action="store_true",
        help="at most CMC's sequential tokens, or at most its tokens if those are not compared",
    )
    parser.add_argument("--billing", choices=BILLINGS, default="tokens")
    parser.add_argument(
        "--latency-weight", type=float, default=0.0, metavar="W", help="w that policies read"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    stores = registry.open_stores(*given.env)
    # 64 branches, or as many as every question has.
    config = EpisodeConfig(
        default_width(stores.values()), given.billing, latency_weight=given.latency_weight
    )
    contenders = [Contender.load(place) for place in given.controllers]
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        analysis = analyze(contenders, stores, config, given.seeds, folder)
    name = given.controllers[0] if len(contenders) == 1 else f"{len(contenders)} folds, out of fold"
    title = f"{name}, {given.seeds} seeds, billed by {given.billing}"
    if given.within_latency:
        title += f", within CMC's {OTHER_COST[given.cost].replace('_', ' ')}"
    table = comparison_table(analysis, title, within=given.within_latency, cost=given.cost)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
