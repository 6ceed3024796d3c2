"""Entries of an observation's ``globals``; apart, so that they are to be had without numba."""

from __future__ import annotations

from typing import Final

OPENED: Final = 0
SPENT: Final = 1
REMAINING: Final = 2
CLOCK: Final = 3
BETA: Final = 4
GLOBALS_SIZE: Final = 5
