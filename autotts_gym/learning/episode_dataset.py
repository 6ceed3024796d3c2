"""Minari data sets of controllers' episodes, for offline reinforcement learning.

Controllers play in bulk, and their actions are then replayed in ``AutoTTS-v0``, which gives the
observations, rewards and infos that are stored.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import gymnasium as gym
import numpy as np

from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.branch_width import default_width

if TYPE_CHECKING:
    from minari.data_collector import EpisodeBuffer

#: Episodes that are held in memory before they are written.
_EPISODES_PER_WRITE: Final = 64

Observation = Literal["compact", "full", "flat"]


@dataclass(frozen=True)
class RecordedDataset:
    """What :func:`record_episodes` has written.

    Attributes:
        dataset_id: name of the Minari data set; ``minari.load_dataset`` loads it.
        episodes: number of its episodes.
        steps: number of their steps.
        failures: error messages of episodes that failed and are not in it.
    """

    dataset_id: str
    episodes: int
    steps: int
    failures: tuple[str, ...]


class _EpisodeSource:
    """Plays controllers on one environment and replays their actions."""

    def __init__(
        self,
        env: str | os.PathLike[str],
        observation: Observation,
        max_branches: int | None,
        billing: Literal["tokens", "interval"],
    ) -> None:
        self.store = registry.open_store(env)
        width = max_branches or default_width([self.store])
        self.config = EpisodeConfig(width, billing)
        self.env = gym.make(
            "AutoTTS-v0",
            env=os.fspath(env),
            observation=observation,
            max_branches=width,
            billing=billing,
            disable_env_checker=True,
        )
        self.failures: list[str] = []

    def episodes(
        self, agent: Agent, beta: float, seeds: Sequence[int], questions: Sequence[int]
    ) -> Iterator[EpisodeBuffer]:
        """Every question once per seed, with the branch orders of ``autotts benchmark``."""
        rows = np.tile(np.array(questions, np.int64), len(seeds))
        of_seeds = np.repeat(np.array(seeds, np.int64), len(questions))
        width = self.config.max_branches
        orders = branch_orders("random", of_seeds, rows, self.store, width)
        player = Rollout(agent, self.store, self.config, logs=True)
        for k, row in enumerate(rows.tolist()):
            # One by one: the first episodes can be written before the last are played.
            played = player.play(rows[k : k + 1], orders[k : k + 1], beta)
            if played.failures:
                self.failures.append(
                    f"{agent.name} on question {row}, seed {of_seeds[k]}: {played.failures[0]}"
                )
                continue
            options = {"question": row, "beta": beta, "branch_order": orders[k].tolist()}
            yield self._replay(played.logs[0].tolist(), int(of_seeds[k]), options, agent.name)

    def _replay(
        self, actions: list[int], seed: int, options: dict[str, Any], agent: str
    ) -> EpisodeBuffer:
        from minari.data_collector import EpisodeBuffer

        observation, info = self.env.reset(options=options)
        observations, infos = [observation], [info]
        rewards, terminations, truncations = [], [], []
        for action in actions:
            observation, reward, terminated, truncated, info = self.env.step(action)
            observations.append(observation)
            infos.append(info)
            rewards.append(float(reward))
            terminations.append(terminated)
            truncations.append(truncated)
        return EpisodeBuffer(
            seed=seed,
            options=options | {"agent": agent},
            observations=_stacked(observations),
            actions=np.array(actions, np.int64),
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            # Observations have the mask.
            infos={k: np.stack([i[k] for i in infos]) for k in info if k != "action_mask"},
        )


def _stacked(observations: list[Any]) -> Any:
    """Observations with an axis of steps; key by key if they are dictionaries."""
    if isinstance(observations[0], dict):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack(observations)


def record_episodes(
    agents: Sequence[Agent],
    env: str | os.PathLike[str],
    dataset_id: str,
    *,
    betas: Sequence[float] = (0.5,),
    seeds: Sequence[int] = (0,),
    questions: Sequence[int] | None = None,
    observation: Observation = "compact",
    max_branches: int | None = None,
    billing: Literal["tokens", "interval"] = "tokens",
    on_episode: Callable[[str, int], None] = lambda agent, steps: None,
) -> RecordedDataset:
    """Write a Minari data set of episodes: every agent, β, seed and question once.

    Actions, rewards and infos are those of ``AutoTTS-v0``; each episode's options name its agent,
    question, β and branch order. ``MINARI_DATASETS_PATH`` is the folder of the data sets.

    Args:
        agents: the controllers, which run in this process.
        env: name or path of the environment.
        dataset_id: name of the data set, such as ``"autotts/cmc-v0"``.
        betas, seeds: β and seeds of the branch orders.
        questions: rows of the questions; all by default.
        observation: ``"compact"``, ``"full"`` or ``"flat"``.
        max_branches: N; by default 64, or the smallest number of branches of a question.
        billing: how branches are billed.
        on_episode: called with the agent and the number of steps of every episode.

    Raises:
        ImportError: Minari is not installed.
        ValueError: there is a data set of this name, no episode was recorded, or an argument is
            invalid. A data set that was begun is deleted.
    """
    try:
        import minari
    except ImportError as error:
        message = f"recording needs Minari ({error}): pip install 'autotts-gym[offline]'"
        raise ImportError(message) from error
    if dataset_id in minari.list_local_datasets():
        raise ValueError(f"there is a data set {dataset_id!r} already: choose another name")
    source = _EpisodeSource(env, observation, max_branches, billing)
    rows = list(range(len(source.store.tables.ids)) if questions is None else questions)
    writer = _Writer(dataset_id, source.env, ", ".join(agent.name for agent in agents))
    try:
        for agent in agents:
            for beta in betas:
                for episode in source.episodes(agent, beta, seeds, rows):
                    writer.add(episode)
                    on_episode(agent.name, len(episode))
        writer.flush()
    except BaseException:
        writer.delete()
        raise
    finally:
        source.env.close()
    if not writer.episodes:
        raise ValueError("no episode was recorded: " + "; ".join(source.failures[:1] or ["none"]))
    return RecordedDataset(dataset_id, writer.episodes, writer.steps, tuple(source.failures))


class _Writer:
    """Writes episodes to a new data set, some at a time."""

    def __init__(self, dataset_id: str, env: gym.Env[Any, Any], agents: str) -> None:
        self._dataset_id, self._env, self._agents = dataset_id, env, agents
        self._dataset: Any = None
        self._waiting: list[EpisodeBuffer] = []
        self.episodes = self.steps = 0

    def add(self, episode: EpisodeBuffer) -> None:
        self._waiting.append(episode)
        self.episodes += 1
        self.steps += len(episode)
        if len(self._waiting) >= _EPISODES_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        if self._waiting and self._dataset is None:
            self._dataset = self._create()
        elif self._waiting:
            self._dataset.update_dataset_from_buffer(self._waiting)
        self._waiting = []

    def _create(self) -> Any:
        import minari

        with warnings.catch_warnings():  # an author and a permalink are recommended
            warnings.simplefilter("ignore", UserWarning)
            return minari.create_dataset_from_buffers(
                self._dataset_id,
                self._waiting,
                env=self._env,
                algorithm_name=self._agents,
                description=f"Episodes of {self._agents} in AutoTTS-v0",
                requirements=["autotts-gym"],
            )

    def delete(self) -> None:
        """Delete what was written."""
        import minari

        if self._dataset is not None:
            minari.delete_dataset(self._dataset_id)
