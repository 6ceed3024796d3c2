"""The player's side of the pipes, compiled: hear actions, play them, show and tell what came of it.

A look that a program waits for costs two switches between processes, and little else, since rounds
follow one another without a line of Python. What needs more thought (an episode's last word, the
text of an answer that nobody had seen before, a process that is gone) ends the call, and is left to
:mod:`autotts_gym.sandbox.player`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from autotts_gym.mdp.actions import max_legal_actions
from autotts_gym.mdp.batch import ILLEGAL, Batch, play_queues
from autotts_gym.mdp.jit import compiled, entry_point
from autotts_gym.sandbox import guest, memory_layout
from autotts_gym.sandbox.shared_memory import Memory

# What a call can end with, as bits.
NEWS: Final = 1  # something in ``sizes`` has to be seen to
ANSWERS: Final = 2  # some episodes have shown answers of new classes; they wait to be told

# In ``sizes``, besides what was read.
NOTHING: Final = -1
REFUSED: Final = -2  # the episode has played an illegal action, ``queues[slot, counts[slot]]``

#: Rounds in one call, so that clocks and signals are seen to.
_ROUNDS: Final = 64

_POLLIN: Final = 1

# Of the C library; addresses are passed as numbers.
_poll = types.ExternalFunction("poll", types.int32(types.intp, types.intp, types.int32))
_read = types.ExternalFunction("read", types.intp(types.int32, types.intp, types.intp))
_write = types.ExternalFunction("write", types.intp(types.int32, types.intp, types.intp))


class Traffic(NamedTuple):
    """What goes through the pipes of some slots.

    Attributes:
        polls: int32[slots, 2], ``struct pollfd``: where each is heard, -1 for nowhere, and its
            events, those asked for below those that there are.
        telling: int32[slots], where each is told.
        queues: int32[slots, FRAME / 4], what was read last.
        counts: int64[slots], how many actions of it there are; then, how many were played.
        waiting: bool[slots], whether a process waits to be told what came of them.
        sizes: int64[slots], how many bytes came that are no actions (0: the process has gone),
            ``REFUSED``, or ``NOTHING``.
        logs: int32[slots, the most that can be legal], the actions that were played, and
            ``lengths``: int64[slots], how many.
        words: uint8[256], each byte that can be told.
    """

    polls: NDArray[np.int32]
    telling: NDArray[np.int32]
    queues: NDArray[np.int32]
    counts: NDArray[np.int64]
    waiting: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    logs: NDArray[np.int32]
    lengths: NDArray[np.int64]
    words: NDArray[np.uint8]


class Service:
    """Serves the processes of some slots.

    Args:
        batch: what they play.
        memory: what they see.

    Attributes:
        traffic: its ``sizes`` tell what a call that ends with ``NEWS`` has left to be seen to.
    """

    def __init__(self, batch: Batch, memory: Memory) -> None:
        count = memory.count
        longest = max_legal_actions(batch.config.max_branches, batch.dataset.depth)
        self.traffic = traffic = Traffic(
            polls=np.zeros((count, 2), np.int32),
            telling=np.zeros(count, np.int32),
            queues=np.zeros((count, guest.FRAME // 4), np.int32),
            counts=np.zeros(count, np.int64),
            waiting=np.zeros(count, np.bool_),
            sizes=np.zeros(count, np.int64),
            logs=np.zeros((count, longest), np.int32),
            lengths=np.zeros(count, np.int64),
            words=np.arange(256, dtype=np.uint8),
        )
        self._outcomes = batch.outcomes
        shown = batch.ledger, batch.outcomes, memory.facts, memory.known
        self._arguments: Any = (
            batch.queue_arguments(traffic.queues, traffic.counts),
            *shown,
            traffic,
        )
        for slot in range(count):
            self.leave(slot)
        self.serve(0)  # compiles

    def begin(self, slot: int, hearing: int, telling: int) -> None:
        """An episode begins: its pipes."""
        self._outcomes[slot] = 0
        self.traffic.lengths[slot] = 0
        self.traffic.polls[slot] = hearing, _POLLIN
        self.traffic.telling[slot] = telling

    def leave(self, slot: int) -> None:
        """Listen to a slot no more."""
        self.traffic.polls[slot] = -1, 0
        self.traffic.waiting[slot] = False
        self.traffic.sizes[slot] = NOTHING

    def log(self, slot: int) -> NDArray[np.int32]:
        """The actions that the episode of a slot has played."""
        return self.traffic.logs[slot, : self.traffic.lengths[slot]].copy()

    def serve(self, timeout: float) -> int:
        """Play what comes in; returns when something is there that it cannot see to, or soon.

        Args:
            timeout: seconds without any word after which it returns.

        Returns:
            Bits, see above.
        """
        bits: int = _serve(int(1000 * timeout), *self._arguments)
        return bits


@entry_point()
def _serve(timeout, arrays, ledger, outcomes, facts, known, traffic):
    waiting, polls = traffic.waiting, traffic.polls
    bits = _tell(traffic, outcomes)
    for _ in range(_ROUNDS):
        if bits or _poll(polls.ctypes.data, len(polls), timeout) <= 0:
            break
        bits |= _hear(traffic)
        play_queues(*arrays)
        for slot in range(len(waiting)):
            if waiting[slot]:
                facts[slot, memory_layout.SPENT] = ledger[slot].spent
                facts[slot, memory_layout.CLOCK] = ledger[slot].clock
                if ledger[slot].classes != known[slot]:
                    bits |= ANSWERS
        if bits & ANSWERS:
            break
        bits |= _tell(traffic, outcomes)
    return bits


@compiled
def _hear(traffic):
    """Read what has come in: actions, or something else."""
    polls, queues = traffic.polls, traffic.queues
    bits = 0
    for slot in range(len(polls)):
        traffic.counts[slot] = 0
        if polls[slot, 1] >> 16 == 0:
            continue
        size = _read(polls[slot, 0], queues[slot].ctypes.data, 4 * queues.shape[1])
        if size <= 0 or size & 3 or queues[slot, 0] < 0:
            traffic.sizes[slot] = max(size, 0)
            bits = NEWS
        else:
            traffic.counts[slot] = size >> 2
            traffic.waiting[slot] = True
    return bits


@compiled
def _tell(traffic, outcomes):
    """Tell those that wait what came of their actions, and write these down."""
    waiting, lengths = traffic.waiting, traffic.lengths
    bits = 0
    for slot in range(len(waiting)):
        if not waiting[slot]:
            continue
        waiting[slot] = False
        for k in range(traffic.counts[slot]):
            traffic.logs[slot, lengths[slot]] = traffic.queues[slot, k]
            lengths[slot] += 1
        if outcomes[slot] & ILLEGAL:
            traffic.sizes[slot] = REFUSED
            bits = NEWS
        # It may have gone, or let what it is told pile up.
        elif _write(traffic.telling[slot], traffic.words[outcomes[slot] :].ctypes.data, 1) != 1:
            traffic.sizes[slot] = 0
            bits = NEWS
    return bits
