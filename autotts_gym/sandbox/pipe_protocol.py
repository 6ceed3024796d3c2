"""The messages between the player and an episode's process.

The process writes *frames* into a pipe: action ids as int32, or one of the codes below, which a
UTF-8 text may follow. The player answers each frame of actions with one byte, the outcome bits of
the last action.
"""

from __future__ import annotations

from typing import Final

# Codes, in place of an action id.
DONE: Final = -1  # the program has returned
FAILED: Final = -2  # the program has raised; the message follows
UNLOADED: Final = -3  # it could not be loaded, or the process not be locked down; message follows

#: Maximum size of a frame, bytes. A pipe transfers that much at once.
FRAME_SIZE: Final = 4096

#: Maximum number of actions in a frame.
MAX_FRAME_ACTIONS: Final = FRAME_SIZE // 4

#: Maximum size of the text that follows a code, bytes.
MAX_TEXT_SIZE: Final = 2048

# Outcome bits, as in autotts_gym.mdp.transition, which the episode's process does not import.
TERMINATED: Final = 1
TRUNCATED: Final = 2

#: File descriptors of the process: outcomes are read from one, frames written to the other.
INPUT: Final = 3
OUTPUT: Final = 4
