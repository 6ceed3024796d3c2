"""``default_width``: how many branches an episode may open where nothing else is said."""

from __future__ import annotations

from collections.abc import Iterable

from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.store_tables import MAX_WIDTH as MAX_WIDTH


def default_width(stores: Iterable[TraceStore]) -> int:
    """The default ``max_branches`` of episodes on some stores.

    Returns:
        64, or the smallest number of branches of a question if that is less.
    """
    return min([MAX_WIDTH, *(int(store.tables.branch_counts.min()) for store in stores)])
