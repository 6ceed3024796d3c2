"""Exceptions around controllers, and the messages recorded for failed episodes.

Imports nothing heavy: the processes of the sandbox use it too.
"""

from __future__ import annotations

import re
from typing import Final

#: Maximum length of a recorded message, characters.
MAX_MESSAGE_LENGTH: Final = 500

# First lines of numba's errors, which name the failed compiler pass; the cause follows below.
_COLORS: Final = re.compile(r"\x1b\[[0-9;]*m")  # numba's, if colorama is installed
_NUMBA_PREAMBLES: Final = ("Failed in nopython", "- Resolution failure")


class IllegalActionError(RuntimeError):
    """A controller chose an action that is illegal in the current state."""


class NoAnswerError(RuntimeError):
    """A controller returned without ending its episode, or with an answer that no branch gave."""


class StepLimitError(RuntimeError):
    """An episode was truncated by its step limit; it counts as incorrect."""


class AgentError(ValueError):
    """A controller cannot be loaded or played; the message gives the reason."""


class GivenUpError(RuntimeError):
    """A controller is no longer played, for example after too many killed episodes in a row."""


def failure_message(error: BaseException) -> str:
    """Message recorded for an episode that ended with an exception: ``TYPE: FIRST LINE``.

    At most :data:`MAX_MESSAGE_LENGTH` characters.
    """
    try:
        text = f": {first_line(error)}" if str(error) else ""
    except Exception:  # the __str__ of a controller's exception is the controller's own code
        text = ""
    message = f"{type(error).__name__}{text}"[:MAX_MESSAGE_LENGTH]
    return message.encode("utf-8", "replace").decode("utf-8")


def first_line(error: BaseException) -> str:
    """First informative line of an error's text, or the error's type if its text is empty."""
    text = _COLORS.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    informative = [line for line in lines if not line.startswith(_NUMBA_PREAMBLES)]
    return (informative or lines or [type(error).__name__])[0]
