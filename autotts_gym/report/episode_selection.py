"""Selection of the episodes of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotts_gym.evaluation.runs import Run


def select_episodes(runs: Sequence[Run], count: int) -> list[tuple[int, int]]:
    """Select (question, seed) pairs of one environment, the most informative first.

    Args:
        runs: the rows of the environment, over the same questions and seeds.
        count: number of pairs.

    Returns:
        The easiest and the hardest question first, then questions between them, evenly spread. The
        seed of a question is the one for which the rows are divided most; a question is selected
        with a second seed only after all questions are selected.
    """
    seeds = np.unique(runs[0].episodes["seed"])
    questions = np.unique(runs[0].episodes["question"])
    correct = np.mean(
        [np.reshape(run.episodes["correct"], (len(seeds), len(questions))) for run in runs], axis=0
    )  # share of the rows that are correct, [seeds, questions]
    by_ease = np.argsort(-correct.mean(axis=0), kind="stable")
    by_division = np.argsort(abs(correct - 0.5), axis=0, kind="stable")
    pairs: list[tuple[int, int]] = []
    for rank in range(len(seeds)):
        spread = _spread(len(questions), count - len(pairs))
        for q in by_ease[spread]:
            pairs.append((int(questions[q]), int(seeds[by_division[rank, q]])))
    return pairs


def _spread(size: int, count: int) -> list[int]:
    """Return up to ``count`` evenly spread indices below ``size``, both ends first."""
    places = np.unique(np.linspace(0, size - 1, max(min(count, size), 0)).round().astype(int))
    order: list[int] = []
    remaining = places.tolist()
    while remaining:
        # The index that is farthest from all previous ones; first 0, then the last one.
        farthest = max(remaining, key=lambda p: (min((abs(p - o) for o in order), default=-p), -p))
        order.append(farthest)
        remaining.remove(farthest)
    return order
