"""The reference controllers in plain Python give the results of bulk evaluation, per episode.

``tests/agents/test_oracle.py`` compares them on the published traces.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from stores import ANSWERS, random_branch

from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import Question, TraceStore
from autotts_gym.traces.synthetic_traces import generate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SEEDS = 3


@pytest.fixture(scope="module")
def reference_python() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("reference_python")


def contested() -> TraceStore:
    """Branches of random length with few random answers, so that ties are frequent."""
    random = Random(0)
    questions = []
    for row in range(120):
        depth, answers = 4 + row % 30, 2 + row % 4
        columns = {"confidences": False, "costs": False, "generation": False}
        branches = [random_branch(random, 300, depth, answers, **columns) for _ in range(70)]
        questions.append(Question("?", ANSWERS[1], branches))
    return TraceStore.from_branches(questions, interval=300)


@pytest.fixture(scope="module")
def stores() -> dict[str, TraceStore]:
    """A bundled one; a deep one; one with many ties; and one with few probes per branch."""
    (bundled,) = registry.open_stores("tinylm/medium/chain").values()
    return {
        "bundled": bundled,
        "deep": generate(questions=5, branches=80, seed=1, interval=15),
        "contested": contested(),
        "shallow": generate(questions=10, branches=80, seed=2, interval=9000),
    }


@pytest.mark.parametrize("name", ["bundled", "deep", "contested", "shallow"])
@pytest.mark.parametrize(
    ("agent", "beta"),
    [
        ("self_consistency", None),
        ("parallel_probe", None),
        *(("cmc", beta) for beta in (0.0, 0.15, 0.3, 0.5, 0.65, 0.8, 1.0)),
    ],
)
def test_every_episode_equals_bulk_evaluation(
    agent: str,
    beta: float | None,
    name: str,
    reference_python: ModuleType,
    stores: dict[str, TraceStore],
) -> None:
    store = stores[name]
    play: Any = getattr(reference_python, agent) if beta is None else reference_python.cmc(beta)
    billing: Any = "tokens" if agent == "self_consistency" else "interval"
    rollout = Rollout(load(agent), store, EpisodeConfig(billing=billing))
    assert rollout.path == "compiled"
    branches = int(store.tables.branch_counts.min())
    rows = np.tile(np.arange(store.card.questions), SEEDS)
    orders = np.array(
        [
            branch_order("random", seed, question, branches)[:64]
            for seed in range(SEEDS)
            for question in range(store.card.questions)
        ]
    )
    episodes = rollout.play(rows, orders, beta or 0.0)
    assert not episodes.failures
    questions = reference_python.questions(store)
    results = [
        play(questions[row], order)
        for row, order in zip(rows.tolist(), orders.tolist(), strict=True)
    ]
    assert results == list(zip(episodes.correct.tolist(), episodes.tokens.tolist(), strict=True))
