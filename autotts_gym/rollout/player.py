"""The interface of everything that plays a controller's episodes in bulk."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import rules
from autotts_gym.mdp.settled_tokens import Recount, settle
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.traces.store import TraceStore


class EpisodePlayer(abc.ABC):
    """Whoever plays a controller's episodes on one store under given terms.

    Args:
        store: the traces.
        terms: the terms of play.
        settle: find the settled tokens of every episode.

    Attributes:
        path: who plays.
        reason: why the controller is not compiled; empty if it is.
        logs: actions of the episodes that :meth:`EpisodePlayer.play_on` has played in its latest call, as
            :class:`EpisodeResults` has them; empty where they are not kept.
        ended: how many of them were ended from outside, which depends on the machine's moment.
    """

    path: str
    reason: str
    ended: int = 0

    def __init__(self, store: TraceStore, terms: EpisodeConfig, settle: bool) -> None:
        if terms.auto_probe:
            raise ValueError("controllers probe for themselves: play them with auto_probe=False")
        self._replay = TraceDataset({str(store.path or "the store"): store})
        self._replay.check_width(terms.max_branches)
        self._terms, self._settle = terms, settle
        self._agreed = np.array([terms.ledger(store) for store in self._replay.stores])
        self._recount = Recount.allocate(self._replay, terms.max_branches)
        self.logs: list[NDArray[np.int32]] = []

    def play(
        self, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
    ) -> EpisodeResults:
        """Play K episodes.

        Args:
            questions: int64[K], rows of the store.
            orders: int64[K, max_branches], the branches of each question in the order in which
                they open.
            beta: β of all of them.

        Raises:
            ValueError: there is no such question, branch or β; compiled code looks at no bounds.
        """
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be within [0, 1], got {beta}")
        self._replay.check_episodes(questions, orders, self._terms.max_branches)
        results = np.zeros((len(questions), rules.RESULT_SIZE), np.int64)
        failures: dict[int, str] = {}
        self.play_on(questions, orders, beta, results, np.zeros(1, np.int64), failures.__setitem__)
        return EpisodeResults.of(self._replay.stores[0], questions, results, failures, self.logs)

    @abc.abstractmethod
    def play_on(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: NDArray[np.int64],
        played: NDArray[np.int64],
        fail: Callable[[int, str], None],
    ) -> None:
        """Play the episodes from ``played[0]`` on, as :meth:`EpisodePlayer.play` has checked them.

        Args:
            results: int64[K, RESULT_SIZE], see :mod:`autotts_gym.mdp.rules`; a row is filled when
                its episode ends.
            played: int64[1], counts the episodes that have ended. Both can be memory that another
                process watches.
            fail: called with an episode's index and message where an error ended it.
        """

    def _settled(
        self,
        question: int,
        order: NDArray[np.int64],
        pricings: NDArray[np.int64],
        log: Sequence[int] | NDArray[np.int32],
    ) -> int:
        """Settled tokens of an episode with these actions; -1 if not asked."""
        if not self._settle:
            return -1
        return settle(
            self._recount,
            self._agreed[0],
            self._replay.questions[question],
            question,
            order,
            pricings,
            np.asarray(log, np.int32),
        )
