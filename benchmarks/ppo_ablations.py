"""Ablations of the training of ``ppo/aime24``: the figures of docs/learning.md.

Each variant changes one thing of the training. It is trained once on the published traces of four
models on AIME24 (``AUTOTTS_PUBLISHED``), on all questions, and compared with the Confidence
Momentum Controller by ``benchmarks/against_cmc.py``.
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
from autotts_gym.learning.ppo import PPOTrainer
from autotts_gym.learning.rollout_buffer import Observation, Privileged, Rollout
from autotts_gym.learning.training_config import TrainingConfig
from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp.macro_features import BRANCH_FEATURE_NAMES, GLOBAL_FEATURE_NAMES
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore

Stores = Mapping[str, TraceStore]

SHIPPED = TrainingConfig(
    total_timesteps=1_000_000, ent_coef=0.03, shape=Shape(encoder=8, hidden=16)
)
DISCOUNT = 0.99
REWARD_SCALE = 0.1
#: Constants of the imitated rule: intervals after which a branch is pruned, and the votes and the
#: margin that it answers at, as functions a + b · β.
PRUNE_DEPTH, VOTES, MARGIN = 38, (1.1, 5.1), (-0.2, 0.83)
#: Mean length of a branch in the published traces, intervals.
MEAN_LENGTH = 29


class DiscountedTrainer(PPOTrainer):
    """Discounts returns by ``DISCOUNT`` per macro-action."""

    def _advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        # An episode that ends with probability 1 - γ has the same expected return.
        dones = 1 - DISCOUNT * (1 - rollout.dones)
        return super()._advantages(dataclasses.replace(rollout, dones=dones))


class ScaledRewardTrainer(PPOTrainer):
    """Multiplies rewards by ``REWARD_SCALE``."""

    def _advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        rewards = REWARD_SCALE * rollout.rewards
        return super()._advantages(dataclasses.replace(rollout, rewards=rewards))


class UnprivilegedTrainer(PPOTrainer):
    """The critic has no privileged features: they are all zero."""

    def _privileged(self) -> Privileged:
        return Privileged(*map(torch.zeros_like, super()._privileged()))


#: Branch features and global features that depend on the lengths of branches.
LENGTH_FEATURES = (
    ("depth", "depth_share", "answer_age", "vote_weight", "unprobed"),
    (
        *("leader_mass", "second_mass", "leader_share", "margin"),
        *("mean_finished", "shortest_finished", "deepest_running", "shallowest_running"),
    ),
)
#: All branch features.
ALL_BRANCH_FEATURES = (BRANCH_FEATURE_NAMES, ())


class HiddenFeaturesTrainer(PPOTrainer):
    """Hides features from the policy: the weights of these inputs stay zero.

    Args:
        hidden: names of branch features, and of global features.
        arguments: as for :class:`PPOTrainer`.
    """

    def __init__(self, hidden: tuple[Sequence[str], Sequence[str]], *arguments: Any) -> None:
        super().__init__(*arguments)
        actor = self.policy.actor
        branch_columns = [BRANCH_FEATURE_NAMES.index(name) for name in hidden[0]]
        freeze_at_zero(actor.branch[0].weight, branch_columns)
        pooled = 2 * self.config.shape.encoder
        global_columns = [pooled + GLOBAL_FEATURE_NAMES.index(name) for name in hidden[1]]
        freeze_at_zero(actor.decide[0].weight, global_columns)


def freeze_at_zero(weight: torch.nn.Parameter, columns: list[int]) -> None:
    """Set columns of a weight matrix to zero, and their gradients in all updates."""
    mask = torch.ones_like(weight)
    mask[:, columns] = 0
    with torch.no_grad():
        weight *= mask
    weight.register_hook(lambda gradient: gradient * mask)


def train(
    stores: Stores,
    folder: Path,
    config: TrainingConfig = SHIPPED,
    trainer_class: Callable[..., PPOTrainer] = PPOTrainer,
    initial: Policy | None = None,
) -> Policy:
    """Train a policy, starting from the weights of ``initial`` if given, and save it."""
    trainer = trainer_class(stores, None, config, folder)
    if initial is not None and trainer.segments_done == 0:
        trainer.policy.load_state_dict(initial.state_dict())
    trainer.run()
    trainer.export(folder)
    return trainer.policy


def imitate_rule(stores: Stores, config: TrainingConfig, timesteps: int) -> Policy:
    """A policy trained to imitate the rule of ``evolved/brevity``, in macro-actions."""
    torch.manual_seed(config.seed)
    policy = Policy(config.shape)
    env = PPOTrainer(stores, None, config, Path("never")).env
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    arrays, _ = env.reset(seed=config.seed)
    for _ in range(timesteps // config.num_envs):
        observation = Observation.from_arrays({k: np.array(v) for k, v in arrays.items()})
        target = torch.from_numpy(rule(arrays, config.prices))
        loss = torch.nn.functional.cross_entropy(policy.act(*observation), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        arrays = env.step(target.numpy())[0]
    return policy


def rule(observation: Mapping[str, np.ndarray], prices: TokenPrices) -> np.ndarray:
    """The macro-actions of the imitated rule, int64[episodes]."""
    columns = observation["globals"].T.astype(float)
    feature = dict(zip(GLOBAL_FEATURE_NAMES, columns, strict=True))
    beta = (3 * feature["log_price"] - np.log(prices.high)) / np.log(prices.low / prices.high)
    first, second, finished, running = (
        np.exp(4 * feature[name]) - 1
        for name in ("log_leader_votes", "log_second_votes", "log_finished", "log_running")
    )
    voted = finished * (1 - feature["null_share"])
    margin = (first - second) / np.maximum(voted, 1)
    settled = (first > VOTES[0] + VOTES[1] * beta) & (margin > MARGIN[0] + MARGIN[1] * beta)
    deep = 2 * feature["deepest_running"] * MEAN_LENGTH > PRUNE_DEPTH
    chosen = np.select(
        [settled & (voted > 0.5), deep, running + 0.5 < np.maximum(1, first)],
        [d.ANSWER_FINISHED, d.PRUNE_OLDEST, d.WIDEN_1],
        d.DEEPEN_4,
    )
    mask = observation["action_mask"].astype(bool)
    for fallback in (d.DEEPEN_4, d.ANSWER_FINISHED, d.ANSWER):
        chosen = np.where(mask[np.arange(len(mask)), chosen], chosen, fallback)
    return chosen


def variants(stores: Stores, folder: Path) -> dict[str, Callable[[Path], Policy]]:
    """The trainings by name; each takes the folder of its policy."""
    change = dataclasses.replace

    def after_synthetic(out: Path) -> Policy:
        synthetic = registry.open_stores("synthetic-aime24")
        return train(stores, out, initial=train(synthetic, folder / "synthetic"))

    def after_low_prices(out: Path) -> Policy:
        half = change(SHIPPED, total_timesteps=SHIPPED.total_timesteps // 2)
        low_prices = change(half, prices=TokenPrices(0.1, half.prices.low))
        return train(stores, out, half, initial=train(stores, folder / "accurate", low_prices))

    def after_rule(out: Path) -> Policy:
        return train(stores, out, initial=imitate_rule(stores, SHIPPED, 500_000))

    def hidden(features: tuple[Sequence[str], Sequence[str]]) -> Callable[[Path], Policy]:
        return lambda out: train(
            stores, out, trainer_class=partial(HiddenFeaturesTrainer, features)
        )

    return {
        "shipped": lambda out: train(stores, out),
        "entropy 0.01": lambda out: train(stores, out, change(SHIPPED, ent_coef=0.01)),
        "horizon 16": lambda out: train(stores, out, change(SHIPPED, num_steps=16)),
        "discount": lambda out: train(stores, out, trainer_class=DiscountedTrainer),
        "reward a tenth": lambda out: train(stores, out, trainer_class=ScaledRewardTrainer),
        "blind critic": lambda out: train(stores, out, trainer_class=UnprivilegedTrainer),
        "lengths unseen": hidden(LENGTH_FEATURES),
        "branches unseen": hidden(ALL_BRANCH_FEATURES),
        "12,623 weights": lambda out: train(stores, out, change(SHIPPED, shape=Shape())),
        "synthetic first": after_synthetic,
        "low prices first": after_low_prices,
        "a rule first": after_rule,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="variants; all by default")
    parser.add_argument("--env", default="published", help="environments")
    parser.add_argument("--seeds", type=int, default=20, help="branch orders of each question")
    parser.add_argument("--out", type=Path, required=True, help="folder of the policies")
    given = parser.parse_args()
    torch.set_num_threads(1)
    trainings = variants(registry.open_stores(given.env), given.out)
    for name in given.names or trainings:
        folder = given.out / name.replace(" ", "-").replace(",", "")
        trainings[name](folder)
        script = Path(__file__).with_name("against_cmc.py")
        arguments = [str(folder), "--env", given.env, "--seeds", str(given.seeds)]
        print(f"{name}:", flush=True)
        subprocess.run([sys.executable, str(script), *arguments], check=True)


if __name__ == "__main__":
    main()
