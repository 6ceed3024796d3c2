"""Statistics of sets of answers: plurality, agreement and pass rates."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.store_tables import Tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Branches of a plurality vote, as in the published table (SC@64).
WIDTH: Final = 64
#: Number of random subsets over which a plurality vote is averaged, and their seed.
_SUBSETS: Final = 64
_SEED: Final = 0


class AnswerClasses(NamedTuple):
    """Answer codes of Q questions with at most C classes each.

    Attributes:
        gold: int64[Q], code of the gold answer; -1 if no branch gives it.
        null: bool[Q, C], which classes are null answers.
    """

    gold: Ints
    null: NDArray[np.bool_]

    @classmethod
    def from_tables(cls, t: Tables) -> AnswerClasses:
        null = np.zeros((len(t.ids), max(map(len, t.nulls))), np.bool_)
        for row, flags in zip(null, t.nulls, strict=True):
            row[: len(flags)] = flags
        return cls(np.array(t.gold_codes(), np.int64), null)


def plurality_answers(group: Ints, code: NDArray[np.integer[Any]]) -> tuple[Ints, Ints]:
    """Find the most common answer of each group.

    Args:
        group: int64[N], group of each vote.
        code: answer code of each vote.

    Returns:
        The groups with at least one vote, sorted, and their most common answers. The first vote
        breaks ties.
    """
    _, inverse, counts = np.unique(
        group * np.int64(1 << 16) + code, return_inverse=True, return_counts=True
    )
    # lexsort is stable, so the earliest vote of a group comes first among equal counts.
    order = np.lexsort((-counts[inverse], group))
    groups, first = np.unique(group[order], return_index=True)
    return groups, code[order[first]].astype(np.int64)


def agreement(
    group: Ints, code: NDArray[np.integer[Any]], counted: NDArray[np.bool_], groups: int
) -> tuple[Floats, Floats]:
    """Count the ordered pairs of answers within each group.

    Args:
        group: int64[N], group of each answer.
        code: answer code of each answer.
        counted: bool[N], the answers to count.
        groups: G, number of groups.

    Returns:
        float64[G] each: the pairs of equal answers, and all pairs.
    """
    keys, counts = np.unique(group[counted] * np.int64(1 << 16) + code[counted], return_counts=True)
    equal = np.bincount(keys >> 16, counts * (counts - 1.0), minlength=groups)
    size = np.bincount(group[counted], minlength=groups).astype(np.float64)
    return np.asarray(equal, np.float64), size * (size - 1)


def voting_accuracy(t: Tables, gold: Ints) -> Floats:
    """Accuracy of the plurality of ``WIDTH`` random branches of each question; float64[Q]."""
    rng = np.random.default_rng(_SEED)
    accuracy = np.zeros(len(gold))
    ends = np.cumsum(t.branch_counts)
    for row, (end, size) in enumerate(zip(ends, t.branch_counts, strict=True)):
        order = rng.permuted(np.tile(np.arange(end - size, end), (_SUBSETS, 1)), axis=1)
        votes = t.finals[order[:, :WIDTH]].astype(np.int64)
        subset = np.arange(_SUBSETS)[:, None]
        counts = np.zeros((_SUBSETS, int(votes.max()) + 1), np.int64)
        np.add.at(counts, (subset, votes), 1)
        # argmax returns the first vote among those of the most common class.
        winner = votes[subset[:, 0], counts[subset, votes].argmax(axis=1)]
        accuracy[row] = (winner == gold[row]).mean()
    return accuracy


def pass_rates(sizes: Ints, correct: Ints, maximum: int) -> Floats:
    """Probability that at least one of k branches is correct (pass@k); float64[Q, maximum].

    For n branches of which c are correct, the mean over all subsets of k branches is
    ``1 − C(n − c, k) / C(n, k)``, the unbiased estimate for k new samples (Chen et al. 2021, arXiv
    2107.03374, section 2.1). It is computed as a product of ratios, which avoids large numbers.
    For k > n, the value is that of k = n.

    Args:
        sizes: int64[Q], branches of each question.
        correct: int64[Q], correct branches of each question.
        maximum: the largest k; column k − 1 belongs to k.
    """
    drawn = np.arange(maximum)
    wrong = np.maximum((sizes - correct)[:, None] - drawn, 0)
    left = np.maximum(sizes[:, None] - drawn, 1)
    missed = np.where(drawn < sizes[:, None], wrong / left, 1.0)
    return np.asarray(1 - missed.cumprod(axis=1))


def group_means(group: Ints, values: NDArray[Any]) -> Floats:
    """Mean of the values of each group; every group must have values. float64[G]."""
    return np.asarray(np.bincount(group, values) / np.bincount(group), np.float64)
