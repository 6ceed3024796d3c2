"""``autotts discover`` and ``autotts judge``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

SMALL = ("--env", "tinylm/small/chain", "--questions", "0-4", "--seeds", "1")
GENETIC = ("--rounds", "1", "--islands", "1", "--attempts", "2", "--evaluations", "4")


@pytest.mark.slow
def test_genetic_search(autotts) -> None:
    asked = ("discover", *SMALL, *GENETIC, "--out", "found", "--workers", "1")
    done = autotts(*asked)
    assert done.code == 0, done.err
    assert re.search(
        r"found found: score 0\.\d+ out of fold, 0\.\d+ on the search set; 13 programs were",
        " ".join(done.out.split()),
    )
    text = Path("found/found.py").read_text("utf-8")
    assert "Found by: autotts" in text
    assert "On: tinylm/small/chain\n" in text
    again = autotts(*asked)
    assert again.code == 0
    assert "continuing a search: 13 programs so far" in again.out
    assert Path("found/found.py").read_text("utf-8") == text
    other = autotts(*asked, "--seed", 1)
    assert other.code == 1
    assert "found contains another run with a different plan" in " ".join(other.err.split())
    judged = autotts("judge", "found/found.py", *SMALL)
    assert judged.code == 0, judged.out + judged.err
    final = json.loads(Path("found/journal.jsonl").read_text("utf-8").splitlines()[-1])
    assert f"Score: {final['score']:.4f}" in judged.out
    assert final["diagnosis"].splitlines()[0] in judged.out


@pytest.mark.slow
def test_a_command_as_proposer(autotts) -> None:
    """The workspace contains the judge command, which scores a program as the search does."""
    line = (
        "sed -e 's/0.75 +/0.7 +/' best.py > controller.py; "
        "sed -n 's/^.*`\\(autotts judge.*\\)`.*$/\\1/p' README.md > judge.txt"
    )
    done = autotts(
        "discover", "--proposer", "command", "--command", line, *SMALL, "--rounds", 1,
        "--attempts", 1, "--out", "made",
    )  # fmt: skip
    assert done.code == 0, done.err
    journal = Path("made/journal.jsonl").read_text("utf-8").splitlines()
    entries = {entry["name"]: entry for entry in map(json.loads, journal)}
    assert entries["1-1"]["trouble"] == ""
    assert "0.7 + 0.22" in entries["1-1"]["source"]
    assert Path("made/made.py").read_text("utf-8").startswith("# Found by: autotts")


@pytest.mark.slow
def test_a_rejected_program(autotts) -> None:
    Path("none.py").write_text("def solve(episode):\n    episode.answer()\n", "utf-8")
    done = autotts("judge", "none.py", *SMALL)
    assert done.code == 1
    assert (
        "Rejected: line 1: the signature solve(episode) must be solve(episode, beta)"
        in " ".join(done.out.split())
    )
    assert autotts("judge", "none.py", *SMALL, "--no-knob").code == 0
    missing = autotts("judge", "nosuch.py")
    assert missing.code == 1
    assert "nosuch.py: No such file" in missing.err


def test_weights_of_latency(autotts) -> None:
    text = "def solve(episode):\n    episode.probe(episode.branch())\n    episode.answer()\n"
    Path("one.py").write_text(text, "utf-8")
    done = autotts("judge", "one.py", *SMALL, "--no-knob", "--latency", "0,0.5")
    lines = done.out.splitlines()
    assert sum(line.startswith("| 0.25, latency weight 0.5 |") for line in lines) == 1
    assert sum(line.startswith("| 0.25, latency weight 0 |") for line in lines) == 1
    wrong = autotts("judge", "one.py", *SMALL, "--latency", "2")
    assert wrong.code == 2
    assert "must list weights from 0 to 1" in " ".join(wrong.err.replace("│", " ").split())


def test_missing_options_of_proposers(autotts) -> None:
    none = autotts("discover", "--proposer", "command", *SMALL, "--out", "run")
    assert none.code == 1
    assert "the command is empty: give one such as 'python propose.py'" in none.err
    url = autotts("discover", "--by", "openai", *SMALL, "--out", "other")
    assert url.code == 1
    assert "autotts: " in url.err


def test_unknown_proposer(autotts) -> None:
    done = autotts("discover", "--by", "nosuch", *SMALL, "--out", "run")
    assert done.code == 2
    assert "unknown proposer 'nosuch': choose one of genetic, " in " ".join(
        done.err.replace("│", " ").split()
    )
