"""Frontier plots: their content, and edge cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from autotts_gym.evaluation import plots
from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.bootstrap import METRICS
from autotts_gym.evaluation.plots import (
    frontier_figure,
    plot_frontier,
    save_figures,
    save_frontier,
    tradeoff_figure,
)
from autotts_gym.evaluation.runs import Run


def make_run(
    agent: str = "cmc",
    beta: float | None = 0.5,
    env: str = "e",
    tokens: float = 10_000,
    correct: tuple[bool, ...] = (True, False, True, True),
    synthetic: bool = False,
) -> Run:
    """A run with one question for each of ``correct``."""
    episodes: dict[str, Any] = {
        "seed": np.zeros(len(correct), np.int64),
        "question": np.arange(len(correct)),
        "correct": np.array(correct),
        **dict.fromkeys(METRICS[1:], np.full(len(correct), tokens)),
    }
    return Run(agent, beta, env, synthetic, episodes, {}, "compiled", "", 1.0)


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draws runs and returns the figure that was written."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(self)
        savefig(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def save(*runs: Run) -> Figure:
        path = tmp_path / "frontier.png"
        save_frontier(Analysis(runs), path, synthetic={r.env for r in runs if r.synthetic})
        with Image.open(path) as image:
            width, height = image.size
            assert width > 700
            assert height > 500
            assert len(np.unique(np.asarray(image.convert("L")))) > 10  # the image is not empty
        assert [p.name for p in tmp_path.iterdir()] == ["frontier.png"]
        return figures[-1]

    return save


def lines(panel: Axes) -> list[ErrorbarContainer]:
    return [c for c in panel.containers if isinstance(c, ErrorbarContainer)]


def points(line: ErrorbarContainer) -> list[tuple[float, float]]:
    x, y = line[0].get_data()
    return list(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))


def test_an_agent_with_the_knob_is_a_line_along_beta(draw: Any) -> None:
    figure = draw(
        make_run(beta=1.0, tokens=30_000),
        make_run(beta=0.0, tokens=1_000, correct=(False, False, True, False)),
        make_run("self_consistency", None, tokens=90_000),
    )
    (panel,) = figure.axes
    line, point = lines(panel)
    assert points(line) == [(1_000, 25), (30_000, 75)]  # in order of β
    assert points(point) == [(90_000, 75)]
    assert [text.get_text() for text in panel.texts] == ["β=0", "β=1"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cmc", "self consistency"]
    assert panel.get_xscale() == "log"
    assert "tokens" in panel.get_xlabel()
    assert "accuracy (%)" in panel.get_ylabel()


def test_error_bars_are_the_intervals(draw: Any) -> None:
    run = make_run(correct=(True, False) * 10 + (True,))
    (line,) = lines(draw(run).axes[0])
    ((below, above),) = (segment[:, 1] for segment in line[2][0].get_segments())
    analysis = Analysis([run])
    interval = analysis.estimate(analysis.scopes[0], analysis.rows[0], "correct")
    assert (below, above) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert below < 100 * interval.value < above


def test_the_latency_frontier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tokens=9_000)
    run.episodes["sequential_tokens"] = np.full(4, 3_000)
    later = make_run(beta=1.0, tokens=50_000)
    later.episodes["sequential_tokens"] = np.full(4, 2_000)  # more tokens, less latency
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    save_frontier(Analysis([later, run]), tmp_path / "latency.png", "sequential_tokens")
    (panel,) = drawn[0].axes
    (line,) = lines(panel)
    assert points(line) == [(3_000, 75), (2_000, 75)]  # along β
    assert "sequential" in panel.get_xlabel()


def test_latency_is_the_colour_of_tradeoffs() -> None:
    quick, slow = make_run(tokens=9_000), make_run("slow", None, tokens=9_000)
    wide = make_run("wide", None, tokens=9_000, correct=(True, False, False, False))
    for run, latency in ((quick, 100), (slow, 1_000), (wide, 10_000)):
        run.episodes["sequential_tokens"] = np.full(4, latency)
    figure = tradeoff_figure(Analysis([quick, slow, wide]))
    panel, bar = figure.axes
    assert "sequential tokens" in bar.get_ylabel()
    assert "total tokens" in panel.get_xlabel()
    dots = panel.collections
    colours = [tuple(dot.get_facecolor()[0]) for dot in dots]
    ends = [to_rgba(colour) for colour in (plots._LATENCY_COLOURS[0], plots._LATENCY_COLOURS[-1])]
    np.testing.assert_allclose([colours[0], colours[2]], ends, atol=0.01)
    assert len(set(colours)) == 3
    # Only the first has an edge: the others are slower, and not better.
    assert [dot.get_edgecolor()[0][3] for dot in dots] == [1, 0, 0]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["cmc", "slow", "wide", "undominated"]
    assert [text.get_text() for text in panel.texts] == ["β=0.5"]


def test_all_figures_are_saved(tmp_path: Path) -> None:
    saved = save_figures(Analysis([make_run()]), tmp_path, suffixes=(".png", ".svg"))
    assert sorted(path.name for path in saved) == sorted(
        f"{name}.{suffix}"
        for name in ("frontier", "latency", "tradeoff")
        for suffix in ("png", "svg")
    )
    assert sorted(saved) == sorted(tmp_path.iterdir())
    content = (tmp_path / "tradeoff.svg").read_bytes()
    save_figures(Analysis([make_run()]), tmp_path, suffixes=(".svg",))
    assert (tmp_path / "tradeoff.svg").read_bytes() == content


def test_plot_on_given_axes() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    runs = [make_run(env=env) for env in ("a", "b")]
    analysis = Analysis([*runs, make_run("asc", None)])
    assert plot_frontier(analysis, ax=left) is left
    assert plot_frontier(analysis, analysis.scopes[1], synthetic=True, ax=right) is right
    assert [axes.get_title() for axes in figure.axes] == ["a", "b (synthetic traces)"]
    assert left.get_legend() is not None
    assert len(frontier_figure(analysis).axes) == 3


def test_plot_on_a_new_figure() -> None:
    analysis = Analysis([make_run(env=env) for env in ("a", "b")])
    axes = plot_frontier(analysis, analysis.scopes[-1], "sequential_tokens")
    assert axes.get_title() == "average"
    assert "sequential" in axes.get_xlabel()
    assert axes.figure.number in pyplot.get_fignums()
    pyplot.close(axes.figure)


def test_svg_files_are_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_frontier(Analysis([make_run()]), tmp_path / f"{name}.svg")
    first = (tmp_path / "a.svg").read_bytes()
    assert b"<svg" in first
    assert first == (tmp_path / "b.svg").read_bytes()


def test_legend_lists_agents_that_are_missing_from_the_first_panel(draw: Any) -> None:
    figure = draw(make_run(), make_run(env="f"), make_run("asc", None, env="f"))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cmc", "asc"]


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 8))
def test_a_panel_for_each_environment(count: int, draw: Any) -> None:
    envs = [f"env {k}" for k in range(count)]
    figure = draw(*(make_run(agent, env=env) for agent in ("cmc", "asc") for env in envs))
    assert [panel.get_title() for panel in figure.axes] == envs
    assert all(len(lines(panel)) == 2 for panel in figure.axes)


def test_synthetic_environments_are_marked(draw: Any) -> None:
    figure = draw(make_run(env="real"), make_run(env="generated", synthetic=True))
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["real", "generated (synthetic traces)"]


def test_agents_have_distinct_styles(draw: Any) -> None:
    (panel,) = draw(*(make_run(f"agent{k}", None) for k in range(40))).axes
    styles = {(line[0].get_color(), line[0].get_marker()) for line in lines(panel)}
    assert len(styles) == 40


@pytest.mark.slow
@pytest.mark.parametrize(
    "runs",
    [
        [make_run(correct=(True,))],  # one question: no interval
        [make_run(tokens=0), make_run(beta=0.7, tokens=0)],  # zero cost on a logarithmic axis
        [make_run(tokens=0), make_run(beta=0.7, tokens=500)],
        [make_run(correct=(False,) * 4), make_run("b", None, correct=(True,) * 4)],
        [make_run(tokens=3), make_run("b", None, tokens=3e9)],
        [make_run(tokens=10_000), make_run(beta=0.9, tokens=10_000)],
        [make_run(name, env="$[/]$") for name in ("_private", "a" * 80, "$x_1$ & <β>")],
        [make_run(f"agent{k}", k / 30) for k in range(30)],
    ],
    ids=["one", "free", "nearly free", "all and none", "far apart", "equal", "names", "many"],
)
def test_degenerate_runs_raise_no_warning(runs: list[Run], draw: Any) -> None:
    """Warnings are errors in the tests."""
    assert len(draw(*runs).axes) == len({run.env for run in runs})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a$^{$b", "$", "a\\$b$", "=cmd", "\x1b[2J", "_hidden", "α β"])
def test_names_are_shown_literally(tmp_path: Path, name: str) -> None:
    """Dollar signs would begin a formula, whose error would come after everything has played."""
    analysis = Analysis([make_run(name, env=name), make_run(name, 0.9, env=name)])
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        path = tmp_path / f"plot{suffix}"
        save_frontier(analysis, path)
        assert path.read_bytes().startswith(start)
