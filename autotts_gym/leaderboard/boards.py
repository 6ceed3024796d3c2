"""The boards of a leaderboard: rows that were played alike, and can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from autotts_gym.controllers import loader
from autotts_gym.evaluation import field_protocol
from autotts_gym.evaluation.analysis import Analysis, Row, Scope
from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord
from autotts_gym.evaluation.runs import Run
from autotts_gym.leaderboard.builder import Leaderboard, VerifiedEntry, run_identity
from autotts_gym.leaderboard.replay import episode_config
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.traces.splits import HELD_OUT, SEARCH

#: The row with which others are compared.
REFERENCE = Row("self_consistency", None)
#: Splits in the order of the page.
SPLITS = (SEARCH, HELD_OUT, "")


@dataclass(frozen=True)
class Setting:
    """How the episodes of a board were played.

    Attributes:
        order: how branch orders were drawn.
        seeds: seeds of the branch orders, ascending.
        config: configuration of the episodes.
    """

    order: Order
    seeds: tuple[int, ...]
    config: EpisodeConfig

    def __str__(self) -> str:
        c = self.config
        order = "one branch order per seed" if self.order == "published" else "a branch order each"
        parts = [
            f"up to {c.max_branches} branches",
            f"{len(self.seeds)} seeds ({_seed_range(self.seeds)}), {order}",
            "billed by tokens" if c.billing == "tokens" else "billed by started intervals",
            f"budget {c.budget:,} tokens" if c.budget is not None else "",
            f"probes cost {c.probe_tokens}" if c.probe_tokens else "",
            f"at most {c.step_limit:,} actions" if c.step_limit is not None else "",
            f"latency weight {c.latency_weight:g}" if c.latency_weight else "",
        ]
        return "; ".join(part for part in parts if part)


def _seed_range(seeds: tuple[int, ...]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds[:10])) + (", …" if len(seeds) > 10 else "")


@dataclass(frozen=True)
class Board:
    """Rows and environments of one setting.

    Attributes:
        setting: how all episodes were played.
        analysis: of the rows.
        environments: by name.
        agents: by the name of the rows.
        sources: names of the results folders by agent.
        failed: number of failed episodes by row and environment, if there are any.
    """

    setting: Setting
    analysis: Analysis
    environments: dict[str, EnvironmentRecord]
    agents: dict[str, AgentRecord]
    sources: dict[str, list[str]]
    failed: dict[tuple[Row, str], int]

    def scopes(self, split: str) -> list[Scope]:
        """The average, if there is one, and the environments of a split."""
        scopes = [scope for scope in self.analysis.scopes if scope.split == split]
        return sorted(scopes, key=lambda scope: not scope.is_average)

    def is_main(self, row: Row) -> bool:
        """Whether a row is shown at first: bundled controllers at their published β only."""
        return row.agent not in field_protocol.AGENTS or row in field_protocol.ROWS


@dataclass
class _Collected:
    """The runs of one setting so far."""

    runs: list[Run] = field(default_factory=list)
    environments: dict[str, EnvironmentRecord] = field(default_factory=dict)
    agents: dict[str, AgentRecord] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    played: set[tuple[object, ...]] = field(default_factory=set)


def boards(leaderboard: Leaderboard) -> list[Board]:
    """Merge the verified folders of a leaderboard, one board for each setting.

    A run that two folders have is shown once; they were found to be equal. Two controllers of one
    name are distinguished by the start of their digests, and so is a program that has the name of a
    bundled one.
    """
    entries = leaderboard.entries
    names = _row_names(entries)
    environment_names = _environment_names(entries)
    collected: dict[Setting, _Collected] = {}
    for verified in entries:
        results = verified.entry.results
        agents = {agent.name: agent for agent in results.agents}
        records = {env.name: env for env in results.environments}
        for run in results.runs:
            setting = Setting(
                results.order,
                tuple(sorted(set(results.seeds))),
                episode_config(results, run.agent),
            )
            into = collected.setdefault(setting, _Collected())
            agent, record = agents[run.agent], records[run.env]
            name, env = names[agent.name, agent.digest], environment_names[record.fingerprint]
            into.agents.setdefault(name, agent)
            into.environments.setdefault(env, replace(record, name=env))
            folders = into.sources.setdefault(name, [])
            if verified.entry.name not in folders:
                folders.append(verified.entry.name)
            identity = run_identity(results, run)
            if identity not in into.played:
                into.played.add(identity)
                into.runs.append(replace(run, agent=name, env=env))
    return [_board(setting, into) for setting, into in collected.items()]


def _board(setting: Setting, collected: _Collected) -> Board:
    environments = collected.environments
    order = list(environments)
    runs = sorted(collected.runs, key=lambda run: order.index(run.env))
    analysis = Analysis(
        runs,
        {name: env.split for name, env in environments.items()},
        {name: env.benchmark for name, env in environments.items()},
    )
    failed = {
        (Row(run.agent, run.beta), run.env): len(run.failures) for run in runs if run.failures
    }
    return Board(setting, analysis, environments, collected.agents, collected.sources, failed)


def _row_names(entries: Iterable[VerifiedEntry]) -> dict[tuple[str, str], str]:
    """The name of each controller on the page, by its recorded name and digest."""
    digests: dict[str, set[str]] = {}
    foreign: set[tuple[str, str]] = set()
    for verified in entries:
        for agent in verified.entry.results.agents:
            digests.setdefault(agent.name, set()).add(agent.digest)
            if verified.sources.agents[agent.name].is_untrusted:
                foreign.add((agent.name, agent.digest))
    bundled = {*loader.names(), *loader.trained()}
    names = {}
    for name, of_name in digests.items():
        # Those that could have the plain name: only the bundled one, if there is one.
        rivals = {d for d in of_name if name not in bundled or (name, d) not in foreign}
        for digest in of_name:
            is_plain = rivals == {digest}
            names[name, digest] = name if is_plain else f"{name} ({digest[:8]})"
    return names


def _environment_names(entries: Iterable[VerifiedEntry]) -> dict[str, str]:
    """The name of each environment on the page, by its fingerprint: the first recorded one.

    Two environments of one name are distinguished by the start of their fingerprints.
    """
    names: dict[str, str] = {}
    for verified in entries:
        for env in verified.entry.results.environments:
            taken = env.name in names.values()
            unique = f"{env.name} ({env.fingerprint[:8]})" if taken else env.name
            names.setdefault(env.fingerprint, unique)
    return names
