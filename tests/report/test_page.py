"""The written file: complete, self-contained, and safe for any names and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from autotts_gym.controllers.agent import Agent
from autotts_gym.evaluation.results import Results
from autotts_gym.report import WrittenReport, write_report
from autotts_gym.report.html_page import render_page


class Elements(HTMLParser):
    """The attributes of all elements, and the texts of the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self._inside = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def elements(written: WrittenReport) -> Elements:
    return Elements(written.path.read_text("utf-8"))


def test_the_page_makes_no_requests(elements: Elements) -> None:
    for tag, attributes in elements.found:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name) in (None, "data:,"), (tag, attributes)
    policies = [a["content"] for t, a in elements.found if "http-equiv" in a and t == "meta"]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none';")
    assert "http" not in str(policies[0])


def test_the_page_contains_data_plotly_and_script(elements: Elements, results: Results) -> None:
    data, plotly, script = elements.scripts
    assert plotly == get_plotlyjs()
    assert not re.search(r"\{\{\w+\}\}", script)
    assert len(json.loads(data)["episodes"]) == 4 * len(results.runs)


def test_size(written: WrittenReport) -> None:
    assert written.size == written.path.stat().st_size
    assert written.size - len(get_plotlyjs().encode()) < 300_000


def test_equal_results_give_equal_pages(place: Any, written: WrittenReport, tmp_path: Path) -> None:
    again = write_report(place.results, tmp_path / "again.html", episodes=4)
    assert again.path.read_bytes() == written.path.read_bytes()


HOSTILE = "</script><!--<script>alert(1)</script> {{js}} \u2028 & \\ ' \""


def test_names_and_answers_cannot_end_the_script() -> None:
    found = Elements(render_page({"name": HOSTILE, "answers": [HOSTILE, HOSTILE]}))
    assert len(found.scripts) == 3
    assert json.loads(found.scripts[0]) == {"name": HOSTILE, "answers": [HOSTILE, HOSTILE]}


def test_a_page_is_replaced_atomically(place: Any, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    out.write_text("before")

    def stop(label: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(place.results, out, episodes=1, progress=stop)
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_without_episodes(place: Any, tmp_path: Path) -> None:
    found = write_report(place.results, tmp_path / "r.html", episodes=0)
    assert (found.episodes, found.wanted, found.problems) == (0, 0, [])


def test_errors(place: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="episodes must be at least 0, got -1"):
        write_report(place.results, tmp_path / "r.html", episodes=-1)
    with pytest.raises(ValueError, match="there is no folder"):
        write_report(tmp_path / "nothing", tmp_path / "r.html")
    with pytest.raises(ValueError, match="contains no benchmark results"):
        write_report(tmp_path, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_a_schedule_that_fails_is_reported(
    play: Callable[..., Path], controller: Callable[..., Agent], tmp_path: Path
) -> None:
    text = "def schedule(beta):\n    raise KeyError(beta)\n"
    agent = controller(text + "def solve(episode, beta):\n    return episode.answer()\n", "odd")
    found = write_report(play(tmp_path, [str(agent.path)], ["easy"]), tmp_path / "r.html")
    assert found.problems == ["the schedule of odd fails: KeyError: 0.0: it is omitted"]
