"""Boards, their figures on the page, and the Markdown tables."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotts_gym.evaluation.results import Results
from autotts_gym.leaderboard import Leaderboard, build_leaderboard, write_markdown, write_page
from autotts_gym.leaderboard.boards import boards
from autotts_gym.leaderboard.tables import leaderboard_data


@pytest.fixture(scope="module")
def board(home: Path) -> Leaderboard:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTTS_ENVS", str(home / "envs"))
        return build_leaderboard([home / "results"], sample=1, sample_seed=3)


@pytest.fixture(scope="module")
def data(board: Leaderboard) -> dict[str, Any]:
    return leaderboard_data(board, boards(board))


def test_splits_are_apart(data: dict[str, Any]) -> None:
    (only,) = data["boards"]
    assert [
        (part["title"], [column["name"] for column in part["columns"]]) for part in only["parts"]
    ] == [
        ("Search sets", ["group/a"]),
        ("Held-out sets", ["group/b"]),
        ("Sets without a split", ["other"]),
    ]
    assert only["setting"] == (
        "up to 4 branches; 3 seeds (0-2), a branch order each; billed by tokens"
    )


def test_rows_of_all_folders_share_a_table(data: dict[str, Any]) -> None:
    search, _, other = data["boards"][0]["parts"]
    names = ["self_consistency", "cmc β=0", "cmc β=0.5"]
    assert [row["name"] for row in other["rows"]] == names
    foreign = ["three_branches β=0", "three_branches β=0.5"]
    assert [row["name"] for row in search["rows"]] == [*names, *foreign]
    # Of a bundled controller, the published setting only; of others, all.
    assert [row["main"] for row in search["rows"]] == [True, False, True, True, True]


def test_figures_are_those_of_the_episodes(data: dict[str, Any], home: Path) -> None:
    runs = {run.key: run for run in Results.load(home / "results/bundled").runs}
    sc, cmc = runs["self_consistency", None, "group/a"], runs["cmc", 0.5, "group/a"]
    rows = {row["name"]: row["cells"][0] for row in data["boards"][0]["parts"][0]["rows"]}
    cell = rows["cmc β=0.5"]
    assert cell["correct"][0] == pytest.approx(np.mean(cmc.episodes["correct"]), rel=1e-5)
    assert cell["tokens"][0] == pytest.approx(np.mean(cmc.episodes["tokens"]), rel=1e-5)
    difference = np.mean(cmc.episodes["correct"]) - np.mean(sc.episodes["correct"])
    assert cell["difference"][0] == pytest.approx(difference, abs=1e-6)
    ratio = np.mean(cmc.episodes["tokens"]) / np.mean(sc.episodes["tokens"])
    assert cell["ratio"][0] == pytest.approx(ratio, rel=1e-5)
    assert "difference" not in rows["self_consistency"]


def test_everything_is_identified(data: dict[str, Any], home: Path) -> None:
    results = Results.load(home / "results/bundled")
    assert {env["fingerprint"] for env in data["environments"]} == {
        env.fingerprint for env in results.environments
    }
    replayed = {row["name"]: row["replayed"] for row in data["controllers"]}
    assert replayed == {
        "self_consistency": "as bundled or installed",
        "cmc": "as bundled or installed",
        "three_branches": "in the sandbox",
    }
    assert [(row["name"], row["version"]) for row in data["folders"]] == [
        ("bundled", results.version),
        ("foreign", results.version),
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", row["digest"]) for row in data["folders"])


def test_a_folder_that_is_handed_in_twice_changes_nothing(
    data: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "results", tmp_path / "all")
    shutil.copytree(home / "results/bundled", tmp_path / "all/copy")
    twice = build_leaderboard([tmp_path / "all"], sample=1)
    assert len(twice.entries) == 3
    assert leaderboard_data(twice, boards(twice))["boards"] == data["boards"]


def test_other_settings_are_another_board(home: Path, board: Leaderboard) -> None:
    bundled = board.entries[0]
    other = replace(bundled.entry.results, seeds=[0, 1, 2, 9])
    changed = replace(bundled, entry=replace(bundled.entry, name="other", results=other))
    both = boards(replace(board, entries=[bundled, changed]))
    assert [str(one.setting).split(";")[1] for one in both] == [
        " 3 seeds (0-2), a branch order each",
        " 4 seeds (0, 1, 2, 9), a branch order each",
    ]


def test_two_controllers_of_one_name_are_told_apart(board: Leaderboard) -> None:
    _, foreign = board.entries
    (agent,) = foreign.entry.results.agents
    renamed = replace(foreign.entry.results, agents=[replace(agent, digest="ab" * 32)])
    second = replace(foreign, entry=replace(foreign.entry, name="second", results=renamed))
    (one,) = boards(replace(board, entries=[foreign, second]))
    assert sorted(one.agents) == sorted(
        [f"three_branches ({agent.digest[:8]})", "three_branches (abababab)"]
    )


def test_a_foreign_program_with_a_bundled_name_is_not_the_reference(board: Leaderboard) -> None:
    _, foreign = board.entries
    results, sources = foreign.entry.results, foreign.sources
    renamed = replace(
        results,
        agents=[replace(results.agents[0], name="self_consistency")],
        runs=[replace(run, agent="self_consistency", beta=None) for run in results.runs[:1]],
    )
    agents = {"self_consistency": sources.agents["three_branches"]}
    imitation = replace(
        foreign,
        entry=replace(foreign.entry, results=renamed),
        sources=replace(sources, agents=agents),
    )
    (one,) = boards(replace(board, entries=[imitation]))
    assert list(one.agents) == [f"self_consistency ({results.agents[0].digest[:8]})"]
    assert one.is_main(one.analysis.rows[0])


def test_the_page_is_complete_and_safe(board: Leaderboard, tmp_path: Path) -> None:
    named = replace(board, refused={"x</script><script>alert(1)</script>": "`why|"})
    write_page(named, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<script") == 2
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page)
    assert json.loads(text)["refused"] == [list(pair) for pair in named.refused.items()]


def test_markdown_has_the_main_rows(board: Leaderboard, tmp_path: Path) -> None:
    write_markdown(board, tmp_path / "tables.md")
    text = (tmp_path / "tables.md").read_text("utf-8")
    assert text.count("| `cmc β=0.5` |") == 3
    assert "cmc β=0`" not in text
    assert "**Held-out sets**, up to 4 branches" in text
    assert re.search(r"\| `self_consistency` \| \d+\.\d / \d+\.\dk \|", text)
