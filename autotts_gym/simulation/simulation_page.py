"""The page of a simulation: template, style, scripts and data in one HTML text."""

from __future__ import annotations

from typing import Any

from autotts_gym.evaluation.plots import COLOURS
from autotts_gym.report.html_page import assemble_page


def render_simulation(data: dict[str, Any]) -> str:
    """Render the page.

    Args:
        data: :meth:`~autotts_gym.simulation.simulation_result.SimulationResult.data`.
    """
    from plotly.offline import get_plotlyjs

    controllers = list(dict.fromkeys(point["controller"] for point in data["points"]))
    agents = [
        {"name": name, "color": COLOURS[k % len(COLOURS)], "marker": k + k // len(COLOURS)}
        for k, name in enumerate(controllers)
    ]
    return assemble_page(
        {**data, "agents": agents}, "simulation.html", "simulation.js", plotly=get_plotlyjs()
    )
