"""``AutoTTS-v0``: test-time scaling over recorded traces, one episode at a time."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import gymnasium as gym
import numpy as np
from gymnasium import error
from numpy.typing import NDArray

from autotts_gym.gym_envs.env_config import EnvConfig, Environment
from autotts_gym.mdp import actions, observation
from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch import ILLEGAL, TERMINATED, TRUNCATED, Batch
from autotts_gym.traces import registry

if TYPE_CHECKING:
    from autotts_gym.gym_envs.rendering import Scene
    from autotts_gym.mdp.observation import View

Observation = dict[str, NDArray[Any]]


class AutoTTSEnv(gym.Env[Observation, np.int64]):
    """Test-time scaling as a decision process, replayed from recorded reasoning traces.

    ## Description
    A question is put to a language model that stays fixed. The agent decides how inference
    compute is spent on it: open another reasoning branch (width), let one run for another
    interval of Δ tokens (depth), probe what a branch would answer now, prune one, or stop and
    answer. Every branch was sampled from a real model beforehand, so an episode costs no model
    call and the same decisions always have the same outcome. After AutoTTS (arXiv 2605.08083,
    sections 3 and 4). ``docs/process.md`` has the rules in full.

    ## Action Space
    ``Discrete(2 + 4 N)`` with ``N = max_branches``:

    | Id         | Action        | Legal when                                                 |
    |------------|---------------|------------------------------------------------------------|
    | 0          | `ANSWER`      | always: the plurality of active branches' latest answers   |
    | 1          | `BRANCH`      | fewer than N are open, and the budget covers an interval   |
    | 2 + i      | `CONTINUE(i)` | i active, not known finished, above the depth limit; budget |
    | 2 + N + i  | `PROBE(i)`    | i active, this depth not yet probed; budget                |
    | 2 + 2N + i | `PRUNE(i)`    | i active                                                   |
    | 2 + 3N + i | `ANSWER(i)`   | i has a revealed answer (pruned or not)                    |

    Legality is told by ``observation["action_mask"]``, ``info["action_mask"]`` and
    :meth:`action_masks`.

    ## Observation Space
    A flat ``Dict``; D is ``max_depth``, M is ``max_classes``. Answers appear as class numbers, by
    first appearance in the episode, so that nothing of the question leaks.

    | Key                | Dtype, shape    | Bounds   | Values                                 |
    |--------------------|-----------------|----------|----------------------------------------|
    | `plane`            | int16 (N · D,)  | ≥ −1     | at i · D + k, the class that branch i  |
    |                    |                 |          | showed after interval k + 1; −1 none   |
    | `branch_status`    | int16 (N,)      | 0..2     | 0 unopened, 1 active, 2 pruned         |
    | `branch_requested` | int16 (N,)      | ≥ 0      | requested depth, intervals             |
    | `branch_revealed`  | int16 (N,)      | ≥ 0      | depth of the latest probe, intervals   |
    | `branch_latest`    | int16 (N,)      | ≥ −1     | class of the latest probe; −1 none     |
    | `branch_finished`  | int16 (N,)      | 0..1     | 1 once its end was revealed            |
    | `class_votes`      | int16 (M,)      | 0..N     | active branches with this latest class |
    | `class_null`       | int16 (M,)      | 0..1     | 1 for a null answer                    |
    | `globals`          | float32 (5,)    | 0..10^6  | branches opened;                       |
    |                    |                 | 0..10^6  | visible spent, in units of C;          |
    |                    |                 | −1..10^6 | remaining budget, in C; −1 no budget;  |
    |                    |                 | 0..10^6  | visible clock, in units of C;          |
    |                    |                 | 0..1     | β                                      |
    | `action_mask`      | int8 (2 + 4N,)  | 0..1     | 1 where an action is legal             |
    | `branch_confidence`| float32 (N,)    | −1..10^6 | of the latest probe; −1 none           |
    | `confidence_plane` | float32 (N · D,)| −1..10^6 | of every probe, as `plane`; −1 none    |

    Every array has one axis, as learners like it: ``plane.reshape(N, D)`` is the width × depth
    plane. Classes from the M-th on share the last class column; voting itself is never capped.
    The last two exist where the traces hold confidences; both planes are left out with
    ``observation="compact"``. Intervals deeper than D are played and appear in `branches`, but
    have no column in the planes.

    ## Rewards
    ``−(1 − β) · c / C`` each step, and ``+ β`` at the end if the answer is right. ``c`` is the
    change of visible spent (tokens; negative when a branch's end is revealed to be cheaper than
    charged), settled to the true cost in the last step, and ``C`` the expected tokens of reading
    N whole branches. An illegal action changes nothing and costs ``invalid_penalty``.

    ## Starting State
    ``reset`` draws a question, β (where a range was given) and an order of the recorded branches.
    ``reset(options=...)`` fixes any of them: ``env`` (name, where several are played),
    ``question`` (row or id), ``beta``, ``branch_order`` (at least N distinct branch numbers).

    ## Episode End
    Terminated by `ANSWER` or `ANSWER(i)`; truncated after ``step_limit`` actions (the cost is
    settled, and it counts as a wrong answer).

    ## Information
    Every step: ``action_mask``, ``invalid_action`` (bool) and ``cost`` (``c / C``). The last one
    also: ``correct``, ``answer``, ``gold``, ``tokens`` and ``sequential_tokens`` (true figures),
    ``steps`` (actions, illegal ones included), ``probes`` (looks, those of ``auto_probe``
    included), ``env``, ``question`` (row), ``beta``, and the two parts of the return,
    ``accuracy_reward`` (0 or 1) and ``cost_reward`` (−true cost / C).

    ## Arguments
    * ``env``: a name (``autotts envs`` lists them), a path, a :class:`TraceStore`, or several:
      episodes then draw from all of them. Give ``gym.make`` names or paths only, since it copies
      its arguments.
    * ``beta``: a number in [0, 1], a range ``(low, high)`` from which each episode draws, or a
      function of a ``numpy.random.Generator`` that draws one.
    * ``questions``: rows or ids of the questions that are drawn from, in every environment; all by
      default. ``reset`` can still ask for any.
    * ``billing``: ``"tokens"``, what was generated, or ``"interval"``, every started one in full.
    * ``max_branches``: N.
    * ``budget``: B in tokens, or None.
    * ``probe_tokens``: what a probe costs, tokens, or ``"recorded"``: what the traces say.
    * ``invalid_action``: ``"penalize"`` (with ``invalid_penalty``) or ``"raise"``.
    * ``auto_probe``: BRANCH and CONTINUE also probe: half the horizon, but looking after every
      interval serialises the clock. The PROBE ids stay, masked.
    * ``observation``: ``"full"`` or ``"compact"`` (without the planes).
    * ``max_depth``, ``max_classes``: D and M, for policies that must fit other environments; by
      default the deepest branch there is, and 64.
    * ``step_limit``: truncates; None by default, for self-consistency takes over 5,000 actions.
      (``max_episode_steps`` of ``gym.make`` cuts off from outside: nothing is settled then.)
    * ``render_mode``: ``"rgb_array"``, ``"human"`` or ``"ansi"``.

    ## Vectorized environment
    ``gym.make_vec("AutoTTS-v0", num_envs=..., vectorization_mode="vector_entry_point")`` plays
    many episodes in one compiled call; see :class:`autotts_gym.gym_envs.vector_env.AutoTTSVectorEnv`.

    ## Version History
    * v0: first version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by gymnasium
        "render_modes": ["human", "rgb_array", "ansi"],
        "render_fps": 15,
    }

    def __init__(
        self,
        env: Environment | Iterable[Environment] = registry.DEFAULT,
        *,
        render_mode: Literal["human", "rgb_array", "ansi"] | None = None,
        **setting: Any,
    ) -> None:
        self._set_up(EnvConfig(env, **setting), render_mode)

    def _set_up(self, setting: EnvConfig, render_mode: str | None) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode must be one of {self.metadata['render_modes']}, got {render_mode!r}"
            )
        self.render_mode = render_mode
        self._setting = setting
        self._batch = self._setting.batch(1)
        space, actions = self._setting.observation_space(), self._setting.action_space()
        self.observation_space = space  # type: ignore[assignment] # a Dict of arrays
        self.action_space = actions
        self._keys = tuple(space.spaces)
        self._action_count = int(actions.n)
        self._running = False
        self._last_action = ""
        self._window: Any = None
        self._trail = None if render_mode is None else Trail(self._batch)
        self._bind()

    def _bind(self) -> None:
        """Views of the batch's only row, made once: a step has no time for it."""
        arrays = observation.by_key(self._batch.view)
        self._rows = [(key, arrays[key][0]) for key in self._keys]
        self._ledger = self._batch.ledger[0]

    def __getstate__(self) -> dict[str, Any]:
        unshared = {"_rows": None, "_ledger": None, "_window": None}
        return {**self.__dict__, **unshared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see "Starting State".

        Raises:
            ValueError: an option is unknown, or not among what can be played.
        """
        super().reset(seed=seed)
        self._batch.reset([0], [self._setting.draw(self.np_random, options)])
        if self._trail is not None:
            self._trail.clear([0])
        self._running = True
        self._last_action = ""
        if self.render_mode == "human":
            self.render()
        found = {key: row.copy() for key, row in self._rows}
        return found, {"action_mask": found["action_mask"]}

    def step(self, action: SupportsIndex) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play one action.

        Raises:
            gymnasium.error.ResetNeeded: there is no running episode.
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
        if self._setting.strict and not self._batch.view.mask[0, number]:
            raise error.InvalidAction(f"{self.describe(number)} is illegal here")
        self._play(number)
        outcome = batch.outcomes.item(0)
        found = {key: row.copy() for key, row in self._rows}
        info = {
            "action_mask": found["action_mask"],
            "invalid_action": outcome & ILLEGAL != 0,
            "cost": batch.costs.item(0),
        }
        terminated = outcome & TERMINATED != 0
        truncated = outcome & TRUNCATED != 0
        if terminated or truncated:
            self._running = False
            info |= self._result()
        if self._trail is not None:
            self._trail.follow(batch)
            self._last_action = self.describe(number)
            if self.render_mode == "human":
                self.render()
        return found, batch.rewards.item(0), terminated, truncated, info

    def _play(self, action: int) -> None:
        self._batch.actions[0] = action
        self._batch.step()

    def _result(self) -> dict[str, Any]:
        """What is told of an episode that has ended."""
        return self._batch.result(0)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions are legal, bool[2 + 4N], as sb3-contrib asks for it."""
        legal: NDArray[np.bool_] = self._batch.view.mask[0].astype(np.bool_)
        return legal

    def describe(self, action: int) -> str:
        """The name of an action id, like ``"CONTINUE(3)"``."""
        return str(actions.decode(action, self.max_branches))

    def render(self) -> Any:
        """The present moment in the mode that was chosen: an image, a text, or a window.

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
        moment = self.scene()
        if self.render_mode == "ansi":
            return rendering.render_ansi(moment)
        frame = rendering.render_image(moment)
        if self.render_mode == "rgb_array":
            return frame
        if self._window is None:
            self._window = rendering.Window()
        self._window.show(frame)
        return None

    def scene(self) -> Scene:
        """The present moment as :mod:`autotts_gym.gym_envs.rendering` draws it; needs a render mode."""
        if self._trail is None:
            raise ValueError("nothing is kept to be drawn: make the environment with a render_mode")
        return scene(self._batch, 0, self._trail, self._last_action)

    def close(self) -> None:
        """Close the window, where one is open."""
        if self._window is not None:
            self._window.close()
            self._window = None

    # --- the visible state, in tokens and branches -----------------------------------------------

    @property
    def max_branches(self) -> int:
        """N, the widest that an episode can get, branches."""
        return self._setting.terms.max_branches

    @property
    def interval(self) -> int:
        """Δ of the environment that is played, tokens."""
        return int(self._ledger[s.INTERVAL])

    @property
    def mean_length(self) -> float:
        """Mean length of the environment's branches, intervals; C is N times that, in tokens."""
        return float(self._batch.mean_lengths(np.zeros(1, np.int64))[0])

    @property
    def view(self) -> View:
        """The arrays behind the observation, with a leading axis of one episode; not copied."""
        return self._batch.view

    @property
    def depth_limit(self) -> int:
        """Deepest branch of the environment that is played, intervals."""
        return int(self._ledger[s.DEPTH_LIMIT])

    @property
    def budget(self) -> int | None:
        """B, tokens, or None."""
        return self._setting.terms.budget

    @property
    def auto_probe(self) -> bool:
        """Whether BRANCH and CONTINUE also probe."""
        return self._setting.terms.auto_probe

    @property
    def beta(self) -> float:
        """β of this episode."""
        return self._batch.beta(0)

    @property
    def spent(self) -> int:
        """Visible spent, tokens: charged, and reconciled where an end was revealed."""
        return int(self._ledger[s.SPENT])

    @property
    def clock(self) -> int:
        """Visible clock, tokens."""
        return int(self._ledger[s.CLOCK])

    def answer_text(self, answer: int) -> str:
        """The answer behind a class of this episode; empty for -1."""
        if not -1 <= answer < self._ledger[s.CLASSES]:
            raise ValueError(f"there is no answer class {answer} in this episode")
        return self._batch.answer_text(0, answer)

    @contextlib.contextmanager
    def billed_by_tokens(self) -> Iterator[None]:
        """Bill branches that are opened meanwhile by ``"tokens"``, whatever ``billing`` is.

        A branch's billing is fixed when it is opened; published programs mix the two.
        """
        agreed = int(self._ledger[s.BILLING])
        self._ledger[s.BILLING] = s.BY_TOKENS
        try:
            yield
        finally:
            self._ledger[s.BILLING] = agreed

    def is_null(self, answer: int) -> bool:
        """Whether a class of this episode means that a probe found no answer."""
        if not 0 <= answer < self._ledger[s.CLASSES]:
            return False
        flag = self._ledger[s.NULLS] + self._batch.codes[0, s.CODE_OF, answer]
        return bool(self._setting.replay.traces.nulls[flag])


class Trail:
    """Every answer that was revealed, for rendering: observations may leave the plane out."""

    def __init__(self, batch: Batch) -> None:
        episodes, width, _ = batch.branches.shape
        self.plane = np.full((episodes, width, batch.replay.depth), -1, np.int16)

    def clear(self, episodes: list[int]) -> None:
        """These episodes start anew."""
        self.plane[episodes] = -1

    def follow(self, batch: Batch) -> None:
        """Note what a step has revealed."""
        e, i = np.nonzero(batch.branches[:, :, s.REVEALED])
        at = batch.branches[e, i]
        self.plane[e, i, at[:, s.REVEALED] - 1] = at[:, s.LATEST]


def scene(batch: Batch, e: int, trail: Trail, last_action: str) -> Scene:
    """What :mod:`autotts_gym.gym_envs.rendering` draws of episode ``e`` of a batch.

    Raises:
        gymnasium.error.ResetNeeded: there was no episode yet.
    """
    from autotts_gym.gym_envs.rendering import Scene

    if not batch.ledger[e, s.INTERVAL]:
        raise error.ResetNeeded("there is nothing to render yet: call reset() before render()")
    replay, ledger = batch.replay, batch.ledger[e]
    columns = batch.branches[e, :, : s.OBSERVED]
    store, question = replay.locate(int(ledger[s.QUESTION]))
    nulls = replay.stores[store].tables.nulls[question]
    classes = range(int(ledger[s.CLASSES]))
    outcome = ""
    if ledger[s.ENDED]:
        result = batch.result(e)
        outcome = f"answered {result['answer'] or 'nothing'}"
        if result["correct"] is not None:
            outcome += ": right" if result["correct"] else f": wrong ({result['gold']})"
        if batch.outcomes[e] & TRUNCATED:
            outcome = "cut off by the step limit"
    return Scene(
        plane=trail.plane[e],
        status=columns[:, s.STATUS],
        requested=columns[:, s.REQUESTED],
        latest=columns[:, s.LATEST],
        finished=columns[:, s.FINISHED],
        nulls=[nulls[batch.codes[e, s.CODE_OF, c]] for c in classes],
        labels=[batch.answer_text(e, c) for c in classes],
        depth_limit=int(ledger[s.DEPTH_LIMIT]),
        spent=int(ledger[s.SPENT]),
        clock=int(ledger[s.CLOCK]),
        budget=batch.terms.budget,
        beta=batch.beta(e),
        last_action=last_action,
        outcome=outcome,
        title=f"{replay.names[store]}, question {question}",
    )
