"""Generation confidences in a slot: those that a probe has revealed, and no others."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.traces.store import Branch, Question, TraceStore

sys.path.insert(0, str(Path(__file__).parent))
from programs import program

WIDTH, INTERVALS, QUESTIONS = 2, 4, 2


def confidence_sum(question: int, branch: int, k: int) -> float:
    """A number that occurs nowhere else, exact in float32."""
    return 1000.5 + 100 * question + 10 * branch + k


def tokens(question: int, branch: int, k: int) -> int:
    return 77001 + 100 * question + 10 * branch + k


#: Every branch has three probes. Interval k of branch b of question q has its own sum and tokens.
STORE = TraceStore.from_branches(
    [
        Question(
            f"question {q}",
            "8",
            [
                Branch(
                    ["7"] * (INTERVALS - 1),
                    INTERVALS * 100_000,
                    "8",
                    confidence_sums=[confidence_sum(q, b, k) for k in range(INTERVALS)],
                    confidence_tokens=[tokens(q, b, k) for k in range(INTERVALS)],
                )
                for b in range(WIDTH)
            ],
        )
        for q in range(QUESTIONS)
    ],
    100_000,
)


def patterns(kind: str, number: Callable[[int, int, int], float]) -> list[list[list[bytes]]]:
    """The bytes of a number of every question, branch and interval."""
    return [
        [[struct.pack(kind, number(q, b, k)) for k in range(INTERVALS)] for b in range(WIDTH)]
        for q in range(QUESTIONS)
    ]


#: Looks for every recorded number in all of its slot, before and after each action.
SEARCHER = (
    f"""
SUMS = {patterns("d", confidence_sum)}
TOKENS = {patterns("q", tokens)}
"""
    + """
def found(slot, patterns):
    return " ".join(f"{q}{b}{k}" for q, of in enumerate(patterns) for b, here in enumerate(of)
                    for k, pattern in enumerate(here) if pattern in slot)

def solve(episode):
    steps = []
    def look():
        # Most of a slot is empty: shorten runs of zeros, but not within a number.
        slot = bytes(episode.facts._slot).replace(b"\\0" * 64, b"\\0" * 8)
        sums, tokens = found(slot, SUMS), found(slot, TOKENS)
        steps.append(sums if sums == tokens else f"{sums} but {tokens}")
    look()
    for i in range(2):
        episode.branch()
        look()
    episode.extend(1)
    look()
    episode.probe(1)
    look()
    episode.extend_all()
    episode.extend(1)
    look()
    episode.probe_all()
    look()
    raise ValueError(", ".join(steps))
"""
)


@pytest.mark.slow
def test_a_slot_has_what_probes_have_revealed() -> None:
    questions = np.repeat(np.arange(QUESTIONS), 2)
    orders = np.array([[0, 1], [1, 0]] * QUESTIONS)
    # Fewer processes than episodes: slots are used again.
    with Sandbox(program(SEARCHER), STORE, EpisodeConfig(WIDTH), parallel_episodes=2) as box:
        played = box.play(questions, orders, 0.0)
    for k, (q, order) in enumerate(zip(questions.tolist(), orders.tolist(), strict=True)):
        half = f"{q}{order[1]}0 {q}{order[1]}1"
        depths = {order[0]: 2, order[1]: 4}  # the last probe is at the end of the second
        last = " ".join(f"{q}{b}{depth}" for b in range(WIDTH) for depth in range(depths[b]))
        expected = ["", "", "", "", half, half, last]
        assert played.failures[k] == f"ValueError: {', '.join(expected)}"


#: Reads by the episode's methods what no probe has revealed.
READER = """
def solve(episode):
    for i in range(2):
        episode.branch()
    seen = [episode.generation_confidence(i, w) for i in range(2) for w in range(9)]
    seen += [episode.lowest_confidence(i, w) for i in range(2) for w in range(9)]
    episode.extend(0)
    episode.probe(0)
    mean = episode.generation_confidence(0)
    episode.extend(0)
    episode.extend(0)
    seen += [mean - episode.generation_confidence(0, w) - 1 for w in (0, 2, 3, 9)]
    raise ValueError(repr(set(seen)))
"""


def test_methods_read_only_what_probes_have_revealed() -> None:
    with Sandbox(program(READER), STORE, EpisodeConfig(WIDTH)) as box:
        played = box.play(np.zeros(1, np.int64), np.array([[0, 1]]), 0.0)
    assert played.failures == {0: "ValueError: {-1.0}"}


def test_stores_without_confidences_take_no_room() -> None:
    plain = TraceStore.from_branches([Question("", "7", [Branch(["7"], 15, "7")] * WIDTH)], 10)
    sizes = []
    for store in (plain, STORE):
        with Sandbox(program("def solve(episode): pass"), store, EpisodeConfig(WIDTH)) as box:
            layout = box._memory.layout
            sizes.append((layout.floats - layout.sums, layout.nulls - layout.tokens))
    assert sizes == [(0, 0), (WIDTH * INTERVALS,) * 2]


@pytest.mark.parametrize("recorded", [False, True])
def test_facts(recorded: bool) -> None:
    """What the environment is like is known before the first action."""
    text = """
def solve(episode):
    raise ValueError(f"{episode.has_generation_confidence} {episode.mean_tokens}")
"""
    columns = {"confidence_sums": [5.0, 1.0], "confidence_tokens": [2, 1]} if recorded else {}
    branches = [Branch(["7"], tokens, "7", **columns) for tokens in (15, 18)]  # type: ignore[arg-type]
    store = TraceStore.from_branches([Question("", "7", branches)], 10)
    with Sandbox(program(text), store, EpisodeConfig(1)) as box:
        played = box.play(np.zeros(1, np.int64), np.array([[0]]), 0.0)
    assert played.failures == {0: f"ValueError: {recorded} 16.5"}
