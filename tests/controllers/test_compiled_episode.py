"""Compiled controllers: what compiles, what falls back to plain Python, and faulty programs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import Branch, Question, TraceStore

QUESTIONS = np.arange(6)
ORDERS = np.array([np.roll(np.arange(8), q) for q in QUESTIONS])


@pytest.fixture(scope="module")
def store() -> TraceStore:
    (store,) = registry.open_stores("tinylm/medium/chain").values()
    return store


def both(
    agent: Agent, store: TraceStore, path: str = "compiled", beta: float = 0.5
) -> EpisodeResults:
    """Play compiled and in plain Python, compare the results, and return them."""
    fast, slow = (Rollout(agent, store, EpisodeConfig(8), interpret=i) for i in (False, True))
    assert fast.path == path, fast.reason
    assert bool(fast.reason) == (path == "python")
    a, b = (rollout.play(QUESTIONS, ORDERS, beta) for rollout in (fast, slow))
    same(a, b)
    return a


def same(a: EpisodeResults, b: EpisodeResults) -> None:
    """Compare all results but the wording of messages, which numba changes."""
    for name in ("correct", "answers", "tokens", "sequential_tokens", "actions", "probes"):
        assert_array_equal(getattr(a, name), getattr(b, name), name)
    kinds = [{k: message.partition(":")[0] for k, message in e.failures.items()} for e in (a, b)]
    assert kinds[0] == kinds[1]


# --- compiled controllers ------------------------------------------------------------------------

COMPILED = {
    "helpers and named tuples": """
from typing import NamedTuple
import numpy as np
from autotts_gym.controllers.helpers import leaders, vote

WIDTHS = (2, 3, 4)

class Plan(NamedTuple):
    width: int
    slack: float

def plan(beta):
    return Plan(WIDTHS[int(2 * beta)], slack=beta / 2)

def open_up(episode, plan, more=1):
    for _ in range(plan.width + more):
        episode.branch()

def solve(episode, beta):
    p = plan(beta)
    open_up(episode, p)
    episode.probe_all()
    answers, votes, slots = np.empty(8, np.int64), np.zeros(8, np.int64), 0
    for i in range(episode.opened):
        slots = vote(answers, votes, slots, episode.latest(i))
    best = leaders(votes, slots)[0]
    for i in range(episode.opened):
        if episode.latest(i) == answers[best]:
            return episode.answer(i)
""",
    "helpers that call each other": """
def down(episode, n):
    return 0 if n == 0 else 1 + up(episode, n - 1)

def up(episode, n):
    episode.branch()
    return n

def solve(episode):
    down(episode, 3)
    episode.probe_all()
    episode.answer()
""",
    "a function made by another": """
def make(width):
    def solve(episode):
        for _ in range(width):
            episode.branch()
        episode.probe_all()
        episode.answer()
    return solve

solve = make(3)
""",
    "lambdas, lists, sets and errors it catches": """
double = lambda x: 2 * x

def solve(episode, beta):
    try:
        episode.probe(0)
    except Exception:
        episode.branch()
    depths = [double(k) for k in range(3)]
    while episode.depth(0) < max(depths):
        episode.extend(0)
    answer, _ = episode.probe(0)
    seen = {answer}
    if answer in seen:
        episode.answer(i=0)
""",
    "defaults and keywords": """
def opened(episode, width=2):
    for _ in range(width):
        episode.branch()
    return width

def solve(episode, beta=0.5, width=3):
    opened(episode, width=width)
    opened(episode)
    episode.probe_all()
    episode.answer()
""",
}


@pytest.mark.parametrize("case", COMPILED)
def test_compiles(case: str, store: TraceStore, controller: Callable[..., Agent]) -> None:
    played = both(controller(COMPILED[case]), store)
    assert not played.failures
    assert (played.tokens > 0).all()


@pytest.mark.slow
def test_helpers_of_other_modules_are_not_compiled(
    store: TraceStore,
    controller: Callable[..., Agent],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:
    """Cached code is keyed by the controller's source, and would miss changes elsewhere."""
    controller("def width():\n    return 2\ndef solve(episode): pass\n", "elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    agent = controller(
        "from elsewhere import width\n"
        "def solve(episode):\n"
        "    for _ in range(width()): episode.branch()\n"
        "    episode.probe_all()\n"
        "    episode.answer()\n"
    )
    assert set(both(agent, store, "python").actions) == {5}


# --- fallback to plain Python --------------------------------------------------------------------

PYTHON = {
    "classes": (
        """
class Votes:
    def __init__(self):
        self.counts = {}
    def add(self, answer):
        self.counts[answer] = self.counts.get(answer, 0) + 1

def solve(episode, beta):
    votes = Votes()
    for _ in range(3):
        votes.add(episode.probe(episode.branch())[0])
    best = max(votes.counts, key=votes.counts.get)
    episode.answer([episode.latest(i) for i in range(3)].index(best))
""",
        "Untyped global name 'Votes'",
    ),
    "a dictionary of unknown kind": (
        """
def solve(episode, beta):
    seen = {}
    while episode.opened < 3:
        answer, _ = episode.probe(episode.branch())
        seen[answer] = seen.get(answer, 0) + 1
    episode.answer()
""",
        "No implementation of function",  # not the line about a failed "resolution"
    ),
    "generators": (
        """
def solve(episode):
    episode.branch()
    episode.probe(next(i for i in range(9) if episode.can_probe(i)))
    episode.answer()
""",
        "yield",
    ),
    "context managers": (
        """
import contextlib

def solve(episode):
    with contextlib.suppress(RuntimeError) as nothing:
        episode.probe(0)
    episode.answer()
""",
        "with",
    ),
    "what numba itself stumbles over": (
        """
from typing import NamedTuple

class Plan(NamedTuple):
    width: int = 2

def solve(episode):
    for _ in range(Plan().width):
        episode.branch()
    episode.probe_all()
    episode.answer()
""",
        "numba failed: IndexError: ",
    ),
    "an attribute of the Python episode": (
        "def solve(episode):\n    episode.answer()\n    assert episode.ended\n",
        "Unknown attribute 'ended'",
    ),
    "what there is not": ("def solve(episode):\n    episode.open()\n", "Unknown attribute 'open'"),
}


@pytest.mark.parametrize("case", PYTHON)
def test_fallback_to_python_has_a_reason(
    case: str, store: TraceStore, controller: Callable[..., Agent]
) -> None:
    text, reason = PYTHON[case]
    agent = controller(text)
    played = both(agent, store, "python")
    assert bool(played.failures) == (case == "what there is not")
    given = Rollout(agent, store, EpisodeConfig(8)).reason
    assert reason in given
    assert "\n" not in given


def test_interpret_is_requested(store: TraceStore, controller: Callable[..., Agent]) -> None:
    agent = controller("def solve(episode):\n    episode.answer()\n")
    rollout = Rollout(agent, store, EpisodeConfig(8), interpret=True)
    assert (rollout.path, rollout.reason) == ("python", "plain Python was requested")


# --- faulty programs -----------------------------------------------------------------------------

# Statements for episodes whose first probe finds no answer, after 3 actions and 1,000 tokens.
BAD = {
    "raises": ("raise ValueError('no such plan')", "ValueError: no such plan"),
    "raises without words": ("raise RuntimeError", "RuntimeError"),
    "illegal action": ("episode.probe(0)", "IllegalActionError: PROBE"),
    "no such branch": ("episode.extend(99)", "IllegalActionError: "),
    "does not answer": ("return", "NoAnswerError: solve returned without episode.answer()"),
    "beyond an array": ("table[zero + 3] = 1", "IndexError: "),
    "before an array": ("table[zero - 4] += 1", "IndexError: "),
    "beyond a tuple": ("table[(0, 1, 2)[zero + 7]] = 1", "IndexError: "),
    "integer division by zero": ("table[1 // zero] = 1", "ZeroDivisionError: "),
    "division by zero": ("table[0] = beta / zero", "ZeroDivisionError: "),
    "modulo zero": ("table[5 % zero] = 1", "ZeroDivisionError: "),
    "assertion": ("assert zero == 1", "AssertionError"),
    "goes on after its answer": ("episode.answer(); episode.branch()", "IllegalActionError: "),
    "fails after its answer": ("episode.answer(); table[zero + 3] = 1", "IndexError: "),
}

# All in one program, which is compiled once; β selects the statement.
BAD_PROGRAM = """
import numpy as np

def solve(episode, beta):
    episode.branch()
    episode.extend(0)
    episode.probe(0)
    table = np.zeros(3)
    zero = episode.opened - 1
    if not episode.is_null(0):
        return episode.answer(0)
""" + "".join(
    f"    if round(100 * beta) == {k}:\n        {body}\n"
    for k, (body, _) in enumerate(BAD.values())
)


@pytest.fixture(scope="module")
def fickle() -> TraceStore:
    """In every other question, the first probes find no answer."""
    wrong, right = Branch(["No"] * 3, 1700, "7"), Branch(["7"] * 3, 1700, "7")
    return TraceStore.from_branches(
        [Question("?", "7", [wrong if row % 2 else right] * 8) for row in range(6)], 500
    )


@pytest.mark.parametrize("case", BAD)
def test_only_the_faulty_episode_fails(
    case: str, fickle: TraceStore, controller: Callable[..., Agent]
) -> None:
    _, message = BAD[case]
    played = both(controller(BAD_PROGRAM), fickle, beta=list(BAD).index(case) / 100)
    assert list(played.failures) == [1, 3, 5]
    assert all(failure.startswith(message) for failure in played.failures.values())
    assert played.answers == ["7", ""] * 3
    assert played.correct.tolist() == [True, False] * 3
    assert played.actions.tolist() == [4, 4 if "its answer" in case else 3] * 3
    assert set(played.tokens) == {1000}  # a failed episode counts its cost so far
    assert set(played.sequential_tokens) == {1000}


def test_every_episode_fails(store: TraceStore, controller: Callable[..., Agent]) -> None:
    played = both(controller("def solve(episode):\n    pass\n"), store)
    assert list(played.failures) == list(range(len(QUESTIONS)))
    assert not played.tokens.any()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("SystemExit", "import sys\ndef solve(episode):\n    sys.exit()\n"),
        ("RecursionError", "def down(n): return down(n + 1)\ndef solve(episode): down(0)\n"),
    ],
)
def test_errors_that_do_not_compile(
    error: str, text: str, store: TraceStore, controller: Callable[..., Agent]
) -> None:
    """A program that calls sys.exit() must not end the benchmark."""
    played = both(controller(text), store, "python")
    assert len(played.failures) == len(QUESTIONS)
    assert all(message.startswith(error) for message in played.failures.values())


def test_truncation_fails_the_episode(fickle: TraceStore, controller: Callable[..., Agent]) -> None:
    agent = controller(
        "def solve(episode, beta):\n"
        "    while episode.can_branch(): episode.branch()\n"
        "    episode.probe_all()\n"
        "    episode.answer()\n"
    )
    for limit, tokens in [(1, 500), (8, 4000), (16, 4000), (17, 4000)]:
        fast, slow = (
            Rollout(agent, fickle, EpisodeConfig(8, step_limit=limit), interpret=i)
            for i in (False, True)
        )
        played = fast.play(QUESTIONS, ORDERS, 0.0)
        same(played, slow.play(QUESTIONS, ORDERS, 0.0))
        cut = [*played.failures.values()]
        assert cut == ["StepLimitError: the episode was truncated by its step limit"] * len(cut)
        assert len(cut) == (0 if limit == 17 else len(QUESTIONS))
        assert set(played.actions) == {limit}
        assert set(played.tokens) == {tokens}
        assert set(played.answers) == ({"7", "No"} if limit == 17 else {""})
        assert played.correct.any() == (limit == 17)


def test_catching_the_truncation_does_not_help(
    store: TraceStore, controller: Callable[..., Agent]
) -> None:
    """A controller that catches the exception cannot continue: no action is legal."""
    agent = controller(
        "def solve(episode, beta):\n"
        "    for _ in range(30):\n"
        "        try:\n"
        "            episode.branch()\n"
        "        except Exception:\n"
        "            pass\n"
        "    try:\n"
        "        episode.answer()\n"
        "    except Exception:\n"
        "        pass\n"
    )
    fast, slow = (
        Rollout(agent, store, EpisodeConfig(8, step_limit=5), interpret=i).play(
            QUESTIONS, ORDERS, 0.0
        )
        for i in (False, True)
    )
    same(fast, slow)
    assert set(fast.actions) == {5}
    assert not fast.correct.any()
    assert not fast.failures
