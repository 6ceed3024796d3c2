"""Branch orders: in which order a seed opens a question's branches."""

from __future__ import annotations

import functools
import random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.store import TraceStore

Order = Literal["published", "random"]


def branch_order(order: Order, seed: int, question: int, count: int) -> NDArray[np.int64]:
    """The order in which a question's ``count`` branches open.

    Args:
        order: ``"published"``, the same for every question of a seed, as the published evaluation
            shuffles (arXiv 2605.08083); ``"random"``, another one for every question.
    """
    if order == "published":
        return _published_order(seed, count)
    return np.random.default_rng([seed, question]).permutation(count)


def branch_orders(
    order: Order,
    seeds: NDArray[np.int64],
    questions: NDArray[np.int64],
    store: TraceStore,
    max_branches: int,
) -> NDArray[np.int64]:
    """The branch orders of K episodes, int64[K, max_branches].

    Args:
        seeds, questions: int64[K], of each.
        store: the traces that are opened.
        max_branches: how many branches of an order are kept.
    """
    counts = store.tables.branch_counts
    orders = np.empty((len(questions), max_branches), np.int64)
    for k, (seed, question) in enumerate(zip(seeds.tolist(), questions.tolist(), strict=True)):
        drawn = branch_order(order, seed, question, int(counts[question]))
        orders[k] = drawn[:max_branches]
    return orders


@functools.lru_cache(maxsize=1024)  # one order serves all questions of a seed
def _published_order(seed: int, count: int) -> NDArray[np.int64]:
    branches = list(range(count))
    random.Random(seed).shuffle(branches)
    return np.array(branches, np.int64)
