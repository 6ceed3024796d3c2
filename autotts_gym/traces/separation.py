"""How well length and generation confidence tell correct branches from wrong ones."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.answer_statistics import Floats, Ints
from autotts_gym.traces.store_tables import Tables


class BranchConfidence(NamedTuple):
    """Generation confidence of B branches; NaN where it is not known.

    Attributes:
        mean: float64[B], mean confidence of the tokens.
        lowest: float64[B], lowest mean confidence of a window of whole intervals (the lowest group
            confidence of DeepConf, arXiv 2508.15260); that of all tokens for a branch without a
            full window.
    """

    mean: Floats
    lowest: Floats


def group_window(mean_tokens: float, interval: int) -> int:
    """Window of the lowest group confidence: a quarter of the mean branch, in whole intervals."""
    return max(1, round(mean_tokens / (4 * interval)))


def branch_confidence(t: Tables, interval: int, window: int) -> BranchConfidence:
    """The generation confidence of each branch of a store.

    Args:
        t: tables of the store.
        interval: Δ, tokens.
        window: intervals of a window. Windows with an unknown interval do not count.
    """
    if t.confidence_sums is None or t.confidence_tokens is None:
        unknown = np.full(len(t.lengths), np.nan)
        return BranchConfidence(unknown, unknown)
    counts = t.confidence_tokens.astype(np.int64)
    sums = np.concatenate([[0.0], np.cumsum(t.confidence_sums, dtype=np.float64)])
    tokens = np.concatenate([[0], np.cumsum(counts)])
    whole = np.concatenate([[0], np.cumsum(counts == interval)])
    ends = np.cumsum(t.lengths + 1)
    starts = ends - t.lengths - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (sums[ends] - sums[starts]) / (tokens[ends] - tokens[starts])
        last = np.arange(1, len(counts) + 1)  # end of the window that ends with each interval
        first = np.maximum(last - window, 0)
        means = (sums[last] - sums[first]) / (tokens[last] - tokens[first])
    is_full = (last - window >= np.repeat(starts, t.lengths + 1)) & (
        whole[last] - whole[first] == window
    )
    lowest = np.minimum.reduceat(np.where(is_full, means, np.inf), starts)
    return BranchConfidence(mean, np.where(np.isfinite(lowest), lowest, mean))


def separation(question: Ints, correct: NDArray[np.bool_], score: NDArray[Any]) -> float:
    """Probability that a correct branch has a higher score than a wrong one of the same question.

    This is the area under the ROC curve (AUC) of the score within questions: all pairs of a correct
    and a wrong branch have the same weight, and equal scores count one half.

    Args:
        question: int64[B], sorted, question of each branch.
        correct: bool[B].
        score: number[B]; branches with NaN are left out.

    Returns:
        A share from 0 to 1; 0.5 if the score says nothing, NaN without a pair.
    """
    known = ~np.isnan(score)
    question, correct, score = question[known], correct[known], score[known]
    above, pairs = 0.0, 0
    bounds = np.flatnonzero(np.diff(question)) + 1
    for right, values in zip(np.split(correct, bounds), np.split(score, bounds), strict=True):
        wrong = np.sort(values[~right])
        lower = np.searchsorted(wrong, values[right], "left")
        upper = np.searchsorted(wrong, values[right], "right")
        above += float((lower + upper).sum()) / 2
        pairs += int(right.sum()) * len(wrong)
    return above / pairs if pairs else math.nan
