"""Functions and lambdas as agents, and controllers of other installed packages."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from autotts_gym.controllers import loader
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.function_agent import agent_from_function
from autotts_gym.controllers.loader import load, names
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import Branch, Question, TraceStore

STORE = TraceStore.from_branches(
    [
        Question("?", "7", [Branch(["7"], 600, "7"), Branch(["8"], 700, "8")]),
        Question("?", "1", [Branch(["x"], 700, "y"), Branch([], 1, "1")]),
    ],
    500,
)
QUESTIONS = np.arange(2)
ORDERS = np.tile(np.arange(2), (2, 1))

WIDTH = 2


def open_branches(episode: Any) -> None:
    for _ in range(WIDTH):
        episode.branch()


def wide(episode: Any, beta: float) -> None:
    """Uses a helper function and a global variable of this module."""
    open_branches(episode)
    episode.probe(0 if beta < 0.5 else 1)
    return episode.answer()


def played(agent: Agent, beta: float = 0.0, **options: Any) -> tuple[str, list[int]]:
    rollout = Rollout(agent, STORE, EpisodeConfig(2), **options)
    results = rollout.play(QUESTIONS, ORDERS, beta)
    assert not results.failures
    return rollout.path, results.tokens.tolist()


@pytest.mark.slow
def test_a_function_plays_like_its_file(controller: Callable[..., Agent]) -> None:
    agent = load(wide)
    assert (agent.name, agent.takes_beta, agent.path) == ("wide", True, Path(__file__))
    assert b"open_branches(episode)" in agent.source
    text = (
        "def solve(episode, beta):\n"
        "    for _ in range(2): episode.branch()\n"
        "    episode.probe(0 if beta < 0.5 else 1)\n"
        "    return episode.answer()\n"
    )
    for beta in (0.0, 1.0):
        path, tokens = played(agent, beta)
        assert path == "compiled"
        assert tokens == played(agent, beta, interpret=True)[1]
        assert tokens == played(controller(text), beta)[1]


def test_lambdas() -> None:
    plain, other = (lambda e: e.answer(e.branch() + e.probe(0)[0] * 0)), (lambda e: e.answer())
    first, second = load(plain), load(other)
    assert (first.name, first.takes_beta) == ("lambda", False)
    assert first.digest != second.digest  # although they share a source line
    assert agent_from_function(plain, "mine").name == "mine"
    assert played(first)[0] == "compiled"
    assert played(first) != played(second)
    assert load(lambda episode, beta: None).takes_beta


def test_an_agent_is_returned_unchanged() -> None:
    agent = load("cmc")
    assert load(agent) is agent
    assert load(Path(__file__).parents[2] / "agents" / "cmc.py").digest == agent.digest


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: None, r"lambda: solve\(\) does not fit; it must be solve\(episode, beta\)"),
        (lambda a, b, c: None, r"does not fit"),
        (lambda episode: (yield), "no yield"),
        (np.sin, "is not a function"),
        (int, "is not a function"),
        (3, "is not a function"),
    ],
)
def test_unsuitable_objects(function: Any, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        load(function)


# --- digests -------------------------------------------------------------------------------------


def made(text: str, **variables: Any) -> str:
    """Digest of ``solve`` as defined by a script with these variables."""
    namespace = {"__name__": "__main__", "np": np, **variables}
    exec(text, namespace)
    return load(namespace["solve"]).digest


SCRIPT = """
def helper(episode): episode.branch()
class Plan:
    width = {width}
def solve(episode, beta=0.5):
    helper(episode)
    return episode.answer() if K > beta and Plan.width in {{"a", "b"}} else np.rint(K)
"""


@pytest.mark.parametrize("value", [3, 0.5, "x", None, (1, 2), [1], {"a": 1}, np.arange(3)])
def test_the_digest_covers_what_a_function_refers_to(value: Any) -> None:
    text = SCRIPT.format(width=3)
    first = made(text, K=value)
    assert first == made(f"# moved\n\n{text}", K=value)
    assert first == made(text, K=value, unused=3)
    assert first != made(text, K=4)
    assert first != made(text.replace("episode.branch()", "episode.can_branch()"), K=value)
    assert first != made(text.replace("beta=0.5", "beta=0.25"), K=value)
    assert first != made(SCRIPT.format(width=4), K=value)


def test_the_digest_covers_closures() -> None:
    def closure(value: Any) -> Any:
        return lambda episode: value

    assert load(closure(3)).digest == load(closure(3)).digest
    assert load(closure(3)).digest != load(closure(4)).digest
    array, changed = np.arange(2000), np.arange(2000)
    changed[1000] = 3
    assert load(closure(array)).digest != load(closure(changed)).digest


def test_recursive_functions_have_a_digest() -> None:
    text = "def solve(episode): return again(episode)\ndef again(episode): return solve(episode)\n"
    assert made(text) == made(text) != made(text.replace("return again", "return 3 or again"))


def test_the_digest_is_the_same_in_every_process() -> None:
    code = (
        "import sys\nfrom autotts_gym.controllers.loader import load\n"
        f"K = (1, {{'b', 'a'}}, {{'x': 1.5}})\n{SCRIPT.format(width=3)}\nprint(load(solve).digest)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(found) == 1


def test_a_changed_variable_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = played(load(wide))
    monkeypatch.setitem(wide.__globals__, "WIDTH", 1)
    after = played(load(wide))
    assert before[0] == after[0] == "compiled"
    assert before[1] != after[1]


# --- other processes -----------------------------------------------------------------------------


def test_functions_of_a_notebook_are_pickled_by_value() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "WIDTH": 2}
    exec(
        "def helper(episode):\n"
        "    for _ in range(WIDTH): episode.branch()\n"
        "def solve(episode):\n"
        "    helper(episode)\n"
        "    return episode.answer()\n",
        namespace,
    )
    agent = load(namespace["solve"])
    copy = pickle.loads(pickle.dumps(agent))
    del namespace["helper"]
    assert copy == agent
    assert copy.digest == load(copy.solve).digest
    assert played(copy)[0] == "compiled"


def test_a_pickled_lambda_still_compiles() -> None:
    width = 2
    agent = load(lambda e: [e.branch() for _ in range(width)] and e.answer())
    copy = pickle.loads(pickle.dumps(agent))
    assert copy == agent
    assert played(copy) == played(agent)


# --- other packages ------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstBranch(Agent):
    """A controller that is an object, not a function."""

    def __call__(self, episode: Any, beta: float) -> None:
        episode.branch()
        episode.probe(0)
        episode.answer(0)


FIRST_BRANCH = FirstBranch("first_branch", Path(__file__), takes_beta=False, digest="1")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three entry points of another package."""
    values = {"other_wide": "wide", "first_branch": "FIRST_BRANCH", "broken": "missing", "cmc": "x"}
    entries = [
        EntryPoint(name, f"{__name__}:{value}", loader.ENTRY_POINT_GROUP)
        for name, value in values.items()
    ]
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(
        loader, "entry_points", lambda group: entries if group == loader.ENTRY_POINT_GROUP else []
    )


@pytest.mark.usefixtures("installed")
def test_entry_points() -> None:
    assert {"other_wide", "first_branch", "cmc", "asc"} <= set(names())
    assert names().count("cmc") == 1
    agent = load("other_wide")
    assert (agent.name, agent.digest) == ("other_wide", load(wide).digest)
    assert load("first_branch") is FIRST_BRANCH
    assert load("cmc").path.name == "cmc.py"  # bundled controllers take precedence
    with pytest.raises(AgentError, match=r"broken \(.*:missing\): cannot be loaded: Attribute"):
        load("broken")
    with pytest.raises(AgentError, match=r"there is no agent 'nosuch'.* one of .*other_wide"):
        load("nosuch")


def test_an_agent_that_is_not_a_function() -> None:
    rollout = Rollout(FIRST_BRANCH, STORE, EpisodeConfig(2))
    assert (rollout.path, rollout.reason) == ("python", "it is not a function")
    text = "def solve(e):\n    e.branch()\n    e.probe(0)\n    e.answer(0)\n"
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    expected = Rollout(load(namespace["solve"]), STORE, EpisodeConfig(2))
    assert expected.path == "compiled"
    results, other = (one.play(QUESTIONS, ORDERS, 0.0) for one in (rollout, expected))
    assert_array_equal(results.tokens, other.tokens)
    assert results.answers == other.answers
