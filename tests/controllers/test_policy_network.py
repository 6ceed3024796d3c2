"""Policy networks: symmetry under permutations of branches, and the files of policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from autotts_gym.controllers import policy_network
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_network import (
    CARD,
    WEIGHTS,
    Policy,
    PolicyError,
    Shape,
    save,
)
from autotts_gym.learning import privileged_critic
from autotts_gym.learning.privileged_critic import Critic
from autotts_gym.mdp import actions as a
from autotts_gym.mdp.macro_actions import NUM_MACRO_ACTIONS
from autotts_gym.mdp.macro_features import (
    GLOBAL_FEATURE_NAMES,
    NUM_BRANCH_FEATURES,
    NUM_GLOBAL_FEATURES,
)

CARD_ENTRIES = {"prices": {"high": 3.0, "low": 0.005}}


def random_observation(
    rng: np.random.Generator, n: int, opened: int
) -> tuple[torch.Tensor, torch.Tensor]:
    branches = torch.zeros(1, n, NUM_BRANCH_FEATURES, dtype=torch.float64)
    branches[0, :opened] = torch.from_numpy(rng.random((opened, NUM_BRANCH_FEATURES)))
    branches[0, :opened, 0] = 1
    return branches, torch.from_numpy(rng.random((1, NUM_GLOBAL_FEATURES)))


@pytest.mark.parametrize("seed", range(5))
def test_macro_actions_are_invariant_to_permutations(seed: int) -> None:
    """Up to rounding in double precision, since sums are computed in another order."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    policy, critic = Policy(Shape()).double(), Critic(Shape()).double()
    branches, features = random_observation(rng, 20, 13)
    privileged = torch.from_numpy(rng.random((1, 20, privileged_critic.NUM_BRANCH_FEATURES)))
    privileged_global = torch.from_numpy(rng.random((1, privileged_critic.NUM_GLOBAL_FEATURES)))
    mask = torch.ones(1, NUM_MACRO_ACTIONS, dtype=torch.bool)
    order = torch.from_numpy(rng.permutation(20))
    with torch.no_grad():
        here = policy.act(branches, features, mask)
        there = policy.act(branches[:, order], features, mask)
        # Branches that are not open may be left out.
        short = policy.act(branches[:, :13], features, mask)
        value = critic(branches, features, (privileged, privileged_global))
        same = critic(branches[:, order], features, (privileged[:, order], privileged_global))
    torch.testing.assert_close(there, here, rtol=0, atol=1e-14)
    torch.testing.assert_close(short, here, rtol=0, atol=1e-14)
    torch.testing.assert_close(same, value, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_single_actions_are_equivariant_to_permutations(seed: int) -> None:
    """Permuting branches permutes the logits of single actions."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    policy = Policy(Shape(atomic=True)).double()
    n, opened = 20, 13
    branches, features = random_observation(rng, n, opened)
    mask = torch.from_numpy(rng.random((1, a.count(n))) < 0.7)
    mask[:, 2:].view(4, n)[:, opened:] = False
    order = torch.from_numpy(rng.permutation(n))
    turned = torch.cat([mask[:, :2], mask[:, 2:].view(1, 4, n)[..., order].flatten(1)], 1)
    with torch.no_grad():
        here = policy.act(branches, features, mask)
        there = policy.act(branches[:, order], features, turned)
        short = policy.act(branches[:, :opened], features, mask)
    assert here.shape == (1, a.count(n))
    assert len(set(here[mask].tolist())) > opened
    torch.testing.assert_close(there[:, :2], here[:, :2], rtol=0, atol=1e-14)
    moved = here[:, 2:].view(4, n)[:, order]
    torch.testing.assert_close(there[:, 2:].view(4, n), moved, rtol=0, atol=1e-14)
    torch.testing.assert_close(short, here, rtol=0, atol=1e-14)


def test_the_kind_of_action_is_chosen_before_the_branch() -> None:
    """Three similar branches to continue are together more likely than one answer."""
    policy = Policy(Shape(atomic=True))
    n = 4
    odds = torch.full((2, a.count(n)), 1e-6)
    odds[:, a.ANSWER] = 0.3
    odds[0, 2 : 2 + n] = torch.tensor([0.2, 0.21, 0.2, 1e-6])
    odds[1, 2 + a.PRUNE * n + 3] = 0.4
    policy.act = lambda *_: odds.log()  # type: ignore[method-assign]
    nothing = torch.zeros(0)
    chosen = policy.choose(nothing, nothing, torch.ones(2, a.count(n), dtype=torch.bool))
    assert chosen.tolist() == [2 + 1, 2 + a.PRUNE * n + 3]


def test_an_mlp_is_not_invariant() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    policy = Policy(Shape(network="mlp", max_branches=20)).double()
    branches, features = random_observation(rng, 20, 13)
    mask = torch.ones(1, NUM_MACRO_ACTIONS, dtype=torch.bool)
    with torch.no_grad():
        here = policy.act(branches, features, mask)
        there = policy.act(branches.flip(1), features, mask)
        short = policy.act(branches[:, :13], features, mask)
    assert not torch.allclose(here, there)
    torch.testing.assert_close(short, here)


def test_observations_without_open_branches() -> None:
    policy = Policy(Shape())
    branches, features = torch.zeros(2, 3, NUM_BRANCH_FEATURES), torch.zeros(2, NUM_GLOBAL_FEATURES)
    mask = torch.zeros(2, NUM_MACRO_ACTIONS, dtype=torch.bool)
    mask[:, 3] = True
    logits = policy.act(branches, features, mask)
    assert logits.isfinite().all()
    assert logits.argmax(-1).tolist() == [3, 3]


def test_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    policy = Policy(Shape(encoder=8, hidden=16))
    save(policy, tmp_path / "mine", CARD_ENTRIES)
    loaded, card = policy_network.load(tmp_path / "mine")
    assert card["shape"]["encoder"] == 8
    for name, value in policy.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [CARD, WEIGHTS]
    assert load(str(tmp_path / "mine")).name == "mine"


def test_policies_with_latency_have_a_layout_of_their_own(tmp_path: Path) -> None:
    plain, latency = Policy(Shape(hidden=8)), Policy(Shape(hidden=8, latency=True))
    cards = []
    for name, policy in (("plain", plain), ("latency", latency)):
        save(policy, tmp_path / name, CARD_ENTRIES)
        loaded, card = policy_network.load(tmp_path / name)
        assert loaded.shape == policy.shape
        cards.append(card)
    assert "latency" not in cards[0]["shape"]  # as in cards of version 0.1
    assert cards[1]["shape"]["latency"] is True
    more = [name for name in cards[1]["layout"]["features"] if name not in GLOBAL_FEATURE_NAMES]
    assert more == ["latency_weight", "latency"]
    assert cards[0]["layout"]["features"] == list(GLOBAL_FEATURE_NAMES)
    assert latency.shape.num_parameters == plain.shape.num_parameters + 2 * 8


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("actions", "trained with other actions: .*'RUN'.*this version has .*'ANSWER'"),
        ("features", "trained with other features"),
        ("branch_features", "trained with other branch features"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, part: str, message: str) -> None:
    save(Policy(Shape()), tmp_path, CARD_ENTRIES)
    card = yaml.safe_load((tmp_path / CARD).read_text())
    card["layout"][part] = ["RUN", *card["layout"][part][1:]]
    (tmp_path / CARD).write_text(yaml.safe_dump(card))
    with pytest.raises(PolicyError, match=message):
        policy_network.load(tmp_path)
    with pytest.raises(AgentError, match=message):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (WEIGHTS, b"", "does not hold the weights"),
        (WEIGHTS, b"\x80\x04cposix\nsystem\n", "does not hold the weights"),
        (CARD, b"- 1", "is not the card of a policy"),
        (CARD, b"shape: {}", "is not the card of a policy"),
        (CARD, b"!!python/object/apply:os.system ['true']", "is not the card of a policy"),
    ],
)
def test_damaged_policies_are_refused(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    save(Policy(Shape()), tmp_path, CARD_ENTRIES)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(AgentError, match=message):
        load(str(tmp_path))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save(Policy(Shape(hidden=8)), tmp_path, CARD_ENTRIES)
    card = yaml.safe_load((tmp_path / CARD).read_text())
    card["shape"]["hidden"] = 9
    (tmp_path / CARD).write_text(yaml.safe_dump(card))
    with pytest.raises(PolicyError, match="size mismatch"):
        policy_network.load(tmp_path)


@pytest.mark.parametrize("network", ["equivariant", "mlp"])
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("latency", [False, True])
def test_number_of_weights(network: policy_network.Network, atomic: bool, latency: bool) -> None:
    shape = Shape(network, 5, 6, 7, atomic, latency)
    assert shape.num_parameters == sum(p.numel() for p in Policy(shape).parameters())


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("hidden", 12000, "hidden must be an integer from 1 to 4096"),
        ("hidden", 4096, "does not hold the weights"),
        ("encoder", 4096, "does not hold the weights"),
        ("encoder", 0, "encoder must be an integer"),
        ("encoder", True, "encoder must be an integer"),
        ("max_branches", 2**40, "max_branches must be an integer"),
        ("max_branches", "64", "max_branches must be an integer"),
        ("network", "other", "network must be equivariant or mlp"),
        ("atomic", "no", "atomic must be true or false"),
    ],
)
def test_shapes_out_of_range_are_refused(
    tmp_path: Path, entry: str, value: Any, message: str
) -> None:
    save(Policy(Shape(hidden=8)), tmp_path, CARD_ENTRIES)
    card = yaml.safe_load((tmp_path / CARD).read_text())
    card["shape"][entry] = value
    (tmp_path / CARD).write_text(yaml.safe_dump(card))
    with pytest.raises(PolicyError, match=message):
        policy_network.load(tmp_path)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    policy = Policy(Shape(hidden=8))
    with torch.no_grad():
        next(policy.parameters()).fill_(float("nan"))
    save(policy, tmp_path, CARD_ENTRIES)
    with pytest.raises(PolicyError, match="not finite"):
        policy_network.load(tmp_path)
