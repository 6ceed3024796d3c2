"""The frontier's figure: what is drawn where, and that nothing about the runs breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.bootstrap import METRICS
from autotts_gym.evaluation.plots import save_frontier
from autotts_gym.evaluation.runs import Run


def made(
    agent: str = "cmc",
    beta: float | None = 0.5,
    env: str = "e",
    tokens: float = 10_000,
    right: tuple[bool, ...] = (True, False, True, True),
    synthetic: bool = False,
) -> Run:
    """A row of the table: a question for each of ``right``."""
    episodes: dict[str, Any] = {
        "seed": np.zeros(len(right), np.int64),
        "question": np.arange(len(right)),
        "correct": np.array(right),
        **dict.fromkeys(METRICS[1:], np.full(len(right), tokens)),
    }
    return Run(agent, beta, env, synthetic, episodes, {}, "compiled", "", 1.0)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draws runs; returns the figure that was written."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(*runs: Run) -> Figure:
        path = tmp_path / "frontier.png"
        save_frontier(Analysis(runs), path, synthetic={r.env for r in runs if r.synthetic})
        with Image.open(path) as image:
            width, height = image.size
            assert width > 700
            assert height > 500
            assert len(np.unique(np.asarray(image.convert("L")))) > 10  # something is on it
        assert [p.name for p in tmp_path.iterdir()] == ["frontier.png"]
        return figures[-1]

    return draw


def lines(panel: Axes) -> list[ErrorbarContainer]:
    return [c for c in panel.containers if isinstance(c, ErrorbarContainer)]


def points(line: ErrorbarContainer) -> list[tuple[float, float]]:
    x, y = line[0].get_data()
    return list(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))


def test_an_agent_with_a_knob_is_a_line_through_its_betas(drawn: Any) -> None:
    figure = drawn(
        made(beta=1.0, tokens=30_000),
        made(beta=0.0, tokens=1_000, right=(False, False, True, False)),
        made("self_consistency", None, tokens=90_000),
    )
    (panel,) = figure.axes
    line, point = lines(panel)
    assert points(line) == [(1_000, 25), (30_000, 75)]  # from the cheapest on
    assert points(point) == [(90_000, 75)]
    assert [text.get_text() for text in panel.texts] == ["β=0", "β=1"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cmc", "self consistency"]
    assert panel.get_xscale() == "log"
    assert "tokens" in panel.get_xlabel()
    assert "accuracy (%)" in panel.get_ylabel()


def test_bars_are_the_intervals(drawn: Any) -> None:
    run = made(right=(True, False) * 10 + (True,))
    (line,) = lines(drawn(run).axes[0])
    ((below, above),) = (segment[:, 1] for segment in line[2][0].get_segments())
    analysis = Analysis([run])
    interval = analysis.estimate(analysis.scopes[0], analysis.rows[0], "correct")
    assert (below, above) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert below < 100 * interval.value < above


def test_the_latency_frontier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tokens=9_000)
    run.episodes["sequential_tokens"] = np.full(4, 3_000)
    later = made(beta=1.0, tokens=50_000)
    later.episodes["sequential_tokens"] = np.full(4, 2_000)  # more tokens, less latency
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    save_frontier(Analysis([later, run]), tmp_path / "latency.png", "sequential_tokens")
    (panel,) = drawn[0].axes
    (line,) = lines(panel)
    assert points(line) == [(3_000, 75), (2_000, 75)]  # along β
    assert "sequential" in panel.get_xlabel()


def test_a_vector_picture_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_frontier(Analysis([made()]), tmp_path / f"{name}.svg")
    first = (tmp_path / "a.svg").read_bytes()
    assert b"<svg" in first
    assert first == (tmp_path / "b.svg").read_bytes()


def test_the_legend_has_agents_that_miss_the_first_panel(drawn: Any) -> None:
    figure = drawn(made(), made(env="f"), made("asc", None, env="f"))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["cmc", "asc"]


@pytest.mark.parametrize("count", range(1, 8))
def test_a_panel_for_each_environment(count: int, drawn: Any) -> None:
    envs = [f"env {k}" for k in range(count)]
    figure = drawn(*(made(agent, env=env) for agent in ("cmc", "asc") for env in envs))
    assert [panel.get_title() for panel in figure.axes] == envs
    assert all(len(lines(panel)) == 2 for panel in figure.axes)


def test_synthetic_environments_are_marked(drawn: Any) -> None:
    figure = drawn(made(env="real"), made(env="made up", synthetic=True))
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["real", "made up (synthetic traces)"]


def test_agents_can_be_told_apart(drawn: Any) -> None:
    (panel,) = drawn(*(made(f"agent{k}", None) for k in range(40))).axes
    looks = {(line[0].get_color(), line[0].get_marker()) for line in lines(panel)}
    assert len(looks) == 40


@pytest.mark.parametrize(
    "runs",
    [
        [made(right=(True,))],  # one question: no margin
        [made(tokens=0), made(beta=0.7, tokens=0)],  # a budget of nothing, on a logarithmic axis
        [made(tokens=0), made(beta=0.7, tokens=500)],
        [made(right=(False,) * 4), made("b", None, right=(True,) * 4)],
        [made(tokens=3), made("b", None, tokens=3e9)],
        [made(tokens=10_000), made(beta=0.9, tokens=10_000)],
        [made(name, env="$[/]$") for name in ("_private", "a" * 80, "$x_1$ & <β>")],
        [made(f"agent{k}", k / 30) for k in range(30)],
    ],
    ids=["one", "free", "nearly free", "all and nothing", "far apart", "alike", "names", "many"],
)
def test_odd_runs_are_drawn(runs: list[Run], drawn: Any) -> None:
    """Without a warning: those are errors here."""
    assert len(drawn(*runs).axes) == len({run.env for run in runs})
