"""The vector environment of ``AutoTTS-v0``: one compiled call per step for all episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Unpack

import gymnasium as gym
import numpy as np
from gymnasium import error
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from autotts_gym.gym_envs.autotts_env import AutoTTSEnv, Observation
from autotts_gym.gym_envs.env_config import EnvConfig, Environment, EnvOptions
from autotts_gym.gym_envs.episode_scene import RevealedAnswers, scene_of
from autotts_gym.gym_envs.slice_threads import SliceThreads
from autotts_gym.mdp.batch import SKIP, TERMINATED, TRUNCATED, Batch
from autotts_gym.mdp.episode_info import STRING_FIELDS
from autotts_gym.mdp.output_blocks import Blocks, OutputBlocks
from autotts_gym.traces import registry

#: Bits of outcomes, one row each.
_ENDS: Final = np.array([[TERMINATED], [TRUNCATED]], np.uint8)


class AutoTTSVectorEnv(gym.vector.VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """Many independent episodes of :class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`.

    Sub-environment i has its own stream of random numbers, seeded with ``seed + i``, and draws as a
    single environment does: runs of single environments, of ``SyncVectorEnv`` and of this class are
    identical, ``info`` included.

    Returned arrays never change later, but those of one step share blocks of memory,
    ``info["action_mask"]`` is the array of the observation, and the flags of ``info`` are one
    array. Where the traces hold no generation
    confidences, the arrays that would show them are read-only, and all observations share them.

    Args:
        num_envs: E, number of sub-environments.
        env: what to play; it and ``options`` are the arguments of
            :class:`~autotts_gym.gym_envs.autotts_env.AutoTTSEnv`.
        autoreset_mode: ``SAME_STEP`` (default: the step that ends an episode returns the first
            observation of the next one; ``info["final_obs"]`` and ``info["final_info"]`` hold the
            last of the ended one), ``NEXT_STEP`` or ``DISABLED`` (reset with
            ``options={"reset_mask": bool[E]}``).
        max_episode_steps: calls of :meth:`step` after which an episode is truncated as by
            Gymnasium's ``TimeLimit``, so that ``gym.make_vec`` and ``gym.make`` do the same. Unlike
            ``step_limit``, which the rules know, it leaves reward and ``info`` as they are; pass
            only one of them.
        render_mode: ``"rgb_array"`` or ``"ansi"``; :meth:`render` returns one frame per
            sub-environment.
        threads: number of threads that play the sub-environments, the calling one included. The
            results are the same. Worth its while with hundreds of sub-environments and free cores.

    Raises:
        ValueError: an argument is invalid; the message names it and what is valid.
    """

    def __init__(
        self,
        num_envs: int = 1,
        env: Environment | Iterable[Environment] = registry.DEFAULT,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        max_episode_steps: int | None = None,
        render_mode: Literal["rgb_array", "ansi"] | None = None,
        threads: int = 1,
        **options: Unpack[EnvOptions],
    ) -> None:
        # First, because Gymnasium before 1.3 also closes environments whose arguments are rejected.
        self._threads = SliceThreads(threads)
        for name, value in {"num_envs": num_envs, "threads": threads}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if render_mode not in (None, "rgb_array", "ansi"):
            raise ValueError(f'render_mode must be "rgb_array" or "ansi", got {render_mode!r}')
        if max_episode_steps is not None:
            if options.get("step_limit") is not None:
                raise ValueError("give either step_limit or max_episode_steps, not both")
            if not isinstance(max_episode_steps, int) or max_episode_steps < 1:
                raise ValueError(
                    f"max_episode_steps must be an integer of at least 1, got {max_episode_steps!r}"
                )
        self._time_limit = max_episode_steps
        self._elapsed = np.zeros(num_envs, np.int64)
        self.num_envs = num_envs
        self.render_mode = render_mode
        # By value as in Gymnasium ("SameStep"), or by the name of the member ("SAME_STEP").
        by_name = AutoresetMode.__members__.get(str(autoreset_mode))
        self.autoreset_mode = by_name or AutoresetMode(autoreset_mode)
        self.metadata = {
            **AutoTTSEnv.metadata,
            "render_modes": ["rgb_array", "ansi"],
            "autoreset_mode": self.autoreset_mode,
        }
        self._config = self._make_config(env, options)
        self._batch = self._config.batch(num_envs, threads)
        self._revealed = None if render_mode is None else RevealedAnswers(self._batch)
        self.single_observation_space = self._config.observation_space()
        self.single_action_space = self._config.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._action_count = int(self.single_action_space.n)
        space = self.single_observation_space
        self._keys = () if self._config.flat else tuple(space)  # type: ignore[arg-type]
        self._generators: list[np.random.Generator] = []
        self._seeds: list[int] = []
        self._is_reset = False
        self._running = np.zeros(num_envs, np.bool_)
        self._any_idle = True  # whether some sub-environment has no running episode
        self._all = np.ones(num_envs, np.bool_)
        self._last_actions = np.full(num_envs, SKIP, np.int64)
        self._bind()

    def _make_config(
        self, env: Environment | Iterable[Environment], options: EnvOptions
    ) -> EnvConfig:
        """The options, validated."""
        return EnvConfig(env, **options)

    def _bind(self) -> None:
        """Lay out the copies of the batch's arrays that a step returns."""
        batch = self._batch
        arrays = batch.observed()
        chosen = {key: arrays[key] for key in self._keys}
        self._constants = {k: array for k, array in chosen.items() if not array.flags.writeable}
        copied = {k: array for k, array in chosen.items() if k not in self._constants}
        self._observations = OutputBlocks({"": batch.flat} if self._config.flat else copied)
        # The mask, if an observation has it, is copied once for both.
        mask = {} if "action_mask" in copied else {"action_mask": batch.mask}
        info: dict[str, NDArray[Any]] = {
            "invalid_action": batch.invalid,
            "cost": batch.costs,
            "token_cost": batch.token_costs,
            "latency_cost": batch.latency_costs,
            **batch.info._asdict(),
        }
        self._infos = OutputBlocks(mask | info)
        self._whole_infos = OutputBlocks({"action_mask": batch.mask} | info)
        self._step_program = np.concatenate(
            [
                batch.step_program(),
                self._observations.copy_program(),
                self._infos.copy_program(),
            ]
        )
        self._start_program = batch.start_program()
        self._flag_keys = ["_action_mask", *(f"_{key}" for key in info)]

    def __getstate__(self) -> dict[str, Any]:
        bound = (
            "_constants",
            "_observations",
            "_infos",
            "_whole_infos",
            "_step_program",
            "_start_program",
        )
        return {key: value for key, value in self.__dict__.items() if key not in bound}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    @property  # type: ignore[misc]
    def np_random(self) -> Any:
        """The random generators of the sub-environments, which gave them their keys; E of them."""
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the sub-environments, a tuple of E."""
        return tuple(self._seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every sub-environment, or in those of ``options["reset_mask"]``.

        Args:
            seed: sub-environment i is seeded with ``seed + i``; or one seed (or None) each.
            options: reset options of the single environment, the same for all, and
                ``reset_mask``, bool[E].

        Raises:
            ValueError, TypeError: the list of seeds has the wrong length, the mask is not bool[E],
                or a reset option is invalid. No episode is started then.
            gymnasium.error.ResetNeeded: the first reset has a mask.
        """
        seeds = self._spread(seed)
        options = dict(options or {})
        mask = self._check_mask(options.pop("reset_mask", self._all))
        rows = np.flatnonzero(mask)
        if not self._is_reset:
            if len(rows) < self.num_envs:
                raise error.ResetNeeded("the first reset must start every sub-environment")
            seeded = [seeding.np_random(s) for s in seeds]
            self._generators, self._seeds = [g for g, _ in seeded], [s for _, s in seeded]
            for e, generator in enumerate(self._generators):
                self._batch.streams.seed(e, generator)
        else:
            for e in rows.tolist():
                if seeds[e] is not None:
                    self._generators[e], self._seeds[e] = seeding.np_random(seeds[e])
                    self._batch.streams.seed(e, self._generators[e])
        self._start(rows, options)
        self._is_reset = True
        blocks, told = self._observations.allocate(), self._whole_infos.allocate(zeros=True)
        self._observations.copy(0, self.num_envs)
        self._whole_infos.copy_rows(rows)
        return self._observation(blocks), self._flagged(self._whole_infos.arrays(told), mask)

    def _start(self, rows: NDArray[np.int64], options: dict[str, Any] | None = None) -> None:
        """Start the next episodes of the sub-environments ``rows``, int64[K]."""
        if options or self._config.has_functions:
            self._config.start(self._batch, rows, self._generators, options)
        else:
            self._batch.choose(rows)
            self._threads.run(self._start_program, len(rows))
        if self._any_idle:
            self._running[rows] = True
            self._any_idle = not self._running.all()
        if self._time_limit is not None:
            self._elapsed[rows] = 0
        if self._revealed is not None:
            self._last_actions[rows] = SKIP
            self._revealed.clear(rows)

    def step(
        self, actions: ArrayLike
    ) -> tuple[
        Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Play one action in every sub-environment.

        Args:
            actions: integers, shape (E,).

        Raises:
            gymnasium.error.ResetNeeded: an episode has ended and was not reset.
            gymnasium.error.InvalidAction: an id is outside the action space, or an action is
                illegal and ``invalid_action="raise"``. No sub-environment is stepped then.
        """
        batch = self._batch
        batch.actions[:] = self._check_actions(actions)
        playing = self._all
        if self._any_idle:
            if self.autoreset_mode is not AutoresetMode.NEXT_STEP or not self._is_reset:
                idle = int(np.flatnonzero(~self._running)[0])
                raise error.ResetNeeded(f"sub-environment {idle} has no running episode: reset it")
            playing = self._running.copy()
            batch.actions[~playing] = SKIP
        blocks, told = self._observations.allocate(), self._infos.allocate()
        some_end = self._threads.run(self._step_program, self.num_envs) > 0
        if self._revealed is not None:
            self._revealed.update(batch)
            self._last_actions[:] = batch.actions
        rewards, outcomes = batch.rewards.copy(), batch.outcomes
        terminated, truncated = outcomes & _ENDS != 0
        if playing is not self._all:
            self._restart(np.flatnonzero(~playing))
        if self._time_limit is not None:
            self._elapsed += playing
            truncated |= playing & (self._elapsed >= self._time_limit)
            some_end = some_end or bool(truncated.any())
        infos: dict[str, Any] = {}
        if some_end:
            infos = self._finish(terminated | truncated)
        observation = self._observation(blocks)
        arrays = self._infos.arrays(told)
        if "action_mask" not in arrays:
            arrays["action_mask"] = observation["action_mask"]
        return observation, rewards, terminated, truncated, infos | self._flagged(arrays, self._all)

    def _restart(self, rows: NDArray[np.int64]) -> None:
        """Start the next episodes of ``rows``; the step returns their observations and infos."""
        self._start(rows)
        self._observations.copy_rows(rows)
        self._infos.copy_rows(rows)

    def _finish(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        """Note the end of episodes, bool[E]; in ``SAME_STEP``, start the next ones.

        Returns:
            The final observations and infos of episodes that another one follows.
        """
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._running &= ~ended
            self._any_idle = True
            return {}
        rows = np.flatnonzero(ended)
        final = self._whole_infos.allocate(zeros=True)
        self._whole_infos.copy_rows(rows)
        last = {
            "final_obs": self._final_observations(rows),
            "_final_obs": ended,
            "final_info": self._flagged(self._whole_infos.arrays(final), ended),
            "_final_info": ended,
        }
        self._restart(rows)
        return last

    def _final_observations(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The observations of the episodes that ended, in an array of objects."""
        observations = np.empty(self.num_envs, dtype=object)  # None everywhere
        constants = {key: array[0] for key, array in self._constants.items()}
        last = self._observations.rows(rows, constants)
        for e, observation in zip(rows.tolist(), last, strict=True):
            observations[e] = observation[""] if self._config.flat else observation
        return observations

    def _observation(self, blocks: Blocks) -> Observation:
        arrays = self._observations.arrays(blocks)
        return arrays[""] if self._config.flat else arrays | self._constants  # type: ignore[return-value]

    def _flagged(self, infos: dict[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
        """Infos of sub-environments ``mask`` (bool[E]), as Gymnasium's ``_add_info`` makes them."""
        infos |= dict.fromkeys(self._flag_keys, mask.copy())
        if self._config.info_strings:
            infos |= self._texts(mask)
        return infos

    def _texts(self, mask: NDArray[np.bool_]) -> dict[str, Any]:
        """The strings of the infos of sub-environments ``mask``, in arrays of objects."""
        texts = {e: self._batch.texts(e) for e in np.flatnonzero(mask).tolist()}
        infos: dict[str, Any] = {}
        for field in STRING_FIELDS:
            values = np.full(self.num_envs, None, dtype=object)
            for e, of_episode in texts.items():
                values[e] = of_episode[field.key]
            infos |= {field.key: values, f"_{field.key}": mask.copy()}
        return infos

    @property
    def batch(self) -> Batch:
        """The batch of episodes, with hidden state: for training code, not for agents."""
        return self._batch

    @property
    def flat_slices(self) -> dict[str, slice]:
        """The slices of an observation with ``observation="flat"``, by name."""
        return self._config.flat_slices()

    @property
    def betas(self) -> NDArray[np.float64]:
        """β of every episode, float64[E]."""
        return self._batch.betas.copy()

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions, bool[E, 2 + 4N].

        Raises:
            gymnasium.error.ResetNeeded: there was no reset yet.
        """
        if not self._is_reset:
            raise error.ResetNeeded("no action is legal yet: call reset() before action_masks()")
        return self._batch.mask.astype(np.bool_)

    def render(self) -> tuple[Any, ...] | None:
        """One frame (uint8[H, W, 3]) or text per sub-environment."""
        from autotts_gym.gym_envs import rendering

        revealed = self._revealed
        if revealed is None:
            gym.logger.warn("render() does nothing without a render mode; see make_vec's arguments")
            return None
        draw = rendering.render_image if self.render_mode == "rgb_array" else rendering.render_ansi
        return tuple(
            draw(scene_of(self._batch, e, revealed, self._describe(e)))
            for e in range(self.num_envs)
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the threads."""
        self._threads.stop()

    def _describe(self, e: int) -> str:
        action = int(self._last_actions[e])
        return "" if action == SKIP else self._config.describe(action)

    def _spread(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + e for e in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} sub-environments")
        return [None if s is None else int(s) for s in seed]

    def _check_mask(self, mask: Any) -> NDArray[np.bool_]:
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be an array of bool, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and name at least one"
            )
        return mask.copy()

    def _check_actions(self, actions: ArrayLike) -> NDArray[np.integer[Any]]:
        given = np.asarray(actions)
        if given.shape != (self.num_envs,) or given.dtype.kind not in "iu":
            raise error.InvalidAction(
                f"actions must be integers of shape ({self.num_envs},), "
                f"got {given.dtype} of shape {given.shape}"
            )
        # Negative numbers are large as unsigned ones, so one comparison finds both.
        if np.maximum.reduce(given.astype(np.uint64)) >= self._action_count:
            raise error.InvalidAction(f"an action is outside {self.single_action_space}")
        if self._config.strict:
            legal = self._batch.mask[np.arange(self.num_envs), given] != 0
            illegal = np.flatnonzero(~legal & self._running)
            if illegal.size:
                e = int(illegal[0])
                raise error.InvalidAction(f"action {given[e]} of sub-environment {e} is illegal")
        return given
