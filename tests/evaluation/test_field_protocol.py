"""The protocol field: its rows exist, who is played, and dominance in three figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.controllers.loader import load, names
from autotts_gym.evaluation import field_protocol
from autotts_gym.evaluation.analysis import Analysis, Row
from autotts_gym.evaluation.benchmark_session import default_betas, plan_benchmark
from autotts_gym.evaluation.runs import Run
from autotts_gym.traces import registry


def test_every_bundled_controller_has_a_row() -> None:
    assert set(field_protocol.AGENTS) == {n for n in names() if not n.startswith("evolved/")}
    for row in field_protocol.ROWS:
        assert load(row.agent).takes_beta == (row.beta is not None)
        assert row.beta in (None, *default_betas("field"))


def test_controllers_that_need_confidences_are_left_out() -> None:
    stores = {
        **registry.open_stores("tinylm/small/chain"),
        **registry.open_stores("qwen2.5-coder-0.5b/problems"),
    }
    without, with_confidences = stores.values()
    plan = plan_benchmark([], default_betas("field"), [0], protocol="field", stores=stores)
    left_out = {a.name for a in plan.agents if not plan.can_play(a.name, without)}
    assert left_out == field_protocol.NEED_CONFIDENCE
    assert all(plan.can_play(agent.name, with_confidences) for agent in plan.agents)
    rows = sum(5 if agent.takes_beta else 1 for agent in plan.agents)
    assert plan.episode_count(stores) == rows * 30 + (rows - 5 * len(left_out)) * 60
    assert (plan.order, plan.config.billing, plan.config.max_branches) == ("random", "tokens", 32)


def run(name: str, correct: int, tokens: int, sequential: int) -> Run:
    """One row on ten questions."""
    ones = np.ones(10, np.int64)
    episodes: dict[str, Any] = {
        "seed": 0 * ones,
        "question": np.arange(10),
        "correct": np.arange(10) < correct,
        "answer": [""] * 10,
        "tokens": tokens * ones,
        "sequential_tokens": sequential * ones,
        "actions": ones,
        "probes": ones,
        "settled_tokens": -ones,
    }
    return Run(name, None, "env", False, episodes, {})


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([(5, 50, 50)], []),  # equal
        ([(5, 49, 50)], ["a"]),
        ([(6, 50, 50)], ["a"]),
        ([(5, 50, 49)], ["a"]),
        ([(6, 51, 50), (4, 1, 1), (9, 9, 51)], []),
        ([(6, 51, 50), (10, 1, 1)], ["b"]),
    ],
)
def test_dominance(others: list[tuple[int, int, int]], expected: list[str]) -> None:
    runs = [run("x", 5, 50, 50), *(run(n, *o) for n, o in zip("abc", others, strict=False))]
    analysis = Analysis(runs, replicates=2)
    (scope,) = analysis.scopes
    found = field_protocol.dominating(analysis, scope, Row("x", None), analysis.rows_in(scope))
    assert [row.agent for row in found] == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=8))
def test_dominance_is_a_strict_order(figures: list[tuple[int, int, int]]) -> None:
    analysis = Analysis([run(f"{k}", *f) for k, f in enumerate(figures)], replicates=2)
    (scope,) = analysis.scopes
    rows = analysis.rows_in(scope)
    beaten = {row: set(field_protocol.dominating(analysis, scope, row, rows)) for row in rows}
    for row in rows:
        assert row not in beaten[row]
        for other in beaten[row]:
            assert row not in beaten[other]
            assert beaten[other] <= beaten[row]
    assert any(not others for others in beaten.values())
