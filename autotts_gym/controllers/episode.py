"""The episode: what a controller observes, and how it acts.

A controller is a function ``solve(episode, beta)``, or ``solve(episode)`` if it ignores β. It plays
one episode and ends it with ``episode.answer()``::

    def solve(episode, beta):
        first = episode.branch()                     # BRANCH
        episode.extend(first)                        # CONTINUE(first)
        answer, finished = episode.probe(first)      # PROBE(first)
        return episode.answer(first)                 # ANSWER(first)

:class:`Episode` wraps a Gymnasium environment; its actions call ``env.step``. For controllers
within numba's subset of Python, bulk rollouts compile the controller together with the rules, and
:mod:`autotts_gym.controllers.compiled_episode` offers the same methods there. Answers are class
numbers everywhere: 0, 1, … by first appearance in the episode, -1 for none. Hidden from a
controller: the gold answer, the true costs, and where a branch ends before a probe reveals it.

A controller can record numbers of its own, which ``autotts play`` and reports show::

        episode.note("confidence", share)            # any name, any number

A note does not affect the episode. In compiled code, it is removed.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final

from autotts_gym.controllers.errors import IllegalActionError, StepLimitError
from autotts_gym.mdp import actions
from autotts_gym.mdp.fields import OPENED

if TYPE_CHECKING:  # the sandbox imports this module, and must not load Gymnasium
    import gymnasium as gym

#: Value of :attr:`Episode.remaining` without a budget.
NO_BUDGET: Final = -1


class Episode:
    """A running episode of a Gymnasium environment, for a controller.

    Args:
        env: an environment with the spaces of ``AutoTTS-v0``, wrapped or not.
        observation: the observation that ``env.reset`` returned.

    Attributes:
        max_branches: maximum number of branches.
        info: ``info`` of the latest step; after the last step, it holds the episode's result. This
            attribute and those below are not available in compiled code.
        ended: whether the episode has ended.
        facts: ``env.unwrapped``.
        log: int32, ids of the actions so far, see :mod:`autotts_gym.mdp.actions`.
        notes: the recorded notes: (number of actions before the note, name, value).

    Raises:
        ValueError: the environment probes automatically, or has other observations.
    """

    def __init__(self, env: gym.Env[Any, Any], observation: dict[str, Any]) -> None:
        if env.get_wrapper_attr("auto_probe"):
            raise ValueError("controllers probe explicitly: play them with auto_probe=False")
        if not isinstance(observation, dict) or "branch_status" not in observation:
            raise ValueError(
                'controllers play AutoTTS-v0 or AutoTTS-Live-v0 with observation="full" or '
                '"compact"'
            )
        self._env = env
        self.facts = env.unwrapped
        self._observation = observation
        self._mask = observation["action_mask"]
        self.max_branches = len(observation["branch_status"])
        self.info: dict[str, Any] = {}
        self.ended = False
        self.log = array("i")
        self.notes: list[tuple[int, str, float]] = []

    def _act(self, action: int) -> None:
        if self.ended or not self._mask[action]:
            name = actions.decode(action, self.max_branches)
            why = "the episode has ended" if self.ended else "see 'Action Space' of AutoTTS-v0"
            raise IllegalActionError(f"{name} is illegal here: {why}")
        self._observation, _, terminated, truncated, self.info = self._env.step(action)
        self._mask = self._observation["action_mask"]
        self.log.append(action)
        self.ended = terminated or truncated
        if truncated:
            raise StepLimitError("the episode was truncated by its step limit")

    def _check_branch(self, i: int) -> int:
        if not 0 <= i < self.max_branches:
            raise IllegalActionError(f"there is no branch {i}")
        return i

    def _action_id(self, block: int, i: int) -> int:
        return actions.action_id(block, self._check_branch(i), self.max_branches)

    # --- actions ---------------------------------------------------------------------------------

    def branch(self) -> int:
        """BRANCH: open the next branch, request its first interval, return its index."""
        self._act(actions.BRANCH)
        return self.opened - 1

    def extend(self, i: int) -> None:
        """CONTINUE(i): request one more interval of branch ``i``, without waiting for it."""
        self._act(self._action_id(actions.CONTINUE, i))

    def extend_fully(self, i: int) -> int:
        """CONTINUE(i) for as long as it is legal; returns how many intervals were requested.

        Equals ``while can_extend(i): extend(i)``, but takes the same time for any number of
        intervals in compiled code.
        """
        count = 0
        while self.can_extend(i):
            self.extend(i)
            count += 1
        return count

    def read(self, i: int) -> tuple[int, bool]:
        """Read branch ``i`` to its end: :meth:`extend_fully`, then PROBE(i) if it is legal.

        Returns:
            The branch's latest answer, and whether it is finished. It is, unless the budget or a
            pruning has stopped it.
        """
        self._check_branch(i)
        self.extend_fully(i)
        if self.can_probe(i):
            self.probe(i)
        return self.latest(i), self.finished(i)

    def probe(self, i: int) -> tuple[int, bool]:
        """PROBE(i): wait for branch ``i``; returns (current answer, whether it is finished)."""
        self._act(self._action_id(actions.PROBE, i))
        return self.latest(i), self.finished(i)

    def prune(self, i: int) -> None:
        """PRUNE(i): stop branch ``i``; it no longer votes."""
        self._act(self._action_id(actions.PRUNE, i))

    def answer(self, i: int = -1) -> None:
        """ANSWER(i): end with branch ``i``'s latest answer; by default, with the plurality."""
        self._act(actions.ANSWER if i < 0 else self._action_id(actions.ANSWER_BRANCH, i))

    def extend_all(self) -> int:
        """CONTINUE every branch that can be extended, in branch order; returns how many."""
        return sum(self._each(self.can_extend, self.extend))

    def probe_all(self) -> int:
        """PROBE every branch that can be probed, in branch order; returns how many."""
        return sum(self._each(self.can_probe, self.probe))

    def _each(self, can: Any, act: Any) -> Any:
        for i in range(self.opened):
            if can(i):
                act(i)
                yield 1

    def note(self, name: str, value: float) -> None:
        """Record a number, which ``autotts play`` and reports show. Does not affect the episode.

        Args:
            name: name of the number, the same throughout the episode. Use a literal string: with
                one, the call costs nothing in compiled code.
            value: a number, in any unit.
        """
        self.notes.append((len(self.log), name, float(value)))

    # --- legal actions ---------------------------------------------------------------------------

    def can_branch(self) -> bool:
        """Whether fewer than ``max_branches`` are opened, and the budget covers an interval."""
        return not self.ended and bool(self._mask[actions.BRANCH])

    def can_extend(self, i: int) -> bool:
        """Whether branch ``i`` is active, below the depth limit and not known to be finished."""
        return self._can(actions.CONTINUE, i)

    def can_probe(self, i: int) -> bool:
        """Whether branch ``i`` is active, and not yet probed at its current depth."""
        return self._can(actions.PROBE, i)

    def can_prune(self, i: int) -> bool:
        """Whether branch ``i`` is active."""
        return self._can(actions.PRUNE, i)

    def can_answer(self, i: int) -> bool:
        """Whether branch ``i`` was probed, so that it has an answer."""
        return self._can(actions.ANSWER_BRANCH, i)

    def _can(self, block: int, i: int) -> bool:
        """False after the end of the episode, and for indices that are not branches."""
        if self.ended or not 0 <= i < self.max_branches:
            return False
        return bool(self._mask[actions.action_id(block, i, self.max_branches)])

    # --- state of a branch -----------------------------------------------------------------------

    def active(self, i: int) -> bool:
        """Whether branch ``i`` is open and not pruned (finished branches are active)."""
        return bool(self._observation["branch_status"][self._check_branch(i)] == 1)

    def depth(self, i: int) -> int:
        """Requested depth of branch ``i``, intervals."""
        return int(self._observation["branch_requested"][self._check_branch(i)])

    def revealed(self, i: int) -> int:
        """Depth of branch ``i``'s latest probe, intervals; 0 before the first."""
        return int(self._observation["branch_revealed"][self._check_branch(i)])

    def latest(self, i: int) -> int:
        """Answer class of branch ``i``'s latest probe; -1 before the first."""
        return int(self._observation["branch_latest"][self._check_branch(i)])

    def finished(self, i: int) -> bool:
        """Whether a probe has revealed that branch ``i`` is finished."""
        return bool(self._observation["branch_finished"][self._check_branch(i)])

    def confidence(self, i: int) -> float:
        """Confidence of branch ``i``'s latest probe; -1 before the first, or if not recorded."""
        i = self._check_branch(i)
        confidences = self._observation.get("branch_confidence")
        return -1.0 if confidences is None else float(confidences[i])

    def generation_confidence(self, i: int, window: int | None = None) -> float:
        """Mean confidence of the tokens of branch ``i``'s latest revealed intervals.

        The confidence of a token is minus the mean log-probability of the 20 likeliest tokens at
        its position (DeepConf, arXiv 2508.15260): high where the model is sure. A probe reveals it
        for all intervals up to its depth. Intervals without recorded confidences are passed over.

        Args:
            i: number of the branch.
            window: number of intervals, the last of a finished branch included; None or 0 for all
                that are revealed, and fewer if not as many are.

        Returns:
            The mean over the window's tokens; -1 before the first probe, or if not recorded.

        Raises:
            ValueError: the window is negative.
        """
        return float(self.facts.generation_confidence(self._check_branch(i), window))  # type: ignore[attr-defined]

    def lowest_confidence(self, i: int, window: int | None = None) -> float:
        """Lowest :meth:`generation_confidence` of ``window`` consecutive intervals of branch ``i``.

        Full windows count, wherever they are in the revealed part of the branch. The last interval
        of a finished branch can be short, and is in none. A branch shorter than a window counts
        with the mean over all of its revealed tokens.

        Args:
            i: number of the branch.
            window: number of intervals; None or 0 for all, which is the mean over all tokens.

        Returns:
            The lowest mean; -1 before the first probe, or if no confidences are recorded.

        Raises:
            ValueError: the window is negative.
        """
        return float(self.facts.lowest_confidence(self._check_branch(i), window))  # type: ignore[attr-defined]

    def is_null(self, answer: int) -> bool:
        """Whether an answer class is a null answer."""
        return bool(self.facts.is_null(answer))  # type: ignore[attr-defined]

    # --- state of the episode --------------------------------------------------------------------

    @property
    def opened(self) -> int:
        """Number of branches opened so far."""
        return int(self._observation["globals"][OPENED])

    @property
    def interval(self) -> int:
        """Length Δ of an interval, tokens."""
        return int(self.facts.interval)  # type: ignore[attr-defined]

    @property
    def depth_limit(self) -> int:
        """Maximum depth of a branch in this environment, intervals."""
        return int(self.facts.depth_limit)  # type: ignore[attr-defined]

    @property
    def mean_tokens(self) -> float:
        """Mean tokens of a whole branch in this environment, over all of its questions."""
        return float(self.facts.mean_tokens)  # type: ignore[attr-defined]

    @property
    def latency_weight(self) -> float:
        """Weight w of sequential tokens in the cost of this episode, in [0, 1]."""
        return float(self.facts.latency_weight)  # type: ignore[attr-defined]

    @property
    def has_generation_confidence(self) -> bool:
        """Whether this environment records generation confidences."""
        return bool(self.facts.has_generation_confidence)  # type: ignore[attr-defined]

    @property
    def spent(self) -> int:
        """Visible total tokens so far: Δ per requested interval until a probe reveals the end."""
        return int(self.facts.spent)  # type: ignore[attr-defined]

    @property
    def clock(self) -> int:
        """Visible sequential tokens so far, counted as in :attr:`spent`."""
        return int(self.facts.clock)  # type: ignore[attr-defined]

    @property
    def remaining(self) -> int:
        """Remaining budget, tokens; -1 without a budget."""
        budget = self.facts.budget  # type: ignore[attr-defined]
        return NO_BUDGET if budget is None else max(budget - self.spent, 0)
