"""The episode: same methods and results over an environment and in compiled code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from autotts_gym.controllers import compiled_episode
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import IllegalActionError, StepLimitError
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import Branch, Question, TraceStore

# --- both implementations agree ------------------------------------------------------------------

#: Attributes that compiled code does not have.
PYTHON_ONLY = {"info", "ended", "log", "notes"}


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Names and defaults of the parameters, without the episode itself."""
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()][1:]


def test_both_episodes_offer_the_same_methods() -> None:
    offered = {
        name: function
        for name, function in vars(compiled_episode).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and "episode" in inspect.signature(function).parameters
    }
    members = {n: m for n, m in vars(Episode).items() if not n.startswith("_")} | {
        "max_branches": property(lambda self: self.max_branches)  # set in __init__
    }
    assert offered.keys() == members.keys() - PYTHON_ONLY
    for name, function in offered.items():
        member = members[name]
        python = member.fget if isinstance(member, property) else member
        assert parameters(function) == parameters(python), name


# A random walk over all methods, on existing and other branches, legal or not, before and after the
# end. All results enter a digest, which the exception that ends the episode reports; β is the seed.
WALK = """
def mix(digest, value):
    return (31 * digest + value) % 1_000_003


def observe(episode, h, i):
    h = mix(h, episode.can_extend(i))
    h = mix(h, episode.can_probe(i))
    h = mix(h, episode.can_prune(i))
    h = mix(h, episode.can_answer(i=i))
    h = mix(h, episode.is_null(i))
    try:
        h = mix(h, episode.active(i))
        h = mix(h, episode.depth(i))
        h = mix(h, episode.revealed(i))
        h = mix(h, episode.latest(i=i))
        h = mix(h, episode.finished(i))
        h = mix(h, int(1000 * episode.confidence(i)))
        h = mix(h, int(1000 * episode.generation_confidence(i)))
        h = mix(h, int(1000 * episode.lowest_confidence(i)))
        h = mix(h, int(1000 * episode.generation_confidence(i, window=h % 6 - 1)))
        h = mix(h, int(1000 * episode.lowest_confidence(i, h % 6 - 1)))
    except Exception:
        h = mix(h, 97)
    return h


def act(episode, h, op, i):
    try:
        if op < 3:
            h = mix(h, episode.branch())
        elif op < 7:
            episode.extend(i)
        elif op < 11:
            answer, finished = episode.probe(i)
            h = mix(mix(h, answer), finished)
        elif op == 11:
            episode.prune(i=i)
        elif op == 12:
            h = mix(h, episode.extend_all())
        elif op == 13:
            h = mix(h, episode.probe_all())
        elif op == 16:
            h = mix(h, episode.extend_fully(i))
        elif op == 17:
            answer, finished = episode.read(i)
            h = mix(mix(h, answer), finished)
        elif i % 3 == 0:
            episode.answer(i)
        elif op == 15 and i % 3 == 1:
            episode.answer()
    except Exception:
        h = mix(h, 89)
    return h


def solve(episode, beta):
    state = int(beta * 1_000_000)
    h = 0
    for _ in range(70):
        state = (state * 1103515245 + 12345) % 2147483648
        i = state // 65536 % (episode.max_branches + 2) - 1
        h = act(episode, h, state // 1024 % 18, i)
        h = mix(h, episode.opened)
        h = mix(h, episode.spent)
        h = mix(h, episode.clock)
        h = mix(h, episode.remaining)
        h = mix(h, episode.interval)
        h = mix(h, episode.depth_limit)
        h = mix(h, int(8 * episode.mean_tokens))
        h = mix(h, episode.has_generation_confidence)
        h = mix(h, episode.can_branch())
        episode.note("digest", h)
        for j in range(-1, episode.max_branches + 1):
            h = observe(episode, h, j)
    raise ValueError(str(h))  # numba before 0.68 shows an integer computed in a loop as 0
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        EpisodeConfig(5),
        EpisodeConfig(1, billing="interval"),
        EpisodeConfig(4, budget=30_000),
        EpisodeConfig(5, budget=15_999, probe_tokens=700),
        EpisodeConfig(5, budget=0),
        EpisodeConfig(5, step_limit=9),
        EpisodeConfig(3, step_limit=1),
        EpisodeConfig(5, probe_tokens="recorded", budget=60_000, billing="interval"),
    ],
    ids=str,
)
def test_random_walks_observe_the_same(
    config: EpisodeConfig, two_stores: list[str], controller: Callable[..., Agent]
) -> None:
    agent = controller(WALK)
    digests = set()
    for path in two_stores[1:] if config.probe_tokens == "recorded" else two_stores:
        store = TraceStore.open(path)
        questions = np.arange(store.card.questions)
        orders = np.array([np.roll(np.arange(5), q)[: config.max_branches] for q in questions])
        fast, slow = (Rollout(agent, store, config, interpret=i) for i in (False, True))
        assert (fast.path, slow.path) == ("compiled", "python")
        for walk in range(12):
            a, b = (r.play(questions, orders, walk * 0.0625 + 0.01) for r in (fast, slow))
            assert a.failures == b.failures
            for name in ("correct", "answers", "tokens", "sequential_tokens", "actions", "probes"):
                assert_array_equal(getattr(a, name), getattr(b, name), name)
            assert all(message.startswith("ValueError: ") for message in a.failures.values())
            digests |= set(a.failures.values())
    assert len(digests) > 5  # the walks differ


# --- illegal actions -----------------------------------------------------------------------------

SEVEN, EIGHT = Branch(["7"], 700, "7"), Branch(["8", "8"], 1200, "8")
STORE = TraceStore.from_branches([Question("?", "8", [SEVEN, EIGHT])], 500)

ILLEGAL = {
    "branch beyond the width": "episode.branch(); episode.branch(); episode.branch()",
    "extend before opening": "episode.extend(0)",
    "extend a finished branch": "read(episode, 0); episode.extend(0)",
    "extend a pruned branch": "episode.branch(); episode.prune(0); episode.extend(0)",
    "extend below the depth limit": "episode.branch(); [episode.extend(0) for _ in range(3)]",
    "extend branch -1": "episode.branch(); episode.extend(-1)",
    "extend beyond all branches": "episode.branch(); episode.extend(99)",
    "probe before opening": "episode.probe(1)",
    "read branch -1": "episode.branch(); episode.read(-1)",
    "read beyond all branches": "episode.read(2)",
    "probe one depth twice": "episode.branch(); episode.probe(0); episode.probe(0)",
    "probe a finished branch": "read(episode, 0); episode.probe(0)",
    "probe branch -1": "episode.branch(); episode.probe(-1)",
    "prune before opening": "episode.prune(0)",
    "prune twice": "episode.branch(); episode.prune(0); episode.prune(0)",
    "answer unseen": "episode.branch(); episode.answer(0)",
    "answer beyond all branches": "episode.answer(2)",
    "latest of branch -1": "episode.latest(-1)",
    "depth beyond all branches": "episode.depth(2)",
    "confidence beyond all branches": "episode.confidence(2)",
    "generation confidence of branch -1": "episode.generation_confidence(-1)",
    "lowest confidence beyond all branches": "episode.lowest_confidence(2, 1)",
    "answer twice": "episode.answer(); episode.answer()",
    "branch after the end": "episode.answer(); episode.branch()",
    "probe after the end": "episode.branch(); episode.answer(); episode.probe(0)",
    "prune after the end": "episode.branch(); episode.answer(); episode.prune(0)",
}

# All cases in one program, which is compiled once; β selects the case.
CASES = "\n".join(
    [
        "def read(episode, i):",
        "    while episode.opened <= i: episode.branch()",
        "    while not episode.finished(i):",
        "        if episode.can_extend(i): episode.extend(i)",
        "        episode.probe(i)",
        "def solve(episode, beta):",
        "    case = round(100 * beta)",
        *(f"    if case == {k}: {code}" for k, code in enumerate(ILLEGAL.values())),
        "    raise ValueError('nothing was illegal')",
    ]
)


@pytest.mark.parametrize("interpret", [False, True], ids=["compiled", "python"])
@pytest.mark.parametrize("case", ILLEGAL)
def test_illegal_actions_raise(
    case: str, interpret: bool, controller: Callable[..., Agent]
) -> None:
    rollout = Rollout(controller(CASES), STORE, EpisodeConfig(2), interpret=interpret)
    assert rollout.path == ("python" if interpret else "compiled")
    number = list(ILLEGAL).index(case)
    played = rollout.play(np.zeros(1, np.int64), np.array([[0, 1]]), number / 100)
    assert played.failures[0].startswith("IllegalActionError: ")
    assert not played.correct[0]


@pytest.fixture
def episode() -> Episode:
    return start()


def start(**setting: Any) -> Episode:
    env = gym.make("AutoTTS-v0", env="synthetic-aime24", max_branches=3, **setting)
    return Episode(env, env.reset(seed=0)[0])


def test_methods_step_the_environment(episode: Episode) -> None:
    first, second = episode.branch(), episode.branch()
    assert (first, second, episode.opened) == (0, 1, 2)
    assert (episode.depth(1), episode.revealed(1), episode.latest(1)) == (1, 0, -1)
    assert (episode.spent, episode.clock) == (2 * episode.interval, 0)
    episode.extend(1)
    answer, finished = episode.probe(1)
    assert (answer, finished) == (0, False)  # classes are numbered by first appearance
    assert (episode.depth(1), episode.revealed(1), episode.latest(1)) == (2, 2, 0)
    assert episode.clock == 2 * episode.interval
    assert (episode.extend_all(), episode.probe_all()) == (2, 2)
    episode.prune(0)
    assert (episode.active(0), episode.active(1), episode.active(2)) == (False, True, False)
    assert episode.remaining == -1  # no budget
    episode.answer(1)
    names = [episode.facts.describe(action) for action in episode.log]
    assert names == [
        *("BRANCH", "BRANCH", "CONTINUE(1)", "PROBE(1)", "CONTINUE(0)", "CONTINUE(1)"),
        *("PROBE(0)", "PROBE(1)", "PRUNE(0)", "ANSWER(1)"),
    ]
    assert episode.ended
    assert episode.info["steps"] == 10
    assert episode.info["tokens"] == 5 * episode.interval


def test_notes_have_positions(episode: Episode) -> None:
    episode.note("share", 0.25)
    episode.note("branches", np.int64(1))
    episode.branch()
    with pytest.raises(IllegalActionError):
        episode.prune(2)
    episode.note("share", True)
    assert episode.notes == [(0, "share", 0.25), (0, "branches", 1.0), (1, "share", 1.0)]
    assert episode.log.tolist() == [1]  # neither illegal actions nor notes


NOTES = """
def solve(episode, beta):
    total = 0.0
    for k in range(3):
        episode.note("total", total)
        i = episode.branch()
        total += beta / (k + 1)
        episode.note("branches", i + 1)
        episode.note(name=str(k), value=total)
        episode.probe(i)
    episode.note("done", True)
    episode.answer()
"""


def test_notes_change_nothing(two_stores: list[str], controller: Callable[..., Agent]) -> None:
    """Neither the episode nor whether the controller compiles changes."""
    quiet = "\n".join(line for line in NOTES.splitlines() if ".note(" not in line)
    store = TraceStore.open(two_stores[0])
    questions, orders = np.arange(3), np.array([[0, 1, 2], [2, 1, 0], [1, 3, 2]])
    rollouts = [
        Rollout(controller(text, name), store, EpisodeConfig(3), interpret=interpret)
        for text, name in ((NOTES, "noting"), (quiet, "quiet"))
        for interpret in (False, True)
    ]
    assert [rollout.path for rollout in rollouts] == ["compiled", "python"] * 2
    first, *others = (rollout.play(questions, orders, 0.5) for rollout in rollouts)
    assert not first.failures
    for other in others:
        for name in ("correct", "answers", "tokens", "sequential_tokens", "actions", "probes"):
            assert_array_equal(getattr(first, name), getattr(other, name), name)


def test_a_note_must_be_a_number(controller: Callable[..., Agent]) -> None:
    agent = controller("def solve(episode):\n    episode.note('answer', 'seven')\n")
    rollout = Rollout(agent, STORE, EpisodeConfig(2))
    assert rollout.path == "python"
    played = rollout.play(np.zeros(1, np.int64), np.array([[0, 1]]), 0.0)
    assert played.failures[0].startswith("ValueError: could not convert string to float")


def test_messages_name_the_action(episode: Episode) -> None:
    with pytest.raises(IllegalActionError, match=r"PROBE\(2\) is illegal here"):
        episode.probe(2)
    with pytest.raises(IllegalActionError, match="there is no branch 3"):
        episode.extend(3)
    episode.answer()
    with pytest.raises(IllegalActionError, match="BRANCH is illegal here: the episode has ended"):
        episode.branch()
    assert episode.info["steps"] == 1  # illegal actions do not reach the environment


def test_step_limit_truncates() -> None:
    episode = start(step_limit=2)
    episode.branch()
    with pytest.raises(StepLimitError):
        episode.extend(0)
    assert episode.ended
    assert (episode.info["correct"], episode.info["answer_class"]) == (0, -1)
    assert episode.info["tokens"] == 2 * episode.interval
    with pytest.raises(IllegalActionError):
        episode.answer()


def test_the_answer_may_be_the_last_step_allowed() -> None:
    episode = start(step_limit=2)
    episode.branch()
    episode.answer()
    assert episode.info["steps"] == 2


def test_remaining_budget(controller: Callable[..., Agent]) -> None:
    episode = start(budget=1200)
    assert episode.remaining == 1200
    episode.branch()
    assert episode.remaining == 700
    episode.branch()
    assert (episode.remaining, episode.can_branch(), episode.can_extend(0)) == (200, False, False)


def test_automatic_probing_is_refused() -> None:
    with pytest.raises(ValueError, match="auto_probe=False"):
        start(auto_probe=True)
    with pytest.raises(ValueError, match="auto_probe=False"):
        Rollout(None, STORE, EpisodeConfig(2, auto_probe=True))  # type: ignore[arg-type]
