"""Messages of failed episodes."""

from __future__ import annotations

from autotts_gym.controllers.errors import failure_message, first_line


def test_colors_of_numba_do_not_hide_the_reason() -> None:
    """Numba colors its errors if colorama is installed."""
    error = TypeError(
        "\x1b[1mFailed in nopython mode pipeline (step: nopython frontend)\x1b[0m\n"
        "\x1b[1m\x1b[1mCannot unify array and int64 for 'x'\x1b[0m\x1b[0m\n"
    )
    assert first_line(error) == "Cannot unify array and int64 for 'x'"
    assert failure_message(error) == "TypeError: Cannot unify array and int64 for 'x'"
