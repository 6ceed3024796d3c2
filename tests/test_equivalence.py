"""Equivalence tests: every environment type and controller path against the reference.

Single and vector environments and controllers (compiled and interpreted) play random legal and
illegal actions over random small stores and configs. All results must equal those of
``tests/reference.py``, and so must what resets draw.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import reference
from gymnasium.error import InvalidAction
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import (
    random_action,
    random_branch,
    random_config,
    random_generation,
    random_store,
    random_stores,
)

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.controllers.errors import IllegalActionError, NoAnswerError, StepLimitError
from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import NULL_ANSWERS, Branch, Question, TraceStore

PARTS, ACTIONS = 20, 5_000  # actions per part; parts can run in parallel
NUM_ENVS = 6
TOLERANCE = 1e-12


def test_total_number_of_actions():
    assert PARTS * ACTIONS >= 100_000


def assert_same_array(actual: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Check that two arrays have the same dtype, shape and bits."""
    # Ten times as fast as numpy's assertion, which is called only for its error message.
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape) or (
        actual.tobytes() != expected.tobytes()
    ):
        np.testing.assert_array_equal(actual, expected, err_msg=what, strict=True)


def assert_same_observation(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that two observations are equal."""
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        assert_same_array(actual[key], array, key)


def assert_same_info(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that two infos are equal, floats up to rounding (they are divided by C)."""
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, float):
            assert abs(actual[key] - value) <= TOLERANCE, key
        elif isinstance(value, np.ndarray):
            assert np.array_equal(actual[key], value), key
        else:
            assert actual[key] == value, key


def info_of(infos: dict[str, Any], e: int) -> dict[str, Any]:
    """The info of sub-environment ``e`` of a vector environment."""
    keys = [key for key in infos if not key.startswith("_") and infos[f"_{key}"][e]]
    return {key: infos[key][e] for key in keys}


class EpisodePair:
    """The same episode in the reference and in a single environment, compared after each step."""

    def __init__(
        self, random: Random, config: reference.Config, names: list[str], env: Any
    ) -> None:
        self.random, self.config, self.names, self.env = (
            random,
            config,
            names,
            env,
        )

    def reset(self) -> dict[str, Any]:
        """Start the same episode in both; returns the reset options that select it."""
        random, config = self.random, self.config
        store = random.randrange(len(self.names))
        row = random.randrange(len(config.questions[store]))
        count = len(config.questions[store][row].branches)
        order = random.sample(range(count), random.randint(config.max_branches, count))
        beta = random.choice([0.0, 1.0, random.random()])
        self.named = {"env": self.names[store], "question": row}
        options = {**self.named, "beta": beta, "branch_order": order}
        self.reference = reference.Episode(config, store, row, order, beta)
        self.total = 0.0
        self.expected = self.reference.observe()
        actual, info = self.env.reset(options=options)
        assert_same_observation(actual, self.expected)
        self.info = self.reference.initial_info()
        self.info["action_mask"] = self.expected["action_mask"]
        self.check_info(info)
        return options

    def check_info(self, info: dict[str, Any]) -> None:
        assert_same_info(info, self.info)
        assert {k: type(v) for k, v in info.items()} == {k: type(v) for k, v in self.info.items()}

    def step(self, action: int) -> None:
        """Play an action in both; keeps the results for comparison with the vector environment."""
        episode, env = self.reference, self.env.unwrapped
        self.reward, *self.over, self.info = episode.step(action)
        self.expected = episode.observe()
        self.info["action_mask"] = self.expected["action_mask"]
        if episode.done:
            self.info["env"] = self.named["env"]
        actual, reward, *over, info = self.env.step(action)
        assert_same_observation(actual, self.expected)
        self.check_info(info)
        assert abs(reward - self.reward) <= TOLERANCE
        assert over == self.over
        assert np.array_equal(env.action_masks(), episode.mask)
        assert (env.spent, env.clock, env.beta) == (episode.spent, episode.clock, episode.beta)
        assert env.latency_weight == episode.latency_weight
        self.check_confidences(env)
        self.total += reward
        if episode.done:
            correct, beta = info["correct"], episode.beta
            penalties = self.config.invalid_penalty * episode.illegal
            w, sequential = episode.latency_weight, info["sequential_tokens"] / episode.L
            cost = (1 - w) * info["tokens"] / episode.C + w * sequential
            expected = beta * correct - (1 - beta) * cost - penalties
            assert abs(self.total - expected) <= TOLERANCE

    def check_confidences(self, env: Any) -> None:
        """Compare the generation confidences of a random branch and window."""
        episode, window = self.reference, self.random.choice([None, 0, 1, 2, 3, 9])
        i = self.random.randrange(self.config.max_branches)
        assert env.has_generation_confidence == episode.has_generation_confidence
        assert env.mean_tokens == pytest.approx(episode.mean_tokens, rel=TOLERANCE)
        for name in ("generation_confidence", "lowest_confidence"):
            assert getattr(env, name)(i, window) == getattr(episode, name)(i, window), name


def save(stores: list[TraceStore], folder: Any) -> list[str]:
    """Write stores to a folder; returns their paths."""
    for number, store in enumerate(stores):
        store.save(folder / f"store{number}")
    return [(folder / f"store{number}").as_posix() for number in range(len(stores))]


def play_config(random: Random, folder: Any, actions: int) -> int:
    """Play random actions under one config in single and vector environments and the reference."""
    stores = random_stores(random)
    config = random_config(random, stores)
    reference_config = reference.Config(stores, **config)
    config |= {"invalid_action": random.choice(["penalize", "raise"]), "info_strings": True}
    names = save(stores, folder)
    vector = gym.make_vec(
        "AutoTTS-v0",
        NUM_ENVS,
        vectorization_mode="vector_entry_point",
        env=names,
        autoreset_mode=AutoresetMode.DISABLED,
        **config,
    )
    # The wrappers of gym.make check every observation against the observation space.
    plain = [AutoTTSEnv(names, **config) for _ in range(NUM_ENVS - 1)]
    singles = [gym.make("AutoTTS-v0", env=names, **config), *plain]
    pairs = [EpisodePair(random, reference_config, names, env) for env in singles]

    def start(e: int) -> None:
        options = pairs[e].reset() | {"reset_mask": np.arange(NUM_ENVS) == e}
        actual, infos = vector.reset(options=options)
        assert_same_observation({key: array[e] for key, array in actual.items()}, pairs[e].expected)
        assert_same_info(info_of(infos, e), pairs[e].info)

    vector.reset(seed=0)
    for e in range(NUM_ENVS):
        start(e)
    for _ in range(actions // NUM_ENVS):
        chosen = [random_action(random, pair.reference.mask) for pair in pairs]
        if config["invalid_action"] == "raise":
            illegal = [not pair.reference.legal(a) for pair, a in zip(pairs, chosen, strict=True)]
            if any(illegal):
                with pytest.raises(InvalidAction):
                    vector.step(chosen)
            for e in np.flatnonzero(illegal):
                with pytest.raises(InvalidAction):
                    singles[e].step(chosen[e])
                chosen[e] = int(random.choice(np.flatnonzero(pairs[e].reference.mask)))
        for pair, action in zip(pairs, chosen, strict=True):
            pair.step(action)
        actual, rewards, *overs, infos = vector.step(chosen)
        assert_same_observation(
            actual, {k: np.stack([pair.expected[k] for pair in pairs]) for k in actual}
        )
        np.testing.assert_allclose(rewards, [pair.reward for pair in pairs], rtol=0, atol=TOLERANCE)
        assert np.array_equal(np.transpose(overs), [pair.over for pair in pairs])
        for e, pair in enumerate(pairs):
            assert_same_info(info_of(infos, e), pair.info)
            if pair.reference.done:
                start(e)
    for env in (*singles, vector):
        env.close()
    return actions // NUM_ENVS * NUM_ENVS


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_environments_match_the_reference(part, tmp_path):
    random = Random(part)
    played = 0
    while played < ACTIONS:
        folder = tmp_path / str(played)
        played += play_config(random, folder, 360)
    assert played >= ACTIONS


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_single_environment_matches_the_reference(random):
    # The same check for one in-memory environment, so that hypothesis shrinks failures.
    store = random_store(random, costs=random.random() < 0.5)
    config = random_config(random, [store])
    names = [f"store-{store.card.fingerprint[:8]}"]
    reference_config = reference.Config([store], **config)
    env = AutoTTSEnv(store, info_strings=True, **config)
    pair = EpisodePair(random, reference_config, names, env)
    pair.reset()
    for _ in range(20):
        if not pair.reference.done:
            pair.step(random_action(random, pair.reference.mask))  # compares all results
    assert env.action_masks().tolist() == [bool(legal) for legal in pair.reference.mask]


# --- vector environments -------------------------------------------------------------------------


def assert_all_same(actual: Any, expected: Any) -> None:
    """Check that two nested structures of dicts, sequences and arrays are equal, with dtypes."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_all_same(actual[key], expected[key])
    elif isinstance(expected, np.ndarray) and expected.dtype != object:
        assert_same_array(actual, expected)
    elif isinstance(expected, np.ndarray | tuple | list):
        assert len(actual) == len(expected)
        for first, second in zip(actual, expected, strict=True):
            assert_all_same(first, second)
    else:
        assert type(actual) is type(expected)
        assert actual == expected


def random_actions(random: Random, observations: dict[str, Any]) -> np.ndarray:
    return np.array([random_action(random, mask.tolist()) for mask in observations["action_mask"]])


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("seed", range(4))
def test_vector_environment_matches_sync_vector_env(mode, seed, tmp_path):
    random = Random(seed)
    stores = random_stores(random)
    arguments = random_config(random, stores) | {
        "env": save(stores, tmp_path),
        "beta": random.choice([0.3, (0.2, 0.9)]),
        "latency_weight": random.choice([0.0, 0.7, (0.1, 1.0)]),
    }
    sync = gym.make_vec(
        "AutoTTS-v0", 4, "sync", vector_kwargs={"autoreset_mode": mode}, **arguments
    )
    vector = gym.make_vec("AutoTTS-v0", 4, "vector_entry_point", autoreset_mode=mode, **arguments)
    assert vector.observation_space == sync.observation_space
    assert vector.action_space == sync.action_space
    episodes = 0
    for reset in ({"seed": seed}, {}, {"seed": [5, None, 7, 5]}, {"options": {"beta": 0.5}}):
        observations, infos = vector.reset(**reset)
        assert_all_same((observations, infos), sync.reset(**reset))
        for _ in range(60):
            actions = random_actions(random, observations)
            step = observations, _, terminated, truncated, _ = vector.step(actions)
            assert_all_same(step, sync.step(actions))
            ended = terminated | truncated
            episodes += ended.sum()
            if mode is AutoresetMode.DISABLED and ended.any():
                observations, infos = vector.reset(options={"reset_mask": ended})
                assert_all_same((observations, infos), sync.reset(options={"reset_mask": ended}))
    assert episodes > 20
    sync.close()
    vector.close()


def test_sub_environments_match_single_environments(tmp_path):
    random = Random(0)
    stores = random_stores(random)
    arguments = random_config(random, stores) | {"env": save(stores, tmp_path), "beta": (0, 1)}
    vector = AutoTTSVectorEnv(3, autoreset_mode="SameStep", **arguments)
    singles = [AutoTTSEnv(**arguments) for _ in range(3)]
    observations, infos = vector.reset(seed=11)
    expected = [single.reset(seed=11 + e) for e, single in enumerate(singles)]
    episodes = 0
    for _ in range(200):
        for e, (observation, info) in enumerate(expected):
            assert_same_observation(
                {key: array[e] for key, array in observations.items()}, observation
            )
            assert_same_info(info_of(infos, e), info)
        actions = random_actions(random, observations)
        observations, rewards, *overs, infos = vector.step(actions)
        last = infos.pop("final_obs", None), infos.pop("final_info", None)
        for e, single in enumerate(singles):
            observation, reward, *over, info = single.step(actions[e])
            assert (rewards[e], overs[0][e], overs[1][e]) == (reward, *over)
            if any(over):
                assert_same_observation(last[0][e], observation)
                assert_same_info(info_of(last[1], e), info)
                observation, info = single.reset()
                episodes += 1
            expected[e] = observation, info
    assert episodes > 20


@pytest.mark.parametrize("name", ["AutoTTS-v0", "AutoTTS-Decisions-v0"])
@pytest.mark.parametrize("seed", range(3))
def test_episode_starts_match_the_reference(name, seed, tmp_path):
    """The starts of single, vector and synchronous environments are those of plain Python."""
    random = Random(seed)
    stores = random_stores(random)
    config = random_config(random, stores)
    limits = [(0.2, 0.9), random.choice([(0.0, 1.0), (0.3, 0.3)])]
    arguments = config | {
        "env": save(stores, tmp_path),
        "beta": limits[0],
        "latency_weight": limits[1],
        "auto_probe": False,
    }
    counts = [count for store in stores for count in store.tables.branch_counts.tolist()]
    ends = np.cumsum([0, *(store.card.questions for store in stores)]).tolist()
    rows = [list(range(*pair)) for pair in pairwise(ends)]
    keys = [np.frombuffer(np.random.default_rng(5 + e).bytes(16), np.uint64) for e in range(3)]
    width = config["max_branches"]
    vector = gym.make_vec(name, 3, autoreset_mode="SameStep", **arguments)
    singles = [gym.make(name, **arguments) for _ in range(3)]
    sync = gym.make_vec(name, 3, "sync", **arguments)
    vector.reset(seed=5)
    sync.reset(seed=5)
    for e, single in enumerate(singles):
        single.reset(seed=5 + e)
    for number in range(8):
        expected = [reference.draw_start(key, number, rows, counts, limits, width) for key in keys]
        batches = [single.unwrapped._batch for single in singles]
        others = [env.unwrapped._batch for env in sync.envs]
        for e in range(3):
            for batch, place in ((vector.unwrapped.batch, e), (batches[e], 0), (others[e], 0)):
                assert start_of(batch, place) == expected[e]
        # Autoreset and partial resets continue the streams as resets do.
        if number % 2:
            vector.step(np.zeros(3, int))
        else:
            vector.reset(options={"reset_mask": np.ones(3, bool)})
        sync.reset()
        for single in singles:
            single.reset()


def start_of(batch: Any, e: int) -> tuple[int, float, float, list[int]]:
    """What episode ``e`` of a batch started from."""
    ledger = batch.ledger[e]
    first = batch.dataset.questions["branches"][ledger["question"]]
    order = (batch.order[e] - first).tolist()
    return int(ledger["question"]), float(ledger["beta"]), float(ledger["latency_weight"]), order


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(
    ("name", "observation"),
    [("AutoTTS-v0", "full"), ("AutoTTS-v0", "flat"), ("AutoTTS-Decisions-v0", "flat")],
)
def test_results_do_not_depend_on_the_number_of_threads(mode, name, observation, tmp_path):
    random = Random(1)
    stores = random_stores(random)
    arguments = random_config(random, stores) | {
        "env": save(stores, tmp_path),
        "beta": (0.2, 0.9),
        "auto_probe": False,
        "observation": observation,
        "autoreset_mode": mode,
    }
    width = 50
    envs = [gym.make_vec(name, width, threads=threads, **arguments) for threads in (1, 2, 3)]
    first, *others = (env.reset(seed=2) for env in envs)
    for other in others:
        assert_all_same(other, first)
    infos, episodes = first[1], 0
    for _ in range(40):
        masks = infos["action_mask"]
        actions = np.array([random_action(random, mask.tolist()) for mask in masks])
        first, *others = (env.step(actions) for env in envs)
        for other in others:
            assert_all_same(other, first)
        infos, ended = first[4], first[2] | first[3]
        episodes += ended.sum()
        if mode is AutoresetMode.DISABLED and ended.any():
            first, *others = (env.reset(options={"reset_mask": ended}) for env in envs)
            for other in others:
                assert_all_same(other, first)
            infos = {"action_mask": envs[0].unwrapped.action_masks()}
    assert episodes > 100
    for env in envs:
        env.close()


# --- controllers ---------------------------------------------------------------------------------

# Reads every attribute of the episode and derives its random decisions from all of them, so that
# any difference changes the rest of the episode.
RANDOM_CONTROLLER = """
def mix(state, value):
    return (state * 48271 + int(value) + 99991) % 2147483647


def observe(episode, state):
    state = mix(state, episode.max_branches)
    state = mix(state, episode.opened)
    state = mix(state, episode.interval)
    state = mix(state, episode.depth_limit)
    state = mix(state, episode.mean_tokens * 8)
    state = mix(state, episode.latency_weight * 1000)
    state = mix(state, episode.has_generation_confidence)
    state = mix(state, episode.spent)
    state = mix(state, episode.clock)
    state = mix(state, episode.remaining)
    state = mix(state, episode.can_branch())
    for i in range(episode.max_branches):
        state = mix(state, episode.active(i))
        state = mix(state, episode.depth(i))
        state = mix(state, episode.revealed(i))
        state = mix(state, episode.latest(i))
        state = mix(state, episode.finished(i))
        state = mix(state, episode.confidence(i) * 8)
        state = mix(state, episode.generation_confidence(i) * 1000)
        state = mix(state, episode.generation_confidence(i, state % 4) * 1000)
        state = mix(state, episode.lowest_confidence(i, window=state % 4) * 1000)
        state = mix(state, episode.lowest_confidence(i) * 1000)
        state = mix(state, episode.is_null(episode.latest(i)))
        state = mix(state, episode.can_extend(i))
        state = mix(state, episode.can_probe(i))
        state = mix(state, episode.can_prune(i))
        state = mix(state, episode.can_answer(i))
    return state


def solve(episode, beta):
    state = mix(7, beta * 1000)
    for _ in range(40):
        state = observe(episode, state)
        i = state % episode.max_branches
        kind = state // 100 % 100
        if kind < 25:
            if episode.can_branch():
                state = mix(state, episode.branch())
        elif kind < 50:
            if episode.can_extend(i):
                episode.extend(i)
        elif kind < 75:
            if episode.can_probe(i):
                answer, finished = episode.probe(i)
                state = mix(mix(state, answer), finished)
        elif kind < 80:
            if episode.can_prune(i):
                episode.prune(i)
        elif kind < 88:
            state = mix(state, episode.extend_all())
        elif kind < 93:
            state = mix(state, episode.probe_all())
        elif kind < 95:
            if episode.can_answer(i):
                return episode.answer(i)
        elif kind < 97:
            return episode.answer()
        elif kind == 97:
            episode.extend(i)  # legal or not
        elif kind == 98:
            episode.probe(i)
        elif kind == 99:
            episode.answer(i)
            return
"""


class ReferenceEpisode:
    """The controllers' episode interface over an episode of the reference."""

    def __init__(self, episode: reference.Episode) -> None:
        self._episode = episode
        self.max_branches = episode.config.max_branches
        self.interval, self.depth_limit = episode.interval, episode.depth_limit
        self.mean_tokens = episode.mean_tokens
        self.latency_weight = episode.latency_weight
        self.has_generation_confidence = episode.has_generation_confidence
        self.generation_confidence = episode.generation_confidence
        self.lowest_confidence = episode.lowest_confidence
        self.history = reference.AnswerHistory(episode)
        self.settled = 0

    def _id(self, block: int, i: int) -> int:
        return 2 + block * self.max_branches + i

    def _act(self, action: int) -> None:
        if not self._episode.legal(action):
            raise IllegalActionError
        _, _, truncated, self.info = self._episode.step(action)
        self.history.record()
        self.settled = self.history.settled_tokens(action)
        if truncated:
            raise StepLimitError

    def _each(self, block: int) -> int:
        legal = 0
        for i in range(self.opened):
            if self._episode.legal(self._id(block, i)):
                self._act(self._id(block, i))
                legal += 1
        return legal

    def branch(self) -> int:
        self._act(1)
        return self.opened - 1

    def extend(self, i: int) -> None:
        self._act(self._id(0, i))

    def probe(self, i: int) -> tuple[int, bool]:
        self._act(self._id(1, i))
        return self.latest(i), self.finished(i)

    def prune(self, i: int) -> None:
        self._act(self._id(2, i))

    def answer(self, i: int = -1) -> None:
        self._act(0 if i < 0 else self._id(3, i))

    def extend_all(self) -> int:
        return self._each(0)

    def probe_all(self) -> int:
        return self._each(1)

    def can_branch(self) -> bool:
        return self._episode.legal(1)

    def can_extend(self, i: int) -> bool:
        return self._episode.legal(self._id(0, i))

    def can_probe(self, i: int) -> bool:
        return self._episode.legal(self._id(1, i))

    def can_prune(self, i: int) -> bool:
        return self._episode.legal(self._id(2, i))

    def can_answer(self, i: int) -> bool:
        return self._episode.legal(self._id(3, i))

    def active(self, i: int) -> bool:
        return i < self.opened and self._episode.open[i].active

    def depth(self, i: int) -> int:
        return self._episode.open[i].requested if i < self.opened else 0

    def _latest(self, i: int) -> reference.ProbeResult:
        results = self._episode.open[i].results if i < self.opened else []
        return results[-1] if results else reference.ProbeResult(0, "", False, -1)

    def revealed(self, i: int) -> int:
        return self._latest(i).depth

    def latest(self, i: int) -> int:
        result = self._latest(i)
        return self._episode.classes.index(result.answer) if result.depth else -1

    def finished(self, i: int) -> bool:
        return self._latest(i).finished

    def confidence(self, i: int) -> float:
        return self._latest(i).confidence

    def is_null(self, answer: int) -> bool:
        return answer >= 0 and self._episode.classes[answer] in NULL_ANSWERS

    @property
    def opened(self) -> int:
        return len(self._episode.open)

    @property
    def spent(self) -> int:
        return self._episode.spent

    @property
    def clock(self) -> int:
        return self._episode.clock

    @property
    def remaining(self) -> int:
        budget = self._episode.config.budget
        return -1 if budget is None else max(0, budget - self.spent)


def play_reference(solve: Any, episode: reference.Episode) -> tuple[Any, ...]:
    """Play a controller over the reference; returns its results and the error name (or "")."""
    failure = ""
    wrapped = ReferenceEpisode(episode)
    correct, answer = False, ""
    try:
        solve(wrapped, episode.beta)
        if not episode.done:
            raise NoAnswerError
        correct, answer = wrapped.info["correct"], wrapped.info["answer"]
    except (IllegalActionError, NoAnswerError, StepLimitError) as error:
        failure = type(error).__name__
    settled = episode.tokens if failure else wrapped.settled
    return (
        correct,
        answer,
        episode.tokens,
        episode.true_clock,
        episode.steps,
        episode.probes,
        settled,
        failure,
    )


@pytest.fixture(scope="module")
def random_controller(tmp_path_factory):
    path = tmp_path_factory.mktemp("agents") / "random_controller.py"
    path.write_text(RANDOM_CONTROLLER, "utf-8")
    return load(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("interpret", [False, True])
def test_controllers_match_the_reference(random_controller, interpret):
    random = Random(5)
    actions, ends = 0, Counter()
    for _ in range(30):
        store = random_store(random, costs=random.random() < 0.5)
        config = random_config(random, [store])
        names = (
            *("max_branches", "billing", "budget", "probe_tokens", "step_limit"),
            "latency_weight",
        )
        rollout_config = {name: config[name] for name in names}
        reference_config = reference.Config([store], **rollout_config)
        rollout = Rollout(
            random_controller,
            store,
            EpisodeConfig(**rollout_config),
            interpret=interpret,
            settle=True,
        )
        assert rollout.path == ("python" if interpret else "compiled"), rollout.reason
        rows = [random.randrange(store.card.questions) for _ in range(8)]
        counts = [len(reference_config.questions[0][row].branches) for row in rows]
        orders = [random.sample(range(count), reference_config.max_branches) for count in counts]
        for beta in (0.0, 0.25, 0.375, 0.5, 0.75, 1.0):
            episodes = rollout.play(np.array(rows), np.array(orders), beta)
            for k in range(len(rows)):
                episode = reference.Episode(reference_config, 0, rows[k], orders[k], beta)
                *expected, failure = play_reference(random_controller.solve, episode)
                actual = (
                    episodes.correct[k],
                    episodes.answers[k],
                    episodes.tokens[k],
                    episodes.sequential_tokens[k],
                    episodes.actions[k],
                    episodes.probes[k],
                    episodes.settled_tokens[k],
                )
                assert actual == tuple(expected)
                assert episodes.failures.get(k, "").partition(":")[0] == failure
                actions += episode.steps
                ends[failure] += 1
    assert actions > 5_000
    errors = IllegalActionError, NoAnswerError, StepLimitError
    assert min(ends[end] for end in ("", *(error.__name__ for error in errors))) > 0


# --- hidden information --------------------------------------------------------------------------


def stores_with_different_futures(random: Random, width: int) -> tuple[list[TraceStore], int, int]:
    """Two stores that differ only in one branch, after a number of common probes.

    Returns the stores, the number of the branch, and the number of common probes. An additional
    branch, which is never opened, keeps the visible statistics of both stores equal: depth, the
    lengths of branches (C and L) and the most expensive probe.
    """
    depth, interval = 5, random.randint(1, 30)
    columns = {"confidences": True, "costs": True, "generation": random.random() < 0.8}
    branches = [random_branch(random, interval, depth, 3, **columns) for _ in range(width)]
    changed = random.randrange(width)
    one = branches[changed]
    common = random.randint(0, len(one.probes))
    other = random_branch(random, interval, depth, 4, **columns)
    n = max(common, len(other.probes))
    sums, counts = random_generation(random, n, other.tokens, interval)
    other = Branch(
        [*one.probes[:common], *other.probes[common:]],
        other.tokens,
        other.final,
        [*one.confidences[:common], *other.confidences[common:]],
        [*one.probe_tokens[:common], *other.probe_tokens[common:]],
        confidence_sums=[*one.confidence_sums[:common], *sums[common:]]
        if columns["generation"]
        else None,
        confidence_tokens=[*one.confidence_tokens[:common], *counts[common:]]
        if columns["generation"]
        else None,
    )
    stores = []
    for branch in (one, other):
        common = min(common, len(branch.probes))
        branches[changed] = branch
        rest = Branch(
            ["7"] * depth,
            one.tokens + other.tokens - branch.tokens,
            "7",
            [0.5] * depth,
            [2 * interval] * depth,
            confidence_sums=[0.0] * (depth + 1) if columns["generation"] else None,
            confidence_tokens=[0] * (depth + 1) if columns["generation"] else None,
        )
        stores.append(TraceStore.from_branches([Question("", "7", [*branches, rest])], interval))
    return stores, changed, common


def test_unprobed_text_does_not_affect_observations():
    random = Random(3)
    compared = revealed = 0
    for _ in range(500):
        width = random.randint(1, 4)
        stores, changed, common = stores_with_different_futures(random, width)
        config = random_config(random, stores) | {"max_branches": width}
        order = random.sample(range(width), width)
        first, second = (AutoTTSEnv(store, **config) for store in stores)
        options = {"question": 0, "branch_order": order}
        start = first.reset(options=options)
        assert_all_same(second.reset(options=options), start)
        observation, i = start[0], order.index(changed)
        for _ in range(40):
            action = random_action(random, observation["action_mask"].tolist())
            block, branch = divmod(action - 2, width)
            opens = action == 1 and observation["globals"][0] == i
            grows = opens or (block, branch) == (0, i)
            probes = (block, branch) == (1, i) or (grows and config["auto_probe"])
            legal = observation["action_mask"][action]
            step = first.step(action)
            other = second.step(action)
            if legal and probes and observation["branch_requested"][i] + grows > common:
                revealed += any(np.any(step[0][key] != other[0][key]) for key in step[0])
                break
            assert_all_same(step[0], other[0])
            if step[2] or step[3]:  # the last step reveals the true costs
                break
            assert_all_same(step, other)
            observation = step[0]
            compared += 1
    assert compared > 3_000
    assert revealed > 50
