"""The player's compiled event loop: reads actions from pipes, plays them, sends the outcomes.

A round of the loop runs no Python, so a probe costs little more than two switches between
processes. What needs Python ends the call and is handled by
:mod:`autotts_gym.sandbox.episode_scheduler`: the last message of an episode, a process that has
ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import max_legal_actions
from autotts_gym.mdp.batch import ILLEGAL, Batch
from autotts_gym.mdp.batch_kernels import play_queues
from autotts_gym.mdp.fields import REVEALED
from autotts_gym.mdp.jit import compiled, entry_point
from autotts_gym.mdp.observation import NULL
from autotts_gym.mdp.state import Records
from autotts_gym.sandbox import memory_layout
from autotts_gym.sandbox.answer_texts import AnswerTexts
from autotts_gym.sandbox.pipe_protocol import MAX_FRAME_ACTIONS
from autotts_gym.sandbox.shared_memory import SlotMemory

# Result of a call, as bits.
MESSAGES: Final = 1  # some entries of ``sizes`` need handling
WATCHED: Final = 2  # the watched descriptor can be read

# Values in ``sizes``, besides the size of a message.
NO_MESSAGE: Final = -1
REFUSED: Final = -2  # the episode played an illegal action, ``queues[slot, counts[slot]]``

#: Rounds per call, so that the caller can check clocks and signals.
_ROUNDS: Final = 64

_POLLIN: Final = 1
_CLOCK: Final = int(time.CLOCK_MONOTONIC)

# Functions of the C library; addresses are passed as numbers.
_poll = types.ExternalFunction("poll", types.int32(types.intp, types.intp, types.int32))
_read = types.ExternalFunction("read", types.intp(types.int32, types.intp, types.intp))
_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
_write = types.ExternalFunction("write", types.intp(types.int32, types.intp, types.intp))


class PipeState(NamedTuple):
    """Pipes of the slots, and what was read from them.

    Attributes:
        polls: int32[slots + 1, 2], ``struct pollfd``: the descriptor to read from (-1 for none),
            and the events: requested in the lower half, reported in the upper. The last one is
            only watched.
        outputs: int32[slots], the descriptors to write outcomes to.
        queues: int32[slots, MAX_FRAME_ACTIONS], the last frame.
        counts: int64[slots], number of actions in it; after playing, number of played actions.
        waiting: bool[slots], whether a process waits for an outcome.
        sizes: int64[slots], size in bytes of a message that is not actions (0: the process has
            ended), ``REFUSED``, or ``NO_MESSAGE``.
        logs: int32[slots, maximum number of legal actions], the played actions.
        lengths: int64[slots], their number.
        byte_values: uint8[256], every outcome byte, to be written from.
        time: int64[2], ``struct timespec``, to be written to.
    """

    polls: NDArray[np.int32]
    outputs: NDArray[np.int32]
    queues: NDArray[np.int32]
    counts: NDArray[np.int64]
    waiting: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    logs: NDArray[np.int32]
    lengths: NDArray[np.int64]
    byte_values: NDArray[np.uint8]
    time: NDArray[np.int64]


class GenerationConfidences(NamedTuple):
    """Where the generation confidences of the episodes' branches are recorded.

    Attributes:
        sums, tokens: ``confidence_sums`` and ``confidence_tokens`` of the traces.
        branches, order: of the batch.
    """

    sums: NDArray[np.float32]
    tokens: NDArray[np.int32]
    branches: Records
    order: NDArray[np.int64]


class SlotArrays(NamedTuple):
    """The slots, and the words at which their parts begin; see :class:`.memory_layout.Layout`.

    Attributes:
        words, floats, texts, revealed: of
            :class:`~autotts_gym.sandbox.shared_memory.SlotMemory`.
        attributes, mask, columns, nulls, ends, sums, tokens, observed_depths: words.
        depth: intervals of each branch in ``sums`` and ``tokens``.
    """

    words: NDArray[np.int64]
    floats: NDArray[np.float64]
    texts: NDArray[np.uint8]
    revealed: NDArray[np.int64]
    attributes: int
    mask: int
    columns: int
    nulls: int
    ends: int
    sums: int
    tokens: int
    observed_depths: int
    depth: int


class EventLoop:
    """Serves the processes of several slots.

    Args:
        batch: the episodes.
        memory: the slots.
        texts: of all answers.

    Attributes:
        pipes: after :meth:`run` has returned ``MESSAGES``, ``pipes.sizes`` has what to handle.
    """

    def __init__(self, batch: Batch, memory: SlotMemory, texts: AnswerTexts) -> None:
        count = memory.count
        max_actions = max_legal_actions(batch.config.max_branches, batch.dataset.depth)
        self.pipes = pipes = PipeState(
            polls=np.zeros((count + 1, 2), np.int32),
            outputs=np.zeros(count, np.int32),
            queues=np.zeros((count, MAX_FRAME_ACTIONS), np.int32),
            counts=np.zeros(count, np.int64),
            waiting=np.zeros(count, np.bool_),
            sizes=np.zeros(count, np.int64),
            logs=np.zeros((count, max_actions), np.int32),
            lengths=np.zeros(count, np.int64),
            byte_values=np.arange(256, dtype=np.uint8),
            time=np.zeros(2, np.int64),
        )
        layout = memory.layout
        self._outcomes = batch.outcomes
        self._slots: Any = SlotArrays(
            memory.words,
            memory.floats,
            memory.texts,
            memory.revealed,
            layout.floats,
            layout.mask,
            layout.columns,
            layout.nulls,
            layout.ends,
            layout.sums,
            layout.tokens,
            layout.revealed,
            layout.depth,
        )
        traces = batch.dataset.traces
        confidences = GenerationConfidences(
            traces.confidence_sums, traces.confidence_tokens, batch.branches, batch.order
        )
        self._batch: Any = batch.view, batch.ledger, confidences
        self._arguments: Any = (
            batch.queue_arguments(pipes.queues, pipes.counts),
            *self._batch,
            batch.outcomes,
            self._slots,
            pipes,
            batch.codes,
            texts,
        )
        for slot in range(count):
            self.remove(slot)
        self.watch(-1)
        self.run(0)  # compiles

    def publish(self, slots: Sequence[int]) -> None:
        """Write the initial states of new episodes to their slots."""
        _publish_all(np.array(slots, np.int64), *self._batch, self._slots)

    def add(self, slot: int, input_pipe: int, output_pipe: int) -> None:
        """Serve a new episode with these file descriptors."""
        self._outcomes[slot] = 0
        self.pipes.lengths[slot] = 0
        self.pipes.polls[slot] = input_pipe, _POLLIN
        self.pipes.outputs[slot] = output_pipe

    def remove(self, slot: int) -> None:
        """Stop serving a slot."""
        self.pipes.polls[slot] = -1, 0
        self.pipes.waiting[slot] = False
        self.pipes.sizes[slot] = NO_MESSAGE

    def watch(self, descriptor: int) -> None:
        """Let :meth:`run` return when a descriptor can be read, -1 for none."""
        self.pipes.polls[-1] = descriptor, _POLLIN

    def log(self, slot: int) -> NDArray[np.int32]:
        """The actions that the slot's episode has played."""
        return self.pipes.logs[slot, : self.pipes.lengths[slot]].copy()

    def run(self, timeout: float) -> int:
        """Play incoming actions until something needs handling, or for a limited number of rounds.

        Args:
            timeout: seconds after which it returns.

        Returns:
            ``MESSAGES`` and ``WATCHED`` as bits.
        """
        bits: int = _run(int(1000 * timeout), *self._arguments)
        return bits


@entry_point()
def _run(timeout, arrays, view, ledger, confidences, outcomes, slots, pipes, codes, texts):
    waiting, polls = pipes.waiting, pipes.polls
    bits = 0
    deadline = _milliseconds(pipes.time) + timeout
    for _ in range(_ROUNDS):
        # The time of all rounds counts: messages that keep coming must not delay the caller.
        remaining = max(0, deadline - _milliseconds(pipes.time))
        if bits or _poll(polls.ctypes.data, len(polls), remaining) <= 0:
            break
        if polls[-1, 1] >> 16:
            bits |= WATCHED
        bits |= _read_frames(pipes)
        play_queues(*arrays)
        for slot in range(len(waiting)):
            if waiting[slot]:
                _publish(slot, view, ledger, confidences, slots)
                _reveal(slot, ledger, slots, codes, texts)
        bits |= _send_outcomes(pipes, outcomes)
    return bits


@compiled
def _milliseconds(timespec):
    """The monotonic clock; ``timespec`` is overwritten."""
    _clock_gettime(_CLOCK, timespec.ctypes.data)
    return timespec[0] * 1000 + timespec[1] // 1_000_000


@entry_point()
def _publish_all(indices, view, ledger, confidences, slots):
    for slot in indices:
        _publish(slot, view, ledger, confidences, slots)


@compiled
def _publish(slot, view, ledger, confidences, slots):
    """Write what an episode shows to its slot, except for the texts of answers."""
    words, branches = slots.words, view.branches
    n = branches.shape[2]
    words[slot, slots.attributes + memory_layout.SPENT] = ledger[slot].spent
    words[slot, slots.attributes + memory_layout.CLOCK] = ledger[slot].clock
    words[slot, slots.attributes + memory_layout.OPENED] = ledger[slot].opened
    if confidences.sums.shape[0] > 0:
        _publish_confidences(slot, branches, confidences, slots)
    for k in range(view.confidences.shape[1]):
        slots.floats[slot, memory_layout.FLOATS + k] = view.confidences[slot, k]
    for k in range(view.mask.shape[1]):
        words[slot, slots.mask + k] = view.mask[slot, k]
    for column in range(branches.shape[0]):
        for i in range(n):
            words[slot, slots.columns + column * n + i] = branches[column, slot, i]
    for answer in range(ledger[slot].classes):
        words[slot, slots.nulls + answer] = view.classes[NULL, slot, answer]


@compiled
def _publish_confidences(slot, observed, confidences, slots):
    """Write the intervals to a slot that probes have revealed since its columns were written."""
    words, floats = slots.words, slots.floats
    for i in range(observed.shape[2]):
        first = confidences.branches[slot, i].offset + confidences.order[slot, i]
        here = i * slots.depth
        for k in range(words[slot, slots.observed_depths + i], observed[REVEALED, slot, i]):
            floats[slot, slots.sums + here + k] = confidences.sums[first + k]
            words[slot, slots.tokens + here + k] = confidences.tokens[first + k]


@compiled
def _reveal(slot, ledger, slots, codes, texts):
    """Write the texts of answers that appeared for the first time to a slot."""
    words, ends, first = slots.words, slots.ends, texts.firsts[ledger[slot].question]
    for answer in range(slots.revealed[slot], ledger[slot].classes):
        number = first + codes[slot, s.CODE_OF, answer]
        at = words[slot, ends + answer - 1] if answer else 0
        for k in range(texts.ends[number], texts.ends[number + 1]):
            slots.texts[slot, at] = texts.data[k]
            at += 1
        words[slot, ends + answer] = at
    slots.revealed[slot] = ledger[slot].classes


@compiled
def _read_frames(pipes):
    """Read the frames that have arrived: actions into ``queues``, sizes of others."""
    polls, queues = pipes.polls, pipes.queues
    bits = 0
    for slot in range(len(pipes.waiting)):
        pipes.counts[slot] = 0
        if polls[slot, 1] >> 16 == 0:
            continue
        size = _read(polls[slot, 0], queues[slot].ctypes.data, 4 * queues.shape[1])
        if size <= 0 or size & 3 or queues[slot, 0] < 0:
            pipes.sizes[slot] = max(size, 0)
            bits = MESSAGES
        else:
            pipes.counts[slot] = size >> 2
            pipes.waiting[slot] = True
    return bits


@compiled
def _send_outcomes(pipes, outcomes):
    """Log the played actions, and send their outcomes to the waiting processes."""
    waiting, lengths = pipes.waiting, pipes.lengths
    bits = 0
    for slot in range(len(waiting)):
        if not waiting[slot]:
            continue
        waiting[slot] = False
        for k in range(pipes.counts[slot]):
            pipes.logs[slot, lengths[slot]] = pipes.queues[slot, k]
            lengths[slot] += 1
        byte = pipes.byte_values[outcomes[slot] :].ctypes.data
        if outcomes[slot] & ILLEGAL:
            pipes.sizes[slot] = REFUSED
            bits = MESSAGES
        # Writing fails if the process has ended, or does not read its outcomes.
        elif _write(pipes.outputs[slot], byte, 1) != 1:
            pipes.sizes[slot] = 0
            bits = MESSAGES
    return bits
