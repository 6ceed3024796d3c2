"""The plot of a search: scores of all candidates by round, and the best score so far."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from autotts_gym.discovery.archive import Archive, round_of
from autotts_gym.utils.files import write_atomically


def plot_search(archive: Archive, path: str | os.PathLike[str]) -> None:
    """Write the discovery curve as a PNG file."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    played = [(round_of(c.name), c) for c in archive.values() if np.isfinite(c.evaluation.score)]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for accepted, label, color in ((True, "accepted", "#3b6fb6"), (False, "rejected", "#c7c7c7")):
        points = [(n, c.evaluation.score) for n, c in played if c.accepted is accepted]
        if points:
            numbers, scores = zip(*points, strict=True)
            axes.scatter(numbers, scores, s=14, color=color, alpha=0.7, label=label)
    rounds = sorted({number for number, _ in played})
    best = [
        max((c.evaluation.score for n, c in played if c.accepted and n <= number), default=np.nan)
        for number in rounds
    ]
    axes.step(rounds, best, where="post", color="#c2571a", label="best so far")
    finite = [score for score in best if np.isfinite(score)]
    if finite:
        # Failed programs are left out of the y-range.
        axes.set_ylim(min(finite) - 0.15, max(finite) + 0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="round", ylabel="score on the search set, correct answers")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    write_atomically(Path(path), lambda draft: figure.savefig(draft, dpi=150, format="png"))
