"""Selection of episodes; recordings equal the episodes of the benchmark."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, replace
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions
from autotts_gym.report.episode_selection import select_episodes
from autotts_gym.report.recordings import Recording, record_episodes
from autotts_gym.report.sources import Sources
from autotts_gym.rollout.branch_orders import branch_order

LIMIT = 1 << 20


# --- selection --------------------------------------------------------------------------------


def row(correct: Any) -> Run:
    """A row of the table; ``correct`` is bool[seeds, questions]."""
    seeds, questions = np.shape(correct)
    episodes = {
        "seed": np.repeat(np.arange(seeds), questions),
        "question": np.tile(np.arange(questions), seeds),
        "correct": np.ravel(correct),
    }
    return Run("a", None, "e", False, episodes, {})


@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 50),
    st.randoms(use_true_random=False),
)
def test_the_choice(seeds: int, questions: int, rows: int, count: int, random: Any) -> None:
    rights = [
        [[random.random() < 0.5 for _ in range(questions)] for _ in range(seeds)]
        for _ in range(rows)
    ]
    runs = [row(right) for right in rights]
    chosen = select_episodes(runs, count)
    assert chosen == select_episodes(runs, count)
    assert len(chosen) == len(set(chosen)) == min(count, seeds * questions)
    assert {question for question, _ in chosen} <= set(range(questions))
    assert len({question for question, _ in chosen}) == min(count, questions)
    ease = np.mean(rights, axis=(0, 1))
    if count:
        assert ease[chosen[0][0]] == ease.max()
    if count > 1 and questions > 1:
        assert ease[chosen[1][0]] == ease.min()


def test_the_seed_that_divides_the_rows_is_first() -> None:
    right = np.zeros((3, 2), bool)
    other = right.copy()
    other[2, 0] = True
    assert (0, 2) in select_episodes([row(right), row(other)], 2)


# --- recordings ----------------------------------------------------------------------------------


def unpacked(recording: Recording) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(recording.packed)))
    return content


def test_a_recording_is_the_episode(results: Results) -> None:
    """Playing the recorded actions gives the recorded values."""
    sources = Sources.of(results)
    found = record_episodes(results, sources, 3, limit=LIMIT)
    assert found.problems == []
    assert not found.limited
    assert len(found.episodes) == found.wanted == 3 * len(results.runs)
    for recording in found.episodes:
        run = results.runs[recording.run]
        store = sources.stores[run.env]
        env = AutoTTSEnv(store, info_strings=True, **asdict(results.config))
        width = results.config.max_branches
        count = int(store.tables.branch_counts[recording.question])
        order = branch_order(results.order, recording.seed, recording.question, count)[:width]
        env.reset(options={"question": recording.question, "branch_order": order})
        content = unpacked(recording)
        shown, info = [], {}
        steps = accumulate(content["actions"])
        spent, clock = accumulate(content["spent"]), accumulate(content["clock"])
        for action, tokens, time in zip(steps, spent, clock, strict=True):
            observation, _, _, _, info = env.step(action)
            assert (env.spent, env.clock) == (tokens, time)
            name, branch = actions.decode(action, width)
            if name == "PROBE":
                end = observation["branch_finished"][branch]
                depth = int(observation["branch_revealed"][branch]) if end else 0
                shown.append([int(observation["branch_latest"][branch]), depth])
        assert content["shown"] == shown
        assert content["answers"] == [env.answer_text(c) for c in range(len(content["answers"]))]
        assert content["nulls"] == [env.is_null(c) for c in range(len(content["answers"]))]
        assert content["gold"] == info["gold"]
        assert recording.answer == info["answer"]
        assert recording.correct == info["correct"]
        assert recording.tokens == info["tokens"]
        assert recording.sequential_tokens == info["sequential_tokens"]


def test_rows_of_an_environment_show_the_same_episodes(results: Results) -> None:
    found = record_episodes(results, Sources.of(results), 4, limit=LIMIT)
    by_row: dict[int, set[tuple[int, int]]] = {}
    for recording in found.episodes:
        by_row.setdefault(recording.run, set()).add((recording.question, recording.seed))
    for env in ("easy", "hard"):
        shown = [by_row[k] for k, run in enumerate(results.runs) if run.env == env]
        assert all(one == shown[0] for one in shown)
        assert set(found.texts[env]) == {question for question, _ in shown[0]}


def test_notes_of_cmc(results: Results) -> None:
    for recording in record_episodes(results, Sources.of(results), 2, limit=LIMIT).episodes:
        run, content = results.runs[recording.run], unpacked(recording)
        if run.agent != "cmc":
            assert content["notes"] == {}
            continue
        notes = content["notes"]
        assert {"confidence", "EMA", "trend", "stop confidence", "slack"} <= set(notes)
        moments = [moment for moment, _ in notes["EMA"]]
        assert moments == sorted(moments)
        assert moments[-1] < len(content["actions"])
        assert all(0 <= value <= 1 for _, value in notes["EMA"])


def test_the_size_limit_omits_the_last_episodes(results: Results) -> None:
    sources = Sources.of(results)
    whole = record_episodes(results, sources, 3, limit=LIMIT)
    size = sum(len(recording.packed) for recording in whole.episodes)
    less = record_episodes(results, sources, 3, limit=size - 1)
    assert less.limited
    assert less.wanted == whole.wanted
    assert less.episodes == whole.episodes[:-1]


def test_progress_counts_episodes(results: Results) -> None:
    seen: list[tuple[str, int, int]] = []
    record_episodes(
        results,
        Sources.of(results),
        1,
        limit=LIMIT,
        progress=lambda label, done, total: seen.append((label, done, total)),
    )
    total = len(results.runs)
    assert [done for _, done, _ in seen] == [*range(1, total + 1), total]
    assert {total for _, _, total in seen} == {total}
    assert seen[0][0] == "self_consistency on easy"


def with_agent(results: Results, agent: Agent) -> tuple[Results, Sources]:
    """The results, as if ``two_probes`` had been another program."""
    sources = Sources.of(results)
    runs = [run for run in results.runs if run.agent == "two_probes" and run.beta == 0]
    return (
        replace(results, runs=runs),
        replace(sources, agents={"two_probes": agent}),
    )


@pytest.mark.parametrize(
    "text",
    [
        "def solve(episode, beta):\n    return episode.answer()\n",
        "def solve(episode, beta):\n    raise ValueError\n",
        "def solve(episode, beta):\n    pass\n",
        "def solve(episode, beta):\n    raise SystemExit(0)\n",
        # Endless; stopped after the number of actions in the results.
        "def solve(episode, beta):\n    while True:\n        episode.extend(episode.branch())\n",
    ],
)
def test_episodes_that_differ_are_omitted(text: str, results: Results, controller: Any) -> None:
    found = record_episodes(*with_agent(results, controller(text)), 2, limit=LIMIT)
    assert found.episodes == []
    assert len(found.problems) == found.wanted == 4
    assert all(
        problem.endswith("differs from the benchmark when played again")
        for problem in found.problems
    )
    assert found.problems[0].startswith("two_probes at β=0 on easy, question ")


def test_a_failed_episode_is_not_played_again(results: Results) -> None:
    sources = Sources.of(results)
    (question, seed), *_ = select_episodes([run for run in results.runs if run.env == "easy"], 1)
    first = replace(results.runs[0], failures={(seed, question): "TimeoutError: 10 s"})
    found = record_episodes(
        replace(results, runs=[first, *results.runs[1:]]), sources, 1, limit=LIMIT
    )
    assert found.problems == [
        f"self_consistency on easy, question {question}, seed {seed}: failed in the benchmark"
    ]
    assert 0 not in {recording.run for recording in found.episodes}
    assert len(found.episodes) == found.wanted - 1


def test_notes_that_are_not_finite(results: Results, controller: Any) -> None:
    text = load("self_consistency").path.read_text("utf-8")
    noisy = text.replace(
        "def solve(episode):\n", "def solve(episode):\n    noted(episode)\n", 1
    ).replace(
        "def solve",
        "def noted(episode):\n"
        "    for value in (float('nan'), float('inf'), 1 / 3):\n"
        "        episode.note('x', value)\n\n\ndef solve",
        1,
    )
    assert noisy.count("noted") == 2
    sources = Sources.of(results)
    sources = replace(sources, agents={"self_consistency": controller(noisy)})
    found = record_episodes(results, sources, 1, limit=LIMIT)
    assert len(found.episodes) == 2
    notes = unpacked(found.episodes[0])["notes"]
    assert notes == {"x": [[0, None], [0, None], [0, 0.333333]]}
