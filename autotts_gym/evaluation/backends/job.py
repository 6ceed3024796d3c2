"""Jobs, their results, and the interface of workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order, branch_orders
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.traces.store import TraceStore


@dataclass(frozen=True)
class Job:
    """Every question of a store, once per seed, with one agent at one β.

    Attributes:
        agent: the agent that plays.
        beta: β; 0 for an agent without the knob.
        store: the traces.
        config: configuration of the episodes.
        order: how branch orders are drawn, see :mod:`autotts_gym.rollout.branch_orders`.
        seeds: seeds of the branch orders.
        interpret: run the controller as plain Python even if it can be compiled.
        settle: compute settled tokens, see :mod:`autotts_gym.mdp.settled_tokens`.
        is_trial: whether all other jobs of the agent are given up if this one is.
    """

    agent: Agent
    beta: float
    store: TraceStore
    config: EpisodeConfig
    order: Order
    seeds: tuple[int, ...]
    interpret: bool = False
    settle: bool = False
    is_trial: bool = False

    @property
    def count(self) -> int:
        """Number of episodes."""
        return len(self.seeds) * self.store.card.questions

    def questions(self) -> NDArray[np.int64]:
        """int64[count], the question of every episode: all of the first seed, then of the next."""
        return np.tile(np.arange(self.store.card.questions), len(self.seeds))

    def orders(self, start: int, stop: int) -> NDArray[np.int64]:
        """int64[stop - start, max_branches], branch orders of episodes ``start`` to ``stop``."""
        rows, questions = np.divmod(np.arange(start, stop), self.store.card.questions)
        seeds = np.array(self.seeds, np.int64)[rows]
        return branch_orders(self.order, seeds, questions, self.store, self.config.max_branches)

    def pack(self) -> PackedJob:
        """The job without its traces, for another process that holds the store already."""
        return PackedJob(
            self.agent,
            self.beta,
            self.store.card.fingerprint,
            self.config,
            self.order,
            self.seeds,
            self.interpret,
            self.settle,
        )


class PackedJob(NamedTuple):
    """A job in which the fingerprint of the store replaces the traces."""

    agent: Agent
    beta: float
    fingerprint: str
    config: EpisodeConfig
    order: Order
    seeds: tuple[int, ...]
    interpret: bool
    settle: bool

    def unpack(self, store: TraceStore) -> Job:
        """The job on a store with this fingerprint."""
        return Job(
            self.agent,
            self.beta,
            store,
            self.config,
            self.order,
            self.seeds,
            self.interpret,
            self.settle,
        )


@dataclass(frozen=True)
class JobResult:
    """Result of a job.

    Attributes:
        episodes: results in the order of the job's episodes.
        path, reason: how they were played, see :class:`~autotts_gym.rollout.rollout.Rollout`.
        seconds: running time, without compilation.
        reproducible: whether no episode was killed by a limit, which depends on machine load.
    """

    episodes: EpisodeResults
    path: str
    reason: str
    seconds: float
    reproducible: bool = True


class Worker(Protocol):
    """Plays jobs one at a time."""

    def play(self, job: Job) -> JobResult:
        """Play a job.

        Raises:
            GivenUpError: too many consecutive episodes were killed, or the agent cannot be loaded
                in the worker's process.
        """

    def close(self) -> None:
        """Stop the worker, even during a job."""
