"""Proximal policy optimisation (PPO) over macro-actions, after CleanRL's single-file version.

Source: Schulman et al. (arXiv 1707.06347), with these details of "The 37 Implementation Details of
PPO": clipped ratios, generalised advantages, advantages normalised over the batch, orthogonal
weights, annealed learning rate, gradients clipped by norm, masks for illegal actions.

Specific to this environment:

* Rewards are divided by β: a correct answer is worth 1 at every β, and C tokens cost
  λ = (1 − β) / β. Each episode draws λ log-uniformly (:mod:`autotts_gym.mdp.token_price`), and the
  latency weight w uniformly from its range.
* Returns are undiscounted: a token costs the same early and late in an episode.
* The critic is asymmetric: it also reads how the recorded branches continue. Only training uses it
  (:mod:`autotts_gym.learning.privileged_critic`).
* A training consists of segments of at most ``checkpoint_interval`` updates, with a checkpoint
  after each. A segment starts new episodes, and seeds the random generators with the training's
  seed and the number of the segment. A training that is killed therefore resumes from its last
  checkpoint and ends with the same weights as without the interruption.

The rollout and its advantages are in :mod:`autotts_gym.learning.rollout_buffer`, checkpoints in
:mod:`autotts_gym.learning.ppo_checkpoint`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from autotts_gym.controllers.compiled_network import MAX_WEIGHTS, CompiledNetwork
from autotts_gym.controllers.policy_network import ILLEGAL_LOGIT, Policy
from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.learning import ppo_checkpoint
from autotts_gym.learning.algorithms import Algorithm
from autotts_gym.learning.base_trainer import OnProgress, Trainer, ignore_progress
from autotts_gym.learning.privileged_critic import Critic, PrivilegedFeatures
from autotts_gym.learning.progress import Progress
from autotts_gym.learning.rollout_buffer import (
    Batch,
    Observation,
    Privileged,
    Rollout,
    Transition,
    estimate_advantages,
    groups_by_width,
    stack,
)
from autotts_gym.learning.training_config import TrainingConfig, episode_config_of
from autotts_gym.learning.validation import Validation
from autotts_gym.mdp.macro_features import GLOBAL_FEATURE_NAMES
from autotts_gym.traces.store import TraceStore

#: Column of β in the global features.
_BETA: Final = GLOBAL_FEATURE_NAMES.index("beta")
#: Timesteps that are computed at once. They have similar numbers of open branches, which saves
#: padding, and their activations fit in the cache of a core.
_GROUP_SIZE: Final = 512


class PPOTrainer(Trainer):
    """The algorithm ``autotts-ppo``.

    Args:
        stores: environments to train on, by name.
        questions: rows of the training questions; all by default.
        config: hyperparameters.
        folder: folder of the checkpoint; the training resumes if there is one.
        validation: validates the policy after every segment; None for no validation.
        keep_best: export the policy with the best validation return, not the last one.

    Attributes:
        segments_done: segments trained so far.
        best: (validation return, timesteps, weights) of the policy with the best validation return.

    Raises:
        ValueError: ``keep_best`` without ``validation``, or the checkpoint in ``folder`` belongs to
            a training with another config.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        config: TrainingConfig,
        folder: str | os.PathLike[str],
        validation: Validation | None = None,
        *,
        keep_best: bool = False,
    ) -> None:
        if keep_best and validation is None:
            raise ValueError("keep_best=True needs a validation to compare policies by")
        super().__init__(Algorithm.autotts_ppo, stores, questions, config, folder, validation)
        self.keep_best = keep_best
        torch.manual_seed(config.seed)
        self.policy, self.critic = Policy(config.shape), Critic(config.shape)
        self._parameters = [*self.policy.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.Adam(
            self._parameters, lr=config.learning_rate, eps=1e-5, fused=True
        )
        episode_config = episode_config_of(config.shape)
        self.env = MacroVectorEnv(
            config.num_envs,
            list(self.stores.values()),
            beta=config.prices.draw,
            latency_weight=config.latency_weight if config.shape.latency else 0.0,
            questions=self.questions,
            max_branches=episode_config.max_branches,
            step_limit=episode_config.step_limit,
            atomic=config.shape.atomic,
            threads=torch.get_num_threads(),
        )
        self._in_threads: Callable[..., Iterable[Any]] = map
        self._network: CompiledNetwork | None = None
        if config.shape.num_parameters <= MAX_WEIGHTS:
            self._network = CompiledNetwork(self.policy, episode_config.max_branches)
        self._privileged_features = PrivilegedFeatures(self.env.batch)
        self.segments_done = 0
        self.best: tuple[float, int, dict[str, Tensor]] = (-math.inf, 0, {})
        ppo_checkpoint.restore(self)

    @property
    def num_timesteps(self) -> int:
        """Timesteps up to the last checkpoint."""
        return self.segments_done * self.config.segment_updates * self.config.batch_size

    @property
    def planned_timesteps(self) -> int:
        return self.config.num_updates * self.config.batch_size

    def run(self, on_progress: OnProgress = ignore_progress) -> None:
        """Train to the end; ``on_progress`` is called after every update.

        The threads of torch compute groups of timesteps: single operations are too small to divide.
        """
        count = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(count) as pool:
                self._in_threads = map if count == 1 else pool.map
                self._run(on_progress)
        finally:
            torch.set_num_threads(count)

    def _run(self, on_progress: OnProgress) -> None:
        config = self.config
        num_updates = config.num_updates
        while self.segments_done < config.num_segments:
            started = time.perf_counter()
            seed = _segment_seed(config.seed, self.segments_done)
            torch.manual_seed(seed)
            arrays, _ = self.env.reset(seed=seed)
            observation = Observation.from_arrays(arrays)
            first = self.segments_done * config.segment_updates
            for update in range(first, first + config.segment_updates):
                update_started = time.perf_counter()
                remaining = 1 - update / num_updates
                for group in self.optimizer.param_groups:
                    group["lr"] = config.learning_rate * (0.1 + 0.9 * remaining)
                rollout, observation = self._collect_rollout(observation)
                advantages, returns = self._advantages(rollout)
                batch = Batch.flatten(rollout, advantages, returns)
                entropy = self._update(batch, config.ent_coef * remaining)
                seconds = time.perf_counter() - update_started
                progress = self._progress(update + 1, rollout, returns, entropy, seconds)
                if update + 1 == first + config.segment_updates:
                    progress = self._validate(progress)
                on_progress(progress)
            self.history.append(progress.card_entry())
            self.segments_done += 1
            self.seconds += time.perf_counter() - started
            ppo_checkpoint.save(self)

    def _collect_rollout(self, observation: Observation) -> tuple[Rollout, Observation]:
        """Step all environments ``num_steps`` times; also returns the next observation."""
        transitions: list[Transition] = []
        outcomes: list[tuple[float, float]] = []
        if self._network is not None:
            self._network.refresh()
        for _ in range(self.config.num_steps):
            privileged, widths = self._privileged(), self._widths()
            with torch.no_grad():
                log_probs = self._logits(observation, widths).log_softmax(-1)
                actions = torch.multinomial(log_probs.exp(), 1)
            arrays, rewards, terminated, truncated, info = self.env.step(actions[:, 0].numpy())
            transitions.append(
                Transition(
                    *observation,
                    *privileged,
                    actions=actions,
                    log_probs=log_probs.gather(-1, actions)[:, 0],
                    rewards=torch.from_numpy(rewards).float() / observation.features[:, _BETA],
                    dones=torch.from_numpy(terminated | truncated).float(),
                    widths=widths,
                )
            )
            if "final_info" in info:
                final = info["final_info"]
                ended = final["_correct"]
                outcomes += zip(final["correct"][ended], -final["cost_reward"][ended], strict=True)
            observation = Observation.from_arrays(arrays)
        stacked = stack(transitions)
        read = (
            stacked.branches,
            stacked.features,
            stacked.privileged_branches,
            stacked.privileged_features,
            stacked.widths,
        )
        values = self._values(*(part.flatten(0, 1) for part in read))
        rollout = Rollout(
            **stacked._asdict(),
            values=values.view(stacked.rewards.shape),
            next_values=self._values(*observation[:2], *self._privileged(), self._widths()),
            outcomes=outcomes,
        )
        return rollout, observation

    def _widths(self) -> Tensor:
        """Opened branches of all environments, int64[E]."""
        return torch.from_numpy(self.env.batch.ledger["opened"].copy())

    def _logits(self, observation: Observation, widths: Tensor) -> Tensor:
        """Logits of the actions, ``ILLEGAL_LOGIT`` for illegal ones."""
        branches, features, mask = observation
        if self._network is None:
            return self.policy.act(branches[:, : max(1, int(widths.max()))], features, mask)
        logits = self._network.batch_logits(branches.numpy(), features.numpy(), widths.numpy())
        return torch.where(mask, torch.from_numpy(logits), ILLEGAL_LOGIT)

    def _privileged(self) -> Privileged:
        """Privileged features of the current states of all environments."""
        branches, features = self._privileged_features.compute()
        return Privileged(torch.from_numpy(branches), torch.from_numpy(features))

    def _values(
        self,
        branches: Tensor,
        features: Tensor,
        privileged_branches: Tensor,
        privileged_features: Tensor,
        widths: Tensor,
    ) -> Tensor:
        """The critic's values of K timesteps, float32[K]."""
        values = torch.empty(len(widths))

        def compute(rows: Tensor) -> None:
            opened = widths[rows]
            width = max(1, int(opened.max()))
            observed = branches[:, :width].index_select(0, rows), features.index_select(0, rows)
            privileged = (
                privileged_branches[:, :width].index_select(0, rows),
                privileged_features.index_select(0, rows),
            )
            with torch.no_grad():
                values[rows] = self.critic(*observed, privileged, opened)

        groups = groups_by_width(torch.arange(len(widths)), widths, _GROUP_SIZE)
        list(self._in_threads(compute, groups))
        return values

    def _advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantages and returns, float32[num_steps, num_envs] each."""
        return estimate_advantages(rollout, self.config.gae_lambda)

    def _update(self, batch: Batch, ent_coef: float) -> float:
        """Update policy and critic; returns the mean entropy, nats."""
        config = self.config
        total_entropy = 0.0

        def gradients(group: Tensor) -> tuple[Sequence[Tensor], float]:
            loss, entropy = self._loss(batch.select(group), ent_coef)
            return torch.autograd.grad(loss, self._parameters), entropy

        for _ in range(config.update_epochs):
            for rows in torch.randperm(config.batch_size).chunk(config.num_minibatches):
                sums = [torch.zeros_like(parameter) for parameter in self._parameters]
                groups = groups_by_width(rows, batch.widths, _GROUP_SIZE)
                # In the order of the groups: the sums do not depend on the number of threads.
                for of_group, entropy in self._in_threads(gradients, groups):
                    torch._foreach_add_(sums, of_group)
                    total_entropy += entropy
                for parameter, total in zip(self._parameters, sums, strict=True):
                    parameter.grad = total.div_(len(rows))
                torch.nn.utils.clip_grad_norm_(self._parameters, config.max_grad_norm)
                self.optimizer.step()
        return total_entropy / (config.update_epochs * config.batch_size)

    def _loss(self, batch: Batch, ent_coef: float) -> tuple[Tensor, float]:
        """Sum of the losses of some timesteps, and sum of the policy's entropies, nats."""
        config = self.config
        log_probs = self.policy.act(*batch.observation, batch.widths).log_softmax(-1)
        ratio = (log_probs.gather(-1, batch.actions)[:, 0] - batch.log_probs).exp()
        clipped = ratio.clamp(1 - config.clip_coef, 1 + config.clip_coef)
        surrogate = torch.min(ratio * batch.advantages, clipped * batch.advantages).sum()
        # Illegal actions have probability 0 and a finite log-probability.
        entropy = -(log_probs.exp() * log_probs).sum()
        branches, features, _ = batch.observation
        values = self.critic(branches, features, batch.privileged, batch.widths)
        error = values - batch.returns
        loss = config.vf_coef * error.square().sum() - surrogate - ent_coef * entropy
        return loss, float(entropy.detach())

    def _progress(
        self, update: int, rollout: Rollout, returns: Tensor, entropy: float, seconds: float
    ) -> Progress:
        """Metrics after update number ``update``, counted from 1, that took ``seconds``."""
        config = self.config
        correct, costs = np.array(rollout.outcomes or [(np.nan, np.nan)], float).T
        return Progress(
            timesteps=update * config.batch_size,
            fraction=update / config.num_updates,
            mean_return=float(rollout.rewards.sum()) / rollout.episodes,
            accuracy=float(correct.mean()),
            cost=float(costs.mean()),
            episode_length=config.batch_size / rollout.episodes,
            explained_variance=1 - float((returns - rollout.values).var() / returns.var()),
            entropy=entropy,
            timesteps_per_second=config.batch_size / seconds,
        )

    def _validate(self, progress: Progress) -> Progress:
        """Validate the policy, if the training has a validation, and keep it if it is the best."""
        if self.validation is None:
            return progress
        score = self.validation.evaluate(self.policy, self.config.prices)
        if score.mean_return > self.best[0]:
            weights = {k: v.clone() for k, v in self.policy.state_dict().items()}
            self.best = (score.mean_return, progress.timesteps, weights)
        return replace(progress, validation=score)

    def delete_checkpoint(self) -> None:
        """Delete the checkpoint; call this after the export."""
        ppo_checkpoint.path_in(self.folder).unlink(missing_ok=True)

    def trained_policy(self) -> Policy:
        """The policy to export: the last one; with ``keep_best``, the best validated one."""
        if not self.keep_best or not self.best[2]:
            return self.policy
        policy = Policy(self.config.shape)
        policy.load_state_dict(self.best[2])
        return policy

    def card(self) -> dict[str, Any]:
        """Description of the training, plain values."""
        kept = {"kept_decisions": self.best[1]} if self.keep_best else {}
        return {**super().card(), **kept}


def _segment_seed(seed: int, segment: int) -> int:
    return int(np.random.SeedSequence([seed, segment]).generate_state(1)[0])
