"""Proximal policy optimisation over decisions, in one file that can be read and edited.

After Schulman et al. (arXiv 1707.06347), with the details of "The 37 Implementation Details of
PPO" that matter here: clipped ratios, generalised advantages, advantages normalised over the batch,
orthogonal weights, annealed step size, gradients clipped by norm. What cannot be done is masked.

What is peculiar to this process:

* The reward is divided by β, so that a right answer is worth 1 at every β, and tokens have a price
  λ = (1 − β) / β, drawn anew for every episode, log-uniformly (:mod:`autotts_gym.mdp.token_price`).
* Everything is undiscounted: a token costs the same early and late.
* The critic, which only training needs, is told how the recorded branches go on
  (:mod:`autotts_gym.learning.privileged_critic`).
* All of the randomness is drawn from the seed and the number of the stretch, a handful of
  iterations between two checkpoints, at whose start episodes begin anew. A training that was
  killed goes on from the last checkpoint and ends with the weights that it would have ended with.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

import autotts_gym
from autotts_gym.controllers.policy_agent import opened
from autotts_gym.controllers.policy_network import Policy, Shape, save
from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.learning.privileged_critic import Critic, PrivilegedFeatures
from autotts_gym.learning.validation import Validation, ValidationScore
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.files import write_atomically

CHECKPOINT: Final = "checkpoint.pt"
#: Single actions an episode for each of its branches at most, while training.
_LONGEST: Final = 12

_Seen = tuple[Tensor, Tensor, Tensor]  # branches, features, mask


@dataclass(frozen=True)
class Config:
    """How a policy is trained.

    Attributes:
        decisions: of all episodes together; at least one stretch is trained.
        seed: of the weights, episodes and decisions.
        shape: of the networks.
        prices: of tokens, which episodes draw from.
        num_envs: episodes side by side.
        horizon: decisions of each between two updates.
        stretch: updates between two checkpoints.
        learning_rate: at first; it falls linearly to a tenth.
        entropy: weight of the entropy bonus at first; it falls linearly to nothing.
        gae: λ of generalised advantages.
        clip: how far a ratio may go from 1.
        epochs, minibatches: passes over what was played, and parts of each.
        value: weight of the value loss.
        gradient: largest norm of a gradient.
    """

    decisions: int = 4_000_000
    seed: int = 0
    shape: Shape = field(default_factory=Shape)
    prices: TokenPrices = field(default_factory=TokenPrices)
    num_envs: int = 512
    horizon: int = 64
    stretch: int = 10
    learning_rate: float = 1e-3
    entropy: float = 0.01
    gae: float = 0.95
    clip: float = 0.2
    epochs: int = 3
    minibatches: int = 8
    value: float = 0.5
    gradient: float = 0.5

    @property
    def batch(self) -> int:
        """Decisions between two updates."""
        return self.num_envs * self.horizon

    @property
    def stretches(self) -> int:
        return max(1, math.ceil(self.decisions / (self.batch * self.stretch)))


@dataclass(frozen=True)
class Progress:
    """What a training tells after an update.

    Attributes:
        decisions: made so far, and ``share`` of all.
        reward: mean return of an episode in right answers, after the price of its tokens.
        accuracy, cost: share of right answers, and mean tokens in C, of episodes that ended.
        length: decisions of an episode.
        explained: share of the returns' variance that the values explain.
        entropy: of the decisions, nats.
        rate: decisions a second.
        standing: how the policy did in a trial, where there was one.
    """

    decisions: int
    share: float
    reward: float
    accuracy: float
    cost: float
    length: float
    explained: float
    entropy: float
    rate: float
    standing: ValidationScore | None = None

    def facts(self) -> dict[str, Any]:
        """What a card keeps of it, as plain values."""
        found = {k: v for k, v in asdict(self).items() if k not in ("rate", "standing") and v == v}
        found = {k: round(v, 4) for k, v in found.items()}
        return found if self.standing is None else {**found, "trial": self.standing.facts()}


class Training:
    """A training that can be left and taken up again.

    Args:
        stores: environments that episodes draw from, by name.
        questions: rows of the questions that they draw from; all by default.
        config: how.
        folder: where the checkpoint is kept.
        trial: how the policy does is tried after every stretch.
        early: keep the policy that did best in a trial, rather than the last one.

    Attributes:
        done: stretches that were trained.
        seconds: that they took.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        config: Config,
        folder: Path,
        trial: Validation | None = None,
        *,
        early: bool = False,
    ) -> None:
        if early and trial is None:
            raise ValueError("early stopping needs a trial to tell which policy is best")
        self.config, self.folder = config, folder
        self._trial, self._early = trial, early
        self._stores, self._questions = dict(stores), questions
        torch.manual_seed(config.seed)
        self.policy, self._critic = Policy(config.shape), Critic(config.shape)
        self._weights = [*self.policy.parameters(), *self._critic.parameters()]
        self._optimizer = torch.optim.Adam(self._weights, lr=config.learning_rate, eps=1e-5)
        terms = terms_of(config.shape)
        self._env = MacroVectorEnv(
            config.num_envs,
            list(self._stores.values()),
            beta=config.prices.draw,
            questions=questions,
            max_branches=terms.max_branches,
            step_limit=terms.step_limit,
            atomic=config.shape.atomic,
        )
        self._hindsight = PrivilegedFeatures(self._env.batch)
        self.done = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self._best: tuple[float, int, dict[str, Tensor]] = (-math.inf, 0, {})
        if (folder / CHECKPOINT).exists():
            self._resume()

    # --- the algorithm ---------------------------------------------------------------------------

    def run(self, report: Callable[[Progress], None] = lambda _: None) -> None:
        """Train to the end; called after every update."""
        c = self.config
        total = c.stretches * c.stretch
        while self.done < c.stretches:
            started = time.perf_counter()
            torch.manual_seed(_seed(c.seed, self.done))
            first, _ = self._env.reset(seed=_seed(c.seed, self.done))
            observation = _tensors(first)
            for update in range(self.done * c.stretch, (self.done + 1) * c.stretch):
                begun = time.perf_counter()
                left = 1 - update / total
                for group in self._optimizer.param_groups:
                    group["lr"] = c.learning_rate * (0.1 + 0.9 * left)
                played, observation = self._play(observation)
                advantages, returns = self._advantages(played)
                entropy = self._learn(played, advantages, returns, c.entropy * left)
                seconds = time.perf_counter() - begun
                at = self._progress(update + 1, total, played, returns, entropy, seconds)
                if (update + 1) % c.stretch == 0:
                    at = self._look(at)
                report(at)
            self.history.append(at.facts())
            self.done += 1
            self.seconds += time.perf_counter() - started
            self._keep()

    def _look(self, at: Progress) -> Progress:
        """Try the policy, at the end of a stretch."""
        if self._trial is None:
            return at
        standing = self._trial.play(self.policy, self.config.prices)
        if standing.reward > self._best[0]:
            weights = {k: v.clone() for k, v in self.policy.state_dict().items()}
            self._best = (standing.reward, at.decisions, weights)
        return replace(at, standing=standing)

    def _play(self, now: _Seen) -> tuple[_Played, _Seen]:
        """Make decisions for a horizon."""
        c, env = self.config, self._env
        kept: list[tuple[Tensor, ...]] = []
        ended: list[tuple[float, float]] = []
        for _ in range(c.horizon):
            branches, features, mask = now
            width = opened(branches.numpy())
            ahead = self._ahead()
            with torch.no_grad():
                logs = self.policy.act(branches[:, :width], features, mask).log_softmax(-1)
                values = self._judge(now, ahead, width)
                actions = torch.multinomial(logs.exp(), 1)
            found, rewards, terminated, truncated, info = env.step(actions[:, 0].numpy())
            worth = torch.from_numpy(rewards).float() / features[:, 0]
            over = torch.from_numpy(terminated | truncated).float()
            log_probs = logs.gather(-1, actions)[:, 0]
            kept.append((*now, *ahead, actions, log_probs, values, worth, over))
            if "final_info" in info:
                last = info["final_info"]
                rows = last["_correct"]
                ended += zip(last["correct"][rows], -last["cost_reward"][rows], strict=True)
            now = _tensors(found)
        with torch.no_grad():
            bootstrap = self._judge(now, self._ahead(), now[0].shape[1])
        stacked = [torch.stack(column) for column in zip(*kept, strict=True)]
        return _Played(ended, bootstrap, *stacked), now

    def _ahead(self) -> tuple[Tensor, Tensor]:
        """What lies ahead of the episodes as they are now, for the critic."""
        branches, features = self._hindsight.look()
        return torch.from_numpy(branches), torch.from_numpy(features)

    def _judge(self, seen: _Seen, ahead: tuple[Tensor, Tensor], width: int) -> Tensor:
        """Values, where no more than ``width`` branches are open."""
        cut = ahead[0][:, :width], ahead[1]
        return self._critic.judge(seen[0][:, :width], seen[1], cut)

    def _advantages(self, played: _Played) -> tuple[Tensor, Tensor]:
        """Generalised advantages and returns, undiscounted; float32[horizon, num_envs]."""
        advantages = torch.zeros_like(played.values)
        after, value = torch.zeros_like(played.bootstrap), played.bootstrap
        for t in reversed(range(self.config.horizon)):
            goes_on = 1 - played.over[t]
            surprise = played.rewards[t] + goes_on * value - played.values[t]
            after = surprise + self.config.gae * goes_on * after
            advantages[t], value = after, played.values[t]
        return advantages, advantages + played.values

    def _learn(
        self, played: _Played, advantages: Tensor, returns: Tensor, entropy_weight: float
    ) -> float:
        """Update the weights; returns the mean entropy, nats."""
        c = self.config
        branches, features, mask, ends, outlook = (
            x.flatten(0, 1)
            for x in (played.branches, played.features, played.mask, played.ends, played.outlook)
        )
        actions, before = played.actions.flatten(0, 1), played.log_probs.flatten()
        target = returns.flatten()
        gain = advantages.flatten()
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        widths = (branches[..., :3].sum(-1) > 0).sum(-1)
        entropies = 0.0
        for _ in range(c.epochs):
            for some in torch.randperm(c.batch).chunk(c.minibatches):
                self._optimizer.zero_grad()
                # Narrow episodes and wide ones apart, so that little padding is computed.
                for part in some[widths[some].argsort()].chunk(4):
                    width = max(1, int(widths[part].max()))
                    seen, ahead = branches[part, :width], (ends[part, :width], outlook[part])
                    logs = self.policy.act(seen, features[part], mask[part]).log_softmax(-1)
                    ratio = (logs.gather(-1, actions[part])[:, 0] - before[part]).exp()
                    clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
                    surrogate = torch.min(ratio * gain[part], clipped * gain[part]).sum()
                    # Of what cannot be done the logarithm is large, and the chance is zero.
                    entropy = -(logs.exp() * logs).sum()
                    off = self._critic.judge(seen, features[part], ahead) - target[part]
                    loss = c.value * off.square().sum() - surrogate - entropy_weight * entropy
                    (loss / len(some)).backward()  # type: ignore[no-untyped-call]
                    entropies += float(entropy.detach())
                torch.nn.utils.clip_grad_norm_(self._weights, c.gradient)
                self._optimizer.step()
        return entropies / (c.epochs * c.batch)

    def _progress(
        self,
        update: int,
        total: int,
        played: _Played,
        returns: Tensor,
        entropy: float,
        seconds: float,
    ) -> Progress:
        c = self.config
        right, costs = np.array(played.ended or [(np.nan, np.nan)], float).T
        episodes = max(1.0, float(played.over.sum()))
        off = returns - played.values
        return Progress(
            decisions=update * c.batch,
            share=update / total,
            reward=float(played.rewards.sum()) / episodes,
            accuracy=float(right.mean()),
            cost=float(costs.mean()),
            length=c.batch / episodes,
            explained=1 - float(off.var() / returns.var()),
            entropy=entropy,
            rate=c.batch / seconds,
        )

    @property
    def decisions(self) -> int:
        """Decisions up to the last checkpoint."""
        return self.done * self.config.stretch * self.config.batch

    def forget(self) -> None:
        """Remove the checkpoint: the training is over."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    # --- keeping ---------------------------------------------------------------------------------

    def _keep(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "made": self._made(),
            "policy": self.policy.state_dict(),
            "critic": self._critic.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "done": self.done,
            "seconds": self.seconds,
            "history": self.history,
            "best": self._best,
        }
        write_atomically(self.folder / CHECKPOINT, lambda path: torch.save(state, path))

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        state = torch.load(path, weights_only=True)
        here = self._made()
        differs = [key for key, value in state["made"].items() if here.get(key) != value]
        if differs:
            raise ValueError(
                f"{path} belongs to another training: its {', '.join(differs)} differ; give "
                "another --out, or remove it"
            )
        self.policy.load_state_dict(state["policy"])
        self._critic.load_state_dict(state["critic"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.done, self.seconds = state["done"], state["seconds"]
        self.history, self._best = state["history"], state["best"]

    def _made(self) -> dict[str, Any]:
        """What must not differ for a training to go on."""
        return {
            **asdict(self.config),
            "data": [store.card.fingerprint for store in self._stores.values()],
            "questions": None if self._questions is None else list(self._questions),
            "early": self._early,
        }

    def card(self) -> dict[str, Any]:
        """What there is to know about the training, as plain values."""
        return {
            "algorithm": "cleanrl-ppo",
            **facts_of(self.config, self._stores, self._questions, self.policy),
            "decisions": self.decisions,
            "wall_seconds": round(self.seconds, 1),
            **({"kept_decisions": self._best[1]} if self._early else {}),
            "history": self.history,
        }

    def export(self, folder: Path, details: dict[str, Any] | None = None) -> None:
        """Write the policy, with its card: as it is now or, if it stops early, as it was best."""
        policy = self.policy
        if self._early and self._best[2]:
            policy = Policy(self.config.shape)
            policy.load_state_dict(self._best[2])
        save(policy, folder, {**(details or {}), **self.card()})


def terms_of(shape: Shape) -> EpisodeConfig:
    """The terms that a policy is trained under.

    Single actions can go on for thousands, of which many cost nothing: such episodes are cut off.
    """
    n = shape.max_branches
    return EpisodeConfig(n, step_limit=_LONGEST * n if shape.atomic else None)


def facts_of(
    config: Config,
    stores: Mapping[str, TraceStore],
    questions: Sequence[int] | None,
    policy: Policy,
) -> dict[str, Any]:
    """What a card says of any training, as plain values."""
    facts = asdict(config)
    del facts["shape"]
    return {
        "prices": facts.pop("prices"),
        "config": facts,
        "data": {name: store.card.fingerprint for name, store in stores.items()},
        "questions": None if questions is None else list(questions),
        "parameters": sum(p.numel() for p in policy.parameters()),
        "threads": torch.get_num_threads(),
        "versions": {
            "autotts_gym": autotts_gym.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "numpy", "gymnasium")},
        },
    }


@dataclass
class _Played:
    """A horizon of decisions; the leading axes are time and episode."""

    ended: list[tuple[float, float]]
    bootstrap: Tensor
    branches: Tensor
    features: Tensor
    mask: Tensor
    ends: Tensor
    outlook: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    over: Tensor


def _tensors(observation: dict[str, Any]) -> _Seen:
    return (
        torch.from_numpy(observation["branches"]),
        torch.from_numpy(observation["globals"]),
        torch.from_numpy(observation["action_mask"]).bool(),
    )


def _seed(seed: int, stretch: int) -> int:
    return int(np.random.SeedSequence([seed, stretch]).generate_state(1)[0])
