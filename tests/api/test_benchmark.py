"""``benchmark`` and its result."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autotts_gym
from autotts_gym.api import BenchmarkResult
from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.results import Results


def one_branch(episode):  # type: ignore[no-untyped-def]
    i = episode.branch()
    while episode.can_extend(i):
        episode.extend(i)
    episode.probe(i)
    return episode.answer()


@pytest.fixture(scope="module")
def result(two_stores: list[str], tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    return autotts_gym.benchmark(
        ["cmc", one_branch],
        two_stores,
        betas=(0, 1),
        seeds="0-2",
        max_branches=4,
        workers=0,
        out=tmp_path_factory.mktemp("results"),
    )


def test_equals_the_command(
    result: BenchmarkResult, two_stores: list[str], autotts: Callable[..., Any]
) -> None:
    arguments = ["--beta", "0,1", "--seeds", "0-2", "--max-branches", 4, "--workers", 0]
    envs = [word for store in two_stores for word in ("--env", store)]
    assert autotts("benchmark", "cmc", *envs, *arguments, "--out", "there").code == 0
    theirs = {(r.agent, r.beta, r.env): r.episodes for r in Results.load(Path("there")).runs}
    ours = {(r.agent, r.beta, r.env): r.episodes for r in result.results.runs if r.agent == "cmc"}
    assert ours.keys() == theirs.keys()
    for key, episodes in ours.items():
        for column in ("correct", "tokens", "sequential_tokens", "actions"):
            assert np.array_equal(episodes[column], theirs[key][column])
    for file in ("episodes.parquet", "summary.csv", "benchmark.json", "frontier.png"):
        assert (result.folder / file).is_file()


def test_kept_episodes_and_loading(result: BenchmarkResult, two_stores: list[str]) -> None:
    again = autotts_gym.benchmark(
        "cmc", two_stores, betas=1, seeds=[0, 1], max_branches=4, workers=0, out=result.folder
    )
    assert {run.path for run in again.results.runs} == {"kept"}
    loaded = BenchmarkResult.load(str(result.folder))
    assert str(loaded) == str(again)


def test_tables(result: BenchmarkResult) -> None:
    assert len(result) == len(list(result)) == 9  # two environments and their average
    text = str(result)
    assert "cmc β=0" in text
    assert "one_branch" in text
    assert text == repr(result)
    html = result._repr_html_()
    assert html.count("<table>") == 3
    assert html.count("<tr>") == 3 + 9
    assert not result.failures


def test_arrow_and_pandas(result: BenchmarkResult) -> None:
    summary, episodes = result.to_arrow(), result.to_arrow("episodes")
    assert summary.num_rows == 9
    assert episodes.num_rows == 3 * 3 * (3 + 4)
    frame = result.to_pandas()
    assert list(frame.columns) == summary.column_names
    assert result.to_pandas("episodes")["correct"].mean() == pytest.approx(
        np.mean(episodes["correct"].to_numpy())
    )
    with pytest.raises(ValueError, match='table must be "summary" or "episodes"'):
        result.to_arrow("runs")  # type: ignore[arg-type]


def test_without_pandas(result: BenchmarkResult, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pandas":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="to_pandas needs pandas: pip install pandas"):
        result.to_pandas()


def test_frontier(result: BenchmarkResult, two_stores: list[str]) -> None:
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert result.frontier(ax) is ax
    assert two_stores[0] in ax.get_title()
    assert two_stores[1] in result.frontier(env=two_stores[1]).get_title()
    with pytest.raises(ValueError, match="env must be one of"):
        result.frontier(env="elsewhere")


def test_report(result: BenchmarkResult, tmp_path: Path) -> None:
    path = result.report(tmp_path / "page.html", episodes=0)
    assert path == tmp_path / "page.html"
    assert "cmc" in path.read_text("utf-8")


def test_failures_are_listed(two_stores: list[str], tmp_path: Path) -> None:
    result = autotts_gym.benchmark(
        lambda episode: None, two_stores[0], seeds=1, max_branches=2, workers=0, out=tmp_path
    )
    assert len(result.failures) == 3
    assert "question 0, seed 1" in result.failures[0]
    assert "3 failures, see .failures" in str(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give a controller"),
        ({"controllers": "cmc", "betas": 2}, r"beta must be within \[0, 1\]"),
        ({"controllers": "cmc", "betas": "0,x"}, "betas must be numbers such as"),
        ({"controllers": "cmc", "seeds": "0-x"}, "seeds must be integers such as"),
        ({"controllers": "cmc", "workers": -1}, "workers must be at least 0"),
        ({"controllers": "cmc", "time_limit": 0.0}, "time_limit must be above 0"),
        ({"controllers": "cmc", "action_limit": 0}, "action_limit must be at least 1"),
        ({"protocol": "papers"}, 'protocol must be "paper", "field" or None'),
        ({"protocol": "paper", "order": "random"}, "sets order and billing"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        autotts_gym.benchmark(out=tmp_path, **arguments)


def test_analysis_takes_results(result: BenchmarkResult) -> None:
    analysis = Analysis(result.results, replicates=9)
    assert [s.name for s in analysis.scopes] == [
        s.name
        for s in result.analysis.scopes  # type: ignore[union-attr]
    ]
    assert len(repr(result.results)) < 100
