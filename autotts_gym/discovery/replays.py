"""Replays: what a controller observes along episodes that read every branch, and what it is worth.

A *reading policy* is a program without its stop rule: how many branches run, when to drop one, how
votes are weighed. Its episodes are played to the end of all branches, and its observations recorded
as rows, at which a stop rule could stop. A row has the features of
:mod:`autotts_gym.discovery.program_tree`, whether the leading answer is correct there, and both
costs so far. Rules are fitted to rows without playing again.
"""

from __future__ import annotations

import hashlib
import inspect
import math  # noqa: F401 # used by the skeleton
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.function_agent import FunctionAgent
from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import Program
from autotts_gym.discovery.tree_rollout import (
    EMPTY_PROGRAM,
    _evaluate,  # noqa: F401 # used by the skeleton
    compile_skeleton,
    interpreted_slots,
)
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore

#: Columns before the features: number of the episode, leading branch, tokens, sequential tokens.
_COLUMNS: Final = 4
#: Features of the votes and of the episode, in the order of the columns of rows.
FEATURES: Final = pt.AVAILABLE["stop"]
#: Without a new vote, a row is recorded where the tokens have risen by this share.
_GROWTH: Final = 1.05
#: Maximum number of rows of an episode; later ones are not recorded.
_MOST_ROWS: Final = 512


def _record(rows, counts, voted, branch, spent, clock, features):  # type: ignore[no-untyped-def] # compiled
    """Append a row if there is a new vote, or if tokens have risen; False, so as not to stop."""
    at = counts[1]
    is_new = at == 0 or rows[at - 1, 0] != counts[0]
    if at < len(rows) and (is_new or voted or spent > _GROWTH * rows[at - 1, 2]):
        rows[at, 0], rows[at, 1], rows[at, 2], rows[at, 3] = counts[0], branch, spent, clock
        for k in range(len(features)):
            rows[at, _COLUMNS + k] = features[k]
        counts[1] += 1
    return False


def _compile() -> tuple[Any, str]:
    """The skeleton with the interpreter in its slots, and the recorder in place of a stop rule."""
    slots = interpreted_slots()
    features = ", ".join(FEATURES)
    slots["stop"] = (
        "_record(rows, counts, voted, first_branch[best], episode.spent, episode.clock, "
        f"({features}))"
    )
    lines = "    stack = np.empty(len(codes[0]))\n    counts[0] += 1"
    solve, digest = compile_skeleton(globals(), "beta, codes, values, rows, counts", lines, slots)
    constants = f"{_COLUMNS} {_GROWTH}"
    source = digest + inspect.getsource(_record) + constants
    return solve, hashlib.sha256(source.encode()).hexdigest()


_SOLVE, _DIGEST = _compile()


@dataclass(frozen=True)
class Replays:
    """Rows of replayed episodes, in the order in which they were observed.

    Attributes:
        features: float64[R, F], by ``FEATURES``.
        correct: float64[R], 1 where the leading answer is correct.
        tokens: float64[R], tokens so far, in C.
        sequential: float64[R], sequential tokens so far, in L.
        starts: int64[E + 1], first row of each episode with rows, and R.
        environments, questions: int64[E], index of the environment, and row of the question.
        betas: float64[E], β of the reading policy.
        latency: float64[E], weight of latency in the cost, and of the reading policy.
    """

    features: NDArray[np.float64]
    correct: NDArray[np.float64]
    tokens: NDArray[np.float64]
    sequential: NDArray[np.float64]
    starts: NDArray[np.int64]
    environments: NDArray[np.int64]
    questions: NDArray[np.int64]
    betas: NDArray[np.float64]
    latency: NDArray[np.float64]


class Recorder:
    """Replays reading policies on a search set.

    Args:
        search: environments, questions and branch orders.
    """

    def __init__(self, search: SearchSet) -> None:
        agent = FunctionAgent("recorder", Path("recorder"), True, _DIGEST, _SOLVE)
        empty = np.zeros((0, _COLUMNS + len(FEATURES))), np.zeros(2, np.int64)
        self.search = search
        self._rollouts = [
            Rollout(agent, store, config, extra_args=(*EMPTY_PROGRAM, *empty))
            for store, config in zip(search.stores, search.configs, strict=True)
        ]
        assert all(rollout.path == "compiled" for rollout in self._rollouts)

    def replay(
        self, reading: Program, betas: Sequence[float], latency: Sequence[float] = (0.0,)
    ) -> Replays:
        """Play the reading policy on all questions and branch orders.

        Args:
            reading: the reading policy.
            betas: values of β.
            latency: weights of latency, at each of which it is played at every β.
        """
        parts = [
            self._play(reading, e, beta, weight)
            for e in range(len(self._rollouts))
            for weight in latency
            for beta in betas
        ]
        offsets = np.cumsum([0, *(len(part.correct) for part in parts)])
        starts = [part.starts[:-1] + offset for part, offset in zip(parts, offsets, strict=False)]

        def joined(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts])

        return Replays(
            features=joined("features"),
            correct=joined("correct"),
            tokens=joined("tokens"),
            sequential=joined("sequential"),
            starts=np.concatenate([*starts, offsets[-1:]]),
            environments=joined("environments"),
            questions=joined("questions"),
            betas=joined("betas"),
            latency=joined("latency"),
        )

    def _play(self, reading: Program, environment: int, beta: float, weight: float) -> Replays:
        search = self.search
        store, rollout = search.stores[environment], self._rollouts[environment]
        questions, orders = search.episodes(environment)
        rows = np.zeros((_MOST_ROWS * len(questions), _COLUMNS + len(FEATURES)))
        counts = np.array([-1, 0])
        rollout.extra_args = (reading.code(), reading.values(beta, weight), rows, counts)
        results = rollout.play(questions, orders, beta)
        assert not results.failures
        rows = rows[: counts[1]]
        episodes = rows[:, 0].astype(np.int64)
        branches = orders[episodes, rows[:, 1].astype(np.int64)]
        present, first = np.unique(episodes, return_index=True)
        return Replays(
            features=rows[:, _COLUMNS:].copy(),
            correct=_correct(store)[questions[episodes], branches],
            tokens=rows[:, 2] / search.full_tokens[environment],
            sequential=rows[:, 3] / search.longest[environment],
            starts=np.append(first, len(rows)),
            environments=np.full(len(present), environment),
            questions=questions[present],
            betas=np.full(len(present), beta),
            latency=np.full(len(present), weight),
        )


def _correct(store: TraceStore) -> NDArray[np.float64]:
    """Whether each branch is correct, float64[Q, most branches of a question]."""
    counts = store.tables.branch_counts
    correct = np.zeros((len(counts), int(counts.max())))
    golds = np.array(store.tables.gold_codes())
    questions = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    correct[questions, numbers] = store.tables.finals == golds[questions]
    return correct
