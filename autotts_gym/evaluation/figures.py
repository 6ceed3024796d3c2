"""Figures: the accuracy–token frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from autotts_gym.evaluation.benchmark import Run, write_atomically

# Okabe and Ito's palette, without its yellow: readable on white, and for colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vPX"


def frontier(runs: Sequence[Run], path: Path) -> None:
    """Draw accuracy against mean total tokens, a panel for each environment, and write it.

    An agent with a knob is a line through its β; bars are 95% intervals over questions.
    """
    envs = list(dict.fromkeys(run.env for run in runs))
    agents = list(dict.fromkeys(run.agent for run in runs))
    across = 2 if len(envs) in (2, 4) else min(len(envs), 3)
    down = -(-len(envs) // across)
    figure = Figure(figsize=(5.2 * across + 0.6, 3.9 * down + 0.5), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for panel, env in zip(panels, envs, strict=False):
        for number, agent in enumerate(agents):
            _draw_agent(panel, [r for r in runs if (r.agent, r.env) == (agent, env)], number)
        _dress(panel, env, any(run.synthetic for run in runs if run.env == env))
    for panel in panels[len(envs) :]:
        panel.remove()
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=4
    )
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))


def _draw_agent(panel: Axes, runs: Sequence[Run], number: int) -> None:
    points = sorted(runs, key=_tokens)
    colour = _COLOURS[number % len(_COLOURS)]
    panel.errorbar(
        [_tokens(run) for run in points],
        [100 * run.accuracy for run in points],
        yerr=[100 * np.nan_to_num(run.margin) for run in points],
        color=colour,
        marker=_MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)],
        markersize=6,
        linewidth=1.6,
        elinewidth=0.8,
        capsize=2,
        label=points[0].agent.replace("_", " "),
    )
    for run in points:
        if run.beta is not None:
            panel.annotate(
                f"β={run.beta:g}",
                (_tokens(run), 100 * run.accuracy),
                textcoords="offset points",
                xytext=(7, -11),
                fontsize=8,
                color=colour,
            )


def _tokens(run: Run) -> float:
    """Mean total tokens, for a logarithmic axis: without a budget to spend, they can be 0."""
    return max(run.mean("tokens"), 1.0)


def _dress(panel: Axes, env: str, synthetic: bool) -> None:
    panel.set_title(f"{env} (synthetic traces)" if synthetic else env, fontsize=10)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("mean total tokens per question")
    panel.set_ylabel("accuracy (%)")
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.12)
