"""Trained policies as agents: they play wherever a controller plays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from autotts_gym.controllers import policy_network as policies
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.policy_network import Policy, PolicyError
from autotts_gym.mdp.actions import BRANCH, decode
from autotts_gym.mdp.batch import SKIP, TRUNCATED, EpisodeStart
from autotts_gym.mdp.macro_batch import MacroBatch, MacroTracker
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset

#: Episodes that are played side by side: enough that the networks are busy.
ABREAST: Final = 256


@dataclass(frozen=True)
class PolicyAgent(Agent):
    """A trained policy, played by its likeliest decisions.

    Its knob goes from few tokens at 0 to many at 1, evenly in the logarithm of their price.

    Attributes:
        policy: the networks.
        prices: what the knob stands for.
        card: what is known of the training.
        files: the weights and the card as they are on disk; empty for a policy in training.
    """

    is_policy: ClassVar[bool] = True
    policy: Policy = field(compare=False, repr=False)
    prices: TokenPrices = field(default_factory=TokenPrices, compare=False)
    card: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    files: tuple[bytes, str] = field(default=(b"", ""), compare=False, repr=False)

    @classmethod
    def of(cls, policy: Policy, prices: TokenPrices) -> PolicyAgent:
        """A policy that stands in no file, as while it is trained."""
        return cls("policy", Path(), takes_beta=True, digest="", policy=policy, prices=prices)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.path, *self.files)

    def __call__(self, episode: Episode, beta: float) -> None:
        """Play one episode through a handle."""
        env: Any = episode.facts
        made = MacroTracker(episode.max_branches, atomic=self.policy.shape.atomic)
        made.begin(env.view, env.mean_length, env.depth_limit)
        while not episode.ended:
            chosen = decide(
                self.policy,
                made.branch_features[None],
                priced(made.features[None], self.prices.beta(beta)),
                made.mask(env.view)[None],
            )
            for action in made.bundle(env.view, int(chosen[0])):
                if env.view.mask[0, action] and not episode.ended:
                    _act(episode, action)
            made.follow(env.view)

    def player(
        self, dataset: TraceDataset, config: EpisodeConfig, keep_actions: bool
    ) -> PolicyPlayer:
        return PolicyPlayer(self.policy, self.prices, dataset, config, keep_actions)


def load(folder: Path) -> PolicyAgent:
    """The agent of a folder that holds a trained policy.

    Raises:
        AgentError: it cannot be loaded, or was trained for another layout.
    """
    try:
        weights = (folder / policies.WEIGHTS).read_bytes()
        card = (folder / policies.CARD).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AgentError(f"{folder} holds no trained policy: {error}") from error
    return _made(folder, weights, card)


def _made(folder: Path, weights: bytes, text: Any) -> PolicyAgent:
    try:
        policy, card = policies.parse(weights, text)
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


def _act(episode: Episode, action: int) -> None:
    """Play an action by its id."""
    name, branch = decode(action, episode.max_branches)
    if branch is None:
        episode.branch() if action == BRANCH else episode.answer()
    else:
        methods = {"CONTINUE": episode.extend, "PROBE": episode.probe, "PRUNE": episode.prune}
        methods.get(name, episode.answer)(branch)


def priced(features: NDArray[np.float32], beta: float) -> NDArray[np.float32]:
    """Features of an episode as they are at another β of the reward."""
    found = features.copy()
    found[:, 0] = beta
    found[:, 1] = np.clip(np.log(1 - beta) - np.log(beta), -6, 6) / 3
    return found


def decide(
    policy: Policy,
    branches: NDArray[np.float32],
    features: NDArray[np.float32],
    mask: NDArray[np.int8],
) -> NDArray[np.int64]:
    """The likeliest decisions of K episodes, int64[K].

    Args:
        policy: the networks.
        branches: float32[K, N, BRANCH_SIZE].
        features: float32[K, SIZE].
        mask: int8[K, COUNT], or int8[K, 2 + 4N].
    """
    width = opened(branches)
    with torch.inference_mode():
        chosen = policy.choose(
            torch.from_numpy(np.ascontiguousarray(branches[:, :width])),
            torch.from_numpy(features),
            torch.from_numpy(mask).bool(),
        )
        found: NDArray[np.int64] = chosen.numpy()
    return found


def opened(branches: NDArray[np.float32]) -> int:
    """The most branches that any of some episodes has opened, at least 1: the rest is empty."""
    rows = np.flatnonzero(branches[..., :3].any(axis=(0, 2)))
    return int(rows[-1]) + 1 if len(rows) else 1


class PolicyPlayer:
    """Plays episodes side by side.

    Args:
        policy, prices: who plays.
        replay, terms: what is played, and how.
        keeps: whether the batch keeps the actions of its episodes.
    """

    def __init__(
        self,
        policy: Policy,
        prices: TokenPrices,
        replay: TraceDataset,
        terms: EpisodeConfig,
        keeps: bool,
    ) -> None:
        if policy.shape.network == "mlp" and policy.shape.max_branches != terms.max_branches:
            raise AgentError(
                f"this policy was trained with max_branches={policy.shape.max_branches}, and reads "
                "its observation as one long vector: play it with as many"
            )
        self.abreast = ABREAST
        self._policy, self._prices = policy, prices
        self._made = (replay, terms)
        self._keeps = keeps
        self._batch: MacroBatch | None = None

    def play(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
    ) -> tuple[MacroBatch, NDArray[np.bool_]]:
        """Play K episodes, ``ABREAST`` at most.

        Args:
            questions, orders, beta: as for :meth:`autotts_gym.rollout.episode_player.EpisodePlayer.play`.

        Returns:
            The batch whose first K episodes they are, and which were cut off, bool[K].
        """
        count = len(questions)
        batch = self._abreast(count)
        reward_beta = self._prices.beta(beta)
        batch.reset(
            range(count),
            [EpisodeStart(int(q), reward_beta, o) for q, o in zip(questions, orders, strict=True)],
        )
        running, cut = np.arange(count), np.zeros(count, np.bool_)
        while len(running):
            batch.actions[:] = SKIP
            batch.actions[running] = decide(
                self._policy,
                batch.branch_features[running],
                batch.features[running],
                batch.mask[running],
            )
            batch.step()
            cut[running] = batch.outcomes[running] & TRUNCATED != 0
            running = running[batch.ledger["ended"][running] == 0]
        return batch, cut

    def _abreast(self, count: int) -> MacroBatch:
        if self._batch is None or len(self._batch.actions) < count:
            replay, terms = self._made
            self._batch = MacroBatch(
                replay,
                terms,
                count,
                1,
                64,
                plane=False,
                invalid_penalty=0.0,
                keeps=self._keeps,
                atomic=self._policy.shape.atomic,
            )
        return self._batch
