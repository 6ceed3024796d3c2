"""The page of a simulation in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fleets
import numpy as np
import pytest
import web_browser
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.simulation import Fleet, ServerCurve, SimulationPlan, run_simulation

pytestmark = web_browser.MARKS


def by_beta(episode: Any, beta: float) -> None:
    for _ in range(1 + round(beta * (episode.max_branches - 1))):
        episode.branch()
    while episode.extend_all():
        pass
    episode.probe_all()
    episode.answer()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulation")
    lengths = np.random.default_rng(0).integers(1, 100, size=(6, 4)).tolist()
    curve = ServerCurve.create(concurrency=[1, 8], tokens_per_second=[50.0, 20.0], max_sequences=16)
    plan = SimulationPlan(
        agents=[load(by_beta), load(fleets.race)],
        betas=[0.0, 0.5, 1.0],
        stores={"lengths": fleets.store_of(lengths)},
        seeds=[0],
        config=EpisodeConfig(max_branches=4),
        fleet=Fleet(curve, 2, gpu_hour=2.0),
        rates=[0.5, 2.0, 100.0],
        questions=300,
    )
    run_simulation(plan, folder)
    return folder / "simulation.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with web_browser.chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def plotted(browser: webdriver.Chrome, plot: str) -> list[list[float]]:
    """x of every line of a plot."""
    script = "return document.getElementById(arguments[0]).data.map((t) => Array.from(t.x))"
    lines: list[list[float]] = browser.execute_script(script, plot)
    return lines


@pytest.mark.parametrize("width", [1400, 420])
def test_fits_the_window_without_errors(browser: webdriver.Chrome, page: Path, width: int) -> None:
    web_browser.open_page(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert len(browser.find_elements(By.CSS_SELECTOR, "#points tbody tr")) == 12
    assert [len(line) for line in plotted(browser, "plot-accuracy")] == [3, 1]
    assert plotted(browser, "plot-time") == [[0.5, 2, 100]] * 4
    assert "overloaded" in browser.find_element(By.ID, "problems").text
    assert browser.get_log("browser") == []


def test_controls(browser: webdriver.Chrome, page: Path) -> None:
    web_browser.open_page(browser, page, 1400)
    load_list = Select(browser.find_element(By.ID, "load"))
    load_list.select_by_visible_text("0.5 questions per second")
    quick = plotted(browser, "plot-accuracy")
    load_list.select_by_visible_text("100 questions per second")
    assert plotted(browser, "plot-accuracy")[0][0] > quick[0][0]
    choice = browser.find_element(By.ID, "choice")
    assert choice.text.startswith("Give a limit")
    browser.find_element(By.ID, "limit").send_keys("1e6")
    assert choice.text.startswith("At 100 questions per second, nothing has p95")  # overloaded
    load_list.select_by_visible_text("0.5 questions per second")
    assert "is the most accurate with p95 within 1000000 s" in choice.text
    Select(browser.find_element(By.ID, "percentile")).select_by_index(0)
    assert plotted(browser, "plot-accuracy")[0][0] < quick[0][0]
    assert "with p50" in choice.text
    browser.find_element(By.CSS_SELECTOR, "#points button[data-key=p99]").click()
    cells = browser.find_elements(By.CSS_SELECTOR, "#points tbody tr:last-child td")
    assert cells[1].text == "100"
    assert browser.get_log("browser") == []
