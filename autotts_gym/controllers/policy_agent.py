"""Trained policies as agents: they can be used wherever a controller can."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from autotts_gym.controllers import policy_network
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.compiled_network import MAX_WEIGHTS, CompiledNetwork
from autotts_gym.controllers.compiled_policy import PolicyArrays, play_episodes
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.policy_network import Policy, PolicyError
from autotts_gym.mdp.actions import BRANCH, decode
from autotts_gym.mdp.batch import SKIP, TRUNCATED, EpisodeStart
from autotts_gym.mdp.macro_batch import MacroBatch, MacroTracker
from autotts_gym.mdp.macro_features import GLOBAL_FEATURE_NAMES, STATUS_FEATURES
from autotts_gym.mdp.packed_arrays import pack
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset

#: Maximum number of episodes in one batch; large enough for efficient forward passes.
MAX_EPISODES: Final = 256


@dataclass(frozen=True)
class PolicyAgent(Agent):
    """A trained policy, played greedily: it takes the most likely action.

    The agent's β in [0, 1] selects a token price in the range that the policy was trained on: the
    highest at 0, the lowest at 1, log-linear in between (:mod:`autotts_gym.mdp.token_price`).
    A policy that was trained with ``latency_weight`` also reads that of the episode.

    Attributes:
        policy: the networks.
        prices: range of token prices that the policy was trained on.
        card: description of the training.
        files: contents of the weights file and of the card file, from which it is unpickled; empty
            for a policy in memory.
    """

    is_policy: ClassVar[bool] = True
    policy: Policy = field(compare=False, repr=False)
    prices: TokenPrices = field(default_factory=TokenPrices, compare=False)
    card: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    files: tuple[bytes, str] = field(default=(b"", ""), compare=False, repr=False)

    @classmethod
    def from_network(cls, policy: Policy, prices: TokenPrices) -> PolicyAgent:
        """Create an agent from a policy in memory, for example during training."""
        return cls("policy", Path(), takes_beta=True, digest="", policy=policy, prices=prices)

    def __reduce__(self) -> tuple[Any, ...]:
        return _parse, (self.path, *self.files)

    def __call__(self, episode: Episode, beta: float) -> None:
        """Play one episode."""
        env: Any = episode.facts
        tracker = MacroTracker(episode.max_branches, atomic=self.policy.shape.atomic)
        tracker.begin(env.view, env.mean_length, env.depth_limit)
        while not episode.ended:
            chosen = choose_actions(
                self.policy,
                tracker.branch_features[None],
                with_beta(tracker.all_features[None], self.prices.reward_beta(beta)),
                tracker.mask(env.view)[None],
            )
            for action in tracker.bundle(env.view, int(chosen[0])):
                if env.view.mask[0, action] and not episode.ended:
                    _take_action(episode, action)
            tracker.follow(env.view)

    def player(
        self, dataset: TraceDataset, config: EpisodeConfig, keep_actions: bool
    ) -> PolicyPlayer:
        """A player of many episodes at once; see :class:`PolicyPlayer`."""
        return PolicyPlayer(self.policy, self.prices, dataset, config, keep_actions)


def load(folder: str | os.PathLike[str]) -> PolicyAgent:
    """Load a trained policy from its folder.

    Raises:
        AgentError: a file is missing or damaged, or the policy was trained on features in another
            layout than this version's.
    """
    folder = Path(folder)
    try:
        weights, card = policy_network.read_files(folder)
    except (OSError, UnicodeDecodeError) as error:
        raise AgentError(f"{folder} holds no trained policy: {error}") from error
    return _parse(folder, weights, card)


def _parse(folder: Path, weights: bytes, text: Any) -> PolicyAgent:
    """Create the agent from the contents of the weights file and of the card file."""
    try:
        policy, card = policy_network.parse(weights, text)
        prices = TokenPrices(**card["prices"])
    except (PolicyError, KeyError, TypeError, ValueError) as error:
        raise AgentError(f"{folder}: {error}") from error
    digest = hashlib.sha256(weights + text.encode()).hexdigest()
    return PolicyAgent(
        folder.name,
        folder,
        takes_beta=True,
        digest=digest,
        files=(weights, text),
        policy=policy,
        prices=prices,
        card=card,
    )


def _take_action(episode: Episode, action: int) -> None:
    """Call the method of ``episode`` for an action id."""
    name, branch = decode(action, episode.max_branches)
    if branch is None:
        episode.branch() if action == BRANCH else episode.answer()
    else:
        methods = {
            "CONTINUE": episode.extend,
            "PROBE": episode.probe,
            "PRUNE": episode.prune,
            "ANSWER": episode.answer,
        }
        methods[name](branch)


def with_beta(features: NDArray[np.float32], beta: float) -> NDArray[np.float32]:
    """Copy global features, float32[K, G], and set those that depend on β."""
    changed = features.copy()
    log_price = np.clip(np.log(1 - beta) - np.log(beta), -6, 6)
    changed[:, GLOBAL_FEATURE_NAMES.index("beta")] = beta
    changed[:, GLOBAL_FEATURE_NAMES.index("log_price")] = log_price / 3  # scaled to [-2, 2]
    return changed


def choose_actions(
    policy: Policy,
    branches: NDArray[np.float32],
    features: NDArray[np.float32],
    mask: NDArray[np.int8],
) -> NDArray[np.int64]:
    """The most likely actions in K episodes, int64[K].

    Args:
        policy: the networks.
        branches: float32[K, N, NUM_BRANCH_FEATURES].
        features: float32[K, NUM_ALL_GLOBAL_FEATURES], of which the policy reads its own.
        mask: int8[K, NUM_MACRO_ACTIONS], or int8[K, 2 + 4N] for single actions.
    """
    width = opened_width(branches)
    with torch.inference_mode():
        chosen = policy.choose(
            torch.from_numpy(np.ascontiguousarray(branches[:, :width])),
            torch.from_numpy(features[:, : policy.shape.num_global_features]),
            torch.from_numpy(mask).bool(),
        )
        ids: NDArray[np.int64] = chosen.numpy()
    return ids


def opened_width(branches: NDArray[np.float32]) -> int:
    """Largest number of opened branches among K episodes, at least 1.

    Args:
        branches: float32[K, N, NUM_BRANCH_FEATURES]; rows of branches that are not open are zeros.
    """
    opened = np.flatnonzero(branches[..., STATUS_FEATURES].any(axis=(0, 2)))
    return int(opened[-1]) + 1 if len(opened) else 1


class PolicyPlayer:
    """Plays many episodes of a policy at once.

    Networks of up to 100,000 weights (``compiled_network.MAX_WEIGHTS``) play compiled, together
    with the rules. Larger ones play in batches: torch chooses the actions of all
    running episodes, and everything else is compiled.

    Args:
        policy: the networks.
        prices: range of token prices that the policy was trained on.
        dataset: the traces.
        config: configuration of the episodes.
        keep_actions: record the actions of every episode, in the ``history`` of the batch.
        compiles: False to choose actions with torch in any case; episodes are the same but for
            ties between actions.

    Attributes:
        max_episodes: maximum number of episodes per call of :meth:`play`.
        compiles: whether the networks are compiled.

    Raises:
        AgentError: an mlp policy was trained for another number of branches.
    """

    def __init__(
        self,
        policy: Policy,
        prices: TokenPrices,
        dataset: TraceDataset,
        config: EpisodeConfig,
        keep_actions: bool,
        *,
        compiles: bool = True,
    ) -> None:
        if policy.shape.network == "mlp" and policy.shape.max_branches != config.max_branches:
            raise AgentError(
                f"the mlp policy was trained with max_branches={policy.shape.max_branches}: play "
                f"it with the same number, not {config.max_branches}"
            )
        self.max_episodes = MAX_EPISODES
        self.compiles = compiles and policy.shape.num_parameters <= MAX_WEIGHTS
        self._policy, self._prices = policy, prices
        self._dataset, self._config = dataset, config
        self._keep_actions = keep_actions
        self._batch: MacroBatch | None = None
        self._network: CompiledNetwork | None = None
        if self.compiles:
            self._network = CompiledNetwork(policy, config.max_branches)

    def play(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
    ) -> tuple[MacroBatch, NDArray[np.bool_]]:
        """Play K episodes; K is at most ``max_episodes``.

        Args:
            questions: int64[K], rows of the dataset.
            orders: int64[K, N], recorded branches in the order in which each episode opens them.
            beta: the agent's β, the same in all episodes.

        Returns:
            The batch, whose first K episodes are the played ones, and a bool[K] that is True for
            episodes truncated by the step limit.
        """
        count = len(questions)
        batch = self._batch_of(count)
        reward_beta = self._prices.reward_beta(beta)
        batch.reset(
            range(count),
            [EpisodeStart(int(q), reward_beta, o) for q, o in zip(questions, orders, strict=True)],
        )
        truncated = np.zeros(count, np.bool_)
        if self._network is not None:
            self._network.refresh()
            play_episodes(self._packed, truncated, *batch.bundle_arguments)
        else:
            self._play_with_torch(batch, truncated)
        return batch, truncated

    def _play_with_torch(self, batch: MacroBatch, truncated: NDArray[np.bool_]) -> None:
        running = np.arange(len(truncated))
        while len(running):
            batch.actions[:] = SKIP
            batch.actions[running] = choose_actions(
                self._policy,
                batch.branch_features[running],
                batch.all_features[running],
                batch.mask[running],
            )
            batch.step()
            truncated[running] = batch.outcomes[running] & TRUNCATED != 0
            running = running[batch.ledger["ended"][running] == 0]

    def _batch_of(self, count: int) -> MacroBatch:
        """A batch of at least ``count`` episodes."""
        if self._batch is None or len(self._batch.actions) < count:
            self._batch = MacroBatch(
                self._dataset,
                self._config,
                num_envs=count,
                max_depth=1,  # unused without planes
                max_classes=64,
                plane=False,
                invalid_penalty=0.0,
                keep_actions=self._keep_actions,
                atomic=self._policy.shape.atomic,
            )
            if self._network is not None:
                self._packed = pack(
                    PolicyArrays(
                        self._batch.arrays,
                        self._network.arrays,
                        self._batch.branch_features,
                        self._batch.all_features,
                    )
                )
        return self._batch
