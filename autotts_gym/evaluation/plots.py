"""Figures: accuracy against total tokens, and against sequential tokens."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from autotts_gym.evaluation.analysis import Analysis, Cost, Scope
from autotts_gym.utils.files import write_atomically

#: Okabe and Ito's palette, without its yellow: readable on white, and for colour-blind readers.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS: Final = "osD^vPX"

#: What accuracy can be drawn against, and what it says below the axis.
_COSTS: Final[dict[Cost, str]] = {
    "tokens": "mean total tokens per question",
    "sequential_tokens": "mean sequential tokens (latency) per question",
}


#: The figures of a benchmark by what their files are called.
FIGURES: Final[dict[str, Cost]] = {"frontier": "tokens", "latency": "sequential_tokens"}


def frontier(
    analysis: Analysis, path: Path, cost: Cost = "tokens", synthetic: Collection[str] = ()
) -> None:
    """Draw accuracy against what it cost, a panel for each environment, and write it.

    An agent with a knob is a line through its β; bars are 95% intervals.

    Args:
        path: its suffix says in which format: ``.png``, ``.svg``, ``.pdf``.
        cost: mean total tokens, or mean sequential tokens: the latency of the critical path.
        synthetic: environments whose traces were generated; their panels say so.
    """
    scopes = [scope for scope in analysis.scopes if not scope.is_average]
    agents = list(dict.fromkeys(row.agent for row in analysis.rows))
    across = 2 if len(scopes) in (2, 4) else min(len(scopes), 3)
    down = -(-len(scopes) // across)
    figure = Figure(figsize=(5.2 * across + 0.6, 3.9 * down + 0.5), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for panel, scope in zip(panels, scopes, strict=False):
        for number, agent in enumerate(agents):
            _draw_agent(panel, analysis, scope, agent, number, cost)
        _dress(panel, scope.name, scope.name in synthetic, cost)
    for panel in panels[len(scopes) :]:
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


def _draw_agent(
    panel: Axes, analysis: Analysis, scope: Scope, agent: str, number: int, cost: Cost
) -> None:
    rows = analysis.rows_of(scope, agent)
    if not rows:
        return
    # Along the knob, since latency need not rise with it.
    rows.sort(key=lambda row: -1.0 if row.beta is None else row.beta)
    accuracies = [analysis.estimate(scope, row, "correct") for row in rows]
    # Without a budget to spend, a cost can be 0, which a logarithmic axis does not have.
    costs = [max(analysis.means(scope, row).value[cost], 1.0) for row in rows]
    colour = COLOURS[number % len(COLOURS)]
    panel.errorbar(
        costs,
        [100 * of.value for of in accuracies],
        yerr=100
        * np.nan_to_num(
            [
                [of.value - of.low for of in accuracies],
                [of.high - of.value for of in accuracies],
            ]
        ).clip(min=0),
        color=colour,
        marker=_MARKERS[(number + number // len(COLOURS)) % len(_MARKERS)],
        markersize=6,
        linewidth=1.6,
        elinewidth=0.8,
        capsize=2,
        label=agent.replace("_", " "),
    )
    for k, (row, x, of) in enumerate(zip(rows, costs, accuracies, strict=True)):
        if row.beta is not None:
            # On both sides of the line by turns: neighbours may lie close together.
            below = k % 2 == 0
            panel.annotate(
                f"β={row.beta:g}",
                (x, 100 * of.value),
                textcoords="offset points",
                xytext=(7, -11) if below else (-5, 5),
                horizontalalignment="left" if below else "right",
                fontsize=8,
                color=colour,
            )


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
