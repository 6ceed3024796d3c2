"""Tests of the rules in small hand-computed examples; Δ = 100 tokens, the gold answer is "7"."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.error import InvalidAction

from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import IllegalActionError, StepLimitError
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp.actions import (
    ANSWER,
    ANSWER_BRANCH,
    BRANCH,
    CONTINUE,
    PROBE,
    PRUNE,
    encode,
)
from autotts_gym.traces.store import Branch, Question, TraceStore


def trace(probes: str, tokens: int, final: str = "7", costs: list[int] | None = None) -> Branch:
    """A branch; ``probes`` holds the probed answers as words, "-" for the empty answer."""
    return Branch(["" if p == "-" else p for p in probes.split()], tokens, final, None, costs)


def start_env(*branches: Branch, gold: str = "7", **config: Any) -> AutoTTSEnv:
    """Make and reset an environment of one question with these branches."""
    store = TraceStore.from_branches([Question("", gold, branches)], 100)
    env = AutoTTSEnv(store, **{"max_branches": len(branches), **config})
    env.reset(options={"branch_order": range(len(branches))})
    return env


def start_episode(*branches: Branch, **config: Any) -> Episode:
    """Start an episode over one question with these branches."""
    env = start_env(*branches, **config)
    count = len(branches)
    return Episode(env, env.reset(options={"branch_order": range(count)})[0])


def open_and_probe(episode: Episode, *depths: int) -> None:
    """Open a branch for each argument, continue it to that depth, and probe it there."""
    for depth in depths:
        i = episode.branch()
        for _ in range(depth - 1):
            episode.extend(i)
        episode.probe(i)


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("billing", "n", "tokens", "bills"),
    [
        ("tokens", 2, 230, [100, 100, 30, 0]),
        ("interval", 2, 230, [100, 100, 30, 0]),
        # The text ends within the second interval, although later probes are recorded.
        ("tokens", 2, 150, [100, 50, 0, 0]),
        ("interval", 2, 150, [100, 100, 0, 0]),
        ("tokens", 2, 80, [80, 0, 0, 0]),
        ("interval", 2, 80, [100, 100, 0, 0]),
        # A long closing text: the last interval exceeds Δ.
        ("tokens", 2, 450, [100, 100, 250, 0]),
        ("interval", 2, 450, [100, 100, 250, 0]),
        # No probes: the whole branch is its last interval.
        ("tokens", 0, 30, [30, 0, 0, 0]),
        ("interval", 0, 260, [260, 0, 0, 0]),
    ],
)
def test_true_bill_of_each_interval(billing, n, tokens, bills):
    for requested in range(1, 5):
        # The second branch is never opened; it sets the depth limit.
        episode = start_episode(trace("7 " * n, tokens), trace("7 7 7", 400), billing=billing)
        episode.branch()
        for _ in range(requested - 1):
            episode.extend(0)
        assert episode.spent == 100 * requested  # no probe was taken
        episode.answer()
        assert episode.info["tokens"] == sum(bills[:requested])


def test_revealed_end_refunds_the_overcharge():
    episode = start_episode(trace("8 7", 230))
    open_and_probe(episode, 3)
    assert (episode.spent, episode.clock) == (230, 230)
    assert episode.finished(0)
    assert episode.depth(0) == episode.revealed(0) == 3


def test_revealed_end_charges_a_long_closing_text():
    episode = start_episode(trace("8 7", 450))
    open_and_probe(episode, 3)
    assert (episode.spent, episode.clock) == (450, 450)


def test_requests_past_the_end_are_charged_and_refunded():
    episode = start_episode(trace("7", 130), trace("7 7 7 7", 450))
    episode.branch()
    for _ in range(4):
        episode.extend(0)
    assert (episode.spent, episode.depth(0)) == (500, 5)
    assert episode.probe(0) == (0, True)
    assert (episode.spent, episode.clock) == (130, 130)
    assert episode.depth(0) == episode.revealed(0) == 2


def test_pruned_branch_is_billed_truly_only_at_the_end_of_the_episode():
    episode = start_episode(trace("7", 130), trace("7 7 7 7", 450))
    episode.branch()
    for _ in range(3):
        episode.extend(0)
    episode.prune(0)
    assert episode.spent == 400
    episode.answer()
    assert episode.spent == 400
    assert episode.info["tokens"] == 130


# --- the clock -----------------------------------------------------------------------------------


def test_continue_all_then_probe_all_costs_one_interval_of_latency():
    episode = start_episode(*[trace("7 7", 300)] * 4)
    for _ in range(4):
        episode.branch()
    episode.probe_all()
    assert (episode.spent, episode.clock) == (400, 100)
    episode.extend_all()
    episode.probe_all()
    assert (episode.spent, episode.clock) == (800, 200)
    episode.answer()
    assert (episode.info["tokens"], episode.info["sequential_tokens"]) == (800, 200)


def test_probing_after_every_request_serializes_the_clock():
    episode = start_episode(*[trace("7 7", 300)] * 4)
    open_and_probe(episode, 1, 1, 1, 1)
    assert (episode.spent, episode.clock) == (400, 400)


def test_intervals_of_a_branch_are_generated_sequentially():
    episode = start_episode(trace("7 7", 300), trace("7 7", 300))
    episode.branch()  # ready at 100,
    episode.extend(0)  # and at 200
    episode.branch()  # ready at 100
    episode.probe(1)
    assert episode.clock == 100
    episode.extend(1)  # ready at 200: it starts when it is requested, at 100
    episode.probe(0)
    assert episode.clock == 200
    episode.probe(1)
    assert episode.clock == 200


def test_unprobed_text_adds_no_sequential_tokens():
    episode = start_episode(trace("7 7", 300), trace("7 7", 300))
    open_and_probe(episode, 1)
    episode.branch()
    episode.extend(1)
    episode.answer()
    assert episode.info["tokens"] == 300
    assert episode.info["sequential_tokens"] == 100


def test_probe_advances_the_clock_as_charged_unless_it_reveals_the_end():
    # The text is ready after 120 tokens, which is unknown before the end is revealed.
    episode = start_episode(trace("7 7", 120), trace("", 50))
    open_and_probe(episode, 2)
    assert (episode.spent, episode.clock) == (200, 200)
    episode.extend(0)
    episode.probe(0)
    assert (episode.spent, episode.clock) == (120, 200)  # the clock does not go back
    open_and_probe(episode, 1)
    assert (episode.spent, episode.clock) == (170, 250)
    episode.answer()
    assert (episode.info["tokens"], episode.info["sequential_tokens"]) == (170, 170)


# --- the budget ----------------------------------------------------------------------------------


def test_interval_must_fit_the_budget():
    episode = start_episode(trace("7 7 7", 400), trace("7 7 7", 400), budget=299)
    episode.branch()
    assert episode.can_branch()
    assert episode.can_extend(0)
    episode.extend(0)  # 200 of 299
    assert not episode.can_branch()
    assert not episode.can_extend(0)
    assert episode.can_probe(0)  # probes are free here
    exact = start_episode(trace("7 7 7", 400), budget=100)
    exact.branch()
    assert (exact.spent, exact.remaining) == (100, 0)


def test_spent_may_exceed_the_budget_with_zero_remaining():
    episode = start_episode(trace("8 7", 450), trace("8 7", 450), budget=400)
    episode.branch()
    open_and_probe(episode, 3)
    assert episode.spent == 100 + 450
    assert episode.remaining == 0
    assert not episode.can_extend(0)
    assert not episode.can_probe(0)  # not even a free probe
    assert episode.can_prune(0)


def test_refund_makes_another_branch_affordable():
    episode = start_episode(trace("7", 110), trace("7", 110), budget=210)
    episode.branch()
    episode.extend(0)
    assert not episode.can_branch()
    episode.probe(0)  # 200 spent tokens become 110
    assert episode.remaining == 100
    assert episode.can_branch()


def test_probe_must_fit_the_budget():
    episode = start_episode(trace("7 7", 300), budget=105, probe_tokens=6)
    episode.branch()
    assert not episode.can_probe(0)
    episode = start_episode(trace("7 7", 300), budget=106, probe_tokens=6)
    episode.branch()
    episode.probe(0)
    assert (episode.spent, episode.remaining) == (106, 0)


# --- probe tokens --------------------------------------------------------------------------------


def test_probe_costs_tokens_but_no_sequential_tokens():
    episode = start_episode(trace("7", 150), probe_tokens=6)
    open_and_probe(episode, 1)
    episode.extend(0)
    episode.probe(0)  # the probe at the end is charged, too
    assert (episode.spent, episode.clock) == (150 + 12, 150)
    episode.answer()
    assert (episode.info["tokens"], episode.info["sequential_tokens"]) == (162, 150)


def test_recorded_probe_tokens():
    episode = start_episode(trace("8 9 7", 350, costs=[5, 60, 7]), probe_tokens="recorded")
    open_and_probe(episode, 2)
    assert episode.spent == 200 + 60
    episode.extend(0)
    episode.probe(0)
    assert episode.spent == 300 + 67
    episode.extend(0)
    episode.probe(0)  # the final answer is part of the branch's text
    assert episode.spent == 350 + 67


def test_budget_must_cover_the_most_expensive_recorded_probe():
    branches = trace("8", 150, costs=[5]), trace("8", 150, costs=[60])
    for budget, legal in ((159, False), (160, True)):
        episode = start_episode(*branches, budget=budget, probe_tokens="recorded")
        episode.branch()
        assert episode.can_probe(0) is legal


def test_only_legal_probes_are_counted():
    env = start_env(trace("8 7", 230), trace("8 7", 230))
    probe = encode(PROBE, 0, 2)
    for action in (BRANCH, probe, probe, BRANCH, encode(CONTINUE, 0, 2), probe, probe + 1):
        env.step(action)
    info = env.step(ANSWER)[4]
    assert (info["steps"], info["probes"]) == (8, 3)
    env.reset()
    assert env.step(ANSWER)[4]["probes"] == 0


# --- legality ------------------------------------------------------------------------------------


def legal_actions(env: AutoTTSEnv) -> list[str]:
    return [env.describe(int(action)) for action in np.flatnonzero(env.action_masks())]


def test_legal_actions_during_an_episode():
    env = start_env(trace("8", 150), trace("7 7 7", 350), max_branches=1)  # depth limit 4
    extend, probe = encode(CONTINUE, 0, 1), encode(PROBE, 0, 1)
    assert legal_actions(env) == ["ANSWER", "BRANCH"]
    env.step(BRANCH)
    assert legal_actions(env) == ["ANSWER", "CONTINUE(0)", "PROBE(0)", "PRUNE(0)"]
    env.step(probe)
    assert legal_actions(env) == ["ANSWER", "CONTINUE(0)", "PRUNE(0)", "ANSWER(0)"]
    env.step(extend)
    assert legal_actions(env) == ["ANSWER", "CONTINUE(0)", "PROBE(0)", "PRUNE(0)", "ANSWER(0)"]
    env.step(extend)
    env.step(extend)  # the limit
    assert legal_actions(env) == ["ANSWER", "PROBE(0)", "PRUNE(0)", "ANSWER(0)"]
    env.step(probe)  # its end was at depth 2
    assert legal_actions(env) == ["ANSWER", "PRUNE(0)", "ANSWER(0)"]


def test_depth_limit_is_shared_by_all_questions():
    store = TraceStore.from_branches(
        [
            Question("", "7", [trace("", 50)]),
            Question("", "7", [trace("7", 150), trace("7 7 7", 350)]),
        ],
        100,
    )
    env = AutoTTSEnv(store, max_branches=1)
    env.reset(options={"question": 0})
    assert env.depth_limit == 4
    env.step(BRANCH)
    for _ in range(3):
        assert not env.step(encode(CONTINUE, 0, 1))[4]["invalid_action"]
    assert env.step(encode(CONTINUE, 0, 1))[4]["invalid_action"]


def test_pruned_branch_allows_only_answer():
    env = start_env(trace("8 7", 250))
    for action in (BRANCH, encode(PROBE, 0, 1), encode(PRUNE, 0, 1)):
        env.step(action)
    assert legal_actions(env) == ["ANSWER", "ANSWER(0)"]


@pytest.mark.parametrize("action", range(2, 10))  # branch 1 is not open; branch 0 has no answer
def test_illegal_action_costs_a_penalty_and_changes_nothing(action):
    env = start_env(trace("7", 150), trace("7", 150), invalid_penalty=0.25)
    before = env.reset()[0]
    after, reward, terminated, truncated, info = env.step(action)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)
    assert (reward, terminated, truncated) == (-0.25, False, False)
    assert info["invalid_action"] == 1
    assert info["cost"] == 0
    assert env.step(ANSWER)[4]["steps"] == 2  # it counts as a step


def test_strict_mode_raises_without_counting_a_step():
    env = start_env(trace("7", 150), invalid_action="raise")
    with pytest.raises(InvalidAction, match=r"PROBE\(0\) is illegal here"):
        env.step(encode(PROBE, 0, 1))
    assert env.step(ANSWER)[4]["steps"] == 1


# --- answers -------------------------------------------------------------------------------------


def give_answer(episode: Episode, i: int = -1) -> tuple[str, bool]:
    """Answer; returns the answer and whether it is correct."""
    episode.answer(i)
    return episode.facts.answer_text(episode.info["answer_class"]), bool(episode.info["correct"])


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ("8 7 7", "7"),
        ("8 7 7 8", "8"),  # a tie: the answer with the earlier first vote wins
        ("7 8 8 7", "7"),
        ("9 8 7 7 8", "8"),
        ("No No 7", "No"),  # null answers vote like any other
        ("9 8 7", "9"),
    ],
)
def test_plurality(votes, winner):
    answers = votes.split()
    episode = start_episode(*[trace(answer, 150) for answer in answers])
    open_and_probe(episode, *[1] * len(answers))
    assert give_answer(episode) == (winner, winner == "7")


def test_ties_are_broken_by_branch_order_not_by_probe_order():
    episode = start_episode(trace("8", 150), trace("7", 150))
    episode.branch()
    episode.branch()
    episode.probe(1)
    episode.probe(0)
    assert (episode.latest(1), episode.latest(0)) == (
        0,
        1,
    )  # classes are numbered in the order of probes
    assert give_answer(episode) == ("8", False)


def test_only_the_latest_answer_of_a_branch_votes():
    episode = start_episode(trace("8 7", 250), trace("8 7", 250), trace("8 7", 250))
    open_and_probe(episode, 1, 1, 1)
    for i in (1, 2):
        episode.extend(i)
        episode.probe(i)
    assert give_answer(episode) == ("7", True)


def test_unprobed_interval_does_not_vote():
    episode = start_episode(trace("8 7", 250))
    open_and_probe(episode, 1)
    episode.extend(0)
    assert give_answer(episode) == ("8", False)


def test_pruned_branch_has_no_vote_but_its_answer_can_be_given():
    branches = trace("9", 150), trace("7", 150), trace("8", 150), trace("8", 150)
    for i, expected in ((-1, "7"), (0, "9"), (3, "8")):
        episode = start_episode(*branches)
        open_and_probe(episode, 1, 1, 1, 1)
        episode.prune(0)
        episode.prune(3)  # leaves 7 and 8 with a vote each
        assert give_answer(episode, i) == (expected, expected == "7")


def test_answer_without_probes_is_empty_and_incorrect():
    for branches in (0, 1):
        episode = start_episode(trace("-", 150), gold="")
        for _ in range(branches):
            episode.branch()
        assert give_answer(episode) == ("", False)
    episode = start_episode(trace("-", 150), gold="")
    open_and_probe(episode, 1)
    assert give_answer(episode) == ("", True)  # a revealed empty answer is compared like any string
    episode = start_episode(trace("7", 150))
    open_and_probe(episode, 1)
    episode.prune(0)
    assert give_answer(episode) == ("", False)


def test_unprobed_branch_cannot_be_answered():
    episode = start_episode(trace("7", 150))
    episode.branch()
    with pytest.raises(IllegalActionError):
        episode.answer(0)


def test_classes_are_numbered_by_first_appearance():
    env = start_env(
        trace("8", 150), trace("No", 150), trace("8", 150), trace("7", 150), max_classes=3
    )
    for i in range(4):
        env.step(BRANCH)
        observation = env.step(encode(PROBE, i, 4))[0]
    assert observation["branch_latest"].tolist() == [0, 1, 0, 2]
    assert observation["class_votes"].tolist() == [2, 1, 1]
    assert observation["class_null"].tolist() == [0, 1, 0]


def test_shared_column_is_null_only_while_all_its_classes_are_null():
    answers = "No ERR 7 No"
    env = start_env(*[trace(answer, 150) for answer in answers.split()], max_classes=1)
    nulls = []
    for i in range(4):
        env.step(BRANCH)
        nulls.append(int(env.step(encode(PROBE, i, 4))[0]["class_null"][0]))
    assert nulls == [1, 1, 0, 0]  # a repeated null answer does not make the column null again
    assert env.step(BRANCH)[0]["class_votes"].tolist() == [4]


def test_globals_are_clipped_to_their_bounds():
    # C is 1 token, and an interval 2,000,000.
    store = TraceStore.from_branches([Question("", "7", [trace("7", 1)])], 2_000_000)
    env = AutoTTSEnv(store, max_branches=1, budget=10**9, beta=0.5)
    env.reset()
    env.step(BRANCH)
    observation = env.step(encode(PROBE, 0, 1))[0]
    np.testing.assert_array_equal(observation["globals"], np.float32([1, 1e6, 1e6, 1e6, 0.5]))
    assert observation in env.observation_space


# --- reward --------------------------------------------------------------------------------------


def test_rewards_step_by_step():
    env = start_env(trace("7 7", 250), beta=0.2)  # C = 1 branch × 250 tokens
    extend, probe = encode(CONTINUE, 0, 1), encode(PROBE, 0, 1)
    costs, rewards = [], []
    for action in (BRANCH, extend, extend, probe, extend, ANSWER):  # the fifth is illegal
        _, reward, terminated, _, info = env.step(action)
        costs.append(info["cost"])
        rewards.append(reward)
    assert costs == pytest.approx([0.4, 0.4, 0.4, -0.2, 0, 0])  # 300 charged, 250 billed
    assert rewards == pytest.approx([-0.32, -0.32, -0.32, 0.16, -0.01, 0.2])
    assert terminated
    assert (info["accuracy_reward"], info["cost_reward"]) == (1, -1)


def test_last_step_settles_outstanding_costs():
    env = start_env(trace("7", 130), trace("7 7 7", 270), beta=0.5)  # C = 400
    extend = encode(CONTINUE, 0, 2)
    for action in (BRANCH, encode(PROBE, 0, 2), extend, extend):
        env.step(action)
    _, reward, _, _, info = env.step(encode(ANSWER_BRANCH, 0, 2))
    assert info["cost"] == pytest.approx((130 - 300) / 400)
    assert reward == pytest.approx(0.5 + 0.5 * 170 / 400)
    assert info["cost_reward"] == pytest.approx(-130 / 400)


def test_full_cost_weights_questions_equally():
    store = TraceStore.from_branches(
        [
            Question("", "7", [trace("7", 100), trace("7", 300)]),  # a mean of 200
            Question("", "7", [trace("7", 600)] * 4),
        ],
        100,
    )
    env = AutoTTSEnv(store, max_branches=2)
    env.reset()
    assert env.step(BRANCH)[4]["cost"] == pytest.approx(100 / (2 * 400))


# --- end of an episode ---------------------------------------------------------------------------


def test_step_limit_settles_the_cost_and_counts_as_incorrect():
    env = start_env(trace("7", 130), trace("7 7 7", 270), step_limit=3, beta=0.5)
    env.step(BRANCH)
    env.step(encode(PROBE, 0, 2))
    observation, reward, terminated, truncated, info = env.step(encode(CONTINUE, 0, 2))
    assert (terminated, truncated) == (False, True)
    assert (info["answer_class"], info["correct"], info["steps"]) == (-1, 0, 3)
    assert (info["tokens"], info["sequential_tokens"]) == (130, 100)
    assert reward == pytest.approx(-0.5 * 30 / 400)
    assert observation["globals"][1] == pytest.approx(200 / 400)  # the visible cost is unchanged


def test_answer_is_allowed_in_the_last_step():
    env = start_env(trace("7", 130), step_limit=3)
    env.step(BRANCH)
    env.step(encode(PROBE, 0, 1))
    _, _, terminated, truncated, info = env.step(ANSWER)
    assert (terminated, truncated, info["correct"]) == (True, False, True)


def test_illegal_actions_count_towards_the_step_limit():
    env = start_env(trace("7", 130), step_limit=2, invalid_penalty=0.5)
    assert not env.step(encode(PROBE, 0, 1))[3]
    _, reward, terminated, truncated, info = env.step(encode(PROBE, 0, 1))
    assert (reward, terminated, truncated) == (-0.5, False, True)
    assert (info["invalid_action"], info["steps"]) == (True, 2)


def test_step_limit_raises_in_controllers():
    episode = start_episode(trace("7", 130), step_limit=1)
    with pytest.raises(StepLimitError):
        episode.branch()
    assert episode.ended


# --- auto_probe ----------------------------------------------------------------------------------


def test_auto_probe_probes_after_every_request():
    env = start_env(trace("8 7", 230), trace("8 7", 230), auto_probe=True, probe_tokens=5)
    observation = env.step(BRANCH)[0]
    assert observation["branch_latest"].tolist() == [0, -1]
    assert (env.spent, env.clock) == (105, 100)
    assert legal_actions(env) == ["ANSWER", "BRANCH", "CONTINUE(0)", "PRUNE(0)", "ANSWER(0)"]
    assert env.step(encode(PROBE, 0, 2))[4]["invalid_action"]
    env.step(BRANCH)
    assert (env.spent, env.clock) == (210, 200)  # the clock is serialized
    env.step(encode(CONTINUE, 0, 2))
    observation = env.step(encode(CONTINUE, 0, 2))[0]
    assert observation["branch_finished"].tolist() == [1, 0]
    # Branch 0: 230 and three probes; branch 1: 100 and one. Its last 30 tokens start at 300.
    assert (env.spent, env.clock) == (350, 330)
    assert env.step(ANSWER)[4]["probes"] == 4


def test_auto_probe_budget_must_cover_the_probe():
    for budget, expected in ((104, ["ANSWER"]), (105, ["ANSWER", "BRANCH"])):
        env = start_env(trace("8 7", 230), auto_probe=True, probe_tokens=5, budget=budget)
        assert legal_actions(env) == expected
