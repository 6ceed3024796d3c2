"""``AutoTTS-v0``: test-time scaling over recorded traces, as a single environment."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsIndex, Unpack

import gymnasium as gym
import numpy as np
from gymnasium import error
from numpy.typing import NDArray

from autotts_gym.gym_envs.env_config import EnvConfig, Environment, EnvOptions
from autotts_gym.gym_envs.episode_facts import EpisodeFacts
from autotts_gym.gym_envs.episode_scene import RevealedAnswers, scene_of
from autotts_gym.mdp import episode_info, flat_observation, observed_arrays
from autotts_gym.mdp.batch import ILLEGAL, TERMINATED, TRUNCATED
from autotts_gym.traces import registry

if TYPE_CHECKING:
    from autotts_gym.gym_envs.rendering import Scene

Observation = dict[str, NDArray[Any]]

#: Attributes that refer to arrays of the batch or to a window; a copy makes them anew.
_NOT_COPIED: Final = ("_rows", "_flat", "_mask", "_ledger", "_results", "_costs", "_window")
#: The only episode of the batch.
_ONLY: Final = np.zeros(1, np.int64)
#: A flag in ``info`` that is set.
_ONE: Final = np.int8(1)
#: What ``info`` holds of the latest step, before there is any.
_NO_STEP: Final[dict[str, Any]] = {
    "action_mask": np.zeros(0, np.int8),
    "invalid_action": np.int8(0),
    "cost": np.float64(0),
    "token_cost": np.float64(0),
    "latency_cost": np.float64(0),
}


class AutoTTSEnv(EpisodeFacts, gym.Env[Observation, np.int64]):
    """Test-time scaling as a decision process, replayed from recorded reasoning traces.

    ## Description
    A question is put to a language model that stays fixed. The agent decides how to spend
    inference compute on it: open another reasoning branch (width), let a branch run for another
    interval of Δ tokens (depth), probe what a branch would answer now, prune a branch, or stop and
    answer. Every branch was sampled from a real model beforehand, so an episode needs no model
    call, and the same actions always have the same outcome. After AutoTTS (arXiv 2605.08083,
    sections 3 and 4). ``docs/process.md`` defines the rules in full.

    ## Action Space
    ``Discrete(2 + 4 N)`` with ``N = max_branches``:

    | Id         | Action        | Legal if                                                    |
    |------------|---------------|-------------------------------------------------------------|
    | 0          | `ANSWER`      | always; answers the plurality of active branches' answers   |
    | 1          | `BRANCH`      | fewer than N are open, and the budget covers an interval    |
    | 2 + i      | `CONTINUE(i)` | i active, not known finished, above the depth limit; budget |
    | 2 + N + i  | `PROBE(i)`    | i active, this depth not yet probed; budget                 |
    | 2 + 2N + i | `PRUNE(i)`    | i active                                                    |
    | 2 + 3N + i | `ANSWER(i)`   | i has a revealed answer (pruned or not)                     |

    ``observation["action_mask"]``, ``info["action_mask"]`` and :meth:`action_masks` say which
    actions are legal.

    ## Observation Space
    A flat ``Dict``; D is ``max_depth``, M is ``max_classes``, A is 2 + 4 N, G is the number of
    global entries. Answers appear as class numbers, by first appearance in the episode, so the
    observation does not identify the question.

    {observation_table}

    Every array has one axis, which is what RL libraries expect: ``plane.reshape(N, D)`` is the
    width × depth plane. Classes from the M-th on share the last class column; the vote itself is
    not limited. The confidence of a token is minus the mean log-probability of the 20 likeliest
    tokens at its position: high where the model is sure. The *generation confidence* of an interval
    is the mean over its tokens, and a probe reveals it for all intervals up to its depth. Where
    traces hold none, these two arrays are −1. The last two arrays exist if the traces hold
    confidences of probes; ``observation="compact"`` leaves out all planes. Intervals deeper than D
    are played and counted in the branch columns, but do not appear in the planes.

    ``observation="flat"`` gives one float32 array instead, scaled to about [−1, 1] and clipped to
    ±2, for learners that take a single ``Box``. ``env.unwrapped.flat_slices`` has its slices by
    name:

    {flat_table}

    ## Rewards
    ``−(1 − β) · c / C`` each step, and ``+ β`` at the end if the answer is correct. ``c`` is the
    change of visible spent (tokens; negative if a revealed end is cheaper than charged), corrected
    to the true cost in the last step. ``C`` is the expected number of tokens of N whole branches.
    An illegal action changes nothing and costs ``invalid_penalty``.

    With ``latency_weight`` w, ``−(1 − β) · ((1 − w) · c / C + w · l / L)``: ``l`` is the change of
    the visible clock, corrected to the true sequential tokens in the last step, and ``L`` is the
    expected length of the longest of N branches, tokens.

    ## Starting State
    ``reset`` draws a question, β and w (if ranges were given) and an order of the recorded
    branches. ``reset(options=...)`` fixes any of them: ``env`` (a name, if several are played),
    ``question`` (row or id), ``beta``, ``latency_weight``, ``branch_order`` (at least N distinct
    branch numbers). What options fix changes no other draw.

    Episodes are drawn by a counter-based generator: the counter is the number of the episode, and
    the key is drawn from ``np_random`` when ``reset`` is given a seed, or when another generator is
    assigned to ``np_random``. Functions given as ``beta`` or ``latency_weight`` receive
    ``np_random``.

    ## Episode End
    Terminated by `ANSWER` or `ANSWER(i)`; truncated after ``step_limit`` actions: the reward then
    includes the true cost, and the episode counts as answered wrongly.

    ## Information
    ``info`` has the same keys after ``reset``, after every step and at the end. The values are
    NumPy scalars, but for the mask. Those of the result have their initial value until the episode
    ends, because the true figures would reveal hidden lengths:

    {info_table}

    The last three keys exist with ``info_strings=True`` only. :meth:`answer_text` gives the answer
    of a class while the episode is the current one.

    ## Arguments
    * ``env``: a name (``autotts envs`` lists them), a path, a :class:`TraceStore`, or several of
      them, from which episodes draw. Pass names or paths to ``gym.make``: it copies its arguments.
    * ``beta``: a number in [0, 1], a range ``(low, high)`` from which each episode draws, or a
      function of a ``numpy.random.Generator`` that returns a number, which makes resets slower.
    * ``latency_weight``: w, as ``beta``; 0 by default. Unless it is always 0, ``globals`` has two
      more entries.
    * ``questions``: rows or ids of the questions to draw from, in every environment; all by
      default. ``reset`` options can name any question.
    * ``billing``: ``"tokens"``, the tokens generated, or ``"interval"``, every started interval in
      full.
    * ``max_branches``: N. Default 64, or the smallest number of branches of a question.
    * ``budget``: B in tokens, or None.
    * ``probe_tokens``: tokens that a probe costs, or ``"recorded"``: as recorded with each probe.
    * ``invalid_action``: ``"penalize"`` (with ``invalid_penalty``) or ``"raise"``.
    * ``auto_probe``: BRANCH and CONTINUE also probe. This halves the horizon, but waiting for every
      interval increases sequential tokens. The PROBE ids stay, and are never legal.
    * ``observation``: ``"full"``, ``"compact"`` (without the planes) or ``"flat"`` (one array).
    * ``max_depth``, ``max_classes``: D and M, for policies that must fit other environments; by
      default the depth of the deepest branch, and 64.
    * ``step_limit``: actions after which an episode is truncated; None by default, since
      self-consistency takes over 5,000 actions. ``max_episode_steps`` of ``gym.make`` and
      ``gym.make_vec`` truncates after calls of ``step``, without correcting the reward to the true
      cost and without a result.
    * ``info_strings``: whether ``info`` also holds the answer, the gold answer and the name of the
      environment. RL libraries cannot store strings.
    * ``render_mode``: ``"rgb_array"``, ``"human"`` or ``"ansi"``.

    ## Vectorized environment
    ``gym.make_vec("AutoTTS-v0", num_envs=..., vectorization_mode="vector_entry_point")`` steps
    many episodes in one compiled call; see
    :class:`autotts_gym.gym_envs.vector_env.AutoTTSVectorEnv`.

    ## Version History
    * v0: first version. Since version 0.2.0 of the package, the default of ``env`` is
      ``qwen2.5-coder-0.5b/problems``, with 32 branches; it was ``tinylm/medium/chain``, with 64.
    """

    __doc__ = (
        (__doc__ or "")
        .replace("{observation_table}", observed_arrays.table("    "))
        .replace("{flat_table}", flat_observation.table("    "))
        .replace("{info_table}", episode_info.table("    "))
    )

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium declares it like this
        "render_modes": ["human", "rgb_array", "ansi"],
        "render_fps": 15,
    }

    def __init__(
        self,
        env: Environment | Iterable[Environment] = registry.DEFAULT,
        *,
        render_mode: Literal["human", "rgb_array", "ansi"] | None = None,
        **options: Unpack[EnvOptions],
    ) -> None:
        self._set_up(EnvConfig(env, **options), render_mode)

    def _set_up(self, config: EnvConfig, render_mode: str | None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode must be one of {self.metadata['render_modes']}, got {render_mode!r}"
            )
        self.render_mode = render_mode
        self._config = config
        self._batch = config.batch(1)
        space, action_space = config.observation_space(), config.action_space()
        self.observation_space = space  # type: ignore[assignment] # a Dict of arrays
        self.action_space = action_space
        self._keys = () if config.flat else tuple(space)  # type: ignore[arg-type]
        self._action_count = int(action_space.n)
        self._seeded_by: np.random.Generator | None = None
        self._running = False
        self._last_action = ""
        self._initial_info: dict[str, Any] = {}
        self._window: Any = None
        self._revealed = None if render_mode is None else RevealedAnswers(self._batch)
        self._bind()

    def _bind(self) -> None:
        """Keep views of the batch's only episode: a step has no time to make them."""
        arrays = self._batch.observed()
        rows = [(key, arrays[key][0]) for key in self._keys]
        # A row that never changes is one number, broadcast: copies of a full array are faster.
        self._rows = [(k, row if row.flags.writeable else row.copy()) for k, row in rows]
        self._flat = self._batch.flat[0] if self._config.flat else None
        self._mask = self._batch.mask[0]
        self._ledger = self._batch.ledger[0]
        # Reading a number takes a memoryview half as long as an array.
        results: tuple[Any, ...] = (self._batch.outcomes, self._batch.rewards)
        self._results = [memoryview(array) for array in results]
        batch = self._batch
        self._costs = batch.costs, batch.token_costs, batch.latency_costs

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **dict.fromkeys(_NOT_COPIED)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see "Starting State".

        Raises:
            ValueError: a reset option is unknown or invalid.
        """
        super().reset(seed=seed)
        generator = self.np_random
        if generator is not self._seeded_by:
            self._batch.streams.seed(0, generator)
            self._seeded_by = generator
        self._config.start(self._batch, _ONLY, [generator], options)
        if self._revealed is not None:
            self._revealed.clear([0])
        self._running = True
        self._last_action = ""
        # A step copies this dictionary, which is faster than to build it. From one episode to the
        # next, two of its values change.
        if not self._initial_info:
            self._initial_info = _NO_STEP | self._episode_info()
        self._initial_info["beta"] = self._batch.info.beta[0]
        self._initial_info["latency_weight"] = self._batch.info.latency_weight[0]
        if self.render_mode == "human":
            self.render()
        return self._observe(), self._initial_info | {"action_mask": self._mask.copy()}

    def step(self, action: SupportsIndex) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play one action.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
            gymnasium.error.InvalidAction: the id is outside the action space, or the action is
                illegal and ``invalid_action="raise"``.
        """
        if not self._running:
            raise error.ResetNeeded("no episode is running: call reset() before step()")
        batch = self._batch
        number = operator.index(action)
        if not 0 <= number < self._action_count:
            raise error.InvalidAction(
                f"action {number} is outside {self.action_space}; see 'Action Space'"
            )
        if self._config.strict and not batch.mask[0, number]:
            raise error.InvalidAction(f"{self.describe(number)} is illegal here")
        self._play(number)
        outcomes, rewards = self._results
        outcome = outcomes[0]
        observed = self._observe()
        terminated = outcome & TERMINATED != 0
        truncated = outcome & TRUNCATED != 0
        info = self._initial_info.copy()
        info["action_mask"] = self._mask.copy()
        if outcome & ILLEGAL:
            info["invalid_action"] = _ONE
        costs, token_costs, latency_costs = self._costs
        info["cost"] = costs[0]
        info["token_cost"] = token_costs[0]
        info["latency_cost"] = latency_costs[0]
        if terminated or truncated:
            self._running = False
            info |= self._episode_info()
        if self._revealed is not None:
            self._revealed.update(batch)
            self._last_action = self.describe(number)
            if self.render_mode == "human":
                self.render()
        return observed, rewards[0], terminated, truncated, info

    def _observe(self) -> Observation:
        """The observation, float32[F] if it is flat."""
        if self._flat is None:
            return {key: row.copy() for key, row in self._rows}
        return self._flat.copy()  # type: ignore[no-any-return]

    @property
    def flat_slices(self) -> dict[str, slice]:
        """The slices of an observation with ``observation="flat"``, by name."""
        return self._config.flat_slices()

    def _play(self, action: int) -> None:
        self._batch.play(action)

    def _episode_info(self) -> dict[str, Any]:
        """The part of ``info`` that changes at the end of the episode only."""
        info = {key: column[0] for key, column in self._batch.info._asdict().items()}
        return info | self._batch.texts(0) if self._config.info_strings else info

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions, bool[2 + 4N], in the form that sb3-contrib expects.

        Raises:
            gymnasium.error.ResetNeeded: there was no reset yet.
        """
        if not self._ledger["interval"]:
            raise error.ResetNeeded("no action is legal yet: call reset() before action_masks()")
        legal: NDArray[np.bool_] = self._batch.mask[0].astype(np.bool_)
        return legal

    def describe(self, action: int) -> str:
        """Name of an action id, such as ``"CONTINUE(3)"``."""
        return self._config.describe(action)

    def render(self) -> Any:
        """Render the current state in the render mode.

        Returns:
            uint8[H, W, 3] for ``"rgb_array"``, a string for ``"ansi"``, None for ``"human"``.
        """
        from autotts_gym.gym_envs import rendering

        if self.render_mode is None:
            gym.logger.warn(
                "render() does nothing without a render mode; choose one with "
                'gym.make("AutoTTS-v0", render_mode="rgb_array")'
            )
            return None
        scene = self.scene()
        if self.render_mode == "ansi":
            return rendering.render_ansi(scene)
        frame = rendering.render_image(scene)
        if self.render_mode == "rgb_array":
            return frame
        if self._window is None:
            self._window = rendering.Window()
        self._window.show(frame)
        return None

    def scene(self) -> Scene:
        """The current state as :mod:`autotts_gym.gym_envs.rendering` draws it.

        Raises:
            ValueError: the environment has no render mode.
        """
        if self._revealed is None:
            raise ValueError("scene() needs a render mode: pass render_mode to gym.make")
        return scene_of(self._batch, 0, self._revealed, self._last_action)

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._window is not None:
            self._window.close()
            self._window = None
