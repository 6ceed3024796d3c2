"""Networks that do not care in which order branches stand, and what they are kept as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from autotts_gym.controllers import policy_network as policies
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
from autotts_gym.mdp import macro_actions as d

CARDED = {"prices": {"high": 3.0, "low": 0.005}}


def seen(rng: np.random.Generator, n: int, opened: int) -> tuple[torch.Tensor, torch.Tensor]:
    branches = torch.zeros(1, n, d.BRANCH_SIZE, dtype=torch.float64)
    branches[0, :opened] = torch.from_numpy(rng.random((opened, d.BRANCH_SIZE)))
    branches[0, :opened, 0] = 1
    return branches, torch.from_numpy(rng.random((1, d.SIZE)))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_branches_changes_nothing(seed: int) -> None:
    """In double precision, where sums in another order differ in the last of sixteen digits."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    policy, critic = Policy(Shape()).double(), Critic(Shape()).double()
    branches, features = seen(rng, 20, 13)
    ahead = torch.from_numpy(rng.random((1, 20, privileged_critic.BRANCH_SIZE)))
    outlook = torch.from_numpy(rng.random((1, privileged_critic.SIZE)))
    mask = torch.ones(1, d.COUNT, dtype=torch.bool)
    order = torch.from_numpy(rng.permutation(20))
    with torch.no_grad():
        here = policy.act(branches, features, mask)
        there = policy.act(branches[:, order], features, mask)
        # Nor do branches that are not open.
        short = policy.act(branches[:, :13], features, mask)
        value = critic.judge(branches, features, (ahead, outlook))
        same = critic.judge(branches[:, order], features, (ahead[:, order], outlook))
    torch.testing.assert_close(there, here, rtol=0, atol=1e-14)
    torch.testing.assert_close(short, here, rtol=0, atol=1e-14)
    torch.testing.assert_close(same, value, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_what_can_be_done_with_branches_goes_with_them(seed: int) -> None:
    """Permuting branches permutes the logits of single actions."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    policy = Policy(Shape(atomic=True)).double()
    n, opened = 20, 13
    branches, features = seen(rng, n, opened)
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


def test_the_likeliest_kind_is_chosen_before_the_branch() -> None:
    """Three branches to be continued, alike, against one answer that is likelier than each."""
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


def test_a_flat_network_does_care() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    policy = Policy(Shape(network="mlp", max_branches=20)).double()
    branches, features = seen(rng, 20, 13)
    mask = torch.ones(1, d.COUNT, dtype=torch.bool)
    with torch.no_grad():
        here = policy.act(branches, features, mask)
        there = policy.act(branches.flip(1), features, mask)
        short = policy.act(branches[:, :13], features, mask)
    assert not torch.allclose(here, there)
    torch.testing.assert_close(short, here)


def test_nothing_open_is_no_trouble() -> None:
    policy = Policy(Shape())
    branches, features = torch.zeros(2, 3, d.BRANCH_SIZE), torch.zeros(2, d.SIZE)
    mask = torch.zeros(2, d.COUNT, dtype=torch.bool)
    mask[:, 3] = True
    logits = policy.act(branches, features, mask)
    assert logits.isfinite().all()
    assert logits.argmax(-1).tolist() == [3, 3]


def test_kept_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    policy = Policy(Shape(encoder=8, hidden=16))
    save(policy, tmp_path / "mine", CARDED)
    loaded, card = policies.load(tmp_path / "mine")
    assert card["shape"]["encoder"] == 8
    for name, value in policy.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [CARD, WEIGHTS]
    assert load(str(tmp_path / "mine")).name == "mine"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("actions", "trained for other actions: .*'RUN'.*here they are .*'ANSWER'"),
        ("features", "trained for other features"),
        ("branch_features", "trained for other branch features"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, part: str, message: str) -> None:
    save(Policy(Shape()), tmp_path, CARDED)
    card = yaml.safe_load((tmp_path / CARD).read_text())
    card["layout"][part] = ["RUN", *card["layout"][part][1:]]
    (tmp_path / CARD).write_text(yaml.safe_dump(card))
    with pytest.raises(PolicyError, match=message):
        policies.load(tmp_path)
    with pytest.raises(AgentError, match=message):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (WEIGHTS, b"", "does not hold its weights"),
        (WEIGHTS, b"\x80\x04cposix\nsystem\n", "does not hold its weights"),
        (CARD, b"- 1", "is no card of a policy"),
        (CARD, b"shape: {}", "is no card of a policy"),
        (CARD, b"!!python/object/apply:os.system ['true']", "is no card of a policy"),
    ],
)
def test_what_is_no_policy_is_refused(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    save(Policy(Shape()), tmp_path, CARDED)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(AgentError, match=message):
        load(str(tmp_path))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save(Policy(Shape(hidden=8)), tmp_path, CARDED)
    card = yaml.safe_load((tmp_path / CARD).read_text())
    card["shape"]["hidden"] = 9
    (tmp_path / CARD).write_text(yaml.safe_dump(card))
    with pytest.raises(PolicyError, match="size mismatch"):
        policies.load(tmp_path)
