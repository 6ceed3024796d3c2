"""``autotts report``: the page, the output and one-line error messages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autotts_gym.traces.store import Branch, Question, TraceStore

Command = Callable[..., Any]  # see conftest.py


@pytest.fixture
def played(autotts: Command, user_envs: Path, tmp_path: Path) -> Path:
    """The output folder of a benchmark on a small environment."""
    branches = [Branch(["7"], 700, "7"), Branch(["8", "8"], 1200, "8"), Branch([], 400, "7")]
    questions = [Question(f"question {k}", "7", branches[k:] + branches[:k]) for k in range(3)]
    TraceStore.from_branches(questions, 500).save(user_envs / "tiny")
    small = ("--env", "tiny", "--max-branches", "3", "--workers", "0", "--seeds", "0-1")
    assert autotts("benchmark", "self_consistency", *small).code == 0
    return tmp_path / "here" / "results"


def test_it_writes_a_page(autotts: Command, played: Path) -> None:
    done = autotts("report")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"wrote report\.html: \d+\.\d MB, 6 episodes\n", done.out)
    page = Path("report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert '"name":"self_consistency"' in page
    assert "question 2" in page


@pytest.mark.slow
def test_options(autotts: Command, played: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    done = autotts("report", played, "--out", out, "--episodes", 2, "--figures", "deep/figures")
    assert done.code == 0
    assert f"wrote {out}: " in done.out
    assert ", 2 episodes" in done.out
    drawn = sorted(path.name for path in Path("deep/figures").iterdir())
    names = ("frontier", "latency", "tradeoff")
    assert drawn == [f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]
    for name in names:
        with Image.open(f"deep/figures/{name}.png") as image:
            assert image.width > 700
        assert "<svg" in Path(f"deep/figures/{name}.svg").read_text("utf-8")
    first = Path("deep/figures/frontier.svg").read_bytes()
    autotts("report", played, "--episodes", 0, "--figures", "again")
    assert Path("again/frontier.svg").read_bytes() == first


def test_omissions_are_printed(autotts: Command, played: Path) -> None:
    manifest = played / "benchmark.json"
    facts = json.loads(manifest.read_text("utf-8"))
    facts["environments"][0]["fingerprint"] = "0"
    manifest.write_text(json.dumps(facts), "utf-8")
    done = autotts("report")
    assert done.code == 0
    assert done.err == (
        "omitted: tiny has other traces than in the benchmark: its episodes and bounds are "
        "omitted\n"
    )
    assert ", 0 episodes" in done.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("nowhere",), "there is no folder nowhere"),
        ((".",), "contains no benchmark results"),
        (("results", "--out", "x.pdf"), "--out must end in .html, got 'x.pdf'"),
        (("results", "--out", "no/x.html"), "--out: there is no folder no"),
        (("results", "--episodes", "-1"), "episodes must be at least 0, got -1"),
    ],
)
def test_errors(arguments: tuple[str, ...], complaint: str, autotts: Command, played: Path) -> None:
    done = autotts("report", *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("autotts: ")
    assert complaint in done.err
    assert done.err.count("\n") == 1
    assert not list(Path().glob("*.html"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 0, "version": "0.0.1"}, "autotts_gym 0.0.1 wrote them"),
        ({"agents": 3}, "cannot be read"),
        ({"terms": {}, "environments": [{}]}, "cannot be read"),
        ({"environments": []}, "describes no environment 'tiny'"),
        ({"agents": []}, "describes no agent '"),
    ],
)
def test_damaged_results(
    change: dict[str, object], complaint: str, autotts: Command, played: Path
) -> None:
    manifest = played / "benchmark.json"
    facts = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps(facts | change), "utf-8")
    done = autotts("report")
    assert done.code == 1
    assert complaint in done.err
    assert done.err.count("\n") == 1


def test_empty_results(autotts: Command, played: Path) -> None:
    """A benchmark without a completed row."""
    import pyarrow.parquet as pq

    table = pq.read_table(played / "episodes.parquet")
    pq.write_table(table.slice(0, 0), played / "episodes.parquet")
    done = autotts("report")
    assert done.code == 1
    assert "nothing to report" in done.err
