"""The command line: output, files, and one-line error messages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import autotts_gym
from autotts_gym.cli.options import parse_integers, parse_numbers
from autotts_gym.controllers.agent import Agent
from autotts_gym.traces.store import Branch, Question, TraceStore

PUBLISHED: dict[str, Any] = {
    "question": "1 + 1?",
    "gold_answer": "2",
    "probe_freq": 500,
    "each_branch": [[["No", "2"], 1612, "2"], [[], 17, "3"]],
    "final_answers_trace": ["2", "3"],
}


Command = Callable[..., Any]  # see conftest.py


def small(questions: int = 2, synthetic: bool = False) -> TraceStore:
    branches = [Branch(["7"], 700, "7"), Branch(["8", "8"], 1200, "8"), Branch([], 400, "7")]
    return TraceStore.from_branches(
        [Question("?", "7", branches)] * questions, 500, synthetic=synthetic
    )


# --- one-line error messages ----------------------------------------------------------------------

AT_TINY = ("--env", "tiny", "--max-branches", "3")

ERRORS: dict[str, tuple[tuple[object, ...], str]] = {
    "no such agent": (("benchmark", "nosuch"), r"no agent 'nosuch': give the path .* one of .*cmc"),
    "no action": (("benchmark", "cmc", "--action-limit", "0"), "--action-limit must be at least 1"),
    "no such file": (("benchmark", "./nosuch.py"), r"there is no agent '\./nosuch\.py'"),
    "long name": (("benchmark", "x" * 300), "there is no agent 'xxx"),
    "broken agent": (("benchmark", "broken.py"), r"broken\.py: cannot be loaded: SyntaxError"),
    "agent in brackets": (("benchmark", "[b]/nosuch.py"), r"no agent '\[b\]/nosuch\.py'"),
    "same names": (
        ("benchmark", "a/same.py", "b/same.py", *AT_TINY),
        r"a/same\.py and .*b/same\.py would both be called 'same'",
    ),
    "no such environment": (("benchmark", "cmc", "--env", "nosuch"), "no environment 'nosuch'"),
    "broken environment": (("benchmark", "cmc", "--env", "torn"), r"torn/card\.yaml: .*YAML"),
    "no width": (("benchmark", "cmc", "--max-branches", 0), "max_branches must be at least 1"),
    "too wide": (
        ("benchmark", "cmc", "--env", "tiny", "--max-branches", "64"),
        r"max_branches=64, but question 0 of '.*tiny' has 3 branches; pass max_branches=3",
    ),
    "negative budget": (("benchmark", "cmc", "--budget=-1"), "budget must be at least 0, got -1"),
    "β outside": (
        ("benchmark", "cmc", *AT_TINY, "--beta", "0.5,2"),
        r"beta must be within \[0, 1\], got 2",
    ),
    "out is a file": (("benchmark", "cmc", *AT_TINY, "--out", "file"), "file.*: Not a directory"),
    "no file to import": (("import", "nosuch.json", "--name", "x"), "nosuch.json: cannot be read"),
    "nothing to import": (("import", "a", "--name", "x"), "a: no trace files"),
    "no format": (
        ("import", "broken.py", "--name", "x"),
        r"the format of a file '\.py' is not known",
    ),
    "no JSON": (
        ("import", "broken.py", "--name", "x", "--format", "published"),
        r"broken\.py: malformed JSON at line 1",
    ),
    "no name": (
        ("import", "good.json", "--name", "../x"),
        "'../x' is not a valid environment name",
    ),
    "taken": (("import", "good.json", "--name", "tiny"), "tiny exists already"),
    "unknown parameter": (
        ("synth", "--name", "x", "--set", "wit=1"),
        "no parameter 'wit'; the param",
    ),
    "no number": (("synth", "--name", "x", "--set", "lapse=a"), "give a number, such as lapse=0.5"),
    "parameter outside": (("synth", "--name", "x", "--set", "lapse=7"), "lapse must be a number"),
    "no questions": (("synth", "--name", "x", "--questions", 0), "questions must be an integer"),
    "no branches": (("synth", "--name", "x", "--branches", 0), "branches must be an integer"),
    "no interval": (("synth", "--name", "x", "--interval", 0), "interval must be a positive"),
    "negative seed": (("synth", "--name", "x", "--seed=-1"), "seed must be an integer"),
    "synth taken": (("synth", "--name", "tiny", "--questions", 1), "tiny exists already"),
    "synth below a file": (
        ("synth", "--name", "x", "--questions", 1, "--branches", 2, "--to", "file"),
        "file: ",
    ),
    "play no such agent": (("play", "nosuch"), "there is no agent 'nosuch'"),
    "play no such question": (("play", "cmc", "--question", 99), r"is 99; valid rows are 0\.\.29"),
    "play β outside": (("play", "cmc", "--beta", 2), "beta must be a number"),
    "play an image": (("play", "cmc", "--image", "x.jpg"), r"must end in \.png or \.gif"),
    "play nowhere": (("play", "first.py", "--image", "file/x.png"), "file/x.png: Not a directory"),
    "play what fails": (
        ("play", "fails.py"),
        r"fails\.py: ValueError: an \[a\] and \[/b\] more$",
    ),
    "play what does not answer": (("play", "silent.py"), r"silent\.py: NoAnswerError: solve"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str, autotts: Command, user_envs: Path) -> None:
    arguments, message = ERRORS[case]
    small().save(user_envs / "tiny")
    (user_envs / "torn").mkdir()
    (user_envs / "torn" / "card.yaml").write_text("a: [\n - ]\n", "utf-8")
    for folder in "ab":
        Path(folder).mkdir()
        Path(folder, "same.py").write_text(f"# {folder}\ndef solve(episode): pass\n", "utf-8")
    for name, text in {
        "file": "",
        "broken.py": "def solve(episode:\n",
        "first.py": "def solve(episode): episode.answer()\n",
        "fails.py": "def solve(episode): raise ValueError('an [a]\\n  and [/b] more')\n",
        "silent.py": "def solve(episode): pass\n",
        "good.json": json.dumps([PUBLISHED]),
    }.items():
        Path(name).write_text(text, "utf-8")
    before = set(user_envs.rglob("*"))
    ended = autotts(*arguments)
    assert ended.code == 1
    assert (
        ended.out == "" or case == "play nowhere"
    )  # the episode is printed before the image fails
    (line,) = (line for line in ended.err.splitlines() if line.strip())
    assert re.match(f"autotts: .*{message}", line)
    assert set(user_envs.rglob("*")) == before
    assert not Path("results", "episodes.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["import", "x.json"], "Missing option '--name'"),
        (["benchmark", "cmc", "--beta", "a,b"], "'a,b' is not a list of numbers such as 0,0.5,1"),
        (["benchmark", "cmc", "--beta", ","], "',' is not a list of numbers"),
        (["benchmark", "cmc", "--seeds", "0-x"], "'0-x' is not a list of integers such as 0-9"),
        (["benchmark", "cmc", "--seeds", "9-0"], "'9-0' is reversed; write 0-9"),
        (["benchmark", "cmc", "--seeds=-1"], "'-1' is not a list of integers"),
        (["benchmark", "cmc", "--seeds", ""], "'' is not a list of integers"),
        (["benchmark", "cmc", "--beta", ""], "'' is not a list of numbers"),
        (["benchmark", "cmc", "--seeds", "0-9999999"], "'0-9999999' is too large"),
        (["benchmark", "cmc", "--seeds", str(2**63)], "is too large: at most 1,000,000 integers"),
        (["benchmark", "cmc", "--order", "wild"], "--order"),
        (["benchmark", "cmc", "--billing", "free"], "--billing"),
        (["benchmark", "cmc", "--budget", "x"], "--budget"),
        (["synth", "--name", "x", "--questions", "x"], "--questions"),
        (["play"], "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage(arguments: list[str], message: str, autotts: Command) -> None:
    ended = autotts(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_errors_of_a_process(tmp_path: Path) -> None:
    """Run as ``python -m autotts_gym``, and as the script that pip installs."""
    script = Path(sys.executable).with_name("autotts")
    for command in ([sys.executable, "-W", "error", "-m", "autotts_gym"], [str(script)]):
        done = subprocess.run(
            [*command, "benchmark", "nosuch"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("autotts: there is no agent 'nosuch'")
        assert done.stderr.count("\n") == 1


# --- help and option values -----------------------------------------------------------------------


def test_version_and_help(autotts: Command) -> None:
    assert autotts("--version") == (0, f"autotts_gym {autotts_gym.__version__}\n", "")
    done = autotts("--help")
    assert done.code == 0
    for command in ("import", "envs", "synth", "benchmark", "play"):
        assert command in done.out
        assert autotts(command, "--help").code == 0
    assert autotts().code != 0


def test_lists_of_numbers() -> None:
    assert parse_numbers("0,0.5, 1,0.50") == [0.0, 0.5, 1.0]
    assert parse_integers("0-2,7, 5-6,1") == [0, 1, 2, 7, 5, 6]


# --- environments ---------------------------------------------------------------------------------


def test_import_a_file(autotts: Command, user_envs: Path) -> None:
    Path("bench.json").write_text(json.dumps([PUBLISHED]), "utf-8")
    done = autotts("import", "bench.json", "--name", "mine")
    assert done.code == 0
    assert "imported mine: 1 questions, 2 branches, Δ = 500 tokens" in done.out
    assert TraceStore.open(user_envs / "mine").question(0).gold == "2"


def test_import_a_folder(autotts: Command) -> None:
    for model in ("m1", "m2"):
        Path("all", model).mkdir(parents=True)
        Path("all", model, "b.json").write_text(json.dumps([PUBLISHED]), "utf-8")
    done = autotts("import", "all", "--name", "group")
    assert re.findall(r"imported (\S+):", done.out) == ["group/m1/b", "group/m2/b"]
    listed = autotts("envs").out
    assert "group/m1/b" in listed
    assert "group/m2/b" in listed


def test_import_of_a_bad_folder_writes_nothing(autotts: Command, user_envs: Path) -> None:
    bad = {**PUBLISHED, "final_answers_trace": ["2", "4"]}
    for model, entry in (("m1", PUBLISHED), ("m2", bad)):
        Path("all", model).mkdir(parents=True)
        Path("all", model, "b.json").write_text(json.dumps([entry]), "utf-8")
    done = autotts("import", "all", "--name", "group")
    assert done.code == 1
    assert "m2/b.json: question 0, branch 1: its final answer is '3', but '4'" in done.err
    assert not user_envs.exists() or not list(user_envs.iterdir())


def test_envs(autotts: Command, user_envs: Path) -> None:
    small().save(user_envs / "mine")
    (user_envs / "torn").mkdir()
    (user_envs / "torn" / "card.yaml").write_text("[1]", "utf-8")
    done = autotts("envs")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    (mine,) = (line for line in lines if line.startswith("mine"))
    assert mine.split() == ["mine", "2", "6", "500", "3", "767"]
    (bundled,) = (line for line in lines if line.startswith("synthetic-aime24"))
    assert bundled.split()[-1] == "synthetic"
    (real,) = (line for line in lines if line.startswith("tinylm/medium/chain "))
    assert "synthetic" not in real
    assert "must be a mapping" in done.out  # an unreadable environment does not hide the others
    assert lines[-1].endswith(str(user_envs))


def test_cards(autotts: Command, user_envs: Path) -> None:
    TraceStore.from_tables(small().tables, 500, details={"note": "[b]old[/b]"}).save(
        user_envs / "mine"
    )
    done = autotts("envs", "--cards").out
    assert f"fingerprint: {small().card.fingerprint}" in done
    assert "note: '[b]old[/b]'" in done


def test_synth(autotts: Command, user_envs: Path, tmp_path: Path) -> None:
    size = ("--questions", 3, "--branches", 4)
    made: list[Any] = [
        ("one", ()),
        ("again", ()),
        ("seeded", ("--seed", 1)),
        ("set", ("--set", "accuracy=0.5", "--set", "lapse=0")),
    ]
    cards = {}
    for name, more in made:
        done = autotts("synth", "--name", name, *size, *more)
        assert done.code == 0
        assert "synthetic" in done.out
        cards[name] = TraceStore.open(user_envs / name).card
        assert (cards[name].questions, cards[name].branches) == (3, 12)
        assert cards[name].synthetic
    assert cards["one"].fingerprint == cards["again"].fingerprint
    assert len({card.fingerprint for card in cards.values()}) == 3
    autotts("synth", "--name", "one", *size, "--interval", 1000, "--to", tmp_path / "[else]where")
    assert TraceStore.open(tmp_path / "[else]where" / "one").card.interval == 1000


# --- benchmark ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_benchmark(autotts: Command) -> None:
    call: tuple[object, ...] = ("benchmark", "self_consistency", "cmc", "--beta", "0,1")
    call += ("--env", "synthetic-aime24", "--seeds", "0-2")
    done = autotts(*call, "--out", "out[1]", "--max-branches", 4)
    assert (done.code, done.err) == (0, "")
    assert "synthetic-aime24: 60 questions × 3 seeds SYNTHETIC" in done.out
    assert "Synthetic traces are generated" in " ".join(done.out.split())
    rows = re.findall(r"^(\w+(?: β=\d)?) +[\d.]+ \[[\d., ]+\][* ] .*\d%$", done.out, re.M)
    assert rows == ["self_consistency", "cmc β=0", "cmc β=1"]
    assert re.search(r"^compiled: self_consistency \([\d,]+ episodes/s\), cmc \(", done.out, re.M)
    assert re.search(r"^Billed by tokens\.$", done.out, re.M)
    assert "wrote out[1]/episodes.parquet, summary.csv, benchmark.json, frontier.png" in done.out
    assert pq.read_metadata("out[1]/episodes.parquet").num_rows == 3 * 3 * 60
    with Image.open("out[1]/frontier.png") as image:
        assert image.size[0] > 500
    again = autotts(*call, "--out", "out[1]", "--max-branches", 4)
    assert "cached: self_consistency, cmc\n" in again.out
    assert sorted(p.name for p in Path("out[1]").iterdir()) == [
        "benchmark.json",
        "cells",
        "episodes.parquet",
        "frontier.png",
        "latency.png",
        "summary.csv",
        "tradeoff.png",
    ]


@pytest.mark.slow
def test_benchmark_on_several_environments(autotts: Command, user_envs: Path) -> None:
    """Names, groups and paths together; only synthetic environments are marked."""
    small().save(user_envs / "group" / "a")
    small(1).save(user_envs / "group" / "b")
    small(synthetic=True).save(Path("made").resolve())
    done = autotts(
        *("benchmark", "self_consistency", "--env", "group", "--env", "./made"),
        *("--seeds", "3", "--max-branches", "3", "--billing", "interval", "--budget", "9000"),
    )
    assert done.code == 0
    titles = re.findall(r"^(\S+): \d questions × 1 seeds(.*)$", done.out, re.M)
    assert titles == [("group/a", ""), ("group/b", ""), ("made", " SYNTHETIC")]
    assert re.search(r"^average: 3 environments, 5 questions × 1 seeds SYNTHETIC$", done.out, re.M)
    assert re.search(r"^Billed by interval\.$", done.out, re.M)
    assert "nan" not in done.out + done.err + Path("results/summary.csv").read_text("utf-8")
    envs = pq.read_table("results/episodes.parquet")["env"].to_pylist()
    assert envs == ["group/a"] * 2 + ["group/b"] + ["made"] * 2


@pytest.mark.slow
def test_the_published_protocol(autotts: Command, user_envs: Path) -> None:
    """The published settings; published figures only for the models of the paper."""
    branches = [Branch(["7"], 700, "7")] * 64
    for name, model in (("known", "Qwen3-4B"), ("other", "my-model")):
        details = {"model": model, "benchmark": "aime24"}
        made = TraceStore.from_branches([Question("?", "7", branches)], 500, details=details)
        made.save(user_envs / "group" / name)
    done = autotts("benchmark", "--protocol", "paper", "--env", "group", "--seeds", "0")
    assert (done.code, done.err) == (0, "")
    assert "Billed by tokens (self_consistency, asc, esc); by interval (parallel_probe, cmc)." in (
        done.out
    )
    outcome, latency = done.out.split("aime24: ")[1:]
    # 64 branches of 700 tokens; published figures in the first column alone.
    assert re.search(r"^SC@64 +100\.0 / 44\.8k +100\.0 / 44\.8k *$", outcome, re.M)
    assert re.search(r"^SC@64 .*\n  published +80\.0 / 886\.8k *$", outcome, re.M)
    assert re.search(r"^ASC .*\n  published +80\.1 / 175\.7k† *$", outcome, re.M)
    assert re.search(r"^SC@64 +0\.7k +0\.7k *\n  published +29\.3k *$", latency, re.M)
    assert re.search(r"^CMC β=0\.5 .*\nCMC β=1 ", latency, re.M)  # without published figures
    both = autotts("benchmark", "--protocol", "paper", "--order", "random")
    assert both.code == 1
    assert "--protocol paper sets the order and the billing; omit both options" in both.err


@pytest.mark.slow
def test_the_protocol_field(autotts: Command, user_envs: Path) -> None:
    """One table with the published settings; what the traces lack is said below it."""
    branches = [Branch(["7", "7"], 2500, "7"), Branch(["8"], 1200, "7")] * 4
    made = TraceStore.from_branches([Question("?", "7", branches)] * 2, 1000)
    made.save(user_envs / "plain")
    done = autotts("benchmark", "--protocol", "field", "--env", "plain", "--seeds", "0")
    assert (done.code, done.err) == (0, "")
    # All 8 branches are right: the cheapest controllers beat self-consistency, none beats first.
    assert re.search(r"^ 1 self_consistency +100\.0 .* 14\.8k +2\.5k +8 .*\b7\b", done.out, re.M)
    assert re.search(r"^ 7 first_finish β=0\.5 +100\.0 ", done.out, re.M)
    assert re.search(r"^12 mars β=0\.5 +100\.0 .* \+0\.0 ", done.out, re.M)
    assert "deepconf_online β" not in done.out
    assert "not played, for want of generation confidences: deepconf_online, " in done.out
    assert "…" not in done.out.partition("[95%")[0]


@pytest.mark.slow
def test_benchmark_without_a_budget(autotts: Command) -> None:
    done = autotts("benchmark", "cmc", "--budget", 0, "--seeds", "0", "--beta", "0.5")
    assert (done.code, done.err) == (0, "")
    assert set(pq.read_table("results/episodes.parquet")["tokens"].to_pylist()) == {0}


@pytest.mark.slow
def test_benchmark_explains_why_an_agent_is_not_compiled(
    autotts: Command, user_envs: Path, controller: Callable[..., Agent]
) -> None:
    small().save(user_envs / "tiny")
    text = "def solve(episode):\n    {}.get(episode)\n    episode.answer()\n"
    agent = controller(text, "plain")
    done = autotts("benchmark", agent.path, *AT_TINY)
    assert done.code == 0
    assert re.search(r"^python: plain \([\d,]+ episodes/s\)$", done.out, re.M)
    assert re.search(r"^plain ran as plain Python: \S", done.out, re.M)
    asked = autotts("benchmark", agent.path, *AT_TINY, "--interpret", "--out", "other")
    assert "ran as plain Python" not in asked.out


@pytest.mark.slow
def test_benchmark_lists_failures(
    autotts: Command, user_envs: Path, controller: Callable[..., Agent]
) -> None:
    small().save(user_envs / "tiny")
    agent = controller("def solve(episode): raise ValueError('an [a] and [/b] more')\n", "b[a]d")
    for _ in range(2):  # the second time from the result cache
        done = autotts("benchmark", agent.path, *AT_TINY, "--seeds", "0-3")
        assert done.code == 0
        lines = done.err.splitlines()
        assert lines[0] == (
            "b[a]d on tiny: question 0, seed 0: ValueError: an [a] and [/b] more "
            "(8 of 8 episodes failed)"
        )
        assert len(lines) == 3  # not all eight
        assert "b[a]d" in done.out


# Slow episodes; time.sleep is interrupted by a signal.
SLEEPS = """
import time

def solve(episode):
    time.sleep(0.02)
    episode.answer()
"""


@pytest.mark.slow
def test_interrupted_benchmark(tmp_path: Path, controller: Callable[..., Agent]) -> None:
    small(3).save(tmp_path / "tiny")
    agent = controller(SLEEPS)
    cells = tmp_path / "out" / "cells"
    command = ("benchmark", str(agent.path), "--env", str(tmp_path / "tiny"), "--seeds", "0-99")
    process = subprocess.Popen(
        [sys.executable, "-m", "autotts_gym", *command, "--max-branches", "3", "--out", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # SIGINT may be ignored if the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not cells.is_dir() or len(list(cells.glob("[!.]*"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err.strip().endswith("finished work is kept; run the same command to continue")
    assert "Traceback" not in err
    kept = list(cells.iterdir())
    assert 2 <= len(kept) < 10
    assert all(pq.read_metadata(cell).num_rows == 30 for cell in kept)  # complete cells only
    assert os.listdir(tmp_path / "out") == ["cells"]


# --- play -----------------------------------------------------------------------------------------


def test_play(autotts: Command) -> None:
    call = ("play", "cmc", "--question", 3, "--beta", 0.2, "--seed", 5, "--billing", "interval")
    done = autotts(*call)
    assert (done.code, done.err) == (0, "")
    assert re.search(
        r"^[\d,]+ actions, [\d,]+ total tokens, [\d,]+ sequential tokens$", done.out, re.M
    )
    assert autotts(*call) == done
    assert autotts("play", "self_consistency").out != done.out


@pytest.mark.parametrize(("name", "frames"), [("end.png", 1), ("way.gif", 9)])
def test_play_to_an_image(
    name: str, frames: int, autotts: Command, controller: Callable[..., Agent]
) -> None:
    agent = controller(
        "def solve(episode):\n"
        "    for _ in range(4): episode.branch()\n"
        "    episode.probe_all()\n"
        "    episode.answer()\n"
    )
    done = autotts("play", agent.path, "--image", name)
    assert (done.code, done.err) == (0, "")
    assert "9 actions, 64 total tokens, 16 sequential tokens" in done.out
    assert f"wrote {name}" in done.out
    with Image.open(name) as image:
        assert getattr(image, "n_frames", 1) >= frames
