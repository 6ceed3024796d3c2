"""Inspection of programs without running them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.loader import load, names
from autotts_gym.evaluation.results import AgentRecord
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox.source_inspection import MAX_SOURCE_SIZE, SourceError, inspect_source
from autotts_gym.sandbox.untrusted_agent import (
    UntrustedAgent,
    is_file,
    load_untrusted,
    untrusted_from_source,
)
from autotts_gym.traces.registry import bundled


@pytest.mark.parametrize("name", names())
def test_facts_equal_those_of_the_loaded_file(name: str) -> None:
    trusted = load(name)
    agent = load_untrusted(str(bundled("agents") / f"{name}.py"))
    for fact in ("name", "path", "takes_beta", "digest", "published", "source"):
        assert getattr(agent, fact) == getattr(trusted, fact)
    assert agent != trusted
    assert (agent.is_untrusted, trusted.is_untrusted) == (True, False)
    assert (AgentRecord.from_agent(agent, EpisodeConfig()).untrusted, trusted.is_policy) == (
        True,
        False,
    )


TWO = """
class A:
    def solve(self, question): return "7"
class OptimalController:
    def __init__(self, config): ...
    def solve(self, question): return "7"
"""


@pytest.mark.parametrize("which", ["", ":A", ":OptimalController"])
def test_classes(which: str, controller: Callable[..., Agent]) -> None:
    path = controller(TWO).path
    trusted, agent = load(f"{path}{which}"), load_untrusted(f"{path}{which}")
    for fact in ("name", "takes_beta", "digest", "published", "source"):
        assert getattr(agent, fact) == getattr(trusted, fact)
    assert agent.program == (which[1:] or "OptimalController")


def test_the_program_never_runs(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "program.py"
    path.write_text(f"open({str(mark)!r}, 'w')\ndef solve(episode): ...\n", "utf-8")
    agent = load_untrusted(str(path))
    copy = pickle.loads(pickle.dumps(agent))
    assert copy == agent
    assert isinstance(copy, UntrustedAgent)
    with pytest.raises(AgentError, match="is untrusted: play it in a Sandbox"):
        copy(None, 0.5)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no function solve\(episode, beta\) or solve\(episode\)"),
        ("solve = print", "has no function solve"),
        ("def solve(): ...", r"solve\(\) does not fit"),
        ("def solve(a, b, c): ...", r"solve\(a, b, c\) does not fit"),
        ("def solve(episode, *, beta): ...", "does not fit"),
        ("def solve(episode): yield", "no yield, no async"),
        ("async def solve(episode): ...", "no yield, no async"),
        ("def solve(episode:", "cannot be loaded: SyntaxError"),
        ("def solve(episode): return\nreturn", "cannot be loaded: SyntaxError"),
        ("\0", "cannot be loaded"),
        ("class A:\n def solve(self, q): ...\nclass B(A):\n def solve(self, q): ...", "A, B"),
        ("x = " + "(" * 5000 + ")" * 5000, "cannot be loaded"),
        ("x = " + "-" * 400_000 + "1", "cannot be loaded"),
        ("x = '" + "x" * MAX_SOURCE_SIZE + "'", "larger than 1 MiB"),
    ],
)
def test_unplayable_sources(text: str, message: str) -> None:
    with pytest.raises(AgentError, match=rf"program\.py: .*{message}"):
        untrusted_from_source(Path("program.py"), text.encode())


def test_a_missing_class() -> None:
    with pytest.raises(SourceError, match=r"has no class 'C' with solve\(question\); it has A"):
        inspect_source(TWO.encode(), "C")


@settings(max_examples=5, deadline=None)
@given(text=st.binary(max_size=200))
def test_any_bytes(text: bytes) -> None:
    with pytest.raises(SourceError):
        inspect_source(text)


@pytest.mark.parametrize(
    ("arguments", "takes_beta"),
    [
        ("episode", False),
        ("episode, beta", True),
        ("episode, beta=0.5", True),
        ("episode, /, beta", True),
        ("*some", True),
        ("episode, *some", True),
        ("episode, beta, more=1", True),
        ("episode, *, more=1", False),
    ],
)
def test_takes_beta(arguments: str, takes_beta: bool, controller: Callable[..., Agent]) -> None:
    text = f"def solve({arguments}):\n    return (lambda: (yield))\n"
    assert controller(text).takes_beta == takes_beta
    assert untrusted_from_source(Path("program.py"), text.encode()).takes_beta == takes_beta


def test_is_file() -> None:
    assert [is_file(a) for a in ("cmc", "ppo/mixed", "a/b.py", "b.py:A", "C:b.py")] == [
        *(False, False),
        *(True, True, True),
    ]
