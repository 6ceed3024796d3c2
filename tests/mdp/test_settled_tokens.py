"""Tests of settled tokens against a plain Python count over all steps of an episode."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import random_action, random_config, random_store

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import ANSWER, BRANCH
from autotts_gym.mdp.settled_tokens import Recount, settle
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import Branch, Question, TraceStore

CONFIG_FIELDS = ("max_branches", "billing", "budget", "probe_tokens", "auto_probe")


def compiled_settled_tokens(
    store: TraceStore,
    config: EpisodeConfig,
    row: int,
    order: list[int],
    log: list[int],
    billing_code: int,
) -> int:
    dataset, n = TraceDataset({"store": store}), config.max_branches
    branches = np.zeros(n, s.BRANCH)
    branches["billing"] = billing_code
    return settle(
        Recount.allocate(dataset, n),
        config.ledger(store)[None],
        dataset.questions,
        row,
        np.array(order[:n]),
        branches,
        np.array(log, np.int32),
    )


def reference_settled_tokens(episode: reference.Episode, log: list[int]) -> int:
    """Play an action log in the reference; returns its settled tokens."""
    history = reference.AnswerHistory(episode)
    for action in log:
        assert episode.legal(action)
        episode.step(action)
        history.record()
    return history.settled_tokens(log[-1] if log else BRANCH)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_episodes_match_the_reference(random: Random) -> None:
    store = random_store(random, costs=random.random() < 0.5)
    env_config = random_config(random, [store])
    config = {name: env_config[name] for name in CONFIG_FIELDS}
    reference_config = reference.Config([store], **config)
    row = random.randrange(store.card.questions)
    order = random.sample(
        range(len(reference_config.questions[0][row].branches)), reference_config.max_branches
    )
    episode = reference.Episode(reference_config, 0, row, order, 0.0)
    log: list[int] = []
    for _ in range(random.randint(0, 60)):
        action = random_action(random, episode.mask)
        if episode.done or not episode.legal(action):
            continue
        episode.step(action)
        log.append(action)
    if not episode.done and random.random() < 0.8:  # the other episodes end without an answer
        log.append(ANSWER)
    billing_code = s.BY_TOKENS if config["billing"] == "tokens" else s.BY_INTERVAL
    actual = compiled_settled_tokens(store, EpisodeConfig(**config), row, order, log, billing_code)
    assert actual == reference_settled_tokens(
        reference.Episode(reference_config, 0, row, order, 0.0), log
    )


@pytest.mark.parametrize(
    ("agent", "beta", "config"),
    [
        ("cmc", 0.0, EpisodeConfig(64)),
        ("cmc", 0.5, EpisodeConfig(64, billing="interval", probe_tokens=7)),
        ("cmc", 1.0, EpisodeConfig(12, budget=4_800)),
        ("self_consistency", 0.0, EpisodeConfig(9)),
        ("parallel_probe", 0.0, EpisodeConfig(9, billing="interval")),
        ("asc", 0.0, EpisodeConfig(12)),
    ],
)
def test_bundled_agents_match_the_reference(agent: str, beta: float, config: EpisodeConfig) -> None:
    (store,) = registry.open_stores("tinylm/medium/chain").values()
    rows = range(0, 60, 5)
    questions = TraceStore.from_branches([store.question(row) for row in rows], store.card.interval)
    arguments = {name: getattr(config, name) for name in CONFIG_FIELDS}
    reference_config, env = (
        reference.Config([questions], **arguments),
        AutoTTSEnv(questions, **arguments),
    )
    rng = np.random.default_rng(1)
    orders = np.array([rng.permutation(128)[: config.max_branches] for _ in rows])
    controller, expected = load(agent), []
    for row, order in enumerate(orders):
        options = {"question": row, "branch_order": order, "beta": beta}
        episode = Episode(env, env.reset(options=options)[0])
        controller(episode, beta)
        expected.append(
            reference_settled_tokens(
                reference.Episode(reference_config, 0, row, order, beta), episode.log.tolist()
            )
        )
        assert 0 < expected[-1] <= episode.info["tokens"]
    for interpret in (False, True):
        rollout = Rollout(controller, questions, config, interpret=interpret, settle=True)
        results = rollout.play(np.arange(len(rows)), orders, beta)
        assert results.settled_tokens.tolist() == expected
    if agent != "self_consistency":  # which probes only after the last token
        assert (np.array(expected) < results.tokens).any()


# --- hand-computed examples -----------------------------------------------------------------------

# Δ = 100 tokens.
STORE = TraceStore.from_branches(
    [
        Question(
            "?",
            "7",
            [Branch(["7", "7"], 150, "7"), Branch(["8", "8"], 250, "8"), Branch(["7"], 250, "9")],
        )
    ],
    100,
)

EXAMPLES = {
    "first probe decides": ("b(); p(0); b(); x(1); a()", 100),
    "later probe changes nothing": ("b(); p(0); x(0); p(0); a()", 100),
    "tie goes to the first branch": ("b(); b(); p(1); x(0); p(0); a()", 250),
    "plurality lost and regained": (
        "b(); p(0); b(); p(1); q(0); b(); p(2); x(2); q(1); x(2); a()",
        450,
    ),
    "prune decides": ("b(); b(); p(0); p(1); x(1); q(0); x(1); a()", 300),
    "branch answer equals the plurality": ("b(); p(0); b(); p(1); a(0)", 100),
    "branch answer differs from the plurality": ("b(); p(0); b(); p(1); x(1); a(1)", 300),
    "no probe": ("b(); x(0); a()", 0),
    "answer only": ("a()", 0),
    "all branches pruned": ("b(); p(0); b(); q(0); b(); a()", 200),
    "controller error": ("b(); p(0); b(); raise ValueError", 200),
    "no answer": ("b(); p(0); b(); return", 200),
    "illegal action": ("b(); p(0); b(); p(0)", 200),
}
LONG = {"b": "branch", "x": "extend", "p": "probe", "q": "prune", "a": "answer"}

# One program contains all examples, so that it compiles once; β selects the example.
PROGRAM = "def solve(episode, beta):\n    case = round(100 * beta)\n" + "".join(
    f"    if case == {k}: {re.sub('[bxpqa](?=[(])', lambda m: 'episode.' + LONG[m[0]], text)}\n"
    for k, (text, _) in enumerate(EXAMPLES.values())
)


@pytest.mark.parametrize("interpret", [False, True], ids=["compiled", "python"])
def test_hand_computed_examples(interpret: bool, controller: Callable[..., Agent]) -> None:
    agent = controller(PROGRAM)
    episode = np.zeros(1, np.int64), np.arange(3)[None]
    settle, no_settle = (
        Rollout(agent, STORE, EpisodeConfig(3), interpret=interpret, settle=flag)
        for flag in (True, False)
    )
    assert settle.path == ("python" if interpret else "compiled")
    for k, (case, (_, expected)) in enumerate(EXAMPLES.items()):
        assert settle.play(*episode, k / 100).settled_tokens.tolist() == [expected], case
        assert no_settle.play(*episode, k / 100).settled_tokens.tolist() == [-1], case


@pytest.mark.parametrize("interpret", [False, True], ids=["compiled", "python"])
def test_caught_step_limit_never_settles(interpret: bool, controller: Callable[..., Agent]) -> None:
    agent = controller(
        "def solve(episode):\n"
        "    try:\n"
        "        episode.branch()\n"
        "        episode.extend(0)\n"
        "    except Exception:\n"
        "        pass\n"
    )
    config = EpisodeConfig(3, step_limit=2)
    rollout = Rollout(agent, STORE, config, interpret=interpret, settle=True)
    results = rollout.play(np.zeros(1, np.int64), np.arange(3)[None], 0.0)
    assert not results.failures
    assert results.settled_tokens.tolist() == results.tokens.tolist() == [150]


def test_published_programs_bill_whole_branches_by_tokens(controller: Callable[..., Agent]) -> None:
    """Published programs bill whole branches by tokens, whatever ``billing`` the config sets."""
    agent = controller(
        "class Reader:\n"
        "    def solve(self, question):\n"
        "        answer = question.get_new_branch_final_answer()\n"
        "        question.probe_new()\n"
        "        return answer\n"
    )
    rollout = Rollout(agent, STORE, EpisodeConfig(3, billing="interval"), settle=True)
    results = rollout.play(np.zeros(1, np.int64), np.arange(3)[None], 0.0)
    assert not results.failures
    assert (results.settled_tokens.tolist(), results.tokens.tolist()) == ([150], [250])
