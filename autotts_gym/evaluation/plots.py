"""Frontier plots: accuracy against total tokens, against sequential tokens, or against both."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from autotts_gym.evaluation.analysis import Analysis, Cost, Row, Scope, Tradeoff
from autotts_gym.utils.files import write_atomically
from autotts_gym.utils.terminal_text import one_line

#: Palette of Okabe and Ito without its yellow: readable on white, and by colour-blind readers.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS: Final = "osD^vPX"
#: Colours of sequential tokens, from few to many: readable on white, also in grey.
_LATENCY_COLOURS: Final = ("#9ecae1", "#41b6c4", "#225ea8", "#4a1486", "#1a0633")
#: Lines and legend where colours show sequential tokens.
_NEUTRAL: Final = "#9a9a9a"

#: Label of the x-axis for each cost.
_COST_LABELS: Final[dict[Cost, str]] = {
    "tokens": "mean total tokens per question",
    "sequential_tokens": "mean sequential tokens (latency) per question",
}

#: Figures of a benchmark: cost by file name, without the suffix.
FIGURES: Final[dict[str, Cost]] = {"frontier": "tokens", "latency": "sequential_tokens"}


def plot_frontier(
    analysis: Analysis,
    scope: Scope | None = None,
    cost: Cost = "tokens",
    *,
    synthetic: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Plot accuracy against cost for one environment or average.

    Each agent with the knob is a line along β. Error bars are 95% intervals.

    Args:
        analysis: the analysis.
        scope: the environment or average; the first of the analysis by default.
        cost: mean total tokens, or mean sequential tokens (latency of the critical path).
        synthetic: mark the traces as synthetic in the title.
        ax: axes to draw on; those of a new pyplot figure by default.

    Returns:
        The axes.
    """
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.figure(layout="constrained").add_subplot()
    _draw_scope(ax, analysis, scope or analysis.scopes[0], cost, synthetic)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)
    return ax


def frontier_figure(
    analysis: Analysis, cost: Cost = "tokens", synthetic: Collection[str] = ()
) -> Figure:
    """Draw a figure with a panel for each environment and a common legend.

    Args:
        analysis: the analysis.
        cost: mean total tokens, or mean sequential tokens (latency of the critical path).
        synthetic: names of environments whose traces were generated; their titles say so.
    """
    figure, panels = _panels(analysis)
    for panel, scope in panels:
        _draw_scope(panel, analysis, scope, cost, scope.name in synthetic)
    _add_legend(figure)
    return figure


def tradeoff_figure(analysis: Analysis, synthetic: Collection[str] = ()) -> Figure:
    """Draw accuracy against tokens, with sequential tokens as the colour of the points.

    A panel for each environment; the colours are the same in all panels. Rows that no other row
    dominates in accuracy and both costs have a black edge.

    Args:
        analysis: the analysis.
        synthetic: as in :func:`frontier_figure`.
    """
    figure, panels = _panels(analysis)
    points = {scope: analysis.tradeoffs(scope) for _, scope in panels}
    latencies = [max(p.sequential_tokens, 1.0) for of in points.values() for p in of]
    norm = LogNorm(min(latencies), max(*latencies, min(latencies) * 1.01))
    colours = ScalarMappable(norm, LinearSegmentedColormap.from_list("latency", _LATENCY_COLOURS))
    for panel, scope in panels:
        _draw_tradeoffs(panel, analysis, scope, points[scope], colours)
        _format_panel(panel, scope.name, scope.name in synthetic, "tokens")
        panel.margins(y=0.1)
    panels[0][0].plot([], [], "o", mfc="none", mec="black", mew=1.6, ms=8, label="undominated")
    bar = figure.colorbar(colours, ax=[panel for panel, _ in panels], aspect=30, pad=0.02)
    bar.set_label(_COST_LABELS["sequential_tokens"])
    bar.ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    _add_legend(figure)
    return figure


def _panels(analysis: Analysis) -> tuple[Figure, list[tuple[Axes, Scope]]]:
    """A figure with a panel for each environment."""
    scopes = [scope for scope in analysis.scopes if not scope.is_average]
    columns = 2 if len(scopes) in (2, 4) else min(len(scopes), 3)
    rows = -(-len(scopes) // columns)
    figure = Figure(figsize=(5.2 * columns + 0.6, 3.9 * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[len(scopes) :]:
        panel.remove()
    return figure, list(zip(panels, scopes, strict=False))


def _add_legend(figure: Figure) -> None:
    entries: dict[str, Artist] = {}  # an agent may be missing from some panels
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(str(label), handle)
    figure.legend(
        list(entries.values()), list(entries), loc="outside upper left", frameon=False, ncols=4
    )


def save_figures(
    analysis: Analysis,
    folder: str | os.PathLike[str],
    synthetic: Collection[str] = (),
    suffixes: Sequence[str] = (".png",),
) -> list[Path]:
    """Write all figures of a benchmark: those of ``FIGURES``, and the one with both costs.

    Args:
        analysis: the analysis.
        folder: an existing folder.
        synthetic: as in :func:`frontier_figure`.
        suffixes: formats, as for :func:`save_frontier`.

    Returns:
        The files.

    Raises:
        OSError: a file cannot be written.
    """
    paths = []
    for end in suffixes:
        # A figure is laid out anew whenever it is drawn, so each is drawn once.
        for name, cost in FIGURES.items():
            paths.append(Path(folder) / f"{name}{end}")
            _save(frontier_figure(analysis, cost, synthetic), paths[-1])
        paths.append(Path(folder) / f"tradeoff{end}")
        _save(tradeoff_figure(analysis, synthetic), paths[-1])
    return paths


def save_frontier(
    analysis: Analysis,
    path: str | os.PathLike[str],
    cost: Cost = "tokens",
    synthetic: Collection[str] = (),
) -> None:
    """Write :func:`frontier_figure` to a file; equal analyses give identical files.

    Args:
        analysis: the analysis.
        path: file; its suffix selects the format: ``.png``, ``.svg`` or ``.pdf``.
        cost: as in :func:`frontier_figure`.
        synthetic: as in :func:`frontier_figure`.

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib does not support the suffix.
    """
    _save(frontier_figure(analysis, cost, synthetic), Path(path))


def _save(figure: Figure, path: Path) -> None:
    # SVG files contain a date and random identifiers by default.
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "autotts"}):
        write_atomically(
            path, lambda temporary: figure.savefig(temporary, dpi=150, metadata=metadata)
        )


def _draw_scope(panel: Axes, analysis: Analysis, scope: Scope, cost: Cost, synthetic: bool) -> None:
    agents = dict.fromkeys(row.agent for row in analysis.rows)
    for number, agent in enumerate(agents):
        _draw_agent(panel, analysis, scope, agent, number, cost)
    _format_panel(panel, scope.name, synthetic, cost)


def _draw_agent(
    panel: Axes, analysis: Analysis, scope: Scope, agent: str, number: int, cost: Cost
) -> None:
    # In order of β, since latency need not rise with it.
    rows = sorted(analysis.rows_in(scope, agent), key=_beta)
    if not rows:
        return
    accuracies = [analysis.estimate(scope, row, "correct") for row in rows]
    # A cost can be 0 (with a budget of 0), which a logarithmic axis cannot show.
    costs = [max(analysis.means(scope, row).value[cost], 1.0) for row in rows]
    colour = COLOURS[number % len(COLOURS)]
    bars = [
        [estimate.value - estimate.low for estimate in accuracies],
        [estimate.high - estimate.value for estimate in accuracies],
    ]
    panel.errorbar(
        costs,
        [100 * estimate.value for estimate in accuracies],
        yerr=100 * np.nan_to_num(bars).clip(min=0),
        color=colour,
        marker=_marker(number),
        markersize=6,
        linewidth=1.6,
        elinewidth=0.8,
        capsize=2,
        label=_plain_label(agent.replace("_", " ")),
    )
    for k, (row, x, estimate) in enumerate(zip(rows, costs, accuracies, strict=True)):
        _label_beta(panel, row, k, (x, 100 * estimate.value), colour)


def _draw_tradeoffs(
    panel: Axes,
    analysis: Analysis,
    scope: Scope,
    points: Sequence[Tradeoff],
    colours: ScalarMappable,
) -> None:
    """Draw the rows of a scope, agent by agent."""
    for number, agent in enumerate(dict.fromkeys(row.agent for row in analysis.rows)):
        sweep = sorted((p for p in points if p.row.agent == agent), key=lambda p: _beta(p.row))
        if not sweep:
            continue
        x = [max(point.tokens, 1.0) for point in sweep]
        y = [100 * point.accuracy for point in sweep]
        panel.plot(x, y, color=_NEUTRAL, linewidth=1, zorder=1)
        panel.scatter(
            x,
            y,
            s=70,
            marker=_marker(number),
            c=colours.to_rgba(np.array([max(point.sequential_tokens, 1.0) for point in sweep])),
            edgecolors=["black" if point.undominated else "none" for point in sweep],
            linewidths=1.6,
            zorder=2,
        )
        panel.plot(
            [],
            [],
            marker=_marker(number),
            color=_NEUTRAL,
            label=_plain_label(agent.replace("_", " ")),
        )
        for k, point in enumerate(sweep):
            _label_beta(panel, point.row, k, (x[k], y[k]), "#444444")


def _beta(row: Row) -> float:
    """Key of the order along a sweep."""
    return -1.0 if row.beta is None else row.beta


def _marker(number: int) -> str:
    """Marker of an agent by its number."""
    return _MARKERS[(number + number // len(COLOURS)) % len(_MARKERS)]


def _label_beta(panel: Axes, row: Row, k: int, at: tuple[float, float], colour: str) -> None:
    """Label the k-th point of a sweep with its β."""
    if row.beta is None:
        return
    # Labels alternate between the sides of the line, since neighbours may be close.
    below = k % 2 == 0
    panel.annotate(
        f"β={row.beta:g}",
        at,
        textcoords="offset points",
        xytext=(7, -11) if below else (-5, 5),
        horizontalalignment="left" if below else "right",
        fontsize=8,
        color=colour,
    )


def _plain_label(name: str) -> str:
    """A name as matplotlib shows it literally: a dollar sign would begin a formula."""
    return one_line(name).replace("$", r"\$")


def _format_panel(panel: Axes, name: str, synthetic: bool, cost: Cost) -> None:
    name = _plain_label(name)
    panel.set_title(f"{name} (synthetic traces)" if synthetic else name, fontsize=10)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(_COST_LABELS[cost])
    panel.set_ylabel("accuracy (%)")
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.12)
