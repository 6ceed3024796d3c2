"""Programs and a trace store for the tests of the sandbox."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.testing import assert_array_equal

from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent, untrusted_from_source
from autotts_gym.traces.store import Branch, Question, TraceStore

#: Prefix of the gold answers, which only finished branches show.
GOLD = "gold-5f1c"

#: Questions 0 to 5, which a program can distinguish: their first branches end after 1 to 6 probes.
STORE = TraceStore.from_branches(
    [
        Question(f"q{k}", f"{GOLD}-{k}", [Branch(["8"] * k, 100 * k + 50, f"{GOLD}-{k}")] * 2)
        for k in range(6)
    ],
    100,
)
WIDTH = 2
QUESTIONS = np.arange(6)
ORDERS = np.tile(np.arange(WIDTH), (6, 1))

#: Reads one branch to its end, and answers correctly.
HONEST = """
def solve(episode):
    i = episode.branch()
    while not episode.probe(i)[1]:
        episode.extend(i)
    episode.answer(i)
"""


def program(text: str, path: str = "program.py") -> UntrustedAgent:
    return untrusted_from_source(Path(path), text.encode())


def same(a: EpisodeResults, b: EpisodeResults, but: tuple[int, ...] = ()) -> None:
    """Assert that two results are equal, except for some episodes."""
    rest = np.setdiff1d(np.arange(len(a.tokens)), but)
    for name in (
        *("correct", "tokens", "sequential_tokens"),
        *("actions", "probes", "settled_tokens"),
    ):
        assert_array_equal(getattr(a, name)[rest], getattr(b, name)[rest], name)
    assert [a.answers[k] for k in rest] == [b.answers[k] for k in rest]
    assert [a.failures.get(k) for k in rest] == [b.failures.get(k) for k in rest]
