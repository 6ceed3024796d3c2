"""The slots of some processes, as the player writes them."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.episode import NO_BUDGET
from autotts_gym.mdp import actions
from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch import Batch
from autotts_gym.mdp.fields import BRANCH_COLUMNS, GLOBAL_COLUMNS
from autotts_gym.mdp.observation import View
from autotts_gym.sandbox import memory_layout
from autotts_gym.sandbox.memory_layout import Layout


class Memory:
    """The slots of some processes, side by side in this one, each a file of its own.

    Attributes:
        layout: of each.
        count: how many.
        readers: file descriptors that can only be read.
        view: what the slots show, as arrays with an axis of slots.
        facts: int64[slots, FACTS], what they show besides, see :mod:`autotts_gym.sandbox.memory_layout`.
        known: int64[slots], how many answer classes have their text there.
    """

    def __init__(self, layout: Layout, count: int) -> None:
        self.layout, self.count = layout, count
        self.readers: list[int] = []
        size, n = layout.size, layout.branches
        self._memory = mmap.mmap(-1, size * count)
        buffer = np.frombuffer(self._memory, np.uint8)
        place = buffer.ctypes.data
        for k in range(count):
            self.readers.append(_shared(size, place + k * size))

        def words(start: int, *shape: int, kind: Any = np.int64) -> NDArray[Any]:
            """An array of every slot, from a word on: [count, *shape]."""
            strides = [memory_layout.WORD]
            for length in shape[:0:-1]:
                strides.insert(0, strides[0] * length)
            return np.ndarray(
                (count, *shape), kind, buffer, start * memory_layout.WORD, (size, *strides)
            )

        self.facts = words(layout.floats, memory_layout.FACTS)
        self._ends = words(layout.ends, layout.classes)
        start = layout.texts * memory_layout.WORD
        self._texts = np.ndarray((count, size - start), np.uint8, buffer, start, (size, 1))
        self.known = np.zeros(count, np.int64)
        none = np.empty((count, n, 0))
        self.view = View(
            plane=none.astype(np.int16),
            confidence_plane=none.astype(np.float32),
            branches=words(layout.columns, len(BRANCH_COLUMNS), n).swapaxes(0, 1),
            confidences=words(len(GLOBAL_COLUMNS), n if layout.confidences else 0, kind=np.float64),
            classes=words(layout.votes, 2, layout.classes + 1).swapaxes(0, 1),
            globals=words(0, len(GLOBAL_COLUMNS), kind=np.float64),
            mask=words(layout.mask, actions.count(n)),
        )
        self.view.mask[:] = 0

    def begin(self, chosen: Sequence[int], ledger: s.Records) -> None:
        """Show what is agreed of new episodes; nothing is left of those before."""
        facts = self.facts
        self.known[chosen] = 0
        self._ends[chosen] = -1
        self._texts[chosen] = 0
        facts[chosen] = 0
        facts[chosen, memory_layout.INTERVAL] = ledger["interval"][chosen]
        facts[chosen, memory_layout.DEPTH_LIMIT] = ledger["depth_limit"][chosen]
        budgets = ledger["budget"][chosen]
        facts[chosen, memory_layout.FORESEEN] = (ledger["step_limit"][chosen] == s.NO_BUDGET) & (
            ledger["budget"][chosen] == s.NO_BUDGET
        )
        facts[chosen, memory_layout.BUDGET] = np.where(budgets == s.NO_BUDGET, NO_BUDGET, budgets)

    def reveal(self, batch: Batch) -> None:
        """Show the texts of the answers that a step has shown for the first time."""
        classes = batch.ledger["classes"]
        for slot in np.flatnonzero(classes > self.known).tolist():
            self._reveal(slot, batch)
        self.known[:] = classes

    def _reveal(self, slot: int, batch: Batch) -> None:
        for seen in range(int(self.known[slot]), int(batch.ledger["classes"][slot])):
            start = int(self._ends[slot, seen - 1]) if seen else 0
            text = encoded(batch.answer_text(slot, seen))
            self._texts[slot, start : start + len(text)] = np.frombuffer(text, np.uint8)
            self._ends[slot, seen] = start + len(text)

    def close(self) -> None:
        for reader in self.readers:
            os.close(reader)
        self.readers.clear()


def encoded(text: str) -> bytes:
    """An answer as it stands in a slot; models write lone surrogates as well."""
    return text.encode("utf-8", "surrogatepass")


def _shared(size: int, place: int) -> int:
    """Put a new file's memory at an address of this process; a descriptor that only reads it."""
    if hasattr(os, "memfd_create"):
        writer = os.memfd_create("slot", os.MFD_CLOEXEC)
        reader = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY | os.O_CLOEXEC)
    else:
        writer, name = tempfile.mkstemp()
        reader = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        os.unlink(name)
    os.ftruncate(writer, size)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    fixed = 0x10
    found = libc.mmap(
        ctypes.c_void_p(place),
        ctypes.c_size_t(size),
        mmap.PROT_READ | mmap.PROT_WRITE,
        mmap.MAP_SHARED | fixed,
        writer,
        ctypes.c_long(0),
    )
    os.close(writer)
    if found != place:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return reader
