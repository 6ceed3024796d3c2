"""Statistics of probes by relative depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.answer_statistics import (
    AnswerClasses,
    Floats,
    agreement,
    group_means,
    plurality_answers,
)
from autotts_gym.traces.store_tables import Tables


def probe_statistics(t: Tables, classes: AnswerClasses, first: int, last: int) -> dict[str, Floats]:
    """Describe the probes of questions ``first`` to ``last`` - 1.

    Args:
        t: the tables.
        classes: answer classes of all questions.
        first, last: range of q questions.

    Returns:
        - float64[q, 10], by question and tenth of depth: ``probes`` (count), ``nulls``,
          ``correct``, ``plurality_correct`` (1 if the plurality is correct), ``equal`` and
          ``pairs`` (of wrong answers of different branches);
        - float64[q], means over branches: ``settled``, ``late_changes``, ``changes``.
    """
    q = last - first
    start, stop = (int(t.branch_counts[:row].sum()) for row in (first, last))
    begin, end = (int(t.lengths[:row].sum()) for row in (start, stop))
    n = t.lengths[start:stop]
    of_branch = np.repeat(np.arange(q), t.branch_counts[first:last])
    gold, null = classes.gold[first:last], classes.null[first:last]
    finals = t.finals[start:stop]

    branch = np.repeat(np.arange(len(n)), n)
    question = of_branch[branch]
    code = t.probes[begin:end]
    k = np.arange(end - begin) - (np.cumsum(n) - n)[branch] + 1
    tenth = 10 * k // (n + 1)[branch]
    cell = question * 10 + tenth
    correct = code == gold[question]
    is_null = null[question, code]

    def count(flags: NDArray[np.bool_]) -> Floats:
        return np.bincount(cell[flags], minlength=q * 10).reshape(q, 10).astype(np.float64)

    voted, plurality = plurality_answers(cell, code)
    correct_votes = np.zeros(q * 10)
    correct_votes[voted] = plurality == gold[voted // 10]

    wrong = ~correct & ~is_null
    equal, pairs = agreement(cell, code, wrong, q * 10)
    # Pairs within a branch are left out: a branch repeats its own answer.
    same_equal, same_pairs = agreement(branch * 10 + tenth, code, wrong, len(n) * 10)
    cell_of_branch = (np.repeat(of_branch, 10) * 10 + np.tile(np.arange(10), len(n))).astype(
        np.int64
    )
    equal -= np.bincount(cell_of_branch, same_equal, minlength=q * 10)
    pairs -= np.bincount(cell_of_branch, same_pairs, minlength=q * 10)

    # The answer after a probe is that of the next probe, or the final answer at depth n + 1.
    following = np.empty_like(code)
    following[:-1] = code[1:]
    following[k == n[branch]] = finals[n > 0]
    changes = following != code
    late = changes & (4 * (k + 1) > 3 * (n + 1)[branch])
    last_different = np.zeros(len(n), np.int64)
    different = code != finals[branch]
    np.maximum.at(last_different, branch[different], k[different])
    return {
        "probes": count(np.ones_like(correct)),
        "nulls": count(is_null),
        "correct": count(correct),
        "plurality_correct": correct_votes.reshape(q, 10),
        "equal": equal.reshape(q, 10),
        "pairs": pairs.reshape(q, 10),
        "settled": group_means(of_branch, (last_different + 1) / (n + 1)),
        "late_changes": group_means(of_branch, np.bincount(branch[late], minlength=len(n)) > 0),
        "changes": group_means(of_branch, np.bincount(branch[changes], minlength=len(n))),
    }
