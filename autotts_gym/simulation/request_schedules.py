"""Schedules: what recorded episodes request from model servers, without their timing.

No observation depends on how long a server takes, so an episode's actions do not either. An episode
is therefore played once, and its *schedule* is simulated under any load: a list of operations in
the order of the actions. Time passes only where the episode waits, at a probe. Successive requests
of one branch between two probes are one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import BRANCH, BY_TOKENS, CONTINUE, PROBE, PRUNE
from autotts_gym.mdp.jit import entry_point
from autotts_gym.mdp.rules import bill
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.simulation.source_digest import source_digest
from autotts_gym.traces.store import TraceStore

# Kinds of operations: request text up to a number of tokens, the same up to the branch's end, wait
# for a probe, prune.
EXTEND: Final = 0
EXTEND_TO_END: Final = 1
WAIT: Final = 2
DROP: Final = 3
KINDS: Final = 4

#: Episodes that are played between two reports of progress.
_BATCH: Final = 256


@dataclass(frozen=True)
class Schedules:
    """The schedules of K episodes of one controller at one β, and their results.

    Attributes:
        offsets: int64[K + 1], first operation of each episode.
        operations: int32, ``branch * KINDS + kind``.
        targets: int32, for a request the tokens of the branch that it asks for in total, else 0.
        max_branches: N.
        correct: bool[K].
        tokens: int64[K], billed tokens.
        sequential_tokens: int64[K].
        probes: int64[K].
        failures: number of episodes that ended with an error; they are incorrect.
    """

    offsets: NDArray[np.int64]
    operations: NDArray[np.int32]
    targets: NDArray[np.int32]
    max_branches: int
    correct: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    sequential_tokens: NDArray[np.int64]
    probes: NDArray[np.int64]
    failures: int

    def __len__(self) -> int:
        return len(self.correct)

    def requested_tokens(self) -> NDArray[np.int64]:
        """Tokens that each episode requests in total, int64[K]."""
        totals = np.zeros(len(self), np.int64)
        branches, kinds = np.divmod(self.operations, KINDS)
        requests = kinds <= EXTEND_TO_END
        episodes = np.repeat(np.arange(len(self)), np.diff(self.offsets))[requests]
        # The last request of a branch asks for all of its tokens.
        keys = episodes * self.max_branches + branches[requests]
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        np.add.at(totals, episodes[last], self.targets[requests][last])
        return totals


def play_schedules(
    agent: Agent,
    stores: Mapping[str, TraceStore],
    seeds: Sequence[int],
    beta: float,
    config: EpisodeConfig,
    progress: Callable[[int], None] = lambda _: None,
) -> Schedules:
    """Play every question once per seed, and return the schedules.

    Args:
        agent: the controller.
        stores: the environments.
        seeds: seeds of the branch orders.
        beta: β.
        config: configuration of the episodes.
        progress: called with the number of episodes just played.

    Raises:
        ValueError: the agent is untrusted, or the configuration does not fit a store.
    """
    parts = [
        part
        for store in stores.values()
        for part in _play_store(agent, store, seeds, beta, config, progress)
    ]
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Schedules(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        operations=np.concatenate([part.operations for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        max_branches=config.max_branches,
        correct=np.concatenate([part.correct for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        sequential_tokens=np.concatenate([part.sequential_tokens for part in parts]),
        probes=np.concatenate([part.probes for part in parts]),
        failures=sum(part.failures for part in parts),
    )


def _play_store(
    agent: Agent,
    store: TraceStore,
    seeds: Sequence[int],
    beta: float,
    config: EpisodeConfig,
    progress: Callable[[int], None],
) -> Iterator[Schedules]:
    """Play all episodes on one store, in batches."""
    dataset = TraceDataset({"store": store})
    dataset.check_width(config.max_branches)
    rollout = Rollout(agent, store, config, logs=True)
    count = len(store.tables.ids)
    questions = np.tile(np.arange(count), len(seeds))
    of_seeds = np.repeat(np.asarray(seeds, np.int64), count)
    for first in range(0, len(questions), _BATCH):
        rows = questions[first : first + _BATCH]
        orders = branch_orders(
            "random", of_seeds[first : first + _BATCH], rows, store, config.max_branches
        )
        played = rollout.play(rows, orders, beta)
        offsets, operations, targets = schedule_actions(played.logs, dataset, rows, orders)
        yield Schedules(
            offsets=offsets,
            operations=operations,
            targets=targets,
            max_branches=config.max_branches,
            correct=played.correct,
            tokens=played.tokens,
            sequential_tokens=played.sequential_tokens,
            probes=played.probes,
            failures=len(played.failures),
        )
        progress(len(rows))


def schedule_actions(
    logs: Sequence[NDArray[np.int32]],
    dataset: TraceDataset,
    questions: NDArray[np.int64],
    orders: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The schedules of episodes, from their actions.

    Args:
        logs: legal actions of K episodes.
        dataset: the traces.
        questions: int64[K], rows of the dataset.
        orders: int64[K, max_branches].

    Returns:
        ``offsets``, ``operations`` and ``targets`` of :class:`Schedules`.
    """
    lengths = np.array([len(log) for log in logs], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    actions = np.concatenate([*logs, np.empty(0, np.int32)]).astype(np.int32)
    operations = np.empty(len(actions), np.int32)
    targets = np.zeros(len(actions), np.int32)
    offsets = np.zeros(len(logs) + 1, np.int64)
    branches = np.zeros(orders.shape[1], s.BRANCH)
    requested_at = np.empty(orders.shape[1], np.int64)
    _schedule(
        actions, starts, dataset.questions, dataset.traces.branches, questions, orders,
        dataset.stores[0].card.interval, branches, requested_at, operations, targets, offsets,
    )  # fmt: skip
    total = offsets[-1]
    return offsets, operations[:total].copy(), targets[:total].copy()


@entry_point(source_digest())
def _schedule(
    actions, starts, records, traces, questions, orders, interval, branches, requested_at,
    operations, targets, offsets,
):  # fmt: skip
    """Write the schedules of all episodes; arguments as in :func:`schedule_actions`.

    ``branches`` and ``requested_at`` are working space: the state of an episode's branches, and the
    place of the latest request of each branch in ``operations``.
    """
    n = orders.shape[1]
    written = 0
    for k in range(len(questions)):
        opened = 0
        last_wait = written - 1
        for at in range(starts[k], starts[k + 1]):
            action = actions[at] & ~BY_TOKENS
            if action == BRANCH:
                recorded = traces[records[questions[k]].branches + orders[k, opened]]
                b = branches[opened]
                b.length = recorded.length
                b.tokens = recorded.tokens
                b.requested = 0
                b.billing = s.BY_TOKENS
                requested_at[opened] = -1
                i = opened
                block = CONTINUE
                opened += 1
            else:
                block, i = (action - 2) // n, (action - 2) % n
                if action == 0 or block > PRUNE:
                    break  # ANSWER
            b = branches[i]
            if block == CONTINUE:
                if b.requested <= b.length:  # else there is nothing more
                    b.requested += 1
                    kind = EXTEND_TO_END if b.requested > b.length else EXTEND
                    place = requested_at[i]
                    if place <= last_wait:
                        place = written
                        requested_at[i] = place
                        written += 1
                    operations[place] = i * KINDS + kind
                    targets[place] = bill(b, b.requested, interval)
            elif block == PROBE:
                last_wait = written
                operations[written] = i * KINDS + WAIT
                written += 1
            else:
                operations[written] = i * KINDS + DROP
                written += 1
        offsets[k + 1] = written
