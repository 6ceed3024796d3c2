"""The interface of everything that plays a controller's episodes in bulk."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.settled_tokens import Recount, settle
from autotts_gym.mdp.state import RESULT, Records
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore


class EpisodePlayer(abc.ABC):
    """Plays the episodes of one controller on one trace store.

    Args:
        store: the traces, or the name or path of an environment.
        config: configuration of the episodes.
        settle: compute the settled tokens of every episode.

    Attributes:
        path: the execution path: ``"compiled"``, ``"python"``, ``"policy"`` or ``"sandbox"``.
        reason: why the controller is not compiled; empty if it is.
        logs: actions of the episodes of the latest call, see
            :class:`~autotts_gym.rollout.episode_results.EpisodeResults`; empty unless
            they are kept.
        batch_size: maximum number of episodes that are played at once; 0 if the player enforces
            the time limit of each episode itself.
        killed: number of episodes of the latest call that were killed by a limit or crashed. Such
            results depend on the load of the machine and are not cached.

    Raises:
        ValueError: the configuration does not fit the store, or has ``auto_probe=True``.
    """

    path: str
    reason: str
    killed: int = 0
    batch_size: int = 1

    def __init__(
        self, store: TraceStore | str | os.PathLike[str], config: EpisodeConfig, settle: bool
    ) -> None:
        if not isinstance(store, TraceStore):
            store = registry.open_store(store)
        if config.auto_probe:
            raise ValueError("controllers probe explicitly: play them with auto_probe=False")
        self._dataset = TraceDataset({str(store.path or "the store"): store})
        self._dataset.check_width(config.max_branches)
        self._config, self._settle = config, settle
        self._initial_ledgers = np.stack([config.ledger(store) for store in self._dataset.stores])
        self._recount = Recount.allocate(self._dataset, config.max_branches)
        self.logs: list[NDArray[np.int32]] = []

    def play(
        self, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
    ) -> EpisodeResults:
        """Play K episodes.

        Args:
            questions: int64[K], question indices in the store.
            orders: int64[K, max_branches], the order in which each question's branches open.
            beta: β of all episodes.

        Raises:
            ValueError: a question or branch does not exist, or β is outside [0, 1]. Checked here,
                because compiled code does not check array bounds.
        """
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be within [0, 1], got {beta}")
        self._dataset.check_episodes(questions, orders, self._config.max_branches)
        results = np.zeros(len(questions), RESULT)
        failures: dict[int, str] = {}
        played = np.zeros(1, np.int64)
        self.play_remaining(questions, orders, beta, results, played, failures.__setitem__)
        store = self._dataset.stores[0]
        return EpisodeResults.from_rows(store, questions, results, failures, self.logs)

    @abc.abstractmethod
    def play_remaining(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: Records,
        played: NDArray[np.int64],
        fail: Callable[[int, str], None],
    ) -> None:
        """Play the episodes from index ``played[0]`` on; arguments as checked by ``play``.

        Args:
            results: RESULT[K], see :mod:`autotts_gym.mdp.state`. An episode's record is written
                when it ends.
            played: int64[1], number of finished episodes. ``results`` and ``played`` may be shared
                memory that another process reads.
            fail: called with the index and the message of each episode that ends with an error.
        """

    def _settled_tokens(
        self,
        question: int,
        order: NDArray[np.int64],
        branches: Records,
        log: Sequence[int] | NDArray[np.int32],
    ) -> int:
        """Settled tokens of an episode with these actions; -1 if they are not computed."""
        if not self._settle:
            return -1
        return settle(
            self._recount,
            self._initial_ledgers,
            self._dataset.questions,
            question,
            order,
            branches,
            np.asarray(log, np.int32),
        )
