"""The data of the page agree with the analysis, the schedules and the episodes."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import pytest

from autotts_gym.evaluation.analysis import Analysis, Row
from autotts_gym.evaluation.oracle_bounds import ceiling, pass_at
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import IncompleteRun
from autotts_gym.report.page_data import page_data, positions
from autotts_gym.report.recordings import record_episodes
from autotts_gym.report.schedules import BETAS, Schedule, schedule_of
from autotts_gym.report.sources import Sources


@pytest.fixture(scope="module")
def analysis(results: Results) -> Analysis:
    return Analysis(results.runs, results.splits)


def made(results: Results, analysis: Analysis | None = None, episodes: int = 1) -> dict[str, Any]:
    sources = Sources.of(results)
    schedules: dict[str, Schedule] = {}
    for name, agent in sources.agents.items():
        found = schedule_of(agent)
        if found and any(run.agent == name for run in results.runs):
            schedules[name] = found
    return page_data(
        results,
        sources,
        analysis or Analysis(results.runs, results.splits),
        record_episodes(results, sources, episodes, limit=1 << 20),
        schedules,
        ["a problem"],
    )


@pytest.fixture(scope="module")
def data(results: Results, analysis: Analysis) -> dict[str, Any]:
    return made(results, analysis)


def test_it_is_json(data: dict[str, Any]) -> None:
    text = json.dumps(data, allow_nan=False)
    assert json.loads(text)["problems"] == ["a problem"]


def test_rows_and_scopes(data: dict[str, Any]) -> None:
    assert [scope["name"] for scope in data["scopes"]] == ["easy", "hard", "average"]
    assert [scope["average"] for scope in data["scopes"]] == [False, False, True]
    assert all(scope["synthetic"] for scope in data["scopes"])
    names = [row["name"] for row in data["rows"]]
    assert names[:4] == ["self_consistency", "cmc β=0", "cmc β=0.5", "cmc β=1"]
    assert {agent["name"] for agent in data["agents"]} == {"self_consistency", "cmc", "two_probes"}
    assert len({agent["color"] for agent in data["agents"]}) == 3
    assert not any("path" in env for env in data["environments"])


def test_metrics_are_those_of_the_analysis(data: dict[str, Any], analysis: Analysis) -> None:
    for scope, shown in zip(analysis.scopes, data["scopes"], strict=True):
        rows = analysis.rows_in(scope)
        assert [data["rows"][row["row"]]["name"] for row in shown["rows"]] == list(map(str, rows))
        for found in shown["within"]:
            agent, row = data["agents"][found["agent"]]["name"], analysis.rows[found["row"]]
            assert agent != row.agent
            expected = analysis.compare(scope, agent, row, "tokens", within_both=True)
            cells = [
                getattr(estimate, end)
                for estimate in (expected.cost, expected.cost_ratio)
                for end in ("value", "low", "high")
            ]
            shown_cells = [np.nan if x is None else x for x in found["tokens"]]
            assert shown_cells == pytest.approx(cells, rel=1e-5, nan_ok=True)
        sweeps = [a for a in ("cmc", "two_probes") if len(analysis.rows_in(scope, a)) > 1]
        assert len(shown["within"]) == sum(row.agent != a for a in sweeps for row in rows) > 0
        for point, figures in zip(analysis.tradeoffs(scope), shown["rows"], strict=True):
            assert figures["undominated"] == point.undominated
            assert figures["undominated_share"] == pytest.approx(point.share, rel=1e-5)
        for a, figures in zip(rows, shown["rows"], strict=True):
            tokens = analysis.estimate(scope, a, "tokens")
            assert figures["tokens"] == pytest.approx(
                [tokens.value, tokens.low, tokens.high], rel=1e-5
            )
            assert figures["episodes"] == 24 * len(scope.environments)
        a, b = 1, 0
        paired = [
            analysis.difference(scope, rows[a], rows[b], "correct"),
            analysis.ratio(scope, rows[a], rows[b], "tokens"),
            analysis.ratio(scope, rows[a], rows[b], "sequential_tokens"),
        ]
        assert shown["pairs"][a][b] == pytest.approx(
            [x for e in paired for x in (e.value, e.low, e.high)], rel=1e-5, abs=1e-12
        )
        assert shown["pairs"][a][a][:4] == [0, 0, 0, 1]


def test_bounds_are_those_of_the_stores(data: dict[str, Any], results: Results) -> None:
    stores = Sources.of(results).stores
    shown = [dict(scope["bounds"]) for scope in data["scopes"]]
    easy, hard = (pass_at(stores[name], [8])[8] for name in ("easy", "hard"))
    assert shown[0]["pass@8"] == pytest.approx(easy, rel=1e-5)
    assert shown[2]["pass@8"] == pytest.approx((easy + hard) / 2, rel=1e-5)
    assert shown[1]["plurality of all branches"] == pytest.approx(
        ceiling(stores["hard"]).plurality, rel=1e-5
    )


def test_positions_are_interpolated(analysis: Analysis) -> None:
    for scope in analysis.scopes:
        found = positions(analysis, scope, "cmc")
        ends = [analysis.means(scope, Row("cmc", beta)).value for beta in (0.0, 0.5)]
        for k, at in ((0, ends[0]), (50, ends[1])):
            assert found[k] == pytest.approx(
                [at["correct"], at["tokens"], at["sequential_tokens"]], rel=1e-5
            )
        middle = found[25]
        assert middle is not None
        assert middle[0] == pytest.approx((ends[0]["correct"] + ends[1]["correct"]) / 2, rel=1e-5)
        assert middle[1] == pytest.approx(np.sqrt(ends[0]["tokens"] * ends[1]["tokens"]), rel=1e-5)


def test_nothing_is_extrapolated(results: Results) -> None:
    runs = [run for run in results.runs if run.beta in (None, 0.5, 1.0)]
    data = made(replace(results, runs=runs))
    agent = [agent["name"] for agent in data["agents"]].index("cmc")
    found = data["scopes"][0]["positions"][agent]
    assert [beta for beta, at in zip(BETAS, found, strict=True) if at is None] == list(BETAS[:50])


def test_questions_add_up(data: dict[str, Any], results: Results) -> None:
    for number, name in enumerate(("easy", "hard")):
        shown = data["questions"][number]
        assert shown["seeds"] == 4
        assert shown["numbers"] == list(range(6))
        for run in (run for run in results.runs if run.env == name):
            row = [r["name"] for r in data["rows"]].index(str(Row(run.agent, run.beta)))
            figures = shown["rows"][row]
            assert sum(figures["correct"]) == np.sum(run.episodes["correct"])
            assert np.mean(figures["tokens"]) == pytest.approx(run.mean("tokens"), abs=1)
            for question, (correct, wrong) in enumerate(
                zip(figures["correct"], figures["wrong"], strict=True)
            ):
                assert (correct < 4) == bool(wrong)
                for answer, count in wrong:
                    at = (run.episodes["question"] == question) & ~run.episodes["correct"]
                    given = list(compress(run.episodes["answer"], at))
                    assert given.count(answer) == count == max(map(given.count, given))


def test_episodes_name_their_row_and_environment(data: dict[str, Any], results: Results) -> None:
    assert len(data["episodes"]) == len(results.runs)
    for episode in data["episodes"]:
        run = results.runs[episode["run"]]
        assert data["rows"][episode["row"]]["name"] == str(Row(run.agent, run.beta))
        assert data["environments"][episode["env"]]["name"] == run.env


def test_one_question_has_no_interval(results: Results) -> None:
    runs = [
        replace(
            run,
            episodes={
                name: np.asarray(column)[run.episodes["question"] < 1]
                for name, column in run.episodes.items()
            },
        )
        for run in results.runs
    ]
    data = made(replace(results, runs=runs))
    assert data["scopes"][0]["rows"][0]["tokens"][1:] == [None, None]
    json.dumps(data, allow_nan=False)


def test_incomplete_rows_are_listed(results: Results) -> None:
    lost = IncompleteRun("cmc", 1.0, "hard", "the machine went away")
    runs = [run for run in results.runs if (run.agent, run.beta, run.env) != ("cmc", 1.0, "hard")]
    data = made(replace(results, runs=runs, incomplete=[lost]))
    assert data["run"]["incomplete"] == ["cmc β=1 on hard: the machine went away"]
    assert data["scopes"][2]["missing"] == ["cmc β=1"]
    assert len(data["scopes"][2]["pairs"]) == len(data["scopes"][2]["rows"]) == 6


def test_without_stores_there_are_no_bounds(results: Results) -> None:
    lost = replace(results.environments[1], path="", name="hard", fingerprint="0")
    data = made(replace(results, environments=[results.environments[0], lost]))
    assert [bool(scope["bounds"]) for scope in data["scopes"]] == [True, False, False]
    assert {episode["env"] for episode in data["episodes"]} == {0}
