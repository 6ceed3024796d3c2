"""Figures: accuracy against total tokens, and against sequential tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from autotts_gym.evaluation.analysis import Cost
from autotts_gym.evaluation.results import Run, write_atomically

#: Okabe and Ito's palette, without its yellow: readable on white, and for colour-blind readers.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS: Final = "osD^vPX"

#: What accuracy can be drawn against, and what it says below the axis.
_COSTS: Final[dict[Cost, str]] = {
    "tokens": "mean total tokens per question",
    "sequential_tokens": "mean sequential tokens (latency) per question",
}


def frontier(runs: Sequence[Run], path: Path, cost: Cost = "tokens") -> None:
    """Draw accuracy against what it cost, a panel for each environment, and write it.

    An agent with a knob is a line through its β; bars are 95% intervals over questions.

    Args:
        path: its suffix says in which format: ``.png``, ``.svg``, ``.pdf``.
        cost: mean total tokens, or mean sequential tokens: the latency of the critical path.
    """
    envs = list(dict.fromkeys(run.env for run in runs))
    agents = list(dict.fromkeys(run.agent for run in runs))
    across = 2 if len(envs) in (2, 4) else min(len(envs), 3)
    down = -(-len(envs) // across)
    figure = Figure(figsize=(5.2 * across + 0.6, 3.9 * down + 0.5), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for panel, env in zip(panels, envs, strict=False):
        for number, agent in enumerate(agents):
            _draw_agent(panel, [r for r in runs if (r.agent, r.env) == (agent, env)], number, cost)
        _dress(panel, env, any(run.synthetic for run in runs if run.env == env), cost)
    for panel in panels[len(envs) :]:
        panel.remove()
    drawn: dict[str, Artist] = {}  # an agent may be missing from some panels
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            drawn.setdefault(str(label), handle)
    figure.legend(
        list(drawn.values()), list(drawn), loc="outside upper left", frameon=False, ncols=4
    )
    # Without dates and drawn identifiers, the same results are the same file.
    undated = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "autotts"}):
        write_atomically(
            path, lambda temporary: figure.savefig(temporary, dpi=150, metadata=undated)
        )


def _draw_agent(panel: Axes, runs: Sequence[Run], number: int, cost: Cost) -> None:
    if not runs:
        return
    # Along the knob, since latency need not rise with it.
    points = sorted(runs, key=lambda run: -1.0 if run.beta is None else run.beta)
    colour = COLOURS[number % len(COLOURS)]
    panel.errorbar(
        [_mean(run, cost) for run in points],
        [100 * run.accuracy for run in points],
        yerr=[100 * np.nan_to_num(run.margin) for run in points],
        color=colour,
        marker=_MARKERS[(number + number // len(COLOURS)) % len(_MARKERS)],
        markersize=6,
        linewidth=1.6,
        elinewidth=0.8,
        capsize=2,
        label=points[0].agent.replace("_", " "),
    )
    for k, run in enumerate(points):
        if run.beta is not None:
            # On both sides of the line by turns: neighbours may lie close together.
            below = k % 2 == 0
            panel.annotate(
                f"β={run.beta:g}",
                (_mean(run, cost), 100 * run.accuracy),
                textcoords="offset points",
                xytext=(7, -11) if below else (-5, 5),
                horizontalalignment="left" if below else "right",
                fontsize=8,
                color=colour,
            )


def _mean(run: Run, cost: Cost) -> float:
    """A mean cost, for a logarithmic axis: without a budget to spend, it can be 0."""
    return max(run.mean(cost), 1.0)


def _dress(panel: Axes, env: str, synthetic: bool, cost: Cost) -> None:
    panel.set_title(f"{env} (synthetic traces)" if synthetic else env, fontsize=10)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(_COSTS[cost])
    panel.set_ylabel("accuracy (%)")
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.12)
