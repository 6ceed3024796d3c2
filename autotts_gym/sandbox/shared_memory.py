"""Shared memory of the sandbox, as the player writes it."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Final

import numpy as np

from autotts_gym.controllers.episode import NO_BUDGET
from autotts_gym.mdp import state as s
from autotts_gym.sandbox import memory_layout
from autotts_gym.sandbox.memory_layout import Layout

_MAP_FIXED: Final = 0x10


class SlotMemory:
    """Slots of several processes: contiguous in this process, one file each for the others.

    Args:
        layout: of each slot.
        count: number of slots.

    Attributes:
        layout, count: see above.
        readers: one read-only file descriptor per slot.
        words: int64[slots, W], and ``floats``: float64[slots, W]: the slots, in units of a word.
        attributes: int64[slots, ATTRIBUTES], see :mod:`autotts_gym.sandbox.memory_layout`.
        texts: uint8[slots, bytes], the texts of the revealed answers.
        revealed: int64[slots], number of answer classes whose text is written.
    """

    def __init__(self, layout: Layout, count: int) -> None:
        self.layout, self.count = layout, count
        self.readers: list[int] = []
        size = layout.size
        self._memory = mmap.mmap(-1, size * count)
        buffer = np.frombuffer(self._memory, np.uint8)
        address = buffer.ctypes.data
        for k in range(count):
            self.readers.append(_map_new_file(size, address + k * size))
        self.words = buffer.view(np.int64).reshape(count, -1)
        self.floats = buffer.view(np.float64).reshape(count, -1)
        self.attributes = self.words[:, layout.floats :][:, : memory_layout.ATTRIBUTES]
        self._ends = self.words[:, layout.ends : layout.texts]
        self._ends[:] = -1
        self.texts = buffer.reshape(count, -1)[:, layout.texts * memory_layout.WORD :]
        self.revealed = np.zeros(count, np.int64)

    def begin(self, slots: Sequence[int], ledger: s.Records) -> None:
        """Clear some slots, and write the attributes of their new episodes.

        What changes during an episode is written by the event loop.
        """
        attributes, layout = self.attributes, self.layout
        self.floats[slots, layout.sums : layout.floats] = 0
        self.words[slots, layout.tokens : layout.nulls] = 0
        for slot in slots:
            if classes := int(self.revealed[slot]):
                self.texts[slot, : self._ends[slot, classes - 1]] = 0
                self._ends[slot, :classes] = -1
                self.words[slot, layout.nulls :][:classes] = 0
        self.revealed[slots] = 0
        self.floats[slots, memory_layout.BETA] = ledger["beta"][slots]
        self.floats[slots, memory_layout.LATENCY_WEIGHT] = ledger["latency_weight"][slots]
        self.floats[slots, memory_layout.MEAN_TOKENS] = ledger["full_cost"][slots] / layout.branches
        attributes[slots, memory_layout.HAS_GENERATION_CONFIDENCE] = ledger[
            "has_generation_confidence"
        ][slots]
        attributes[slots, memory_layout.INTERVAL] = ledger["interval"][slots]
        attributes[slots, memory_layout.DEPTH_LIMIT] = ledger["depth_limit"][slots]
        budgets = ledger["budget"][slots]
        attributes[slots, memory_layout.PREDICTABLE] = (
            ledger["step_limit"][slots] == s.NO_BUDGET
        ) & (budgets == s.NO_BUDGET)
        attributes[slots, memory_layout.BUDGET] = np.where(
            budgets == s.NO_BUDGET, NO_BUDGET, budgets
        )

    def close(self) -> None:
        """Close the file descriptors."""
        for reader in self.readers:
            os.close(reader)
        self.readers.clear()


def _map_new_file(size: int, address: int) -> int:
    """Map a new anonymous file at an address; returns a descriptor that can only read it."""
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
    mapped = libc.mmap(
        ctypes.c_void_p(address),
        ctypes.c_size_t(size),
        mmap.PROT_READ | mmap.PROT_WRITE,
        mmap.MAP_SHARED | _MAP_FIXED,
        writer,
        ctypes.c_long(0),
    )
    os.close(writer)
    if mapped != address:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return reader
