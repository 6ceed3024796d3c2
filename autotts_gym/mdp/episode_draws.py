"""What an episode starts from, drawn by a counter-based generator.

A sub-environment has a key, which its seed determines, and the number of its episode. The words
that Philox makes of the two are at fixed places: those of the first block draw the store, the
question, β and w; the halves of further blocks, lower ones first, draw the order of the branches.
So no draw depends on whether others are made: reset options fix what they name and nothing else,
and fewer branches are the first of more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.jit import entry_point, inlined
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.philox import high_word, philox
from autotts_gym.mdp.trace_dataset import TraceDataset

#: Passed instead of a store or a question: draw it.
DRAWN: Final = -1

# Rows of ``DrawTables.ranges``.
_BETA: Final = 0
_WEIGHT: Final = 1

_FIRST_BLOCK: Final = np.uint64(1)
_LOW_HALF: Final = np.uint64(0xFFFFFFFF)
_HALF_BITS: Final = np.uint64(32)


class DrawTables(NamedTuple):
    """What episodes are drawn from.

    Attributes:
        rows: int64[R], the questions to draw from, as rows in the dataset, store after store.
        first: int64[S + 1], index in ``rows`` of each store's first question.
        branch_counts: int64[Q], number of branches of each question.
        ranges: float64[2, 2], limits of β, and of w.
    """

    rows: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    first: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    branch_counts: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    ranges: Annotated[NDArray[np.float64], Axes(np.float64, 2)]

    @classmethod
    def of(
        cls,
        dataset: TraceDataset,
        rows: Sequence[Sequence[int]],
        beta: tuple[float, float],
        latency_weight: tuple[float, float],
    ) -> DrawTables:
        """The tables of a dataset.

        Args:
            dataset: the traces.
            rows: for each store, the rows in the dataset of the questions to draw from.
            beta, latency_weight: limits of β and w.
        """
        return cls(
            np.concatenate([np.asarray(of_store, np.int64) for of_store in rows]),
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            np.ascontiguousarray(dataset.branch_counts, np.int64),
            np.array([beta, latency_weight], np.float64),
        )


class Streams(NamedTuple):
    """The streams of random numbers of E sub-environments.

    Attributes:
        keys: uint64[E, 2].
        episodes: uint64[E], number of episodes started since the key was set.
    """

    keys: Annotated[NDArray[np.uint64], Axes(np.uint64, 2)]
    episodes: Annotated[NDArray[np.uint64], Axes(np.uint64, 1)]

    @classmethod
    def allocate(cls, num_envs: int) -> Streams:
        """The streams of ``num_envs`` sub-environments, without keys."""
        return cls(np.zeros((num_envs, 2), np.uint64), np.zeros(num_envs, np.uint64))

    def seed(self, e: int, generator: np.random.Generator) -> None:
        """Begin the stream of sub-environment ``e``; its key is drawn from ``generator``."""
        self.keys[e] = np.frombuffer(generator.bytes(16), "<u8")
        self.episodes[e] = 0


class DrawSources(NamedTuple):
    """What the starts of a batch's episodes are drawn from."""

    tables: DrawTables
    streams: Streams


@inlined
def _below(word, count):
    """A uniform int64 below ``count``, from a uint64; its bias is below count / 2^64."""
    return np.int64(high_word(word, np.uint64(count)))


@inlined
def _within(word, limits):
    """A uniform number between two limits, from a uint64."""
    return limits[0] + (limits[1] - limits[0]) * (np.float64(word >> np.uint64(11)) * 2.0**-53)


@inlined
def draw(sources, e, store, row, width, order):
    """Draw the start of the next episode of sub-environment ``e``.

    Args:
        sources: :class:`DrawSources`.
        e: the sub-environment.
        store: index of the store, or ``DRAWN``.
        row: row of the question in the dataset, or ``DRAWN``; else ``store`` is not read.
        width: number of branches to draw, N.
        order: int64[at least the number of branches of the question], overwritten; the first N are
            the branches, in the order in which they open.

    Returns:
        The row of the question, β and w.
    """
    tables, streams = sources.tables, sources.streams
    key_0, key_1, episode = streams.keys[e, 0], streams.keys[e, 1], streams.episodes[e]
    block = _FIRST_BLOCK
    for_store, for_question, for_beta, for_weight = philox(key_0, key_1, block, episode)
    if row == DRAWN:
        if store == DRAWN:
            store = _below(for_store, len(tables.first) - 1)
        first = tables.first[store]
        row = tables.rows[first + _below(for_question, tables.first[store + 1] - first)]
    count = tables.branch_counts[row]
    for i in range(count):
        order[i] = i
    for start in range(0, width, 8):  # the first N swaps of a Fisher-Yates shuffle
        block += _FIRST_BLOCK
        words = philox(key_0, key_1, block, episode)
        for k in range(start, min(start + 8, width)):
            word = words[(k - start) // 2]
            half = word >> _HALF_BITS if k % 2 else word & _LOW_HALF
            chosen = k + np.int64((half * np.uint64(count - k)) >> _HALF_BITS)
            order[k], order[chosen] = order[chosen], order[k]
    beta = _within(for_beta, tables.ranges[_BETA])
    return row, beta, _within(for_weight, tables.ranges[_WEIGHT])


@entry_point(packed=DrawSources)
def draw_start(sources: Any, e: Any, store: Any, row: Any, width: Any, order: Any) -> Any:
    """See :func:`draw`."""
    return draw(sources, e, store, row, width, order)
