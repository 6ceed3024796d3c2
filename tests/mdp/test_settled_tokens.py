"""Settled tokens, against a plain count of every moment of an episode."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import random_action, random_setting, random_store

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

TERMS = ("max_branches", "billing", "budget", "probe_tokens", "auto_probe")


def compiled(
    store: TraceStore,
    terms: EpisodeConfig,
    row: int,
    order: list[int],
    log: list[int],
    billing_code: int,
) -> int:
    dataset, n = TraceDataset({"store": store}), terms.max_branches
    branches = np.zeros(n, s.BRANCH)
    branches["billing"] = billing_code
    return settle(
        Recount.allocate(dataset, n),
        terms.ledger(store)[None],
        dataset.questions,
        row,
        np.array(order[:n]),
        branches,
        np.array(log, np.int32),
    )


def plain(one: reference.Episode, log: list[int]) -> int:
    """Play a log in the reference, and look back from its end."""
    moments = reference.Moments(one)
    for action in log:
        assert one.legal(action)
        one.step(action)
        moments.note()
    return moments.settled(log[-1] if log else BRANCH)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_episodes(random: Random) -> None:
    store = random_store(random, costs=random.random() < 0.5)
    setting = random_setting(random, [store])
    terms = {name: setting[name] for name in TERMS}
    game = reference.Game([store], **terms)
    row = random.randrange(store.card.questions)
    order = random.sample(range(len(game.questions[0][row].branches)), game.max_branches)
    one = reference.Episode(game, 0, row, order, 0.0)
    log: list[int] = []
    for _ in range(random.randint(0, 60)):
        action = random_action(random, one.mask)
        if one.done or not one.legal(action):
            continue
        one.step(action)
        log.append(action)
    if not one.done and random.random() < 0.8:  # others were cut off
        log.append(ANSWER)
    billing_code = s.BY_TOKENS if terms["billing"] == "tokens" else s.BY_INTERVAL
    found = compiled(store, EpisodeConfig(**terms), row, order, log, billing_code)
    assert found == plain(reference.Episode(game, 0, row, order, 0.0), log)


@pytest.mark.parametrize(
    ("agent", "beta", "terms"),
    [
        ("cmc", 0.0, EpisodeConfig(64)),
        ("cmc", 0.5, EpisodeConfig(64, billing="interval", probe_tokens=7)),
        ("cmc", 1.0, EpisodeConfig(12, budget=4_800)),
        ("self_consistency", 0.0, EpisodeConfig(9)),
        ("parallel_probe", 0.0, EpisodeConfig(9, billing="interval")),
        ("asc", 0.0, EpisodeConfig(12)),
    ],
)
def test_agents_on_the_bundled_traces(agent: str, beta: float, terms: EpisodeConfig) -> None:
    (store,) = registry.open_stores(registry.DEFAULT).values()
    rows = range(0, 60, 5)
    questions = TraceStore.from_branches([store.question(row) for row in rows], store.card.interval)
    setting = {name: getattr(terms, name) for name in TERMS}
    game, env = reference.Game([questions], **setting), AutoTTSEnv(questions, **setting)
    rng = np.random.default_rng(1)
    orders = np.array([rng.permutation(128)[: terms.max_branches] for _ in rows])
    one, wanted = load(agent), []
    for row, order in enumerate(orders):
        options = {"question": row, "branch_order": order, "beta": beta}
        episode = Episode(env, env.reset(options=options)[0])
        one(episode, beta)
        wanted.append(plain(reference.Episode(game, 0, row, order, beta), episode.log.tolist()))
        assert 0 < wanted[-1] <= episode.info["tokens"]
    for interpret in (False, True):
        rollout = Rollout(one, questions, terms, interpret=interpret, settle=True)
        played = rollout.play(np.arange(len(rows)), orders, beta)
        assert played.settled_tokens.tolist() == wanted
    if agent != "self_consistency":  # which looks when everything is spent
        assert (np.array(wanted) < played.tokens).any()


# --- small examples, worked out by hand -----------------------------------------------------------

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
    "the first look decides": ("b(); p(0); b(); x(1); a()", 100),
    "a look that changes nothing": ("b(); p(0); x(0); p(0); a()", 100),
    "a tie goes to the first branch": ("b(); b(); p(1); x(0); p(0); a()", 250),
    "lost, and won back": ("b(); p(0); b(); p(1); q(0); b(); p(2); x(2); q(1); x(2); a()", 450),
    "a prune decides": ("b(); b(); p(0); p(1); x(1); q(0); x(1); a()", 300),
    "a branch that speaks for the plurality": ("b(); p(0); b(); p(1); a(0)", 100),
    "an answer that is not the plurality": ("b(); p(0); b(); p(1); x(1); a(1)", 300),
    "nothing was revealed": ("b(); x(0); a()", 0),
    "nothing at all": ("a()", 0),
    "all were pruned": ("b(); p(0); b(); q(0); b(); a()", 200),
    "it failed": ("b(); p(0); b(); raise ValueError", 200),
    "no answer": ("b(); p(0); b(); return", 200),
    "an illegal action": ("b(); p(0); b(); p(0)", 200),
}
LONG = {"b": "branch", "x": "extend", "p": "probe", "q": "prune", "a": "answer"}

# All of them in one program, which is compiled once; β chooses.
PROGRAM = "def solve(episode, beta):\n    case = round(100 * beta)\n" + "".join(
    f"    if case == {k}: {re.sub('[bxpqa](?=[(])', lambda m: 'episode.' + LONG[m[0]], text)}\n"
    for k, (text, _) in enumerate(EXAMPLES.values())
)


@pytest.mark.parametrize("interpret", [False, True], ids=["compiled", "python"])
def test_examples(interpret: bool, controller: Callable[..., Agent]) -> None:
    agent = controller(PROGRAM)
    one = np.zeros(1, np.int64), np.arange(3)[None]
    settling, plain = (
        Rollout(agent, STORE, EpisodeConfig(3), interpret=interpret, settle=settle)
        for settle in (True, False)
    )
    assert settling.path == ("python" if interpret else "compiled")
    for k, (case, (_, wanted)) in enumerate(EXAMPLES.items()):
        assert settling.play(*one, k / 100).settled_tokens.tolist() == [wanted], case
        assert plain.play(*one, k / 100).settled_tokens.tolist() == [-1], case


@pytest.mark.parametrize("interpret", [False, True], ids=["compiled", "python"])
def test_a_caught_cut_off_never_settled(interpret: bool, controller: Callable[..., Agent]) -> None:
    agent = controller(
        "def solve(episode):\n"
        "    try:\n"
        "        episode.branch()\n"
        "        episode.extend(0)\n"
        "    except Exception:\n"
        "        pass\n"
    )
    terms = EpisodeConfig(3, step_limit=2)
    rollout = Rollout(agent, STORE, terms, interpret=interpret, settle=True)
    played = rollout.play(np.zeros(1, np.int64), np.arange(3)[None], 0.0)
    assert not played.failures
    assert played.settled_tokens.tolist() == played.tokens.tolist() == [150]


def test_branches_keep_their_own_billing(controller: Callable[..., Agent]) -> None:
    """Published programs bill branches that they read whole by tokens, whatever is agreed."""
    agent = controller(
        "class Reader:\n"
        "    def solve(self, question):\n"
        "        answer = question.get_new_branch_final_answer()\n"
        "        question.probe_new()\n"
        "        return answer\n"
    )
    rollout = Rollout(agent, STORE, EpisodeConfig(3, billing="interval"), settle=True)
    played = rollout.play(np.zeros(1, np.int64), np.arange(3)[None], 0.0)
    assert not played.failures
    assert (played.settled_tokens.tolist(), played.tokens.tolist()) == ([150], [250])
