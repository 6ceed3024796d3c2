"""The page of a leaderboard in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import web_browser
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from autotts_gym.leaderboard import build_leaderboard, write_page

pytestmark = web_browser.MARKS


@pytest.fixture(scope="module")
def page(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTTS_ENVS", str(home / "envs"))
        write_page(build_leaderboard([home / "results"], sample=1), path)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with web_browser.chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


def first_column(browser: webdriver.Chrome, table: str) -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody td:first-child")
    return [cell.text for cell in cells]


@pytest.mark.parametrize("width", [1400, 420])
def test_fits_the_window_without_errors(browser: webdriver.Chrome, page: Path, width: int) -> None:
    web_browser.open_page(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    titles = [title.text for title in browser.find_elements(By.CSS_SELECTOR, "#boards h3")]
    assert titles == ["Search sets", "Held-out sets", "Sets without a split"]
    assert browser.get_log("browser") == []


def test_controls(browser: webdriver.Chrome, page: Path) -> None:
    web_browser.open_page(browser, page, 1400)
    assert sorted(first_column(browser, "part-2")) == ["cmc β=0.5", "self_consistency"]
    browser.find_element(By.ID, "all-rows").click()
    assert sorted(first_column(browser, "part-2")) == ["cmc β=0", "cmc β=0.5", "self_consistency"]
    figure = Select(browser.find_element(By.ID, "figure"))
    figure.select_by_visible_text("tokens relative to self_consistency")
    assert first_column(browser, "part-2")[-1] == "self_consistency"  # it has no ratio
    browser.find_element(By.CSS_SELECTOR, "#part-2 button[data-key=name]").click()
    assert first_column(browser, "part-2")[0] == "cmc β=0"
    assert browser.get_log("browser") == []
