"""Bundled controllers: behaviour, budgets, and equality of compiled code and plain Python."""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import comb
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from stores import with_generation

from autotts_gym.controllers.compiler import compile_controller
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.loader import load, names
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import Branch, Question, TraceStore

BETAS = (0.0, 0.5, 1.0)

#: 60 questions with 128 short branches each, without generation confidences.
ENV = "tinylm/medium/chain"

#: Controllers that need generation confidences.
NEED_CONFIDENCE = {"deepconf_online", "deepconf_offline", "deepconf_bottom10", "mars_deepconf"}


@pytest.fixture(scope="module")
def store() -> TraceStore:
    (store,) = registry.open_stores(ENV).values()
    return store


@cache
def confident(store: TraceStore) -> TraceStore:
    """The same traces with random generation confidences."""
    return with_generation(store)


def play(
    name: str,
    store: TraceStore,
    config: EpisodeConfig,
    beta: float = 0.0,
    episodes: int | None = None,
    *,
    interpret: bool = False,
) -> EpisodeResults:
    """The first questions of a store (by default all), each with its own branch order.

    Stores get random generation confidences if the controller needs some.
    """
    if name in NEED_CONFIDENCE:
        store = confident(store)
    counts = store.tables.branch_counts[:episodes]
    orders = [branch_order("random", 0, q, n)[: config.max_branches] for q, n in enumerate(counts)]
    rollout = Rollout(load(name), store, config, interpret=interpret)
    assert rollout.path == ("python" if interpret else "compiled")
    return rollout.play(np.arange(len(counts)), np.array(orders), beta)


def odd_store(random: Random, costs: bool = False) -> TraceStore:
    """Up to 40 branches of any length, with a leading answer; some have a long last interval."""
    interval = random.randint(1, 40)
    answers = random.sample(["7", "8", "No", "", "9"], random.randint(1, 5))
    weights = [random.choice([1, 5, 20]), *[1] * (len(answers) - 1)]

    def branch() -> Branch:
        n = random.choice([0, 0, 1, 3, 9, 12, 20])
        *probes, final = random.choices(answers, weights, k=n + 1)
        tokens = random.randint(1, (n + 3) * interval)
        spent = [random.randint(0, interval) for _ in probes] if costs else None
        return Branch(probes, tokens, final, probe_tokens=spent)

    branches = [branch() for _ in range(random.randint(1, random.choice([3, 12, 40])))]
    return TraceStore.from_branches([Question("?", "7", branches)], interval)


def betas(name: str) -> tuple[float, ...]:
    return BETAS if load(name).takes_beta else (0.0,)


# --- CMC -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "wanted"),
    [
        (0, (2, 4, 2, 3, 2, 0.70, 0.85, 0.04, 1, 1, 0.04, 2)),
        (0.5, (5, 34, 6, 8, 5, 0.50, 0.91, 0.025, 2, 2, 0.025, 4)),
        (1, (8, 64, 10, 12, 8, 0.30, 0.97, 0.01, 3, 4, 0.01, 5)),
    ],
)
def test_schedule_of_cmc(beta: float, wanted: tuple[float, ...]) -> None:
    schedule = load("cmc").solve.__globals__["schedule"]
    assert tuple(schedule(beta)) == wanted


@given(st.floats(-1, 2))
def test_schedule_of_cmc_everywhere(beta: float) -> None:
    found = load("cmc").solve.__globals__["schedule"](beta)
    wanted = tuple(schedule(min(max(beta, 0), 1)).values())
    assert tuple(found) == wanted


def test_compiled_schedule_of_cmc_rounds_like_python() -> None:
    """β in thousandths; many values are ties of the fourth decimal, or nearly."""
    plain = load("cmc").solve.__globals__["schedule"]
    compiled = compile_controller(plain, takes_beta=True)
    for beta in (k / 1000 for k in range(1001)):
        wanted = tuple(schedule(beta).values())
        assert tuple(plain(beta)) == tuple(compiled(beta)) == wanted


def schedule(b: float) -> dict[str, float]:
    return {
        "initial": max(2, round(2 + 6 * b)),
        "ceiling": min(64, round(4 + 60 * b)),
        "warm_up": max(2, round(2 + 8 * b)),
        "patience": max(3, round(3 + 9 * b)),
        "window": max(2, round(2 + 6 * b)),
        "weight": round(0.70 - 0.40 * b, 4),
        "stop": round(0.85 + 0.12 * b, 4),
        "slack": round(0.04 - 0.03 * b, 4),
        "aligned": max(1, round(1 + 2 * b)),
        "widening": max(1, round(1 + 3 * b)),
        "trend": round(0.04 - 0.03 * b, 4),
        "completed": max(2, round(2 + 3 * b)),
    }


class Plain:
    """CMC implemented again from its description, on lists of branches, without an environment."""

    def __init__(self, branches: list[Branch], interval: int, billing: str) -> None:
        self.branches, self.interval, self.billing = branches, interval, billing
        self.depths: list[int] = []
        self.abandoned: set[int] = set()
        self.pool: list[str] = []
        self.clock = 0
        self.noted: list[tuple[str, float]] = []

    def bill(self, i: int, depth: int) -> int:
        branch, charged = self.branches[i], depth * self.interval
        n = len(branch.probes)
        if self.billing == "interval":
            return charged if depth <= n else max(branch.tokens, n * self.interval)
        return min(branch.tokens, charged) if depth <= n else branch.tokens

    def finished(self, i: int) -> bool:
        return self.depths[i] > len(self.branches[i].probes)

    def latest(self, i: int) -> str:
        branch = self.branches[i]
        return branch.final if self.finished(i) else branch.probes[self.depths[i] - 1]

    def running(self) -> list[int]:
        opened = range(len(self.depths))
        return [i for i in opened if i not in self.abandoned and not self.finished(i)]

    def grow(self, bursts: dict[int, int]) -> None:
        """Extend branches in parallel, then probe each."""
        costs = [0]
        for i, burst in bursts.items():
            before = self.bill(i, self.depths[i]) if self.depths[i] else 0
            self.depths[i] = min(self.depths[i] + burst, len(self.branches[i].probes) + 1)
            costs.append(self.bill(i, self.depths[i]) - before)
            if self.finished(i):
                self.pool.append(self.latest(i))
        self.clock += max(costs)

    def open(self, count: int) -> None:
        new = range(len(self.depths), len(self.depths) + count)
        self.depths += [0] * count
        self.grow(dict.fromkeys(new, 1))

    def vote(self) -> tuple[str | None, float]:
        """Winner and confidence of the pool."""
        ranked = Counter(self.pool).most_common(2)
        if not ranked:
            return None, 0.0
        a, b = ranked[0][1], ranked[1][1] if len(ranked) > 1 else 0
        return ranked[0][0], 1 - binomial_tail(a, a + b + 1)

    def solve(self, beta: float) -> tuple[str, int, int]:
        """Answer, tokens and sequential tokens."""
        p: dict[str, Any] = schedule(beta)
        ceiling = min(p["ceiling"], len(self.branches))
        w, ema, history, against = p["weight"], 0.0, [], Counter[int]()
        self.open(min(p["initial"], ceiling))
        for r in range(500):
            warm = r >= p["warm_up"]
            winner, confidence = self.vote()
            ema = (1 - w) * ema + w * confidence
            if warm and winner is not None:
                running = self.running()
                for i in running:
                    against[i] = against[i] + 1 if self.latest(i) != winner else 0
                stubborn = [i for i in running if against[i] >= p["patience"]]
                stubborn.sort(key=lambda i: -against[i])
                self.abandoned |= set(stubborn[: max(0, len(running) - 2)])
            deepest_first = sorted(self.running(), key=lambda i: -self.depths[i])
            aligned = {i for i in deepest_first if warm and self.latest(i) == winner}
            self.grow({i: p["aligned"] if i in aligned else 1 for i in deepest_first})
            winner, confidence = self.vote()
            ema = (1 - w) * ema + w * confidence
            history = [*history, ema][-p["window"] :]
            trend = history[-1] - history[0]
            self.noted += [("confidence", confidence), ("EMA", ema), ("trend", trend)]
            sure = ema >= p["stop"] and trend >= -p["slack"]
            if warm and len(self.pool) >= p["completed"] and sure:
                break
            if not self.running():
                break
            if trend <= p["trend"] and r >= max(1, p["warm_up"] // 2) and ema < p["stop"]:
                self.open(min(p["widening"], ceiling - len(self.depths)))
        voters = [i for i in range(len(self.depths)) if i not in self.abandoned]
        votes = self.pool or [self.latest(i) for i in voters]
        tokens = sum(self.bill(i, depth) for i, depth in enumerate(self.depths))
        return Counter(votes).most_common(1)[0][0], tokens, self.clock


@cache
def binomial_tail(a: int, n: int) -> float:
    """The probability of more than ``a`` heads in ``n`` tosses."""
    return sum(comb(n, k) for k in range(a + 1, n + 1)) / 2**n


@pytest.mark.slow
@pytest.mark.parametrize("billing", ["tokens", "interval"])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.33, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("env", [ENV, "synthetic-aime24"])  # the second is deeper
def test_cmc_equals_its_description(beta: float, billing: Any, env: str) -> None:
    (store,) = registry.open_stores(env).values()
    played = play("cmc", store, EpisodeConfig(64, billing), beta, 30)
    for q in range(30):
        recorded = store.question(q).branches
        branches = [recorded[b] for b in branch_order("random", 0, q, 128)[:64]]
        wanted = Plain(branches, store.card.interval, billing).solve(beta)
        found = played.answers[q], int(played.tokens[q]), int(played.sequential_tokens[q])
        assert found == wanted, q


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_cmc_notes(beta: float, store: TraceStore) -> None:
    env = AutoTTSEnv(store, observation="compact", billing="interval")
    order = branch_order("random", 0, 4, 128)[:64]
    episode = Episode(env, env.reset(options={"question": 4, "branch_order": order})[0])
    load("cmc").solve(episode, beta)
    plain = Plain([store.question(4).branches[b] for b in order], store.card.interval, "interval")
    plain.solve(beta)
    gates, noted = episode.notes[:2], episode.notes[2:]
    p = schedule(beta)
    assert gates == [(0, "stop confidence", p["stop"]), (0, "slack", p["slack"])]
    assert len(noted) > 6
    assert [name for _, name, _ in noted] == [name for name, _ in plain.noted]
    values = [value for _, value in plain.noted]
    assert [value for _, _, value in noted] == pytest.approx(values, abs=1e-9)
    moments = [actions for actions, _, _ in noted[::3]]
    assert moments == sorted(set(moments))  # every round has actions
    assert moments[-1] < len(episode.log)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.1, 0.2, 0.33, 0.5, 0.61, 0.8, 1.0]),
    st.sampled_from(["tokens", "interval"]),
)
def test_cmc_on_random_stores(random: Random, beta: float, billing: Any) -> None:
    store = odd_store(random)
    width = store.card.branches
    played = play("cmc", store, EpisodeConfig(width, billing), beta)
    branches = [store.question(0).branches[b] for b in branch_order("random", 0, 0, width)]
    found = played.answers[0], int(played.tokens[0]), int(played.sequential_tokens[0])
    assert found == Plain(branches, store.card.interval, billing).solve(beta)


# --- self-consistency ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("billing", ["tokens", "interval"])
@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_self_consistency_reads_in_parallel(width: int, billing: Any, store: TraceStore) -> None:
    played = play("self_consistency", store, EpisodeConfig(width, billing))
    for q in range(store.card.questions):
        recorded = store.question(q).branches
        branches = [recorded[b] for b in branch_order("random", 0, q, 128)[:width]]
        costs = [
            max(b.tokens, len(b.probes) * store.card.interval)
            if billing == "interval"
            else b.tokens
            for b in branches
        ]
        votes = Counter(b.final for b in branches)
        assert played.answers[q] == votes.most_common(1)[0][0]
        assert played.tokens[q] == sum(costs)
        assert played.sequential_tokens[q] == max(costs)  # the longest branch
        assert played.actions[q] == width * store.card.depth + width + 1
        assert played.probes[q] == width


def test_self_consistency_reads_at_most_64(store: TraceStore) -> None:
    wide, narrow = (play("self_consistency", store, EpisodeConfig(n)) for n in (128, 64))
    assert_array_equal(wide.tokens, narrow.tokens)


def test_probes_free_charged_tokens(store: TraceStore) -> None:
    """64 branches of 36 intervals are charged over 36,000 tokens; few generate half."""
    free = play("self_consistency", store, EpisodeConfig())
    assert free.tokens.max() < 30_000
    played = play("self_consistency", store, EpisodeConfig(budget=30_000))
    assert_array_equal(played.tokens, free.tokens)
    assert played.answers == free.answers


# --- all controllers -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    "config",
    [
        EpisodeConfig(),
        EpisodeConfig(billing="interval"),
        EpisodeConfig(1),
        EpisodeConfig(2, billing="interval"),
        EpisodeConfig(9),
        EpisodeConfig(budget=0),
        EpisodeConfig(budget=15),
        EpisodeConfig(budget=16),
        EpisodeConfig(budget=1_344),
        EpisodeConfig(16, budget=3_840, billing="interval", probe_tokens=1),
        EpisodeConfig(budget=160, probe_tokens=160),
        EpisodeConfig(step_limit=1),
        EpisodeConfig(step_limit=77),
    ],
    ids=str,
)
def test_compiled_and_through_step(name: str, config: EpisodeConfig, store: TraceStore) -> None:
    for beta in betas(name):
        fast = play(name, store, config, beta, 6)
        slow = play(name, store, config, beta, 6, interpret=True)
        for column in ("correct", "answers", "tokens", "sequential_tokens", "actions", "probes"):
            assert_array_equal(getattr(fast, column), getattr(slow, column), column)
        assert fast.failures == slow.failures
        assert config.step_limit or not fast.failures
        assert all(why.startswith("StepLimitError") for why in fast.failures.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_agents_answer_under_any_budget(name: str, data: st.DataObject) -> None:
    random = data.draw(st.randoms(use_true_random=False))
    recorded = data.draw(st.booleans())
    store = odd_store(random, costs=recorded)
    interval = store.card.interval
    config = EpisodeConfig(
        max_branches=data.draw(st.integers(1, store.card.branches)),
        billing=data.draw(st.sampled_from(["tokens", "interval"])),
        budget=data.draw(st.integers(0, 8 * interval) | st.just(0) | st.integers(0, 10**6)),
        probe_tokens="recorded" if recorded else data.draw(st.integers(0, 2 * interval)),
    )
    played = play(name, store, config, data.draw(st.floats(0, 1)))
    assert not played.failures
    if config.budget is not None and config.probe_tokens == 0:
        # A last interval can be longer than Δ, which can exceed the budget.
        closing = 3 * interval
        assert played.tokens[0] <= config.budget + config.max_branches * closing
    if config.budget == 0:
        assert not played.tokens.any()
        assert set(played.answers) == {""}


@pytest.mark.parametrize("name", names())
def test_a_small_budget_gives_an_answer(name: str, store: TraceStore) -> None:
    played = play(name, store, EpisodeConfig(budget=1_440), 0.5)
    assert all(played.answers)
    assert (played.tokens > 0).all()


# --- generation confidence -----------------------------------------------------------------------


@pytest.mark.parametrize("interpret", [False, True], ids=["compiled", "python"])
@pytest.mark.parametrize("name", sorted(NEED_CONFIDENCE))
def test_without_confidences_they_say_what_is_missing(
    name: str, interpret: bool, store: TraceStore
) -> None:
    rollout = Rollout(load(name), store, EpisodeConfig(4), interpret=interpret)
    played = rollout.play(np.zeros(1, np.int64), np.arange(4)[None], 0.5)
    assert "needs generation confidences, which these traces do not hold" in played.failures[0]
    assert "autotts collect" in played.failures[0]
    assert played.tokens[0] == 0
