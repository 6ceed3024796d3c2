"""Tests of episode starts: against plain Python on NumPy's Philox, and their distribution."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.mdp.episode_draws import DRAWN, DrawSources, DrawTables, Streams, draw_start
from autotts_gym.mdp.packed_arrays import pack


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_draws_are_those_of_plain_python(random: Random) -> None:
    counts = [random.randint(1, 40) for _ in range(random.randint(2, 12))]
    cut = random.randint(1, len(counts) - 1)
    rows = random.sample(range(len(counts)), len(counts))
    limits = [tuple(sorted((random.random(), random.choice([0.0, 1.0])))) for _ in range(2)]
    tables = DrawTables(
        np.array(rows, np.int64),
        np.array([0, cut, len(rows)], np.int64),
        np.array(counts, np.int64),
        np.array(limits),
    )
    streams = Streams.allocate(2)
    streams.seed(1, np.random.default_rng(random.randrange(2**32)))
    streams.episodes[1] = random.choice([0, 1, random.randrange(2**63)])
    width = random.randint(1, min(counts))
    packed = pack(DrawSources(tables, streams))
    order = np.zeros(max(counts), np.int64)

    def drawn(store: int = DRAWN, row: int = DRAWN, number: int = width) -> Any:
        row, beta, weight = draw_start(packed, 1, store, row, number, order)
        return row, beta, weight, order[:number].tolist()

    expected = reference.draw_start(
        streams.keys[1], int(streams.episodes[1]), [rows[:cut], rows[cut:]], counts, limits, width
    )
    row, *rest = expected
    assert drawn() == expected
    # What is fixed changes no other draw.
    assert drawn(row=row) == expected
    other = random.choice([r for r in range(len(counts)) if counts[r] == counts[row]])
    assert drawn(row=other) == (other, *rest)
    store = int(rows.index(row) >= cut)
    assert drawn(store=store) == expected
    assert rows.index(drawn(store=1 - store)[0]) >= cut * (1 - store)
    # Fewer branches are the first of more.
    narrow = random.randint(1, width)
    assert drawn(number=narrow)[3] == expected[3][:narrow]


def test_all_orders_are_equally_likely() -> None:
    tables = DrawTables(
        np.zeros(1, np.int64),
        np.array([0, 1]),
        np.array([5]),
        np.zeros((2, 2)),
    )
    streams = Streams.allocate(1)
    streams.seed(0, np.random.default_rng(0))
    packed, order, draws = pack(DrawSources(tables, streams)), np.zeros(5, np.int64), 24_000
    counts: Counter[tuple[int, ...]] = Counter()
    for number in range(draws):
        streams.episodes[0] = number
        draw_start(packed, 0, DRAWN, DRAWN, 4, order)
        counts[tuple(order.tolist())] += 1
    expected = draws / 120
    assert len(counts) == 120
    chi_squared = sum((count - expected) ** 2 for count in counts.values()) / expected
    assert chi_squared == pytest.approx(119, abs=5 * (2 * 119) ** 0.5)


def test_streams_are_determined_by_the_state_of_the_generator() -> None:
    streams = Streams.allocate(3)
    streams.episodes[:] = 7
    for e, seed in enumerate((4, 4, 5)):
        streams.seed(e, np.random.default_rng(seed))
    assert streams.keys[0].tolist() == streams.keys[1].tolist() != streams.keys[2].tolist()
    assert streams.episodes.tolist() == [0, 0, 0]
