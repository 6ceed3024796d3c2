"""What is told of an error that ended an episode."""

from __future__ import annotations

from typing import Final

#: Characters of a message that are kept.
LONGEST: Final = 500

_PREAMBLES: Final = ("Failed in nopython", "- Resolution failure")


def message(error: BaseException) -> str:
    """Kind and first line of what a controller raised."""
    try:
        text = f": {first_line(error)}" if str(error) else ""
    except Exception:  # a controller's errors are programs of its own
        text = ""
    return f"{type(error).__name__}{text}"[:LONGEST].encode("utf-8", "replace").decode("utf-8")


def first_line(error: BaseException) -> str:
    """The first line of an error's text that tells anything; its kind where none does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Numba begins with the passes that failed; what went wrong stands below.
    telling = [line for line in lines if not line.startswith(_PREAMBLES)]
    return (telling or lines or [type(error).__name__])[0]
