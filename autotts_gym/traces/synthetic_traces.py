"""Generation of synthetic trace stores, for training and for tests without recorded traces."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import numpy as np
from rich.table import Table

from autotts_gym.traces.card import check_interval
from autotts_gym.traces.exceptions import TraceError
from autotts_gym.traces.statistics import Statistics, compare, describe
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.store_tables import Tables
from autotts_gym.traces.synthetic_model import SyntheticModel, randomized
from autotts_gym.traces.synthetic_sampling import QuestionTraits, draw_block

__all__ = ["SyntheticModel", "calibration_report", "generate", "randomized"]

#: Questions whose probes are drawn at once, which limits the memory.
_BLOCK: Final = 64


def generate(
    model: SyntheticModel | None = None,
    questions: int = 60,
    branches: int = 128,
    seed: int = 0,
    interval: int = 500,
) -> TraceStore:
    """Generate a store of synthetic traces; the same arguments give the same store.

    Args:
        model: the parameters; by default, ``SyntheticModel()``.
        questions: number of questions, at least 1. The share of misleading questions is exact (to
            one question), so that a small store is not easy or hard by chance.
        branches: branches of each question, at least 1.
        seed: random seed, at least 0.
        interval: Δ, tokens between two probes.

    Returns:
        A store in memory whose card has ``synthetic: true`` and, under ``synthetic_model``, the
        parameters and the seed. A branch has at most ``max(limit // interval, 1)`` intervals.

    Raises:
        TraceError: an argument is out of range.
    """
    model = model or SyntheticModel()
    check_interval(interval)
    for name, value, minimum in (
        ("questions", questions, 1),
        ("branches", branches, 1),
        ("seed", seed, 0),
    ):
        if type(value) is not int or value < minimum:
            raise TraceError(f"{name} must be an integer of at least {minimum}, got {value!r}")
    rng = np.random.default_rng(seed)
    traits = QuestionTraits.draw(model, questions, rng)
    blocks = [
        draw_block(model, traits.rows(first, first + _BLOCK), branches, interval, rng)
        for first in range(0, questions, _BLOCK)
    ]
    tables = Tables(
        ids=[f"synthetic-{row}" for row in range(questions)],
        texts=[f"Synthetic question {row}." for row in range(questions)],
        golds=[gold for block in blocks for gold in block.golds],
        answers=[answers for block in blocks for answers in block.answers],
        nulls=[nulls for block in blocks for nulls in block.nulls],
        branch_counts=np.full(questions, branches, np.int64),
        lengths=np.concatenate([block.lengths for block in blocks]),
        tokens=np.concatenate([block.tokens for block in blocks]),
        finals=np.concatenate([block.finals for block in blocks]),
        probes=np.concatenate([block.probes for block in blocks]),
    )
    # YAML needs plain floats, not numpy numbers.
    parameters = {name: float(value) for name, value in asdict(model).items()}
    details = {"synthetic_model": {"seed": seed, **parameters}}
    return TraceStore.from_tables(tables, interval, synthetic=True, details=details)


def calibration_report(store: TraceStore | Statistics, reference: TraceStore | Statistics) -> Table:
    """Compare the statistics of a store with those of the store that it should resemble."""
    a, b = (describe(s) if isinstance(s, TraceStore) else s for s in (store, reference))
    return compare(a, b, ("store", "reference"))
