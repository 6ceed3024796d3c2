"""Tests of action ids: encoding, decoding, and the preferred legal episode."""

import pytest

from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp.actions import (
    ANSWER,
    ANSWER_BRANCH,
    BRANCH,
    CONTINUE,
    PROBE,
    PRUNE,
    Action,
    count,
    decode,
    encode,
    max_legal_actions,
)
from autotts_gym.traces.store import Branch, Question, TraceStore

BLOCKS = {CONTINUE: "CONTINUE", PROBE: "PROBE", PRUNE: "PRUNE", ANSWER_BRANCH: "ANSWER"}


def test_ids_match_the_documentation():
    names = [str(decode(action, 2)) for action in range(count(2))]
    assert names == [
        "ANSWER",
        "BRANCH",
        *("CONTINUE(0)", "CONTINUE(1)"),
        *("PROBE(0)", "PROBE(1)"),
        *("PRUNE(0)", "PRUNE(1)"),
        *("ANSWER(0)", "ANSWER(1)"),
    ]
    assert (ANSWER, BRANCH) == (0, 1)


@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_encode_and_decode_round_trip(width):
    ids = [encode(block, branch, width) for block in BLOCKS for branch in range(width)]
    assert ids == list(range(2, count(width)))
    assert [decode(action, width) for action in ids] == [
        Action(name, branch) for name in BLOCKS.values() for branch in range(width)
    ]
    assert decode(ANSWER, width) == Action("ANSWER", None)
    assert decode(BRANCH, width) == Action("BRANCH", None)


@pytest.mark.parametrize("branch", [-1, 3])
def test_branch_out_of_range_is_rejected(branch):
    with pytest.raises(ValueError, match=rf"branch {branch} is outside 0\.\.2"):
        encode(PROBE, branch, 3)


@pytest.mark.parametrize("action", [-1, 14])
def test_action_id_out_of_range_is_rejected(action):
    with pytest.raises(ValueError, match=rf"action {action} is outside 0\.\.13"):
        decode(action, 3)


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (1, 4), (3, 3)])
def test_max_legal_actions_is_the_longest_legal_episode(width, depth):
    branch = Branch(["7"] * (depth - 1), 100 * depth, "7")
    store = TraceStore.from_branches([Question("?", "7", [branch] * width)], 100)
    env = AutoTTSEnv(store, max_branches=width, invalid_action="raise")
    env.reset()
    blocks = [[encode(block, i, width) for i in range(width)] for block in (PROBE, CONTINUE, PRUNE)]
    preferred = [
        BRANCH,
        *blocks[0],
        *blocks[1],
        *blocks[2],
        ANSWER,
    ]  # probe first, then continue, prune last
    terminated = False
    while not terminated:
        legal = env.action_masks()
        _, _, terminated, _, info = env.step(next(action for action in preferred if legal[action]))
    assert info["steps"] == max_legal_actions(width, depth)
