"""The page in a browser: contents, controls and layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import web_browser
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.analysis import Analysis, Row
from autotts_gym.evaluation.results import Results
from autotts_gym.report import WrittenReport, write_report

pytestmark = web_browser.MARKS


class Page:
    """A browser with the page in it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1400, height: int = 1000) -> Page:
        web_browser.open_page(self.driver, path, width, height)
        return self

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, true: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 30).until(lambda _: true())

    def __getitem__(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return self[name].text

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def options(self, name: str) -> list[str]:
        return [option.text for option in Select(self[name]).options]

    def choose(self, name: str, text: str) -> None:
        Select(self[name]).select_by_visible_text(text)

    def slide(self, name: str, value: int) -> None:
        """Set a slider and send its input event."""
        self.js(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            self[name],
            value,
        )

    def click(self, element: WebElement) -> None:
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def points(self, plot: str, trace: str) -> dict[str, list[Any]]:
        """x and y of the trace whose first hover text contains ``trace``."""
        return self.js(
            "const t = document.getElementById(arguments[0]).data"
            ".find((t) => t.hovertext && t.hovertext[0].includes(arguments[1]));"
            "return t && {x: Array.from(t.x), y: Array.from(t.y)}",
            plot,
            trace,
        )

    def column(self, table: str, number: int) -> list[str]:
        cells = self.all(f"#{table} tbody tr td:nth-child({number})")
        return [cell.text.split("\n")[0] for cell in cells]

    def log_messages(self) -> list[str]:
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with web_browser.chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield Page(driver)


@pytest.fixture
def page(browser: Page, written: WrittenReport) -> Iterator[Page]:
    """The page, freshly loaded; afterwards, the browser's log must be empty."""
    yield browser.open(written.path)
    assert browser.log_messages() == []


# --- layout and header ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1400, 420])
def test_fits_the_window_without_requests(
    width: int, browser: Page, written: WrittenReport
) -> None:
    page = browser.open(written.path, width)
    page.until(lambda: page.text("action"))
    assert page.js("return document.documentElement.scrollWidth") <= width
    plots = ("plot-tokens", "plot-sequential_tokens", "plot-tradeoff")
    for plot in (*plots, "plot-questions", "plot-notes"):
        assert page.all(f"#{plot} .main-svg"), plot
        assert page[plot].size["width"] <= width
    assert page.js("return performance.getEntriesByType('resource').length") == 0
    assert page.log_messages() == []


def test_the_header_describes_the_benchmark(page: Page) -> None:
    assert "3 agents in 7 rows on 2 environments" in page.text("summary")
    assert "SYNTHETIC TRACES" in page.text("summary")
    facts = page.text("facts")
    assert "0 to 3" in facts
    assert "up to 8 branches" in facts
    assert "generated tokens" in facts
    assert "easy" in page.text("environments")
    assert not page["problems"].is_displayed()
    intervals = page.js("return document.getElementById('intervals').textContent")
    assert "2,000 bootstrap replicates" in intervals


def test_every_control_has_a_name(page: Page) -> None:
    for control in page.all("select, input, button"):
        assert control.accessible_name, control.get_attribute("outerHTML")


def test_a_dark_page_is_dark(browser: Page, written: WrittenReport) -> None:
    def lightness() -> int:
        color = browser.js("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in color.strip("rgb()").split(","))

    browser.open(written.path)
    light = lightness()
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        assert lightness() < 120 < 700 < light
        ink = "return document.getElementById('plot-tokens').layout.font.color"
        # Styles change at once, plots after an event.
        browser.until(lambda: browser.js(ink) == "#e6e8ec")
        assert browser.js(ink) == "#e6e8ec"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# --- frontiers and the schedule ------------------------------------------------------------------


def test_the_environment_changes_the_plots(page: Page, results: Results) -> None:
    assert page.options("scope") == ["average of 2", "easy", "hard"]
    seen = []
    for scope, env in (("easy", "easy"), ("hard", "hard")):
        page.choose("scope", scope)
        run = next(r for r in results.runs if r.env == env and r.agent == "self_consistency")
        for cost in ("tokens", "sequential_tokens"):
            at = page.points(f"plot-{cost}", "self_consistency")
            assert at["x"] == [pytest.approx(run.mean(cost), rel=1e-5)]
            assert at["y"] == [pytest.approx(100 * run.accuracy, rel=1e-5)]
            seen.append(at)
        assert page.column("table", 3)[0] == f"{100 * run.accuracy:.1f}"
    assert seen[0] != seen[2]
    line = page.points("plot-tokens", "cmc β=0")
    assert len(line["x"]) == 3  # through its β


def _frontier(page: Page, plot: str) -> list[float]:
    """Costs of the dotted frontier."""
    return page.js(
        "return Array.from(document.getElementById(arguments[0]).data[0].x)", f"plot-{plot}"
    )


def test_the_frontier_is_that_within_the_limit(page: Page, results: Results) -> None:
    analysis = Analysis(results)
    scope = next(scope for scope in analysis.scopes if scope.is_average)
    assert page.options("limit")[0] == "none"
    for name in page.options("limit"):
        page.choose("limit", name)
        row = next((row for row in analysis.rows_in(scope) if str(row) == name), None)
        means = analysis.means(scope, row).value if row else {}
        for cost, other in (("tokens", "sequential_tokens"), ("sequential_tokens", "tokens")):
            points = analysis.frontier(scope, cost, means.get(other, math.inf) + 1e-6)
            on = [point.cost for point in points if point.on_frontier]
            assert _frontier(page, cost) == pytest.approx(on, rel=1e-4), (name, cost)


def test_a_point_shows_its_metrics(page: Page) -> None:
    text = page.js("return document.getElementById('plot-tokens').data[1].hovertext[0]")
    for what in (
        "self_consistency",
        "accuracy",
        "total tokens",
        "sequential tokens",
        "actions",
        "probes",
    ):
        assert what in text
    assert "48 episodes" in text


def test_the_slider_shows_the_schedule(page: Page) -> None:
    schedule = load("cmc").solve.__globals__["schedule"]

    def shown() -> dict[str, str]:
        cells = page.all("#parameters dd[data-field]")
        return {str(cell.get_attribute("data-field")): cell.text for cell in cells}

    assert page.text("beta-value") == "0.5"
    assert (shown()["initial"], shown()["ceiling"], shown()["stop"]) == ("5", "34", "0.91")
    for k in (0, 37, 100):
        page.slide("beta", k)
        plan = schedule(k / 100)
        assert page.text("beta-value") == f"{k / 100:g}"
        assert len(shown()) == 12
        assert {field: float(text) for field, text in shown().items()} == plan._asdict()


def test_the_slider_moves_the_star(page: Page, results: Results) -> None:
    page.choose("scope", "easy")
    half = next(r for r in results.runs if (r.agent, r.beta, r.env) == ("cmc", 0.5, "easy"))
    star = page.points("plot-tokens", "β = 0.5")
    assert star["x"] == [pytest.approx(half.mean("tokens"), rel=1e-5)]
    assert "β = 0.5 was played" in page.text("position")
    page["beta"].send_keys(Keys.ARROW_RIGHT)
    assert page.text("beta-value") == "0.51"
    assert "interpolated" in page.text("position")
    moved = page.points("plot-sequential_tokens", "β = 0.51")
    assert moved["x"] != page.points("plot-tokens", "β = 0.51")["x"]
    assert page.points("plot-tokens", "β = 0.51")["x"] != star["x"]


def test_the_schedule_of_another_agent(page: Page) -> None:
    assert page.options("schedule-agent") == ["cmc", "two_probes"]
    page.choose("schedule-agent", "two_probes")
    assert "width\n4\nbranches" in page.text("parameters")
    assert repr(0.5 / 3) in page.text("parameters")


# --- tables --------------------------------------------------------------------------------------


def numbers(texts: list[str]) -> list[float]:
    scale = {"k": 1e3, "M": 1e6}
    return [float(text.rstrip("kM×").replace(",", "")) * scale.get(text[-1], 1) for text in texts]


def test_the_table_sorts(page: Page) -> None:
    def heading() -> WebElement:
        return page.all("#table button[data-key=tokens]")[0]

    page.click(heading())
    falling = numbers(page.column("table", 4))
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == 7
    assert page.all("#table th[aria-sort=descending]")[0].text.startswith("total tokens")
    heading().send_keys(Keys.ENTER)  # it keeps the focus and reacts to the keyboard
    assert numbers(page.column("table", 4)) == falling[::-1]


def test_rows_are_compared_with_the_selected_row(page: Page) -> None:
    page.choose("scope", "easy")
    ratios = page.column("table", 11)
    assert ratios[0] == "–"
    tokens = numbers(page.column("table", 4))
    assert numbers(ratios[1:]) == pytest.approx([t / tokens[0] for t in tokens[1:]], rel=0.06)
    page.choose("reference", "cmc β=1")
    ratios = page.column("table", 11)
    assert ratios[3] == "–"
    assert numbers(ratios[:1]) == pytest.approx([tokens[0] / tokens[3]], rel=0.06)
    interval = page.all("#table tbody tr:first-child td:nth-child(11) small")
    assert interval[0].text.startswith("[")
    assert {text.split()[0] for text in page.column("table", 9)} <= {"yes", "no"}


def test_sweeps_are_compared_at_the_accuracy_of_the_selected_row(
    page: Page, results: Results
) -> None:
    page.choose("scope", "easy")
    page.choose("reference", "self_consistency")
    analysis = Analysis.from_results(results)
    scope, row = analysis.scopes[0], Row("self_consistency", None)
    agents = page.column("within-table", 1)
    assert agents == ["cmc", "two_probes"]
    for agent, cell in zip(agents, page.column("within-table", 3), strict=True):
        found = analysis.compare(scope, agent, row, within_both=True).cost_ratio.value
        ratio = cell.split()[0]
        assert (ratio == "–") == math.isnan(found)
        if ratio != "–":
            assert numbers([ratio]) == pytest.approx([found], rel=0.06)


def test_question_by_question(page: Page, results: Results) -> None:
    page.choose("row-a", "cmc β=0")
    page.choose("row-b", "self_consistency")
    page.choose("questions-env", "hard")
    assert len(page.column("question-table", 1)) == 6
    by_name = {(r.agent, r.beta): r for r in results.runs if r.env == "hard"}
    runs = by_name["cmc", 0.0], by_name["self_consistency", None]
    right = [run.episodes["correct"].reshape(4, 6).sum(axis=0) for run in runs]
    for question, *shown in zip(
        *(page.column("question-table", number) for number in (1, 3, 4, 2)), strict=True
    ):
        a, b = (int(of[int(question)]) for of in right)
        assert shown == [f"{a} of 4", f"{b} of 4", "A" if a > b else "B" if b > a else "–"]
    bars = page.js("return Array.from(document.getElementById('plot-questions').data[0].y)")
    differences = right[0].astype(int) - right[1].astype(int)
    assert sorted(bars) == sorted((25.0 * differences).tolist())
    assert bars == sorted(bars, reverse=True)
    assert "A is correct for" in page.column("question-table", 8)[0]


# --- the viewer ----------------------------------------------------------------------------------


def step(page: Page) -> list[int]:
    return [int(part.replace(",", "")) for part in page.text("step-number").split(" of ")]


def shown(page: Page) -> list[int]:
    """Environment, row, question and seed of the current episode."""
    return [int(part) for part in str(page["stage"].get_attribute("data-episode")).split(",")]


@pytest.fixture
def viewer(page: Page) -> Page:
    page.until(lambda: page.text("action"))
    return page


def test_the_viewer_steps(viewer: Page) -> None:
    moment, last = step(viewer)
    assert moment == last > 10
    assert viewer.text("action").startswith("ANSWER")
    viewer.click(viewer["first"])
    assert step(viewer) == [0, last]
    assert viewer.text("votes") == "nothing revealed yet"
    viewer.click(viewer["next"])
    assert viewer.text("action") == "BRANCH: opens branch 0"
    assert viewer.all("#actions [aria-current]")[0].text == "BRANCH 1"
    viewer["stage"].send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert step(viewer) == [2, last]
    viewer.click(viewer["previous"])
    assert step(viewer) == [1, last]
    viewer["stage"].send_keys(Keys.END)
    assert step(viewer) == [last, last]
    viewer["stage"].send_keys(Keys.HOME)
    viewer.slide("step", 5)
    assert step(viewer) == [5, last]
    viewer.click(viewer["last"])
    assert step(viewer) == [last, last]


def test_the_viewer_plays_to_the_end(viewer: Page) -> None:
    viewer["stage"].send_keys(" ")
    assert viewer.text("play") == "pause"
    viewer.until(lambda: viewer.text("play") == "play")
    moment, last = step(viewer)
    assert moment == last


def test_every_episode_can_be_shown_and_ends_as_in_the_results(
    viewer: Page, results: Results
) -> None:
    for row in viewer.options("episode-row"):
        viewer.choose("episode-row", row)
        number = viewer.options("episode-row").index(row)
        viewer.until(lambda number=number: shown(viewer)[1] == number)
        env, _, question, seed = shown(viewer)
        run = [r for r in results.runs if r.env == results.environments[env].name][number]
        at = (run.episodes["seed"] == seed) & (run.episodes["question"] == question)
        (k,) = at.nonzero()[0]
        assert step(viewer)[1] == run.episodes["actions"][k]
        assert f"{run.episodes['tokens'][k]:,} total tokens" in viewer.text("action")
        verdict = "correct" if run.episodes["correct"][k] else "incorrect"
        assert f"{run.episodes['answer'][k]}, {verdict}" in viewer.text("action")
        tally = dict(item.text.split() for item in viewer.all("#actions li"))
        assert int(tally["PROBE"].replace(",", "")) == run.episodes["probes"][k]
        # Draw many steps; errors would be in the log at the end.
        viewer.js(
            "const s = document.getElementById('step');"
            "for (let k = 0; k <= s.max; k += Math.ceil(s.max / 200)) {"
            " s.value = k; s.dispatchEvent(new Event('input')); }"
        )


def test_the_plane_is_drawn(viewer: Page) -> None:
    def colors() -> int:
        return int(
            viewer.js(
                "const c = document.getElementById('plane');"
                "const g = new OffscreenCanvas(c.width, c.height)"
                ".getContext('2d', {willReadFrequently: true});"
                "g.drawImage(c, 0, 0);"
                "const d = new Uint32Array(g.getImageData(0, 0, c.width, c.height).data.buffer);"
                "return new Set(d).size"
            )
        )

    drawn = colors()
    viewer.click(viewer["first"])
    assert 1 < colors() < drawn


def test_notes_are_plotted_with_their_levels(viewer: Page) -> None:
    viewer.choose("episode-row", "cmc β=0.5")
    names = viewer.js("return document.getElementById('plot-notes').data.map((t) => t.name)")
    assert {"confidence", "EMA", "trend", "stop confidence", "±slack"} == set(names)
    viewer.slide("step", 7)
    cursor = "return document.getElementById('plot-notes').layout.shapes[0].x0"
    viewer.until(lambda: viewer.js(cursor) == 7)
    viewer.choose("episode-row", "self_consistency")
    viewer.until(lambda: not viewer["notes"].is_displayed())


def test_a_question_opens_in_the_viewer(viewer: Page) -> None:
    viewer.choose("row-a", "two_probes β=0")
    button = viewer.all("#question-table button[aria-label^=Open]")[-1]
    question = int(str(button.get_attribute("aria-label")).split()[2])
    viewer.click(button)
    row = viewer.options("episode-row").index("two_probes β=0")
    viewer.until(lambda: shown(viewer)[1:3] == [row, question])
    assert viewer.driver.switch_to.active_element == viewer["stage"]


def test_a_bar_opens_its_question(viewer: Page) -> None:
    viewer.choose("row-a", "two_probes β=1")
    questions = viewer.js(
        "const p = document.getElementById('plot-questions');"
        "const there = Array.from(document.querySelectorAll('#question-table tbody tr'))"
        ".filter((r) => r.querySelector('td button')).map((r) => Number(r.dataset.row));"
        "const at = p.layout.xaxis.ticktext.findIndex((q) => there.includes(q));"
        "p.emit('plotly_click', {points: [{x: at}]});"
        "return p.layout.xaxis.ticktext[at]"
    )
    viewer.until(lambda: shown(viewer)[2] == questions)
    assert shown(viewer)[2] == questions


def test_the_viewer_without_episodes(browser: Page, place: Any, tmp_path: Path) -> None:
    page = browser.open(write_report(place.results, tmp_path / "r.html", episodes=0).path)
    assert "contains no episodes" in page.text("viewer-note")
    assert not page["viewer-body"].is_displayed()
    assert page.log_messages() == []


def test_unusual_results(
    browser: Page, play: Callable[..., Path], controller: Callable[..., Agent], tmp_path: Path
) -> None:
    """One agent without β, whose name looks like markup, and whose episodes all fail."""
    text = "def solve(episode):\n    episode.probe(episode.branch())\n    episode.extend(99)\n"
    agent = controller(text, "<b>&")
    results = play(tmp_path, [str(agent.path)], ["easy"])
    page = browser.open(write_report(results, tmp_path / "r.html").path)
    assert page.column("table", 1) == ["<b>&"]
    assert not page["schedule"].is_displayed()
    assert "24, counted as incorrect" in page.text("facts")
    assert "failed in the benchmark" in page.text("problems")
    assert page.log_messages() == []
