"""Limits of the running time of episodes."""

from __future__ import annotations

from typing import Final

#: Default time limit of an episode, seconds.
TIME_LIMIT: Final = 10.0

#: Number of consecutive killed episodes, or of consecutive processes that end before their first
#: episode, after which an agent is given up.
MAX_CONSECUTIVE_KILLS: Final = 3

#: Time that a sandbox may take to start, seconds.
START_TIMEOUT: Final = 60.0

#: Upper bound on the time counted between two checks of a process, seconds. A longer gap means that
#: the checking process was suspended as well, for example by Ctrl-Z.
MAX_CHECK_GAP: Final = 1.0
