"""Limits of an episode's running time, and the error for a controller that keeps exceeding them."""

from __future__ import annotations

from typing import Final

#: Default time limit of an episode, seconds.
TIME_LIMIT: Final = 10.0

#: Number of consecutive episodes killed from outside, or of consecutive processes that end before
#: their first episode, after which an agent is given up.
PATIENCE: Final = 3

#: Time that a sandbox may take to start, seconds.
START: Final = 60.0

#: Upper bound on the time counted between two checks of a process, seconds. A longer gap means that
#: the checking process was suspended as well, for example by Ctrl-Z.
LONGEST_LOOK: Final = 1.0


class GivenUpError(RuntimeError):
    """An agent cannot be played: for example, too many of its episodes in a row were killed."""
