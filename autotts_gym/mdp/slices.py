"""Operations on slices of many episodes, and the compiled side of threads that share them.

Threads that wait for Python's locks need tens of microseconds to wake up, and then compete for the
interpreter's lock, while a step of a thousand episodes takes about two hundred. So a thread waits
in compiled code for its next slice, for a limited time, and plays it there.

Each worker has a line of words, which is all that it shares with the calling thread. The calling
thread changes ``READY`` to ``POSTED``, and ``ASLEEP`` to ``READY``; the worker changes ``POSTED``
to ``RUNNING``, that to ``READY``, and ``READY`` to ``ASLEEP``. If a worker has not begun when the
calling thread has played its own slice, that takes the slice back (``POSTED`` to ``READY``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import types
from numpy.typing import NDArray

from autotts_gym.mdp.atomics import call, exchange, load, pause, yield_core
from autotts_gym.mdp.jit import entry_point, inlined
from autotts_gym.mdp.packed_arrays import view_at

#: States of a worker: it waits in compiled code; has a slice; plays it; waits in Python; has ended.
READY: Final = 0
POSTED: Final = 1
RUNNING: Final = 2
ASLEEP: Final = 3
STOPPED: Final = 4

# Words of a worker's line.
STATE: Final = 0
_PROGRAM: Final = 1  # address
_LENGTH: Final = 2  # number of operations
_FIRST: Final = 3
_LAST: Final = 4
_RESULT: Final = 5  # -1 before the slice is played
_LINE: Final = 16  # words, so that workers share no cache lines

_WORD: Final = np.dtype(np.int64)

#: Pauses between two looks at a word.
_PAUSES: Final = 32

#: Operations to do one after the other on the same slice, int64[K, 2]; see :func:`program`.
Program = NDArray[np.int64]


def operation(kind: type[tuple[Any, ...]]) -> Callable[[Callable[..., Any]], Any]:
    """Compile ``function(arrays, first, last, thread)`` as an operation on a slice.

    It works on the episodes from ``first`` to ``last`` - 1 in thread ``thread``, and returns an
    integer of at least 0. Python and programs pass the address of
    :func:`~autotts_gym.mdp.packed_arrays.pack` of the arrays.

    Args:
        kind: the named tuple of its arrays.
    """
    return entry_point(packed=kind, by_address=True)


def bound(function: Any, packed: NDArray[np.int64]) -> Program:
    """An operation with its arrays, int64[1, 2]; programs are made of these.

    Args:
        function: made by :func:`operation`.
        packed: its arrays; the caller must keep them and ``packed``.
    """
    signature = types.int64(*[types.int64] * 4)
    # What numba itself calls where compiled code passes a function to another one.
    address = types.CompileResultWAP(function.get_compile_result(signature)).address
    return np.array([[address, packed.ctypes.data]], np.int64)


def lines(count: int) -> NDArray[np.int64]:
    """The lines of ``count`` workers, which are ready."""
    return np.zeros((count, _LINE), np.int64)


@inlined
def _rest():
    """Wait for a moment, about 1 µs, and let other threads use the core."""
    for _ in range(_PAUSES):
        pause()
    yield_core()


@inlined
def _play(program, first, last, thread):
    result = 0
    for k in range(program.shape[0]):
        result += call(program[k, 0], program[k, 1], first, last, thread)
    return result


@entry_point()
def serve(line, thread, patience):
    """Play the slices of a worker.

    Args:
        line: int64[16], that of the worker.
        thread: its number.
        patience: how long to wait for the next slice, in rests of about 1 µs.

    Returns:
        Whether the worker has to end; else it has fallen asleep.
    """
    waited = 0
    while True:
        state = load(line, STATE)
        if state == POSTED:
            if exchange(line, STATE, POSTED, RUNNING):
                program = view_at(line[_PROGRAM], (line[_LENGTH], 2), _WORD)
                line[_RESULT] = _play(program, line[_FIRST], line[_LAST], thread)
                exchange(line, STATE, RUNNING, READY)
                waited = 0
        elif state == STOPPED:
            return True
        elif waited < patience:
            waited += 1
            _rest()
        elif exchange(line, STATE, READY, ASLEEP):
            return False


@entry_point()
def play_slices(program, total, workers):
    """Do the operations of a program on ``total`` episodes, a slice in each thread.

    Args:
        program: int64[K, 2].
        total: number of episodes.
        workers: int64[W, 16], the lines of the other threads.

    Returns:
        The sum of the results of the operations.
    """
    threads = workers.shape[0] + 1
    for k in range(1, threads):
        line = workers[k - 1]
        line[_PROGRAM], line[_LENGTH] = program.ctypes.data, program.shape[0]
        line[_FIRST], line[_LAST] = total * k // threads, total * (k + 1) // threads
        line[_RESULT] = -1
        exchange(line, STATE, READY, POSTED)
    result = _play(program, 0, total // threads, 0)
    for k in range(1, threads):
        line = workers[k - 1]
        if not exchange(line, STATE, POSTED, READY):
            while load(line, STATE) == RUNNING:
                _rest()
        if line[_RESULT] < 0:  # the worker sleeps, or something else had its core
            line[_RESULT] = _play(program, line[_FIRST], line[_LAST], 0)
        result += line[_RESULT]
    return result
