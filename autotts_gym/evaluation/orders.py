"""Branch orders: in which order a seed opens a question's branches."""

from __future__ import annotations

import functools
import random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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


@functools.lru_cache(maxsize=1024)  # one order serves all questions of a seed
def _published_order(seed: int, count: int) -> NDArray[np.int64]:
    branches = list(range(count))
    random.Random(seed).shuffle(branches)
    return np.array(branches, np.int64)
