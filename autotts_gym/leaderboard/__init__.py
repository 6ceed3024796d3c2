"""Leaderboards: verified results of many benchmarks on one page (``autotts leaderboard``)."""

from autotts_gym.leaderboard.builder import Leaderboard, VerifiedEntry, build_leaderboard
from autotts_gym.leaderboard.leaderboard_page import write_markdown, write_page

__all__ = ["Leaderboard", "VerifiedEntry", "build_leaderboard", "write_markdown", "write_page"]
