"""``ppo/aime24`` trained otherwise, a setting at a time: the figures of docs/learning.md.

Each variant is trained once on the published traces of four models on AIME24
(``AUTOTTS_PUBLISHED``), fitted on all questions, and compared with the Confidence Momentum
Controller as ``benchmarks/against_cmc.py`` does.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autotts_gym.controllers.policy_network import Policy, Shape
from autotts_gym.learning.ppo import Config, Training
from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore

Stores = Mapping[str, TraceStore]

SHIPPED = Config(decisions=1_000_000, entropy=0.03, shape=Shape(encoder=8, hidden=16))
DISCOUNT = 0.99
#: Of the rule that is imitated: intervals after which a branch is left, and what stops it.
DEEPEST, VOTES, MARGIN = 38, (1.1, 5.1), (-0.2, 0.83)


class Discounted(Training):
    """Later rewards count less, decision by decision."""

    def _advantages(self, played: Any) -> tuple[Tensor, Tensor]:
        # What does not go on at all is over; what goes on for less is over in part.
        return super()._advantages(
            dataclasses.replace(played, over=1 - DISCOUNT * (1 - played.over))
        )


class Blind(Training):
    """The critic is told nothing of what lies ahead."""

    def _ahead(self) -> tuple[Tensor, Tensor]:
        branches, features = super()._ahead()
        return torch.zeros_like(branches), torch.zeros_like(features)


#: What tells how long branches are: of a branch, and of the episode.
LENGTHS = (
    ("depth", "share of the depth limit", "steadiness", "weight", "unread"),
    (
        *("first mass", "second mass", "share", "margin"),
        *("mean finished", "shortest finished", "oldest running", "youngest running"),
    ),
)
#: All that tells branches apart.
BRANCHES = (d.BRANCH_FEATURES, ())


class Unseen(Training):
    """The policy does not see some of its observation: its weights there stay at nothing."""

    def __init__(self, hidden: tuple[Sequence[str], Sequence[str]], *arguments: Any) -> None:
        super().__init__(*arguments)
        actor = self.policy.actor
        _nothing(actor.branch[0].weight, [d.BRANCH_FEATURES.index(name) for name in hidden[0]])
        front = 2 * self.config.shape.encoder
        _nothing(actor.decide[0].weight, [front + d.FEATURES.index(name) for name in hidden[1]])


def _nothing(weight: torch.nn.Parameter, columns: list[int]) -> None:
    kept = torch.ones_like(weight)
    kept[:, columns] = 0
    with torch.no_grad():
        weight *= kept
    weight.register_hook(lambda gradient: gradient * kept)


def trained(
    stores: Stores,
    folder: Path,
    config: Config = SHIPPED,
    kind: Callable[..., Training] = Training,
    begun: Policy | None = None,
) -> Policy:
    """A policy that was trained, from another one's weights where there is one."""
    training = kind(stores, None, config, folder)
    if begun is not None and training.done == 0:
        training.policy.load_state_dict(begun.state_dict())
    training.run()
    training.export(folder)
    return training.policy


def imitated(stores: Stores, config: Config, decisions: int) -> Policy:
    """A policy that was taught the rule of ``evolved/brevity``, in decisions, by its examples."""
    torch.manual_seed(config.seed)
    policy = Policy(config.shape)
    training = Training(stores, None, config, Path("never"))
    env = training._env
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    seen, _ = env.reset(seed=config.seed)
    for _ in range(decisions // config.num_envs):
        branches, features, mask = (
            torch.from_numpy(np.array(seen[key])) for key in ("branches", "globals", "action_mask")
        )
        wanted = torch.from_numpy(rule(seen, config.prices))
        logits = policy.act(branches, features, mask.bool())
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen = env.step(wanted.numpy())[0]
    return policy


def rule(seen: Mapping[str, np.ndarray], prices: TokenPrices) -> np.ndarray:
    """The decisions of the rule, int64[episodes]."""
    told = {name: seen["globals"][:, k].astype(float) for k, name in enumerate(d.FEATURES)}
    knob = (3 * told["price"] - np.log(prices.high)) / np.log(prices.low / prices.high)
    first, second, finished, running = (
        np.exp(4 * told[name]) - 1
        for name in ("first votes", "second votes", "finished", "running")
    )
    voted = finished * (1 - told["null"])
    margin = (first - second) / np.maximum(voted, 1)
    settled = (first > VOTES[0] + VOTES[1] * knob) & (margin > MARGIN[0] + MARGIN[1] * knob)
    # In mean lengths, of which there are about 29 intervals.
    late = 2 * told["oldest running"] * 29 > DEEPEST
    wanted = np.select(
        [settled & (voted > 0.5), late, running + 0.5 < np.maximum(1, first)],
        [d.ANSWER_FINISHED, d.PRUNE_OLDEST, d.WIDEN],
        d.DEEPEN_4,
    )
    mask = seen["action_mask"].astype(bool)
    for other in (d.DEEPEN_4, d.ANSWER_FINISHED, d.ANSWER):
        wanted = np.where(mask[np.arange(len(mask)), wanted], wanted, other)
    return wanted


class Scaled(Training):
    """Rewards are a tenth of what they are."""

    def _advantages(self, played: Any) -> tuple[Tensor, Tensor]:
        return super()._advantages(dataclasses.replace(played, rewards=0.1 * played.rewards))


def variants(stores: Stores, folder: Path) -> dict[str, Callable[[Path], Policy]]:
    """Trainings by name; each is given its folder."""
    change = dataclasses.replace

    def after_synthetic(out: Path) -> Policy:
        synthetic = registry.open_stores("synthetic-aime24")
        return trained(stores, out, begun=trained(synthetic, folder / "synthetic"))

    def after_dear_ones(out: Path) -> Policy:
        half = change(SHIPPED, decisions=SHIPPED.decisions // 2)
        accurate = change(half, prices=TokenPrices(0.1, half.prices.low))
        return trained(stores, out, half, begun=trained(stores, folder / "accurate", accurate))

    def after_rule(out: Path) -> Policy:
        return trained(stores, out, begun=imitated(stores, SHIPPED, 500_000))

    return {
        "shipped": lambda out: trained(stores, out),
        "entropy 0.01": lambda out: trained(stores, out, change(SHIPPED, entropy=0.01)),
        "horizon 16": lambda out: trained(stores, out, change(SHIPPED, horizon=16)),
        "discount": lambda out: trained(stores, out, kind=Discounted),
        "reward a tenth": lambda out: trained(stores, out, kind=Scaled),
        "blind critic": lambda out: trained(stores, out, kind=Blind),
        "lengths unseen": lambda out: trained(stores, out, kind=partial(Unseen, LENGTHS)),
        "branches unseen": lambda out: trained(stores, out, kind=partial(Unseen, BRANCHES)),
        "12,623 weights": lambda out: trained(stores, out, change(SHIPPED, shape=Shape())),
        "synthetic first": after_synthetic,
        "low prices first": after_dear_ones,
        "a rule first": after_rule,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="variants; all by default")
    parser.add_argument("--env", default="published")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = variants(registry.open_stores(given.env), given.out)
    for name in given.names or known:
        folder = given.out / name.replace(" ", "-").replace(",", "")
        known[name](folder)
        script = Path(__file__).with_name("against_cmc.py")
        arguments = [str(folder), "--env", given.env, "--seeds", str(given.seeds)]
        print(f"{name}:", flush=True)
        subprocess.run([sys.executable, str(script), *arguments], check=True)


if __name__ == "__main__":
    main()
