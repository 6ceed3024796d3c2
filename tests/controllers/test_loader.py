"""Loading controllers by name and by path, reloading after edits, and errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import pytest

from autotts_gym.controllers import loader
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError, IllegalActionError, NoAnswerError
from autotts_gym.controllers.loader import find, load, names

ONE_BRANCH = """
def solve(episode):
    episode.branch()
    episode.probe(0)
    episode.answer()
"""


# --- names and paths -----------------------------------------------------------------------------


def test_by_name() -> None:
    assert {"self_consistency", "cmc"} <= set(names())
    for name in names():
        agent = load(name)
        assert (agent.name, agent.path) == (name.rpartition("/")[2], find(name))
    assert load("cmc").takes_beta
    assert not load("self_consistency").takes_beta


def test_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(ONE_BRANCH, "utf-8")
    monkeypatch.chdir(tmp_path)
    for path in ("mine.py", "./mine.py", str(tmp_path / "mine.py")):
        agent = load(path)
        assert (agent.name, agent.path) == ("mine", tmp_path / "mine.py")
    assert load("mine.py") is agent  # unchanged


def test_a_path_needs_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cmc.py").write_text(ONE_BRANCH, "utf-8")
    Path("cmc").mkdir()
    assert load("cmc").path.parent != tmp_path
    assert load("cmc.py").path.parent == tmp_path


@pytest.mark.parametrize(
    ("signature", "takes_beta"),
    [
        ("episode", False),
        ("episode, beta", True),
        ("episode, beta=0.5", True),
        ("episode, beta, width=64", True),
        ("episode, *, width=64", False),
        ("*arguments", True),
    ],
)
def test_signatures(signature: str, takes_beta: bool, controller: Callable[..., Agent]) -> None:
    assert controller(f"def solve({signature}):\n    pass").takes_beta is takes_beta


def test_modules_behave_normally(controller: Callable[..., Agent]) -> None:
    """Code that needs its own module works: data classes, named tuples, __file__."""
    agent = controller(
        "import pickle\n"
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from typing import NamedTuple\n"
        "@dataclass\n"
        "class Plan:\n"
        "    width: 'int' = 3\n"
        "class Pair(NamedTuple):\n"
        "    first: int\n"
        "assert pickle.loads(pickle.dumps(Plan(2))) == Plan(2)\n"
        "assert Pair.__annotations__ == {'first': int}\n"  # no future import leaks in
        "assert Path(__file__).name == 'agent.py'\n"
        "assert __name__ != '__main__'\n"
        "def solve(episode): pass\n"
    )
    assert sys.modules[agent.solve.__module__].__dict__ is agent.solve.__globals__


# --- edits ---------------------------------------------------------------------------------------


def test_edits_are_noticed(tmp_path: Path) -> None:
    """Even if size and modification time are equal, which deceives Python's bytecode cache."""
    path = tmp_path / "agent.py"
    seen = set()
    for width in (3, 4, 3):
        path.write_text(f"WIDTH = {width}\ndef solve(episode): pass\n", "utf-8")
        os.utime(path, (1_700_000_000, 1_700_000_000))
        agent = load(str(path))
        assert agent.solve.__globals__["WIDTH"] == width
        seen.add(agent.digest)
    assert len(seen) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["agent.py"]  # no bytecode files


def test_a_corrected_file_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "agent.py"
    path.write_text("def solve(episode:\n", "utf-8")
    with pytest.raises(AgentError, match="SyntaxError"):
        load(str(path))
    path.write_text(ONE_BRANCH, "utf-8")
    assert not load(str(path)).takes_beta


# --- errors --------------------------------------------------------------------------------------

INVALID = {
    "syntax": ("def solve(episode:\n", r"SyntaxError: .*line 1"),
    "null byte": ("def solve(episode): pass\0", "cannot be loaded: .*null bytes"),
    "missing import": ("import no_such_module\n", "ModuleNotFoundError: .*no_such_module"),
    "raises": ("1 / 0\n", "ZeroDivisionError: division by zero"),
    "exits": ("import sys\nsys.exit(3)\n", "cannot be loaded: SystemExit: 3"),
    "no solve": ("def resolve(episode): pass\n", "has no function solve"),
    "empty": ("", "has no function solve"),
    "solve is no function": ("solve = 3\n", "has no function solve"),
    "solve is a class": ("class solve: pass\n", "has no function solve"),
    "no arguments": ("def solve(): pass\n", r"solve\(\) does not fit; it must be solve\(episode"),
    "three arguments": ("def solve(a, b, c): pass\n", r"solve\(a, b, c\) does not fit"),
    "keyword β": ("def solve(episode, *, beta): pass\n", "does not fit"),
    "generator": ("def solve(episode): yield 1\n", "no yield"),
    "coroutine": ("async def solve(episode): pass\n", "no async"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_files(case: str, controller: Callable[..., Agent], tmp_path: Path) -> None:
    text, message = INVALID[case]
    before = set(sys.modules)
    with pytest.raises(AgentError, match=message) as caught:
        controller(text)
    assert str(caught.value).startswith(str(tmp_path / "agent.py"))
    if "cannot be loaded" in message:
        assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["nosuch", "nosuch.py", "", ".", "agents/cmc", "x" * 300, "a.txt"])
def test_missing_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(ONE_BRANCH, "utf-8")
    with pytest.raises(AgentError, match=r"there is no agent .* one of .*cmc, .*self_consistency"):
        load(name)


def test_a_folder_is_not_an_agent(tmp_path: Path) -> None:
    (tmp_path / "agent.py").mkdir()
    with pytest.raises(AgentError, match="there is no agent"):
        load(str(tmp_path / "agent.py"))


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "agent.py").write_text(ONE_BRANCH, "utf-8")
    monkeypatch.setattr(loader.Path, "read_bytes", refuse)
    with pytest.raises(AgentError, match=r"agent\.py: cannot be read: Permission denied"):
        load(str(tmp_path / "agent.py"))


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_bytes(b"NAME = '\xff\xfe'\ndef solve(e): pass\n")
    with pytest.raises(AgentError, match="SyntaxError"):
        load(str(tmp_path / "agent.py"))
    (tmp_path / "agent.py").write_bytes(b"# coding: latin-1\nNAME = '\xe9'\ndef solve(e): pass\n")
    assert load(str(tmp_path / "agent.py")).solve.__globals__["NAME"] == "é"


# --- playing through an environment --------------------------------------------------------------


def test_play(controller: Callable[..., Agent]) -> None:
    env = gym.make("AutoTTS-v0", max_branches=3)
    info = controller(ONE_BRANCH).play(env, question=5, beta=0.25, branch_order=[4, 2, 9])
    assert (info["steps"], info["question"], info["beta"]) == (3, 5, 0.25)
    assert info == controller(ONE_BRANCH).play(
        env, seed=1, question=5, beta=0.25, branch_order=[4, 2, 9]
    ) | {"action_mask": info["action_mask"]}


def test_play_uses_the_seed(controller: Callable[..., Agent]) -> None:
    env = gym.make("AutoTTS-v0", max_branches=3, beta=(0.0, 1.0))
    agent = controller("def solve(episode, beta):\n    if beta < 2: episode.answer()\n")
    first, again, other = (agent.play(env, seed=seed) for seed in (7, 7, 8))
    assert (first["question"], first["beta"]) == (again["question"], again["beta"])
    assert first["beta"] != other["beta"]


def test_play_passes_the_environments_beta(controller: Callable[..., Agent]) -> None:
    agent = controller("def solve(episode, beta):\n    raise ValueError(beta)")
    with pytest.raises(ValueError, match=r"^0\.125$"):
        agent.play(gym.make("AutoTTS-v0", beta=0.125))


def test_truncation_is_a_result(controller: Callable[..., Agent]) -> None:
    info = controller(ONE_BRANCH).play(gym.make("AutoTTS-v0", step_limit=2), seed=0)
    assert (info["steps"], info["correct"], info["answer_class"]) == (2, 0, -1)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("pass", NoAnswerError),
        ("episode.branch()", NoAnswerError),
        ("episode.probe(0)", IllegalActionError),
        ("[][0]", IndexError),
    ],
)
def test_play_raises_the_controllers_errors(
    body: str, error: type[Exception], controller: Callable[..., Agent]
) -> None:
    agent = controller(f"def solve(episode):\n    {body}\n")
    with pytest.raises(error):
        agent.play(gym.make("AutoTTS-v0"), seed=0)


@pytest.mark.parametrize("name", ["cmc", "self_consistency", "ppo/chain", "evolved/brevity"])
def test_a_local_folder_does_not_replace_a_bundled_agent(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / "policy.safetensors").write_bytes(b"")
    (folder / "card.yaml").write_text("a: 1")
    monkeypatch.chdir(tmp_path)
    assert not load(name).path.is_relative_to(tmp_path)
