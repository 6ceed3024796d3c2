"""Branch orders: the order in which a seed opens a question's branches."""

from __future__ import annotations

import functools
import random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.store import TraceStore

Order = Literal["published", "random"]


def branch_order(order: Order, seed: int, question: int, count: int) -> NDArray[np.int64]:
    """The order in which a question's ``count`` branches open, int64[count].

    Args:
        order: ``"published"``: one permutation per seed, the same for every question, as in the
            published evaluation (arXiv 2605.08083). ``"random"``: an independent permutation per
            seed and question.
        seed, question, count: seed, question index, and number of branches of the question.
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
        order: see :func:`branch_order`.
        seeds, questions: int64[K], seed and question index of each episode.
        store: the traces.
        max_branches: number of branches kept per order.
    """
    counts = store.tables.branch_counts
    orders = np.empty((len(questions), max_branches), np.int64)
    for k, (seed, question) in enumerate(zip(seeds.tolist(), questions.tolist(), strict=True)):
        permutation = branch_order(order, seed, question, int(counts[question]))
        orders[k] = permutation[:max_branches]
    return orders


@functools.lru_cache(maxsize=1024)  # shared by all questions of a seed
def _published_order(seed: int, count: int) -> NDArray[np.int64]:
    branches = list(range(count))
    random.Random(seed).shuffle(branches)
    return np.array(branches, np.int64)
