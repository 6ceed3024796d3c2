"""The interface of loaded controllers: :class:`Agent`."""

from __future__ import annotations

import abc
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import StepLimitError

if TYPE_CHECKING:
    import gymnasium as gym
    import numpy as np
    from numpy.typing import NDArray

    from autotts_gym.mdp.macro_batch import MacroBatch
    from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset


class BatchPlayer(Protocol):
    """Plays many episodes of one agent at once.

    Attributes:
        max_episodes: maximum number of episodes per call of :meth:`play`.
    """

    max_episodes: int

    def play(
        self, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
    ) -> tuple[MacroBatch, NDArray[np.bool_]]:
        """Play K episodes; K is at most ``max_episodes``.

        Args:
            questions, orders, beta: see
                :meth:`autotts_gym.rollout.episode_player.EpisodePlayer.play`.

        Returns:
            The batch, whose first K episodes are the played ones, and a bool[K] that is True for
            episodes truncated by the step limit.
        """
        ...


@dataclass(frozen=True)
class Agent(abc.ABC):
    """A loaded controller.

    Subclass it and implement ``__call__`` to play episodes with an object instead of a function::

        class FirstBranch(Agent):
            def __call__(self, episode, beta):
                i = episode.branch()
                episode.probe(i)
                episode.answer(i)

        agent = FirstBranch("first_branch", Path(__file__), takes_beta=False, digest="1")

    Attributes:
        name: the name in tables and results, unique within a benchmark.
        path: the file or folder that it was loaded from.
        takes_beta: whether β changes its behaviour. An agent that ignores β is played once.
        digest: identifies the behaviour; results are cached under it.
        published: whether it is a published-style program, see
            :mod:`autotts_gym.controllers.published_programs`.
        source: its Python source, if it is a program.
    """

    name: str
    path: Path
    takes_beta: bool
    digest: str
    published: bool = field(default=False, kw_only=True)
    source: bytes = field(default=b"", kw_only=True, repr=False)

    #: Whether it is a trained policy, see :mod:`autotts_gym.controllers.policy_agent`.
    is_policy: ClassVar[bool] = False

    #: Whether only a sandbox may play it, see :mod:`autotts_gym.sandbox.untrusted_agent`.
    is_untrusted: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, episode: Episode, beta: float) -> None:
        """Play one episode to its end.

        Raises:
            NoAnswerError: the controller returned without ending the episode.
            IllegalActionError: the controller chose an illegal action.
            StepLimitError: the step limit truncated the episode.
        """

    def player(
        self, dataset: TraceDataset, config: EpisodeConfig, keep_actions: bool
    ) -> BatchPlayer | None:
        """A player of many episodes at once; None if the agent plays one at a time.

        Args:
            dataset: the traces to play on.
            config: the episodes' configuration.
            keep_actions: whether the batch keeps the actions of each episode.
        """
        return None

    def play(
        self, env: gym.Env[Any, Any], *, seed: int | None = None, **options: Any
    ) -> dict[str, Any]:
        """Play one episode of a Gymnasium environment through ``reset`` and ``step``.

        Args:
            env: an environment with the spaces of ``AutoTTS-v0``; β is the episode's.
            seed: for ``env.reset``.
            options: for ``env.reset``.

        Returns:
            The ``info`` of the last step.

        Raises:
            NoAnswerError, IllegalActionError: see ``__call__``. Truncation by the step limit
                raises nothing.
        """
        observation, _ = env.reset(seed=seed, options=options)
        episode = Episode(env, observation)
        with contextlib.suppress(StepLimitError):
            self(episode, env.get_wrapper_attr("beta"))
        return episode.info
