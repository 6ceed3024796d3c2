"""The episode handle: what a controller sees of an episode, and how it acts on it.

A controller is a function ``solve(episode, beta)`` (or ``solve(episode)``, where it has no knob)
that plays one episode through a handle and ends it with ``episode.answer()``::

    def solve(episode, beta):
        first = episode.branch()                     # BRANCH
        episode.extend(first)                        # CONTINUE(first)
        answer, finished = episode.probe(first)      # PROBE(first)
        return episode.answer(first)                 # ANSWER(first)

:class:`Episode` is the handle over a Gymnasium environment: its acting methods *are*
``env.step``. Where a controller stays within numba's subset of Python, evaluation in bulk
compiles it together with the rules, and :mod:`autotts_gym.controllers.compiled_episode` offers the same
handle there. Answers are class numbers (by first appearance in the episode, -1 for none) on
every path; nothing of the gold answer, of ends not yet revealed, or of true bills can be seen.

A controller can tell what it thinks, for those who watch an episode::

        episode.note("confidence", share)            # any name, any number

A note changes nothing of the episode and costs nothing: where it is compiled, it is left out.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final

from autotts_gym.controllers.errors import IllegalActionError, StepLimitError
from autotts_gym.mdp import actions
from autotts_gym.mdp.fields import OPENED

if TYPE_CHECKING:  # a sandbox plays through this handle, and loads no more than it must
    import gymnasium as gym

NO_BUDGET: Final = -1


class Episode:
    """A running episode of a Gymnasium environment, seen by a controller.

    Args:
        env: an environment with ``AutoTTS-v0``'s spaces, wrapped or not.
        observation: what its ``reset`` returned.

    Attributes:
        max_branches: the most branches that can be opened.
        info: of the latest step; that of the last one has the episode's result.
        ended: whether the episode is over.
        facts: the environment itself, without wrappers; not there in compiled code.
        log: int32, the ids of the actions that were taken, see :mod:`autotts_gym.mdp.actions`.
        notes: what the controller noted: how many actions it had taken by then, the name, the
            value. Neither is there in compiled code.
    """

    def __init__(self, env: gym.Env[Any, Any], observation: dict[str, Any]) -> None:
        if env.get_wrapper_attr("auto_probe"):
            raise ValueError("controllers probe for themselves: play them with auto_probe=False")
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

    def _known(self, i: int) -> int:
        if not 0 <= i < self.max_branches:
            raise IllegalActionError(f"there is no branch {i}")
        return i

    def _id(self, block: int, i: int) -> int:
        return actions.action_id(block, self._known(i), self.max_branches)

    # --- acting ----------------------------------------------------------------------------------

    def branch(self) -> int:
        """BRANCH: open the next branch, request its first interval, return its index."""
        self._act(actions.BRANCH)
        return self.opened - 1

    def extend(self, i: int) -> None:
        """CONTINUE(i): request one more interval of branch ``i``; does not wait for it."""
        self._act(self._id(actions.CONTINUE, i))

    def probe(self, i: int) -> tuple[int, bool]:
        """PROBE(i): wait for branch ``i``; its answer there, and whether it is finished."""
        self._act(self._id(actions.PROBE, i))
        return self.latest(i), self.finished(i)

    def prune(self, i: int) -> None:
        """PRUNE(i): branch ``i`` neither votes nor grows any more."""
        self._act(self._id(actions.PRUNE, i))

    def answer(self, i: int = -1) -> None:
        """ANSWER(i): end with branch ``i``'s latest answer; without ``i``, with the plurality."""
        self._act(actions.ANSWER if i < 0 else self._id(actions.ANSWER_BRANCH, i))

    def extend_all(self) -> int:
        """CONTINUE every branch for which that is legal, in branch order; returns how many."""
        return sum(self._each(self.can_extend, self.extend))

    def probe_all(self) -> int:
        """PROBE every branch for which that is legal, in branch order; returns how many."""
        return sum(self._each(self.can_probe, self.probe))

    def _each(self, can: Any, act: Any) -> Any:
        for i in range(self.opened):
            if can(i):
                act(i)
                yield 1

    # --- telling ---------------------------------------------------------------------------------

    def note(self, name: str, value: float) -> None:
        """Tell those who watch what a figure of the controller's own is now.

        Args:
            name: what the figure is called, the same at every moment; a literal string keeps the
                call free in compiled code.
            value: a number, in whatever unit the controller has it.
        """
        self.notes.append((len(self.log), name, float(value)))

    # --- what is legal ---------------------------------------------------------------------------

    def can_branch(self) -> bool:
        """Whether fewer than ``max_branches`` are open, and the budget covers an interval."""
        return not self.ended and bool(self._mask[actions.BRANCH])

    def can_extend(self, i: int) -> bool:
        """Whether branch ``i`` is active, not known to be finished, and can be read deeper."""
        return self._can(actions.CONTINUE, i)

    def can_probe(self, i: int) -> bool:
        """Whether branch ``i`` is active, and was not yet probed at this depth."""
        return self._can(actions.PROBE, i)

    def can_prune(self, i: int) -> bool:
        """Whether branch ``i`` is active."""
        return self._can(actions.PRUNE, i)

    def can_answer(self, i: int) -> bool:
        """Whether branch ``i`` has shown an answer."""
        return self._can(actions.ANSWER_BRANCH, i)

    def _can(self, block: int, i: int) -> bool:
        """Nothing is legal after the end, nor on a branch that there cannot be."""
        if self.ended or not 0 <= i < self.max_branches:
            return False
        return bool(self._mask[actions.action_id(block, i, self.max_branches)])

    # --- what is seen of a branch ----------------------------------------------------------------

    def active(self, i: int) -> bool:
        """Whether branch ``i`` is open and not pruned (finished ones are active)."""
        return bool(self._observation["branch_status"][self._known(i)] == 1)

    def depth(self, i: int) -> int:
        """Requested depth, intervals."""
        return int(self._observation["branch_requested"][self._known(i)])

    def revealed(self, i: int) -> int:
        """Depth of the latest probe, intervals; 0 before the first."""
        return int(self._observation["branch_revealed"][self._known(i)])

    def latest(self, i: int) -> int:
        """Class of the latest probe, -1 before the first."""
        return int(self._observation["branch_latest"][self._known(i)])

    def finished(self, i: int) -> bool:
        """Whether a probe has shown the branch's end."""
        return bool(self._observation["branch_finished"][self._known(i)])

    def confidence(self, i: int) -> float:
        """Recorded confidence of the latest probe; -1 without one."""
        i = self._known(i)
        confidences = self._observation.get("branch_confidence")
        return -1.0 if confidences is None else float(confidences[i])

    def is_null(self, answer: int) -> bool:
        """Whether a class means that the probe found no answer."""
        return bool(self.facts.is_null(answer))  # type: ignore[attr-defined]

    # --- what is seen of the whole ---------------------------------------------------------------

    @property
    def opened(self) -> int:
        """Branches opened so far."""
        return int(self._observation["globals"][OPENED])

    @property
    def interval(self) -> int:
        """Δ, tokens."""
        return int(self.facts.interval)  # type: ignore[attr-defined]

    @property
    def depth_limit(self) -> int:
        """Deepest branch of the environment, intervals."""
        return int(self.facts.depth_limit)  # type: ignore[attr-defined]

    @property
    def spent(self) -> int:
        """Visible spent, tokens."""
        return int(self.facts.spent)  # type: ignore[attr-defined]

    @property
    def clock(self) -> int:
        """Visible clock, tokens."""
        return int(self.facts.clock)  # type: ignore[attr-defined]

    @property
    def remaining(self) -> int:
        """Budget that is left, tokens; -1 where there is no budget."""
        budget = self.facts.budget  # type: ignore[attr-defined]
        return NO_BUDGET if budget is None else max(budget - self.spent, 0)
