"""``write_page`` and ``write_markdown``: a leaderboard as one HTML file, and as Markdown."""

from __future__ import annotations

import os
from pathlib import Path

from autotts_gym.leaderboard.boards import boards
from autotts_gym.leaderboard.builder import Leaderboard
from autotts_gym.leaderboard.tables import leaderboard_data, leaderboard_markdown
from autotts_gym.report.html_page import assemble_page
from autotts_gym.utils.files import write_text


def write_page(leaderboard: Leaderboard, out: str | os.PathLike[str]) -> None:
    """Write a leaderboard as an HTML page; an existing file is replaced atomically.

    Raises:
        OSError: the file cannot be written.
    """
    data = leaderboard_data(leaderboard, boards(leaderboard))
    write_text(Path(out), assemble_page(data, "leaderboard.html", "leaderboard.js"))


def write_markdown(leaderboard: Leaderboard, out: str | os.PathLike[str]) -> None:
    """Write the main rows of a leaderboard as Markdown tables, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(Path(out), leaderboard_markdown(leaderboard, boards(leaderboard)))
