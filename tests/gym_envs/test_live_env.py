"""Live episodes on a real server of vLLM."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import autotts_gym  # noqa: F401 - registers the environments
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.loader import load
from autotts_gym.deployment.solver import solve, solve_async
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv
from autotts_gym.inference.engine import EngineError, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.live.connection import connect
from autotts_gym.mdp import actions
from autotts_gym.traces.store import Branch, Question, TraceStore

pytestmark = [pytest.mark.vllm, pytest.mark.xdist_group("vllm")]

WIDTH = 8
#: As the tiny models are sampled.
TERMS = {
    "protocol": "tinylm",
    "interval": 16,
    "max_tokens": 512,
    "sampling": {"temperature": 0.8},
    "max_branches": WIDTH,
}


@pytest.fixture
def live(vllm_url: str, chain: list[AskedQuestion]) -> Iterator[AutoTTSLiveEnv]:
    env = AutoTTSLiveEnv(vllm_url, questions=chain[:6], beta=0.5, **TERMS)
    yield env
    env.close()


def learned(env: AutoTTSLiveEnv) -> TraceStore:
    """What a live episode has learned of its branches, as a store of recorded traces."""
    replay = env._replay
    answers = replay.answers(0)
    branches = []
    for row in replay.traces.branches.tolist():
        first, n, tokens, final = row
        probes = slice(first, first + n)
        branches.append(
            Branch(
                [answers[code] for code in replay.traces.probes[probes]],
                tokens,
                answers[final],
                confidences=replay.traces.confidences[probes].astype(float).tolist(),
                probe_tokens=replay.traces.probe_tokens[probes].tolist(),
            )
        )
    store = TraceStore.from_branches([Question("?", replay.gold(0) or "", branches)], env.interval)
    card = replace(store.card, depth=env.depth_limit, mean_tokens=float(env.live.max_tokens))
    return TraceStore(card, tables=store.tables)


@pytest.mark.parametrize("agent", ["cmc", "self_consistency", "parallel_probe", "esc", "asc"])
def test_a_live_episode_is_its_own_replay(live: AutoTTSLiveEnv, agent: str) -> None:
    """Observations, masks, rewards, costs and results: the same actions over what was learned."""
    observation, info = live.reset(seed=3, options={"question": 2})
    seen = [(observation, info["action_mask"], 0.0, {})]

    class Recorder(gym.Wrapper):  # type: ignore[type-arg]
        def step(self, action):  # type: ignore[no-untyped-def]
            found, reward, terminated, truncated, info = self.env.step(action)
            seen.append((found, info["action_mask"], reward, info))
            return found, reward, terminated, truncated, info

    episode = Episode(Recorder(live), observation)
    load(agent)(episode, 0.5)
    env = gym.make(
        "AutoTTS-v0", env=learned(live), max_branches=WIDTH, beta=0.5, disable_env_checker=True
    ).unwrapped
    found, info = env.reset(options={"question": 0, "branch_order": range(WIDTH)})
    steps = [(found, info["action_mask"], 0.0, {})]
    for action in episode.log:
        found, reward, _, _, info = env.step(action)
        steps.append((found, info["action_mask"], reward, info))
    assert len(steps) == len(seen)
    for (a, mask_a, reward_a, info_a), (b, mask_b, reward_b, info_b) in zip(
        seen, steps, strict=True
    ):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
        np.testing.assert_array_equal(mask_a, mask_b)
        assert reward_a == reward_b
        assert info_a.get("cost") == info_b.get("cost")
    for key in ("correct", "answer", "tokens", "sequential_tokens", "steps", "probes", "beta"):
        assert episode.info[key] == info[key], key
    assert episode.info["accuracy_reward"] == info["accuracy_reward"]
    assert episode.info["cost_reward"] == info["cost_reward"]
    assert 0 < episode.info["generated_tokens"] <= episode.info["tokens"] + 16 * WIDTH
    assert episode.info["wall_seconds"] > 0


def test_greedy_live_equals_the_collected_trace(
    vllm_url: str, chain: list[AskedQuestion], tmp_path: Path
) -> None:
    """One branch, likeliest tokens: the same answers at the same depths for the same tokens."""
    plan = CollectionPlan(
        branches=1, interval=16, max_tokens=512, sampling=Sampling(temperature=0.0)
    )
    questions = chain[:12]
    store = collect_store(
        ServerEngine(vllm_url), questions, plan, tmp_path / "greedy", protocol="tinylm"
    )
    one_by_one = """
def solve(episode):
    i = episode.branch()
    answer, finished = episode.probe(i)
    while not finished:
        episode.extend(i)
        answer, finished = episode.probe(i)
    return episode.answer(i)
"""
    path = tmp_path / "one_by_one.py"
    path.write_text(one_by_one)
    agent = load(str(path))
    recorded = gym.make("AutoTTS-v0", env=store, max_branches=1, disable_env_checker=True)
    arguments = {**TERMS, "sampling": {"temperature": 0.0}, "max_branches": 1}
    live = AutoTTSLiveEnv(vllm_url, questions=questions, **arguments)
    same = 0
    for q in range(len(questions)):
        infos, planes = [], []
        for env in (recorded, live):
            found, _ = env.reset(options={"question": q})
            episode = Episode(env, found)
            agent(episode, 0.5)
            infos.append(episode.info)
            planes.append(list(np.trim_zeros(episode._observation["plane"] + 1)))
        keys = ("answer", "tokens", "sequential_tokens", "steps", "probes", "correct")
        told = [[info[key] for key in keys] for info in infos]
        same += told[0] == told[1] and planes[0] == planes[1]
    live.close()
    # Arithmetic in bfloat16 depends on what else is in the batch: a tie may fall the other way.
    assert same >= len(questions) - 1


def test_an_uninterrupted_branch_and_one_in_pieces_are_the_same_text(
    vllm_url: str, chain: list[AskedQuestion]
) -> None:
    """Branches are continued by prefix: asked for whole or step by step, greedily the same."""
    arguments = {**TERMS, "sampling": {"temperature": 0.0}, "max_branches": 1}
    texts = []
    for eager in (True, False):
        env = AutoTTSLiveEnv(vllm_url, questions=chain[:1], **arguments)
        env.reset(options={"question": 0})
        env.step(actions.BRANCH)
        while True:
            if not eager:
                env.step(actions.encode(actions.PROBE, 0, 1))
            extend = actions.encode(actions.CONTINUE, 0, 1)
            if not env.action_masks()[extend]:
                break
            env.step(extend)
        if eager:
            env.step(actions.encode(actions.PROBE, 0, 1))
        assert env._branches is not None
        texts.append(list(env._branches._branches[0].tokens))
        env.close()
    assert texts[0] == texts[1]


def test_spaces_are_those_of_a_replay(live: AutoTTSLiveEnv) -> None:
    load("cmc").play(live, question=0)
    recorded = gym.make("AutoTTS-v0", env=learned(live), max_branches=WIDTH)
    assert live.observation_space == recorded.observation_space
    assert live.action_space == recorded.action_space


def test_gymnasium_accepts_it(vllm_url: str, chain: list[AskedQuestion]) -> None:
    env = gym.make(
        "AutoTTS-Live-v0",
        base_url=vllm_url,
        questions=chain[:2],
        **{**TERMS, "max_branches": 2, "max_tokens": 48},
    )
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_continue_does_not_wait_and_a_probe_does(live: AutoTTSLiveEnv) -> None:
    live.reset(options={"question": 0})
    live.step(actions.BRANCH)
    for _ in range(20):
        live.step(actions.encode(actions.CONTINUE, 0, WIDTH))
    assert live._ledger["clock"] == 0
    found, *_ = live.step(actions.encode(actions.PROBE, 0, WIDTH))
    assert found["branch_latest"][0] == 0
    assert live.clock > 0
    assert live.generated >= min(live.clock, 16)


def test_pruning_aborts_and_bills_what_was_requested(live: AutoTTSLiveEnv) -> None:
    live.reset(options={"question": 5})
    for _ in range(2):
        live.step(actions.BRANCH)
    for _ in range(31):
        live.step(actions.encode(actions.CONTINUE, 1, WIDTH))
    live.step(actions.encode(actions.PRUNE, 1, WIDTH))
    live.step(actions.encode(actions.PROBE, 0, WIDTH))
    *_, info = live.step(actions.ANSWER)
    assert info["generated_tokens"] < 512
    ended = live._replay.traces.branches["length"][1] < live.depth_limit - 1
    assert ended or info["tokens"] == 16 + 512


def test_what_is_not_known_is_none(live: AutoTTSLiveEnv) -> None:
    agent = load("cmc")
    info = agent.play(live, question="a=11;b+2;c+3?")
    assert info["correct"] is None
    assert info["gold"] is None
    assert info["accuracy_reward"] == 0.0
    assert info["question"] == -1
    right = agent.play(live, question="a=11;b+2;c+3?", gold=info["answer"])
    assert right["correct"] in (True, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branch_order": [0]}, "no recorded branches"),
        ({"question": 99}, "there are 6"),
        ({"question": ""}, "is empty"),
        ({"question": True}, "must be a text"),
        ({"gold": 3}, "must be a string"),
        ({"depth": 3}, "unknown reset options"),
        ({"beta": 7}, "beta must be"),
    ],
)
def test_wrong_options_are_named(
    live: AutoTTSLiveEnv, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        live.reset(options=options)


def test_a_seed_draws_the_same_question_and_beta(vllm_url: str, chain: list[AskedQuestion]) -> None:
    drawn = []
    for _ in range(2):
        env = AutoTTSLiveEnv(vllm_url, questions=chain, **{**TERMS, "beta": (0.0, 1.0)})
        env.reset(seed=11)
        drawn.append((env._row, env.beta))
        env.close()
    assert drawn[0] == drawn[1]


def test_a_budget_and_a_step_limit_hold_live(vllm_url: str, chain: list[AskedQuestion]) -> None:
    env = AutoTTSLiveEnv(vllm_url, questions=chain[:1], budget=100, **TERMS)
    info = load("self_consistency").play(env, question=0)
    assert info["tokens"] <= 100 + 16
    env.close()
    env = AutoTTSLiveEnv(vllm_url, questions=chain[:1], step_limit=5, **TERMS)
    info = load("self_consistency").play(env, question=0)
    assert info["steps"] == 5
    assert not info["correct"]
    env.close()


def test_solving_many_at_once_on_one_model(vllm_url: str, chain: list[AskedQuestion]) -> None:
    async def all_of(model: object) -> list[object]:
        asked = [solve_async(q.text, "cmc", gold=q.gold, live=model) for q in chain[:4]]
        return list(await asyncio.gather(*asked))

    terms = {key: TERMS[key] for key in ("protocol", "interval", "max_tokens", "sampling")}
    with connect(vllm_url, **terms) as model:
        found = asyncio.run(all_of(model))
        again = solve(chain[0].text, "cmc", gold=chain[0].gold, live=model)
    assert len(found) == 4
    for solution in [*found, again]:
        assert solution.error == ""
        assert solution.answer
        assert solution.correct in (True, False)
        assert solution.tokens > 0
        assert 0 < solution.confidence <= 1
        assert sum(solution.votes.values()) <= solution.branches
    with pytest.raises(EngineError, match="closed"):
        solve(chain[0].text, "cmc", live=model)


def test_cancelling_stops_what_is_under_way(vllm_url: str, chain: list[AskedQuestion]) -> None:
    terms = {key: TERMS[key] for key in ("protocol", "interval", "max_tokens", "sampling")}

    async def cancelled(model: object) -> None:
        task = asyncio.create_task(solve_async(chain[0].text, "self_consistency", live=model))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with connect(vllm_url, **terms) as model:
        asyncio.run(cancelled(model))
    assert not any(thread.name == "autotts-live" for thread in threading.enumerate())
