"""The player's side of the pipes, compiled: hear actions, play them, show and tell what came of it.

A look that a program waits for costs two switches between processes, and little else, since rounds
follow one another without a line of Python. What needs more thought (an episode's last word, the
text of an answer that nobody had seen before, a process that is gone) ends the call, and is left to
:mod:`autotts_gym.sandbox.playing`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import most_legal
from autotts_gym.mdp.batch import ILLEGAL, Batch, play_queues
from autotts_gym.mdp.compiling import compiled, entry_point
from autotts_gym.sandbox import candidate, slots
from autotts_gym.sandbox.memory import Memory

# What a call can end with, as bits.
NEWS: Final = 1  # some slots have something in ``sizes``
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


class Service:
    """Serves the processes of some slots.

    Args:
        batch: what they play.
        memory: what they see.

    Attributes:
        sizes: int64[slots]; where a call has ended with ``NEWS``, how many bytes of ``queues`` came
            that are no actions (0: the process has gone), ``REFUSED``, or ``NOTHING``.
        queues: int32[slots, FRAME / 4], what was read last.
        counts: int64[slots], how many actions of it were played.
    """

    def __init__(self, batch: Batch, memory: Memory) -> None:
        count = memory.count
        self.sizes = np.full(count, NOTHING)
        self.queues = np.zeros((count, candidate.FRAME // 4), np.int32)
        self.counts = np.zeros(count, np.int64)
        self._waiting = np.zeros(count, np.bool_)
        longest = most_legal(batch.terms.max_branches, batch.replay.depth)
        self._logs = np.zeros((count, longest), np.int32)
        self._lengths = np.zeros(count, np.int64)
        self._polls = np.zeros((count, 2), np.int32)  # struct pollfd: a number, events and returned
        self._telling = np.zeros(count, np.int32)
        self._words = np.arange(256, dtype=np.uint8)
        self._outcomes = batch.outcomes
        self._arrays: Any = (
            batch.arrays(self.queues, self.counts),
            batch.ledger,
            batch.outcomes,
            memory.facts,
            memory.known,
            self.queues,
            self.counts,
            self.sizes,
            self._waiting,
            self._logs,
            self._lengths,
            self._polls,
            self._telling,
            self._words,
        )
        for slot in range(count):
            self.leave(slot)
        self.serve(0)  # compiles

    def begin(self, slot: int, hearing: int, telling: int) -> None:
        """An episode begins: its pipes."""
        self._lengths[slot] = 0
        self._outcomes[slot] = 0
        self.sizes[slot] = NOTHING
        self._waiting[slot] = False
        self._polls[slot] = hearing, _POLLIN
        self._telling[slot] = telling

    def leave(self, slot: int) -> None:
        """Listen to a slot no more."""
        self._polls[slot] = -1, 0
        self._waiting[slot] = False

    def log(self, slot: int) -> NDArray[np.int32]:
        """The actions that the episode of a slot has played."""
        return self._logs[slot, : self._lengths[slot]].copy()

    def serve(self, timeout: float) -> int:
        """Play what comes in; returns when something is there that it cannot see to, or soon.

        Args:
            timeout: seconds without any word after which it returns.

        Returns:
            Bits, see above.
        """
        bits: int = _serve(int(1000 * timeout), *self._arrays)
        return bits


@entry_point()
def _serve(
    timeout,
    arrays,
    ledger,
    outcomes,
    facts,
    known,
    queues,
    counts,
    sizes,
    waiting,
    logs,
    lengths,
    polls,
    telling,
    words,
):
    bits = _tell(outcomes, queues, counts, sizes, waiting, logs, lengths, telling, words)
    for _ in range(_ROUNDS):
        if bits or _poll(polls.ctypes.data, len(polls), timeout) <= 0:
            break
        bits |= _hear(queues, counts, sizes, waiting, polls)
        play_queues(*arrays)
        for slot in range(len(waiting)):
            if waiting[slot]:
                facts[slot, slots.SPENT] = ledger[slot, s.SPENT]
                facts[slot, slots.CLOCK] = ledger[slot, s.CLOCK]
                if ledger[slot, s.CLASSES] != known[slot]:
                    bits |= ANSWERS
        if bits & ANSWERS:
            break
        bits |= _tell(outcomes, queues, counts, sizes, waiting, logs, lengths, telling, words)
    return bits


@compiled
def _hear(queues, counts, sizes, waiting, polls):
    """Read what has come in: actions, or something else."""
    bits = 0
    for slot in range(len(polls)):
        counts[slot] = 0
        if polls[slot, 1] >> 16 == 0:
            continue
        size = _read(polls[slot, 0], queues[slot].ctypes.data, 4 * queues.shape[1])
        if size <= 0 or size & 3 or queues[slot, 0] < 0:
            sizes[slot] = max(size, 0)
            bits = NEWS
        else:
            counts[slot] = size >> 2
            waiting[slot] = True
    return bits


@compiled
def _tell(outcomes, queues, counts, sizes, waiting, logs, lengths, telling, words):
    """Tell those that wait what came of their actions, and write these down."""
    bits = 0
    for slot in range(len(waiting)):
        if not waiting[slot]:
            continue
        waiting[slot] = False
        for k in range(counts[slot]):
            logs[slot, lengths[slot]] = queues[slot, k]
            lengths[slot] += 1
        if outcomes[slot] & ILLEGAL:
            sizes[slot] = REFUSED
            bits = NEWS
        # It may have gone, or let what it is told pile up.
        elif _write(telling[slot], words[outcomes[slot] :].ctypes.data, 1) != 1:
            sizes[slot] = 0
            bits = NEWS
    return bits
