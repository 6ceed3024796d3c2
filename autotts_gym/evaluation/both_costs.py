"""Comparisons of β sweeps with rows within both of their costs: tokens and sequential tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autotts_gym.evaluation.analysis import Analysis, Row, Scope
from autotts_gym.evaluation.comparison import Comparison


@dataclass(frozen=True)
class BothCosts:
    """What a β sweep needs to be as accurate as a row, without more of either cost.

    Attributes:
        agent: the agent with the sweep.
        row: the row, of another agent.
        tokens: the sweep's tokens, with at most the row's sequential tokens.
        latency: its sequential tokens, with at most the row's tokens.
    """

    agent: str
    row: Row
    tokens: Comparison
    latency: Comparison


def compare_both_costs(analysis: Analysis, scope: Scope, rows: Iterable[Row]) -> list[BothCosts]:
    """Compare every agent of a scope that has several rows with each of ``rows``."""
    sweeps = [
        agent
        for agent in dict.fromkeys(row.agent for row in analysis.rows_in(scope))
        if len(analysis.rows_in(scope, agent)) > 1
    ]
    rows = list(rows)
    return [
        BothCosts(
            agent,
            row,
            analysis.compare(scope, agent, row, "tokens", within_both=True),
            analysis.compare(scope, agent, row, "sequential_tokens", within_both=True),
        )
        for agent in sweeps
        for row in rows
        if row.agent != agent
    ]
