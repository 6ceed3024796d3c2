"""Episode tables for tests of the bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.evaluation.bootstrap import METRICS, Means, resample


def episode_table(
    correct: NDArray[Any], tokens: NDArray[Any] | None = None
) -> dict[str, NDArray[Any]]:
    """Columns of ``correct[seed, question]``; tokens are 1 by default."""
    seeds, questions = correct.shape
    columns = dict.fromkeys(METRICS, np.ones(correct.size))
    columns["correct"] = correct.ravel().astype(float)
    if tokens is not None:
        columns["tokens"] = tokens.ravel().astype(float)
    return columns | {
        "seed": np.repeat(np.arange(seeds), questions),
        "question": np.tile(np.arange(questions), seeds),
    }


def resample_tables(*tables: dict[str, NDArray[Any]], **options: Any) -> list[Means]:
    """Resample tables; their means in the same order."""
    return list(resample(dict(enumerate(tables)), **options).values())
