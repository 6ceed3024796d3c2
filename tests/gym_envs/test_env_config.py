"""Tests of ``EnvConfig``: arguments, reset options, error messages and episode starts.

Both the single and the vector environment receive them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.env_config import EnvConfig
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
from autotts_gym.mdp.batch import EpisodeStart
from autotts_gym.traces.registry import DEFAULT
from autotts_gym.traces.store import TraceStore

NUM_DRAWS = 400  # enough for every question and branch order to occur


def draw_starts(
    config: EnvConfig, options: dict[str, Any] | None = None, seed: int = 0
) -> list[EpisodeStart]:
    """The starts of the episodes of as many sub-environments."""
    batch = config.batch(NUM_DRAWS)
    generators = [np.random.default_rng([seed, e]) for e in range(NUM_DRAWS)]
    for e, generator in enumerate(generators):
        batch.streams.seed(e, generator)
    config.start(batch, np.arange(NUM_DRAWS), generators, options)
    ledger, first = batch.ledger, config.dataset.questions["branches"]
    return [
        EpisodeStart(int(question), float(beta), order - first[question], float(weight))
        for question, beta, order, weight in zip(
            ledger["question"], ledger["beta"], batch.order, ledger["latency_weight"], strict=True
        )
    ]


# --- arguments -----------------------------------------------------------------------------------


PENALTY = "invalid_penalty must be a finite number of at least 0, got "


@pytest.mark.parametrize("cls", [AutoTTSEnv, AutoTTSVectorEnv])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 1.5}, "beta must be a number in [0, 1] or a range (low, high), got 1.5"),
        ({"beta": (0.8, 0.2)}, "or a range (low, high), got (0.8, 0.2)"),
        ({"beta": (0.1, 0.2, 0.3)}, "or a range (low, high), got (0.1, 0.2, 0.3)"),
        ({"beta": float("nan")}, "beta must be a number in [0, 1]"),
        ({"beta": "much"}, "beta must be a number in [0, 1]"),
        ({"beta": None}, "beta must be a number in [0, 1]"),
        ({"latency_weight": 1.5}, "latency_weight must be a number in [0, 1] or a range"),
        ({"latency_weight": "much"}, "latency_weight must be a number in [0, 1]"),
        ({"latency_weight": None}, "latency_weight must be a number in [0, 1]"),
        ({"billing": "free"}, 'billing must be "tokens" or "interval", got \'free\''),
        ({"max_branches": 0}, "max_branches must be at least 1, got 0"),
        ({"max_branches": 2.0}, "max_branches must be an integer, got 2.0"),
        ({"max_branches": True}, "max_branches must be an integer, got True"),
        ({"max_branches": 40_000}, "max_branches must be at most 32767, got 40000"),
        ({"max_branches": 33}, f"question 0 of {DEFAULT!r} has 32 branches; pass max_branches="),
        ({"budget": -1}, "budget must be at least 0, got -1"),
        ({"budget": 1e5}, "budget must be an integer, got 100000.0"),
        ({"budget": 2**63}, "budget must be at most"),
        ({"probe_tokens": -1}, "probe_tokens must be at least 0, got -1"),
        ({"probe_tokens": "measured"}, "probe_tokens must be an integer, got 'measured'"),
        (
            {"env": "synthetic-aime24", "probe_tokens": "recorded"},
            'probe_tokens="recorded", but <TraceStore',
        ),
        ({"auto_probe": 1}, "auto_probe must be True or False, got 1"),
        ({"invalid_action": "ignore"}, 'must be "penalize" or "raise", got \'ignore\''),
        (
            {"invalid_penalty": -0.1},
            PENALTY + "-0.1",
        ),
        (
            {"invalid_penalty": float("inf")},
            PENALTY + "inf",
        ),
        (
            {"invalid_penalty": "high"},
            PENALTY + "'high'",
        ),
        (
            {"observation": "image"},
            'observation must be "full", "compact" or "flat", got \'image\'',
        ),
        ({"max_depth": 0}, "max_depth must be an integer of at least 1, got 0"),
        ({"max_depth": 3.5}, "max_depth must be an integer of at least 1, got 3.5"),
        ({"max_classes": 0}, "max_classes must be an integer of at least 1, got 0"),
        ({"step_limit": 0}, "step_limit must be at least 1, got 0"),
        ({"env": "no-such-thing"}, "no environment 'no-such-thing', by name or by path; known: "),
        ({"env": []}, "stores is empty; at least one trace store is needed"),
    ],
)
def test_invalid_arguments_are_rejected(cls: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(**arguments)


@pytest.mark.parametrize("cls", [AutoTTSEnv, AutoTTSVectorEnv])
def test_unknown_arguments_are_rejected(cls: type) -> None:
    with pytest.raises(TypeError, match="max_branch'"):
        cls(max_branch=4)


@pytest.mark.parametrize("name", ["max_branches", "max_depth", "max_classes", "step_limit"])
def test_numpy_integers_are_accepted(name: str) -> None:
    env_config = EnvConfig(**{name: np.int64(4)})
    owner = env_config.config if hasattr(env_config.config, name) else env_config
    assert getattr(owner, name) == 4


def test_store_names(two_stores: list[str]) -> None:
    deep, shallow = two_stores
    in_memory = TraceStore(TraceStore.open(deep).card, tables=TraceStore.open(deep).tables)
    for env, names in (
        (DEFAULT, [DEFAULT]),
        (deep, [deep]),
        (Path(deep), [deep]),
        (TraceStore.open(deep), [deep]),
        (in_memory, [f"store-{in_memory.card.fingerprint[:8]}"]),
        ((deep, TraceStore.open(shallow)), two_stores),
        (iter([shallow, shallow]), [shallow]),  # duplicates are removed
        (Path(deep).parent, two_stores),  # a folder: all stores in it
    ):
        assert EnvConfig(env, max_branches=5).dataset.names == names


def test_spaces_fit_the_deepest_store(two_stores: list[str]) -> None:
    deepest, depth = (TraceStore.open(path).card.depth for path in two_stores)
    assert depth < deepest
    both = EnvConfig(two_stores, max_branches=3, max_classes=7).observation_space()
    assert both["plane"].shape == both["confidence_plane"].shape == (3 * deepest,)
    assert both["class_votes"].shape == (7,)
    # A policy for both stores also fits each of them.
    single = EnvConfig(two_stores[1], max_branches=3, max_classes=7, max_depth=deepest)
    assert single.observation_space() == both


# --- reset options -------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [AutoTTSEnv, AutoTTSVectorEnv])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"seed": 3, "order": 1},
            "unknown reset options ['order', 'seed']; valid options are ['beta'",
        ),
        ({"env": "elsewhere"}, "options['env'] is 'elsewhere'; this environment plays ["),
        ({"question": -1}, "options['question'] is -1; valid rows are 0..29"),
        ({"question": 30}, "options['question'] is 30; valid rows are 0..29"),
        ({"question": "nope"}, f"options['question']: {DEFAULT!r} has no question 'nope'"),
        ({"question": 1.0}, "options['question'] must be a row or an id, got 1.0"),
        ({"question": True}, "options['question'] must be a row or an id, got True"),
        ({"beta": -0.1}, "beta must be a number in [0, 1]"),
        ({"beta": (0.2, 0.4)}, "options['beta'] must be a number in [0, 1], got (0.2, 0.4)"),
        ({"branch_order": 3}, "options['branch_order'] must be a sequence of branch numbers"),
        ({"branch_order": ["a", "b"]}, "must be a sequence of branch numbers"),
        ({"branch_order": [0.0, 1.0]}, "must be a sequence of branch numbers"),
        ({"branch_order": [[0, 1]]}, "must be a sequence of branch numbers"),
        ({"branch_order": [7]}, "at least max_branches=2 branch numbers, each once"),
        (
            {"branch_order": [7, 7, 8]},
            "at least max_branches=2 branch numbers, each once",
        ),
        ({"branch_order": [0, 32]}, "options['branch_order'] must stay within 0..31"),
        ({"branch_order": [-1, 0]}, "options['branch_order'] must stay within 0..31"),
    ],
)
def test_invalid_reset_options_are_rejected(
    cls: type, options: dict[str, Any], message: str
) -> None:
    env = cls(max_branches=2)
    with pytest.raises(ValueError, match=re.escape(message)):
        env.reset(options=options)


def test_reset_options_fix_the_episode_start(two_stores: list[str]) -> None:
    config = EnvConfig(two_stores, beta=(0.2, 0.8), max_branches=2)
    first = config.dataset.first_question
    ids = TraceStore.open(two_stores[1]).tables.ids
    for options, matches in (
        ({"env": two_stores[1]}, lambda d: first[1] <= d.question < first[2]),
        ({"env": two_stores[1], "question": 2}, lambda d: d.question == first[1] + 2),
        ({"env": two_stores[1], "question": np.int64(2)}, lambda d: d.question == first[1] + 2),
        ({"env": two_stores[1], "question": ids[3]}, lambda d: d.question == first[1] + 3),
        ({"question": 1}, lambda d: d.question in (1, first[1] + 1)),
        ({"beta": 0.9}, lambda d: d.beta == 0.9),  # options may exceed the configured range
        ({"beta": np.float32(0.5)}, lambda d: d.beta == 0.5),
        ({"branch_order": [4, 0, 3]}, lambda d: d.order.tolist() == [4, 0]),
        ({"branch_order": range(1, 5)}, lambda d: d.order.tolist() == [1, 2]),
    ):
        assert all(map(matches, draw_starts(config, options)))
    # All options together fix the episode, regardless of the seed.
    fixed = {"env": two_stores[0], "question": 0, "beta": 0.3, "branch_order": [2, 1]}
    for seed in range(2):
        for question, beta, order, _ in draw_starts(config, fixed, seed):
            assert (question, beta, order.tolist()) == (0, 0.3, [2, 1])


@pytest.mark.parametrize("options", [None, {}])
def test_all_episode_starts_occur(two_stores: list[str], options: dict[str, Any] | None) -> None:
    config = EnvConfig(two_stores, beta=(0.2, 0.8), max_branches=2)
    starts = draw_starts(config, options)
    questions = np.bincount([d.question for d in starts])
    first = config.dataset.first_question
    assert len(questions) == first[-1]
    assert questions.all()
    # Stores are drawn with equal probability, regardless of their numbers of questions.
    assert questions[: first[1]].sum() == pytest.approx(NUM_DRAWS / 2, abs=5 * NUM_DRAWS**0.5 / 2)
    betas = [d.beta for d in starts]
    assert 0.2 <= min(betas) < 0.25
    assert 0.75 < max(betas) <= 0.8
    orders = {tuple(d.order.tolist()) for d in starts if d.question < first[1]}
    assert orders == {(i, j) for i in range(6) for j in range(6) if i != j}


@pytest.mark.parametrize("beta", [(0, 1), lambda rng: rng.random()])
def test_episode_starts_are_the_same_with_and_without_options(
    two_stores: list[str], beta: Any
) -> None:
    """Options fix what they name and nothing else; functions change nothing else either."""
    drawn = draw_starts(EnvConfig(two_stores, beta=beta, latency_weight=(0, 1), max_branches=4))
    config = EnvConfig(two_stores, beta=(0, 1), latency_weight=(0, 1), max_branches=4)
    for options in ({"beta": 0.5}, {"latency_weight": 0.5}, {"branch_order": range(4)}):
        fixed = draw_starts(config, options)
        for name in ("question", "beta", "order", "latency_weight"):
            if name in options or (name == "beta" and callable(beta)):
                continue
            if name == "order" and "branch_order" in options:
                continue
            pairs = zip(fixed, drawn, strict=True)
            assert all(np.array_equal(getattr(a, name), getattr(b, name)) for a, b in pairs)
    # A question of the drawn environment.
    named = draw_starts(config, {"question": 1})
    locate = config.dataset.locate
    assert [locate(d.question)[0] for d in named] == [locate(d.question)[0] for d in drawn]
    assert {locate(d.question)[1] for d in named} == {1}


def test_same_seed_gives_the_same_episode_starts(two_stores: list[str]) -> None:
    def to_tuples(starts: list[EpisodeStart]) -> list[Any]:
        return [(d.question, d.beta, d.order.tolist()) for d in starts]

    config = EnvConfig(two_stores, beta=(0, 1), max_branches=4)
    assert to_tuples(draw_starts(config)) == to_tuples(draw_starts(config))
    assert to_tuples(draw_starts(config)) != to_tuples(draw_starts(config, seed=1))
    # A narrower config has the first branches of a wider one.
    narrow = draw_starts(EnvConfig(two_stores, beta=(0, 1), max_branches=2))
    wide = [EpisodeStart(d.question, d.beta, d.order[:2]) for d in draw_starts(config)]
    assert to_tuples(narrow) == to_tuples(wide)


def test_an_environment_that_is_none_is_refused() -> None:
    for env in (7, [7], None):
        with pytest.raises(TypeError, match="env must be a name, a path or a TraceStore, got "):
            AutoTTSEnv(env)  # type: ignore[arg-type]
