"""Published-style programs: equal results to the corresponding controllers, and errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.published_programs import NoBranchLeftError, PublishedQuestion
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import Branch, Question, TraceStore

PROGRAMS = Path(__file__).parents[2] / "benchmarks" / "programs.py"


@pytest.mark.parametrize(
    ("program", "agent", "billing"),
    [
        ("SelfConsistency", "self_consistency", "tokens"),
        ("AdaptiveSelfConsistency", "asc", "tokens"),
        ("EarlyStoppingSelfConsistency", "esc", "tokens"),
        ("ParallelProbe", "parallel_probe", "interval"),
        ("OptimalController", "cmc", "interval"),
    ],
)
def test_results_equal_those_of_the_controllers(program: str, agent: str, billing: str) -> None:
    """The bundled controllers are tested against the oracle; these implement the same again."""
    (store,) = registry.open_stores("tinylm/medium/chain").values()
    questions = np.arange(0, 60, 3)
    orders = np.array([branch_order("random", 5, int(q), 128)[:64] for q in questions])
    # Full reads are billed by tokens in any case, so self-consistency ignores the billing.
    set_to = "interval"
    theirs = Rollout(load(f"{PROGRAMS}:{program}"), store, EpisodeConfig(billing=set_to))
    ours = Rollout(load(agent), store, EpisodeConfig(billing=billing))
    for beta in (0.0, 0.5) if agent == "cmc" else (0.0,):
        a, b = theirs.play(questions, orders, beta), ours.play(questions, orders, beta)
        assert a.failures == b.failures == {}
        np.testing.assert_array_equal(a.correct, b.correct)
        np.testing.assert_array_equal(a.tokens, b.tokens)
    assert theirs.path == "python"
    assert "published" in theirs.reason


def question(*branches: Branch, billing: str = "interval", **setting: object) -> PublishedQuestion:
    store = TraceStore.from_branches([Question("?", "7", branches)], 100)
    env = AutoTTSEnv(store, max_branches=len(branches), billing=billing, **setting)
    order = np.arange(len(branches))
    return PublishedQuestion(Episode(env, env.reset(options={"branch_order": order})[0]))


def test_the_question_has_the_published_methods() -> None:
    asked = question(Branch(["3", "7"], 230, "7"), Branch(["No"], 90, "7"))
    assert asked.probe_new() == ("3", 0, False)
    assert asked.probe_more(0) == ("7", False)
    assert asked.probe_more(0) == ("7", True)
    before = asked.get_seq_and_total_tokens()
    assert before == (230, 230)
    assert asked.probe_more(0) == ("7", True)  # repeats its answer at no cost
    assert asked.get_seq_and_total_tokens() == before
    assert asked.get_new_branch_final_answer() == "7"
    # The second branch is read to its end, and billed 90 tokens instead of an interval.
    assert asked.get_seq_and_total_tokens() == (320, 320)
    for error in (ValueError, IndexError):
        with pytest.raises(error, match="no branch can be opened: 2 of 2"):
            asked.probe_new()
    with pytest.raises(NoBranchLeftError, match="no branch 5"):
        asked.probe_more(5)


def test_a_full_read_that_the_budget_does_not_cover() -> None:
    asked = question(Branch(["3", "7"], 230, "7"), budget=150)
    with pytest.raises(NoBranchLeftError, match="budget"):
        asked.get_new_branch_final_answer()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "NoAnswerError: solve must return an answer as a string, got None"),
        ("return 'x'", "NoAnswerError: solve returned 'x', which no branch's latest probe shows"),
        ("return question.gold", "AttributeError: 'PublishedQuestion' object has no attribute"),
        ("raise KeyError('k')", "KeyError"),
    ],
)
def test_a_faulty_episode_fails_alone(
    body: str, message: str, controller: Callable[..., Agent]
) -> None:
    agent = controller(f"class P:\n    def solve(self, question):\n        {body}\n")
    store = TraceStore.from_branches([Question("?", "7", [Branch(["7"], 90, "7")])], 100)
    played = Rollout(agent, store, EpisodeConfig(max_branches=1)).play(
        np.zeros(1, np.int64), np.zeros((1, 1), np.int64), 0.5
    )
    assert played.failures[0].startswith(message)


def test_which_class_is_played(controller: Callable[..., Agent]) -> None:
    one = "class {}:\n    def solve(self, question):\n        return question.probe_new()[0]\n"
    alone = controller(one.format("Any"), "alone")
    assert (alone.name, alone.published, alone.takes_beta) == ("alone", True, False)
    both = one.format("A") + one.format("OptimalController").replace(
        "    def solve", "    def __init__(self, config):\n        config['beta']\n    def solve"
    )
    default = controller(both, "both")
    assert (default.name, default.takes_beta) == ("both", True)
    named = load(f"{default.path}:A")
    assert (named.name, named.takes_beta) == ("both:A", False)
    assert named.digest != default.digest
    with pytest.raises(AgentError, match="no class 'B' with solve"):
        load(f"{default.path}:B")
    with pytest.raises(AgentError, match="several programs; name one as PATH:CLASS: A, B"):
        controller(one.format("A") + one.format("B"), "several")
