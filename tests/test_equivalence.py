"""Every face of the process against the reference: the same actions, the same everything.

Single and vector environments, and the controllers' handle, compiled and interpreted, play random
legal and illegal actions over random small stores and settings.
"""

from __future__ import annotations

from collections import Counter
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
from stores import random_action, random_branch, random_setting, random_store, random_stores

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.controllers.errors import IllegalActionError, NoAnswerError, StepLimitError
from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import NULL_ANSWERS, Branch, Question, TraceStore

PARTS, ACTIONS = 20, 5_000  # parts can run side by side
SIDE_BY_SIDE = 6
ROUNDING = 1e-12


def test_there_are_enough_actions():
    assert PARTS * ACTIONS >= 100_000


def same_array(found: np.ndarray, wanted: np.ndarray, what: str = "") -> None:
    """Two arrays are the same to the last bit, dtype included."""
    # Ten times as fast as numpy's own test, which knows how to tell the difference.
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape) or (
        found.tobytes() != wanted.tobytes()
    ):
        np.testing.assert_array_equal(found, wanted, err_msg=what, strict=True)


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Two observations are the same."""
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        same_array(found[key], array, key)


def same_info(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Two infos are the same; figures that were divided by C, up to rounding."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, float):
            assert abs(found[key] - value) <= ROUNDING, key
        elif isinstance(value, np.ndarray):
            assert np.array_equal(found[key], value), key
        else:
            assert found[key] == value, key


def of_one(infos: dict[str, Any], e: int) -> dict[str, Any]:
    """The info of sub-environment ``e`` out of a vector environment's."""
    keys = [key for key in infos if not key.startswith("_") and infos[f"_{key}"][e]]
    return {key: infos[key][e] for key in keys}


class Played:
    """One episode in the reference beside the same one in a single environment."""

    def __init__(self, random: Random, game: reference.Game, names: list[str], env: Any) -> None:
        self.random, self.game, self.names, self.env = random, game, names, env

    def draw(self) -> dict[str, Any]:
        """Start an episode in both; returns the options that fix it."""
        random, game = self.random, self.game
        store = random.randrange(len(self.names))
        row = random.randrange(len(game.questions[store]))
        count = len(game.questions[store][row].branches)
        order = random.sample(range(count), random.randint(game.max_branches, count))
        beta = random.choice([0.0, 1.0, random.random()])
        self.named = {"env": self.names[store], "question": row}
        options = {**self.named, "beta": beta, "branch_order": order}
        self.one = reference.Episode(game, store, row, order, beta)
        self.total = 0.0
        self.wanted = self.one.observe()
        found, info = self.env.reset(options=options)
        same(found, self.wanted)
        same_info(info, {"action_mask": self.wanted["action_mask"]})
        return options

    def step(self, action: int) -> None:
        """Play an action in both; what it comes to is kept, to compare others with it."""
        one, facts = self.one, self.env.unwrapped
        self.reward, *self.over, self.info = one.step(action)
        self.wanted = one.observe()
        self.info["action_mask"] = self.wanted["action_mask"]
        if one.done:
            self.info |= self.named
        found, reward, *over, info = self.env.step(action)
        same(found, self.wanted)
        same_info(info, self.info)
        assert {k: type(v) for k, v in info.items()} == {k: type(v) for k, v in self.info.items()}
        assert abs(reward - self.reward) <= ROUNDING
        assert over == self.over
        assert np.array_equal(facts.action_masks(), one.mask)
        assert (facts.spent, facts.clock, facts.beta) == (one.spent, one.clock, one.beta)
        self.total += reward
        if one.done:
            right, beta = info["correct"], one.beta
            penalties = self.game.invalid_penalty * one.illegal
            wanted = beta * right - (1 - beta) * info["tokens"] / one.C - penalties
            assert abs(self.total - wanted) <= ROUNDING


def save(stores: list[TraceStore], folder: Any) -> list[str]:
    """Write stores to a folder; returns their paths."""
    for number, store in enumerate(stores):
        store.save(folder / f"store{number}")
    return [(folder / f"store{number}").as_posix() for number in range(len(stores))]


def play_setting(random: Random, folder: Any, actions: int) -> int:
    """Random actions under one setting, single, vector and reference in step."""
    stores = random_stores(random)
    setting = random_setting(random, stores)
    game = reference.Game(stores, **setting)
    setting["invalid_action"] = random.choice(["penalize", "raise"])
    names = save(stores, folder)
    vector = gym.make_vec(
        "AutoTTS-v0",
        SIDE_BY_SIDE,
        vectorization_mode="vector_entry_point",
        env=names,
        autoreset_mode=AutoresetMode.DISABLED,
        **setting,
    )
    # gym.make's wrappers check every observation against the space.
    plain = [AutoTTSEnv(names, **setting) for _ in range(SIDE_BY_SIDE - 1)]
    singles = [gym.make("AutoTTS-v0", env=names, **setting), *plain]
    episodes = [Played(random, game, names, env) for env in singles]

    def start(e: int) -> None:
        options = episodes[e].draw() | {"reset_mask": np.arange(SIDE_BY_SIDE) == e}
        found, infos = vector.reset(options=options)
        same({key: array[e] for key, array in found.items()}, episodes[e].wanted)
        same_info(of_one(infos, e), {"action_mask": episodes[e].wanted["action_mask"]})

    vector.reset(seed=0)
    for e in range(SIDE_BY_SIDE):
        start(e)
    for _ in range(actions // SIDE_BY_SIDE):
        chosen = [random_action(random, episode.one.mask) for episode in episodes]
        if setting["invalid_action"] == "raise":
            illegal = [not p.one.legal(a) for p, a in zip(episodes, chosen, strict=True)]
            if any(illegal):
                with pytest.raises(InvalidAction):
                    vector.step(chosen)
            for e in np.flatnonzero(illegal):
                with pytest.raises(InvalidAction):
                    singles[e].step(chosen[e])
                chosen[e] = int(random.choice(np.flatnonzero(episodes[e].one.mask)))
        for episode, action in zip(episodes, chosen, strict=True):
            episode.step(action)
        found, rewards, *overs, infos = vector.step(chosen)
        same(found, {k: np.stack([p.wanted[k] for p in episodes]) for k in found})
        np.testing.assert_allclose(rewards, [p.reward for p in episodes], rtol=0, atol=ROUNDING)
        assert np.array_equal(np.transpose(overs), [p.over for p in episodes])
        for e, episode in enumerate(episodes):
            same_info(of_one(infos, e), episode.info)
            if episode.one.done:
                start(e)
    for env in (*singles, vector):
        env.close()
    return actions // SIDE_BY_SIDE * SIDE_BY_SIDE


@pytest.mark.parametrize("part", range(PARTS))
def test_environments_play_as_the_reference(part, tmp_path):
    random = Random(part)
    played = 0
    while played < ACTIONS:
        folder = tmp_path / str(played)
        played += play_setting(random, folder, 360)
    assert played >= ACTIONS


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_single_environment_plays_as_the_reference(random):
    # The same over again for one environment in memory; hypothesis shrinks what it finds.
    store = random_store(random, costs=random.random() < 0.5)
    setting = random_setting(random, [store])
    names = [f"store-{store.card.fingerprint[:8]}"]
    game, env = reference.Game([store], **setting), AutoTTSEnv(store, **setting)
    episode = Played(random, game, names, env)
    episode.draw()
    for _ in range(20):
        if not episode.one.done:
            episode.step(random_action(random, episode.one.mask))  # compares everything
    assert env.action_masks().tolist() == [bool(legal) for legal in episode.one.mask]


# --- vector environments -------------------------------------------------------------------------


def all_same(found: Any, wanted: Any) -> None:
    """Two nests of dictionaries, sequences and arrays are the same, dtypes included."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            all_same(found[key], wanted[key])
    elif isinstance(wanted, np.ndarray) and wanted.dtype != object:
        same_array(found, wanted)
    elif isinstance(wanted, np.ndarray | tuple | list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            all_same(one, other)
    else:
        assert type(found) is type(wanted)
        assert found == wanted


def random_actions(random: Random, found: dict[str, Any]) -> np.ndarray:
    return np.array([random_action(random, mask.tolist()) for mask in found["action_mask"]])


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("seed", range(4))
def test_vector_environment_plays_as_gymnasiums_own(mode, seed, tmp_path):
    random = Random(seed)
    stores = random_stores(random)
    arguments = random_setting(random, stores) | {
        "env": save(stores, tmp_path),
        "beta": random.choice([0.3, (0.2, 0.9)]),
    }
    sync = gym.make_vec(
        "AutoTTS-v0", 4, "sync", vector_kwargs={"autoreset_mode": mode}, **arguments
    )
    vector = gym.make_vec("AutoTTS-v0", 4, "vector_entry_point", autoreset_mode=mode, **arguments)
    assert vector.observation_space == sync.observation_space
    assert vector.action_space == sync.action_space
    episodes = 0
    for reset in ({"seed": seed}, {}, {"seed": [5, None, 7, 5]}, {"options": {"beta": 0.5}}):
        found, infos = vector.reset(**reset)
        all_same((found, infos), sync.reset(**reset))
        for _ in range(60):
            actions = random_actions(random, found)
            step = found, _, terminated, truncated, _ = vector.step(actions)
            all_same(step, sync.step(actions))
            ended = terminated | truncated
            episodes += ended.sum()
            if mode is AutoresetMode.DISABLED and ended.any():
                found, infos = vector.reset(options={"reset_mask": ended})
                all_same((found, infos), sync.reset(options={"reset_mask": ended}))
    assert episodes > 20
    sync.close()
    vector.close()


def test_a_row_of_a_vector_is_a_single_environment(tmp_path):
    random = Random(0)
    stores = random_stores(random)
    arguments = random_setting(random, stores) | {"env": save(stores, tmp_path), "beta": (0, 1)}
    vector = AutoTTSVectorEnv(3, autoreset_mode="SameStep", **arguments)
    singles = [AutoTTSEnv(**arguments) for _ in range(3)]
    found, infos = vector.reset(seed=11)
    expected = [single.reset(seed=11 + e) for e, single in enumerate(singles)]
    episodes = 0
    for _ in range(200):
        for e, (observation, info) in enumerate(expected):
            same({key: array[e] for key, array in found.items()}, observation)
            same_info(of_one(infos, e), info)
        actions = random_actions(random, found)
        found, rewards, *overs, infos = vector.step(actions)
        last = infos.pop("final_obs", None), infos.pop("final_info", None)
        for e, single in enumerate(singles):
            observation, reward, *over, info = single.step(actions[e])
            assert (rewards[e], overs[0][e], overs[1][e]) == (reward, *over)
            if any(over):
                same(last[0][e], observation)
                same_info(of_one(last[1], e), info)
                observation, info = single.reset()
                episodes += 1
            expected[e] = observation, info
    assert episodes > 20


# --- controllers ---------------------------------------------------------------------------------

# Looks at everything there is to see and decides at random by all of it, so that whatever differs
# once leads to another end.
WALK = """
def mix(state, value):
    return (state * 48271 + int(value) + 99991) % 2147483647


def look(episode, state):
    state = mix(state, episode.max_branches)
    state = mix(state, episode.opened)
    state = mix(state, episode.interval)
    state = mix(state, episode.depth_limit)
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
        state = mix(state, episode.is_null(episode.latest(i)))
        state = mix(state, episode.can_extend(i))
        state = mix(state, episode.can_probe(i))
        state = mix(state, episode.can_prune(i))
        state = mix(state, episode.can_answer(i))
    return state


def solve(episode, beta):
    state = mix(7, beta * 1000)
    for _ in range(40):
        state = look(episode, state)
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


class Handle:
    """The controllers' handle over an episode of the reference."""

    def __init__(self, one: reference.Episode) -> None:
        self.one = one
        self.max_branches = one.game.max_branches
        self.interval, self.depth_limit = one.interval, one.depth_limit
        self.moments = reference.Moments(one)
        self.settled = 0

    def _id(self, block: int, i: int) -> int:
        return 2 + block * self.max_branches + i

    def _act(self, action: int) -> None:
        if not self.one.legal(action):
            raise IllegalActionError
        _, _, truncated, self.info = self.one.step(action)
        self.moments.note()
        self.settled = self.moments.settled(action)
        if truncated:
            raise StepLimitError

    def _each(self, block: int) -> int:
        legal = 0
        for i in range(self.opened):
            if self.one.legal(self._id(block, i)):
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
        return self.one.legal(1)

    def can_extend(self, i: int) -> bool:
        return self.one.legal(self._id(0, i))

    def can_probe(self, i: int) -> bool:
        return self.one.legal(self._id(1, i))

    def can_prune(self, i: int) -> bool:
        return self.one.legal(self._id(2, i))

    def can_answer(self, i: int) -> bool:
        return self.one.legal(self._id(3, i))

    def active(self, i: int) -> bool:
        return i < self.opened and self.one.open[i].active

    def depth(self, i: int) -> int:
        return self.one.open[i].requested if i < self.opened else 0

    def _latest(self, i: int) -> reference.Seen:
        seen = self.one.open[i].seen if i < self.opened else []
        return seen[-1] if seen else reference.Seen(0, "", False, -1)

    def revealed(self, i: int) -> int:
        return self._latest(i).depth

    def latest(self, i: int) -> int:
        seen = self._latest(i)
        return self.one.classes.index(seen.answer) if seen.depth else -1

    def finished(self, i: int) -> bool:
        return self._latest(i).finished

    def confidence(self, i: int) -> float:
        return self._latest(i).confidence

    def is_null(self, answer: int) -> bool:
        return answer >= 0 and self.one.classes[answer] in NULL_ANSWERS

    @property
    def opened(self) -> int:
        return len(self.one.open)

    @property
    def spent(self) -> int:
        return self.one.spent

    @property
    def clock(self) -> int:
        return self.one.clock

    @property
    def remaining(self) -> int:
        budget = self.one.game.budget
        return -1 if budget is None else max(0, budget - self.spent)


def walk(solve: Any, one: reference.Episode) -> tuple[Any, ...]:
    """Play a controller over the reference: result, and what went wrong (or nothing)."""
    failure = ""
    handle = Handle(one)
    right, answer = False, ""
    try:
        solve(handle, one.beta)
        if not one.done:
            raise NoAnswerError
        right, answer = handle.info["correct"], handle.info["answer"]
    except (IllegalActionError, NoAnswerError, StepLimitError) as error:
        failure = type(error).__name__
    settled = one.tokens if failure else handle.settled
    return right, answer, one.tokens, one.true_clock, one.steps, one.probes, settled, failure


@pytest.fixture(scope="module")
def walker(tmp_path_factory):
    path = tmp_path_factory.mktemp("agents") / "walk.py"
    path.write_text(WALK, "utf-8")
    return load(str(path))


@pytest.mark.parametrize("interpret", [False, True])
def test_controllers_play_as_the_reference(walker, interpret):
    random = Random(5)
    actions, ends = 0, Counter()
    for _ in range(30):
        store = random_store(random, costs=random.random() < 0.5)
        setting = random_setting(random, [store])
        names = ("max_branches", "billing", "budget", "probe_tokens", "step_limit")
        terms = {name: setting[name] for name in names}
        game = reference.Game([store], **terms)
        rollout = Rollout(walker, store, EpisodeConfig(**terms), interpret=interpret, settle=True)
        assert rollout.path == ("python" if interpret else "compiled"), rollout.reason
        rows = [random.randrange(store.card.questions) for _ in range(8)]
        counts = [len(game.questions[0][row].branches) for row in rows]
        orders = [random.sample(range(count), game.max_branches) for count in counts]
        for beta in (0.0, 0.25, 0.375, 0.5, 0.75, 1.0):
            episodes = rollout.play(np.array(rows), np.array(orders), beta)
            for k in range(len(rows)):
                one = reference.Episode(game, 0, rows[k], orders[k], beta)
                *wanted, failure = walk(walker.solve, one)
                found = (
                    episodes.correct[k],
                    episodes.answers[k],
                    episodes.tokens[k],
                    episodes.sequential_tokens[k],
                    episodes.actions[k],
                    episodes.probes[k],
                    episodes.settled_tokens[k],
                )
                assert found == tuple(wanted)
                assert episodes.failures.get(k, "").partition(":")[0] == failure
                actions += one.steps
                ends[failure] += 1
    assert actions > 5_000
    errors = IllegalActionError, NoAnswerError, StepLimitError
    assert min(ends[end] for end in ("", *(error.__name__ for error in errors))) > 0


# --- what cannot be known ------------------------------------------------------------------------


def twins(random: Random, width: int) -> tuple[list[TraceStore], int, int]:
    """Two stores that differ only in one branch's future, beyond a number of common probes.

    Returns them, the branch, and the number. A last branch that is never opened makes up for the
    difference in the figures that are known of a store: its depth, its mean tokens (C) and its
    dearest probe.
    """
    depth, interval = 5, random.randint(1, 30)
    branches = [random_branch(random, interval, depth, 3, True, True) for _ in range(width)]
    changed = random.randrange(width)
    one = branches[changed]
    common = random.randint(0, len(one.probes))
    other = random_branch(random, interval, depth, 4, True, True)
    other = Branch(
        [*one.probes[:common], *other.probes[common:]],
        other.tokens,
        other.final,
        [*one.confidences[:common], *other.confidences[common:]],
        [*one.probe_tokens[:common], *other.probe_tokens[common:]],
    )
    stores = []
    for branch in (one, other):
        common = min(common, len(branch.probes))
        branches[changed] = branch
        rest = Branch(
            ["7"] * depth, 10_000 - branch.tokens, "7", [0.5] * depth, [2 * interval] * depth
        )
        stores.append(TraceStore.from_branches([Question("", "7", [*branches, rest])], interval))
    return stores, changed, common


def test_nothing_tells_where_a_branch_ends_before_a_look():
    random = Random(3)
    compared = told = 0
    for _ in range(500):
        width = random.randint(1, 4)
        stores, changed, common = twins(random, width)
        setting = random_setting(random, stores) | {"max_branches": width}
        order = random.sample(range(width), width)
        first, second = (AutoTTSEnv(store, **setting) for store in stores)
        options = {"question": 0, "branch_order": order}
        start = first.reset(options=options)
        all_same(second.reset(options=options), start)
        found, i = start[0], order.index(changed)
        for _ in range(40):
            action = random_action(random, found["action_mask"].tolist())
            block, branch = divmod(action - 2, width)
            opens = action == 1 and found["globals"][0] == i
            grows = opens or (block, branch) == (0, i)
            looks = (block, branch) == (1, i) or (grows and setting["auto_probe"])
            legal = found["action_mask"][action]
            step = first.step(action)
            other = second.step(action)
            if legal and looks and found["branch_requested"][i] + grows > common:
                told += any(np.any(step[0][key] != other[0][key]) for key in step[0])
                break
            all_same(step[0], other[0])
            if step[2] or step[3]:  # the last step tells the true figures
                break
            all_same(step, other)
            found = step[0]
            compared += 1
    assert compared > 3_000
    assert told > 50
