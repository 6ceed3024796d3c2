"""The rules in small examples, worked out by hand: Δ = 100 tokens, the gold answer is "7"."""

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
    """A branch; its probes are words of one string, "-" for the empty answer."""
    return Branch(["" if p == "-" else p for p in probes.split()], tokens, final, None, costs)


def start(*branches: Branch, gold: str = "7", **setting: Any) -> AutoTTSEnv:
    """An environment of one question with these branches, reset."""
    store = TraceStore.from_branches([Question("", gold, branches)], 100)
    env = AutoTTSEnv(store, **{"max_branches": len(branches), **setting})
    env.reset(options={"branch_order": range(len(branches))})
    return env


def play(*branches: Branch, **setting: Any) -> Episode:
    """The same, played by its handle."""
    env = start(*branches, **setting)
    count = len(branches)
    return Episode(env, env.reset(options={"branch_order": range(count)})[0])


def read(episode: Episode, *looks: int) -> None:
    """Open a branch for each argument, continue it to that depth, and probe it there."""
    for depth in looks:
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
        # The text ended within the second interval, though probes went on.
        ("tokens", 2, 150, [100, 50, 0, 0]),
        ("interval", 2, 150, [100, 100, 0, 0]),
        ("tokens", 2, 80, [80, 0, 0, 0]),
        ("interval", 2, 80, [100, 100, 0, 0]),
        # The closing text is long: the last interval exceeds Δ.
        ("tokens", 2, 450, [100, 100, 250, 0]),
        ("interval", 2, 450, [100, 100, 250, 0]),
        # No probe at all: the whole branch is its last interval.
        ("tokens", 0, 30, [30, 0, 0, 0]),
        ("interval", 0, 260, [260, 0, 0, 0]),
    ],
)
def test_what_each_interval_really_costs(billing, n, tokens, bills):
    for requested in range(1, 5):
        # The second branch, never opened, is there for its depth.
        episode = play(trace("7 " * n, tokens), trace("7 7 7", 400), billing=billing)
        episode.branch()
        for _ in range(requested - 1):
            episode.extend(0)
        assert episode.spent == 100 * requested  # nothing was looked at
        episode.answer()
        assert episode.info["tokens"] == sum(bills[:requested])


def test_a_refund_when_the_end_is_revealed():
    episode = play(trace("8 7", 230))
    read(episode, 3)
    assert (episode.spent, episode.clock) == (230, 230)
    assert episode.finished(0)
    assert episode.depth(0) == episode.revealed(0) == 3


def test_a_long_closing_text_is_charged_when_the_end_is_revealed():
    episode = play(trace("8 7", 450))
    read(episode, 3)
    assert (episode.spent, episode.clock) == (450, 450)


def test_requests_past_the_end_are_charged_and_given_back():
    episode = play(trace("7", 130), trace("7 7 7 7", 450))
    episode.branch()
    for _ in range(4):
        episode.extend(0)
    assert (episode.spent, episode.depth(0)) == (500, 5)
    assert episode.probe(0) == (0, True)
    assert (episode.spent, episode.clock) == (130, 130)
    assert episode.depth(0) == episode.revealed(0) == 2


def test_a_pruned_branch_stays_charged_until_the_true_bill_at_the_end():
    episode = play(trace("7", 130), trace("7 7 7 7", 450))
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
    episode = play(*[trace("7 7", 300)] * 4)
    for _ in range(4):
        episode.branch()
    episode.probe_all()
    assert (episode.spent, episode.clock) == (400, 100)
    episode.extend_all()
    episode.probe_all()
    assert (episode.spent, episode.clock) == (800, 200)
    episode.answer()
    assert (episode.info["tokens"], episode.info["sequential_tokens"]) == (800, 200)


def test_looking_after_every_request_serialises_the_clock():
    episode = play(*[trace("7 7", 300)] * 4)
    read(episode, 1, 1, 1, 1)
    assert (episode.spent, episode.clock) == (400, 400)


def test_a_branch_generates_one_interval_after_the_other():
    episode = play(trace("7 7", 300), trace("7 7", 300))
    episode.branch()  # ready at 100,
    episode.extend(0)  # and at 200
    episode.branch()  # ready at 100
    episode.probe(1)
    assert episode.clock == 100
    episode.extend(1)  # ready at 200: it starts when it is asked for, at 100
    episode.probe(0)
    assert episode.clock == 200
    episode.probe(1)
    assert episode.clock == 200


def test_what_nobody_looks_at_takes_no_time():
    episode = play(trace("7 7", 300), trace("7 7", 300))
    read(episode, 1)
    episode.branch()
    episode.extend(1)
    episode.answer()
    assert episode.info["tokens"] == 300
    assert episode.info["sequential_tokens"] == 100


def test_a_look_waits_as_long_as_was_charged_unless_it_shows_the_end():
    # The text is ready after 120 tokens, but nobody can know that before the end is seen.
    episode = play(trace("7 7", 120), trace("", 50))
    read(episode, 2)
    assert (episode.spent, episode.clock) == (200, 200)
    episode.extend(0)
    episode.probe(0)
    assert (episode.spent, episode.clock) == (120, 200)  # the time is gone
    read(episode, 1)
    assert (episode.spent, episode.clock) == (170, 250)
    episode.answer()
    assert (episode.info["tokens"], episode.info["sequential_tokens"]) == (170, 170)


# --- the budget ----------------------------------------------------------------------------------


def test_an_interval_must_fit_the_budget():
    episode = play(trace("7 7 7", 400), trace("7 7 7", 400), budget=299)
    episode.branch()
    assert episode.can_branch()
    assert episode.can_extend(0)
    episode.extend(0)  # 200 of 299
    assert not episode.can_branch()
    assert not episode.can_extend(0)
    assert episode.can_probe(0)  # probes are free here
    exact = play(trace("7 7 7", 400), budget=100)
    exact.branch()
    assert (exact.spent, exact.remaining) == (100, 0)


def test_spent_may_exceed_the_budget_and_nothing_remains():
    episode = play(trace("8 7", 450), trace("8 7", 450), budget=400)
    episode.branch()
    read(episode, 3)
    assert episode.spent == 100 + 450
    assert episode.remaining == 0
    assert not episode.can_extend(0)
    assert not episode.can_probe(0)  # even a probe that costs nothing
    assert episode.can_prune(0)


def test_a_refund_makes_more_affordable():
    episode = play(trace("7", 110), trace("7", 110), budget=210)
    episode.branch()
    episode.extend(0)
    assert not episode.can_branch()
    episode.probe(0)  # 200 become 110
    assert episode.remaining == 100
    assert episode.can_branch()


def test_a_probe_must_fit_the_budget():
    episode = play(trace("7 7", 300), budget=105, probe_tokens=6)
    episode.branch()
    assert not episode.can_probe(0)
    episode = play(trace("7 7", 300), budget=106, probe_tokens=6)
    episode.branch()
    episode.probe(0)
    assert (episode.spent, episode.remaining) == (106, 0)


# --- probe tokens --------------------------------------------------------------------------------


def test_a_probe_costs_tokens_and_no_time():
    episode = play(trace("7", 150), probe_tokens=6)
    read(episode, 1)
    episode.extend(0)
    episode.probe(0)  # at the end, too
    assert (episode.spent, episode.clock) == (150 + 12, 150)
    episode.answer()
    assert (episode.info["tokens"], episode.info["sequential_tokens"]) == (162, 150)


def test_recorded_probe_tokens():
    episode = play(trace("8 9 7", 350, costs=[5, 60, 7]), probe_tokens="recorded")
    read(episode, 2)
    assert episode.spent == 200 + 60
    episode.extend(0)
    episode.probe(0)
    assert episode.spent == 300 + 67
    episode.extend(0)
    episode.probe(0)  # the final answer stands in the branch's own text
    assert episode.spent == 350 + 67


def test_the_budget_must_cover_the_dearest_recorded_probe():
    branches = trace("8", 150, costs=[5]), trace("8", 150, costs=[60])
    for budget, legal in ((159, False), (160, True)):
        episode = play(*branches, budget=budget, probe_tokens="recorded")
        episode.branch()
        assert episode.can_probe(0) is legal


def test_looks_are_counted_and_illegal_ones_are_not():
    env = start(trace("8 7", 230), trace("8 7", 230))
    look = encode(PROBE, 0, 2)
    for action in (BRANCH, look, look, BRANCH, encode(CONTINUE, 0, 2), look, look + 1):
        env.step(action)
    info = env.step(ANSWER)[4]
    assert (info["steps"], info["probes"]) == (8, 3)
    env.reset()
    assert env.step(ANSWER)[4]["probes"] == 0


# --- what is legal -------------------------------------------------------------------------------


def legal(env: AutoTTSEnv) -> list[str]:
    return [env.describe(int(action)) for action in np.flatnonzero(env.action_masks())]


def test_what_is_legal_as_an_episode_goes_on():
    env = start(trace("8", 150), trace("7 7 7", 350), max_branches=1)  # a depth limit of 4
    extend, look = encode(CONTINUE, 0, 1), encode(PROBE, 0, 1)
    assert legal(env) == ["ANSWER", "BRANCH"]
    env.step(BRANCH)
    assert legal(env) == ["ANSWER", "CONTINUE(0)", "PROBE(0)", "PRUNE(0)"]
    env.step(look)
    assert legal(env) == ["ANSWER", "CONTINUE(0)", "PRUNE(0)", "ANSWER(0)"]
    env.step(extend)
    assert legal(env) == ["ANSWER", "CONTINUE(0)", "PROBE(0)", "PRUNE(0)", "ANSWER(0)"]
    env.step(extend)
    env.step(extend)  # the limit
    assert legal(env) == ["ANSWER", "PROBE(0)", "PRUNE(0)", "ANSWER(0)"]
    env.step(look)  # its end was at depth 2
    assert legal(env) == ["ANSWER", "PRUNE(0)", "ANSWER(0)"]


def test_the_depth_limit_is_that_of_the_whole_environment():
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


def test_a_pruned_branch_can_only_be_answered_with():
    env = start(trace("8 7", 250))
    for action in (BRANCH, encode(PROBE, 0, 1), encode(PRUNE, 0, 1)):
        env.step(action)
    assert legal(env) == ["ANSWER", "ANSWER(0)"]


@pytest.mark.parametrize("action", range(2, 10))  # branch 1 is not open; ANSWER(0) shows nothing
def test_an_illegal_action_changes_nothing_and_costs_a_penalty(action):
    env = start(trace("7", 150), trace("7", 150), invalid_penalty=0.25)
    before = env.reset()[0]
    after, reward, terminated, truncated, info = env.step(action)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)
    assert (reward, terminated, truncated) == (-0.25, False, False)
    assert info["invalid_action"] is True
    assert info["cost"] == 0
    assert env.step(ANSWER)[4]["steps"] == 2  # it counts as a step


def test_strict_mode_raises_and_counts_nothing():
    env = start(trace("7", 150), invalid_action="raise")
    with pytest.raises(InvalidAction, match=r"PROBE\(0\) is illegal here"):
        env.step(encode(PROBE, 0, 1))
    assert env.step(ANSWER)[4]["steps"] == 1


# --- answers -------------------------------------------------------------------------------------


def answered(episode: Episode, i: int = -1) -> tuple[str, bool]:
    episode.answer(i)
    return episode.info["answer"], episode.info["correct"]


@pytest.mark.parametrize(
    ("shown", "winner"),
    [
        ("8 7 7", "7"),
        ("8 7 7 8", "8"),  # a tie: its first vote came first
        ("7 8 8 7", "7"),
        ("9 8 7 7 8", "8"),
        ("No No 7", "No"),  # null answers vote like any other
        ("9 8 7", "9"),
    ],
)
def test_plurality(shown, winner):
    answers = shown.split()
    episode = play(*[trace(answer, 150) for answer in answers])
    read(episode, *[1] * len(answers))
    assert answered(episode) == (winner, winner == "7")


def test_order_of_votes_is_that_of_branches_not_of_looks():
    episode = play(trace("8", 150), trace("7", 150))
    episode.branch()
    episode.branch()
    episode.probe(1)
    episode.probe(0)
    assert (episode.latest(1), episode.latest(0)) == (0, 1)  # classes are by looks
    assert answered(episode) == ("8", False)


def test_only_the_latest_answer_of_a_branch_votes():
    episode = play(trace("8 7", 250), trace("8 7", 250), trace("8 7", 250))
    read(episode, 1, 1, 1)
    for i in (1, 2):
        episode.extend(i)
        episode.probe(i)
    assert answered(episode) == ("7", True)


def test_what_was_requested_and_not_looked_at_does_not_vote():
    episode = play(trace("8 7", 250))
    read(episode, 1)
    episode.extend(0)
    assert answered(episode) == ("8", False)


def test_a_pruned_branch_has_no_vote_but_can_be_answered_with():
    branches = trace("9", 150), trace("7", 150), trace("8", 150), trace("8", 150)
    for i, wanted in ((-1, "7"), (0, "9"), (3, "8")):
        episode = play(*branches)
        read(episode, 1, 1, 1, 1)
        episode.prune(0)
        episode.prune(3)  # leaves 7 and 8 with a vote each
        assert answered(episode, i) == (wanted, wanted == "7")


def test_nothing_revealed_is_an_empty_answer_and_wrong():
    for branches in (0, 1):
        episode = play(trace("-", 150), gold="")
        for _ in range(branches):
            episode.branch()
        assert answered(episode) == ("", False)
    episode = play(trace("-", 150), gold="")
    read(episode, 1)
    assert answered(episode) == ("", True)  # revealed, and compared as any string
    episode = play(trace("7", 150))
    read(episode, 1)
    episode.prune(0)
    assert answered(episode) == ("", False)


def test_a_branch_without_an_answer_cannot_be_answered_with():
    episode = play(trace("7", 150))
    episode.branch()
    with pytest.raises(IllegalActionError):
        episode.answer(0)


def test_classes_are_numbered_by_first_appearance():
    env = start(trace("8", 150), trace("No", 150), trace("8", 150), trace("7", 150), max_classes=3)
    for i in range(4):
        env.step(BRANCH)
        found = env.step(encode(PROBE, i, 4))[0]
    assert found["branch_latest"].tolist() == [0, 1, 0, 2]
    assert found["class_votes"].tolist() == [2, 1, 1]
    assert found["class_null"].tolist() == [0, 1, 0]


def test_a_shared_column_is_null_only_while_all_its_classes_are():
    shown = "No ERR 7 No"
    env = start(*[trace(answer, 150) for answer in shown.split()], max_classes=1)
    nulls = []
    for i in range(4):
        env.step(BRANCH)
        nulls.append(int(env.step(encode(PROBE, i, 4))[0]["class_null"][0]))
    assert nulls == [1, 1, 0, 0]  # showing a null answer once more makes it no emptier
    assert env.step(BRANCH)[0]["class_votes"].tolist() == [4]


def test_figures_stay_within_their_bounds():
    # C is 1 token, and an interval 2,000,000.
    store = TraceStore.from_branches([Question("", "7", [trace("7", 1)])], 2_000_000)
    env = AutoTTSEnv(store, max_branches=1, budget=10**9, beta=0.5)
    env.reset()
    env.step(BRANCH)
    found = env.step(encode(PROBE, 0, 1))[0]
    np.testing.assert_array_equal(found["globals"], np.float32([1, 1e6, 1e6, 1e6, 0.5]))
    assert found in env.observation_space


# --- reward --------------------------------------------------------------------------------------


def test_rewards_step_by_step():
    env = start(trace("7 7", 250), beta=0.2)  # C = 1 branch × 250 tokens
    extend, look = encode(CONTINUE, 0, 1), encode(PROBE, 0, 1)
    costs, rewards = [], []
    for action in (BRANCH, extend, extend, look, extend, ANSWER):  # the fifth is illegal
        _, reward, terminated, _, info = env.step(action)
        costs.append(info["cost"])
        rewards.append(reward)
    assert costs == pytest.approx([0.4, 0.4, 0.4, -0.2, 0, 0])  # 300 charged, 250 billed
    assert rewards == pytest.approx([-0.32, -0.32, -0.32, 0.16, -0.01, 0.2])
    assert terminated
    assert (info["accuracy_reward"], info["cost_reward"]) == (1, -1)


def test_what_is_unreconciled_is_settled_in_the_last_step():
    env = start(trace("7", 130), trace("7 7 7", 270), beta=0.5)  # C = 400
    extend = encode(CONTINUE, 0, 2)
    for action in (BRANCH, encode(PROBE, 0, 2), extend, extend):
        env.step(action)
    _, reward, _, _, info = env.step(encode(ANSWER_BRANCH, 0, 2))
    assert info["cost"] == pytest.approx((130 - 300) / 400)
    assert reward == pytest.approx(0.5 + 0.5 * 170 / 400)
    assert info["cost_reward"] == pytest.approx(-130 / 400)


def test_full_cost_weighs_questions_alike():
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


# --- how an episode ends -------------------------------------------------------------------------


def test_the_step_limit_settles_the_cost_and_counts_as_wrong():
    env = start(trace("7", 130), trace("7 7 7", 270), step_limit=3, beta=0.5)
    env.step(BRANCH)
    env.step(encode(PROBE, 0, 2))
    found, reward, terminated, truncated, info = env.step(encode(CONTINUE, 0, 2))
    assert (terminated, truncated) == (False, True)
    assert (info["answer"], info["correct"], info["steps"]) == ("", False, 3)
    assert (info["tokens"], info["sequential_tokens"]) == (130, 100)
    assert reward == pytest.approx(-0.5 * 30 / 400)
    assert found["globals"][1] == pytest.approx(200 / 400)  # what is visible stays so


def test_the_last_step_that_is_allowed_may_be_the_answer():
    env = start(trace("7", 130), step_limit=3)
    env.step(BRANCH)
    env.step(encode(PROBE, 0, 1))
    _, _, terminated, truncated, info = env.step(ANSWER)
    assert (terminated, truncated, info["correct"]) == (True, False, True)


def test_illegal_actions_count_towards_the_step_limit():
    env = start(trace("7", 130), step_limit=2, invalid_penalty=0.5)
    assert not env.step(encode(PROBE, 0, 1))[3]
    _, reward, terminated, truncated, info = env.step(encode(PROBE, 0, 1))
    assert (reward, terminated, truncated) == (-0.5, False, True)
    assert (info["invalid_action"], info["steps"]) == (True, 2)


def test_a_controller_is_told_of_the_step_limit():
    episode = play(trace("7", 130), step_limit=1)
    with pytest.raises(StepLimitError):
        episode.branch()
    assert episode.ended


# --- auto_probe ----------------------------------------------------------------------------------


def test_auto_probe_looks_after_every_request():
    env = start(trace("8 7", 230), trace("8 7", 230), auto_probe=True, probe_tokens=5)
    found = env.step(BRANCH)[0]
    assert found["branch_latest"].tolist() == [0, -1]
    assert (env.spent, env.clock) == (105, 100)
    assert legal(env) == ["ANSWER", "BRANCH", "CONTINUE(0)", "PRUNE(0)", "ANSWER(0)"]
    assert env.step(encode(PROBE, 0, 2))[4]["invalid_action"]
    env.step(BRANCH)
    assert (env.spent, env.clock) == (210, 200)  # the clock is serialised
    env.step(encode(CONTINUE, 0, 2))
    found = env.step(encode(CONTINUE, 0, 2))[0]
    assert found["branch_finished"].tolist() == [1, 0]
    # Branch 0: 230 and three probes; branch 1: 100 and one. Its last 30 tokens start at 300.
    assert (env.spent, env.clock) == (350, 330)
    assert env.step(ANSWER)[4]["probes"] == 4


def test_auto_probe_needs_the_probe_too():
    for budget, wanted in ((104, ["ANSWER"]), (105, ["ANSWER", "BRANCH"])):
        env = start(trace("8 7", 230), auto_probe=True, probe_tokens=5, budget=budget)
        assert legal(env) == wanted
