"""What a controller observes: its spaces, and how it is kept up to date.

An observation is one flat dictionary of fixed-size arrays (see :class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`
for the table). It is a function of the visible state alone, brought up to date branch by branch
in place, and copied once when it is handed out.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from autotts_gym.mdp import actions, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.constants import BETA as BETA
from autotts_gym.mdp.constants import CLOCK as CLOCK
from autotts_gym.mdp.constants import GLOBALS_SIZE as GLOBALS_SIZE
from autotts_gym.mdp.constants import OPENED as OPENED
from autotts_gym.mdp.constants import REMAINING as REMAINING
from autotts_gym.mdp.constants import SPENT as SPENT
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.state import EpisodeState

# Rows of View.classes.
VOTES: Final = 0
NULL: Final = 1

#: "remaining" where there is no budget.
UNLIMITED: Final = -1.0

_INT16_MAX: Final = np.iinfo(np.int16).max
_HIGHEST: Final = 1e6  # bound of the global figures; Box bounds must be finite


class View(NamedTuple):
    """The arrays of one observation; N branches, D intervals, M class columns, A actions.

    A :class:`~autotts_gym.mdp.batch.Batch` holds them with an axis of episodes: in front, or
    after the columns of ``branches`` and ``classes``, so that each column is contiguous.

    Attributes:
        plane: int16[N, D], or int16[N, 0] where it is left out.
        confidence_plane: float32[N, D], or float32[N, 0] where there is none.
        branches: int16[5, N], the state's first five columns.
        confidences: float32[N], or float32[0] where there are none.
        classes: int16[2, M].
        globals: float32[5].
        mask: int8[A].
    """

    plane: NDArray[np.int16]
    confidence_plane: NDArray[np.float32]
    branches: NDArray[np.int16]
    confidences: NDArray[np.float32]
    classes: NDArray[np.int16]
    globals: NDArray[np.float32]
    mask: NDArray[np.int8]


def space(
    max_branches: int, max_depth: int, max_classes: int, *, plane: bool, confidences: bool
) -> spaces.Dict:
    """The observation space.

    Its bounds depend on nothing but these arguments, so that a policy trained on one environment
    fits another. Every array has one axis, for that is what learners take without ado.
    """
    n, m, cells = (max_branches,), (max_classes,), (max_branches * max_depth,)
    lows = np.zeros(GLOBALS_SIZE, np.float32)
    lows[REMAINING] = UNLIMITED
    highs = np.full(GLOBALS_SIZE, _HIGHEST, np.float32)
    highs[BETA] = 1
    found: dict[str, spaces.Space[NDArray[np.generic]]] = {
        "action_mask": spaces.Box(0, 1, (actions.count(max_branches),), np.int8),
        "branch_finished": spaces.Box(0, 1, n, np.int16),
        "branch_latest": spaces.Box(-1, _INT16_MAX, n, np.int16),
        "branch_requested": spaces.Box(0, _INT16_MAX, n, np.int16),
        "branch_revealed": spaces.Box(0, _INT16_MAX, n, np.int16),
        "branch_status": spaces.Box(0, s.PRUNED, n, np.int16),
        "class_null": spaces.Box(0, 1, m, np.int16),
        "class_votes": spaces.Box(0, max_branches, m, np.int16),
        "globals": spaces.Box(lows, highs, dtype=np.float32),
    }
    if plane:
        found["plane"] = spaces.Box(-1, _INT16_MAX, cells, np.int16)
    if confidences:
        found["branch_confidence"] = spaces.Box(-1, _HIGHEST, n, np.float32)
        if plane:
            found["confidence_plane"] = spaces.Box(-1, _HIGHEST, cells, np.float32)
    return spaces.Dict(found)


def allocate(
    num_envs: int,
    max_branches: int,
    max_depth: int,
    max_classes: int,
    *,
    plane: bool,
    confidences: bool,
) -> View:
    """The arrays behind ``num_envs`` observations."""
    e, n = num_envs, max_branches
    return View(
        plane=np.empty((e, n, max_depth if plane else 0), np.int16),
        confidence_plane=np.empty((e, n, max_depth if plane and confidences else 0), np.float32),
        branches=np.empty((s.OBSERVED, e, n), np.int16),
        confidences=np.empty((e, n if confidences else 0), np.float32),
        classes=np.empty((2, e, max_classes), np.int16),
        globals=np.empty((e, GLOBALS_SIZE), np.float32),
        mask=np.zeros((e, actions.count(n)), np.int8),  # nothing is legal before the first reset
    )


def by_key(view: View) -> dict[str, NDArray[Any]]:
    """The arrays by their keys in the observation, each with the axis of episodes in front."""
    e = len(view.mask)
    return {
        "action_mask": view.mask,
        "branch_confidence": view.confidences,
        "branch_finished": view.branches[s.FINISHED],
        "branch_latest": view.branches[s.LATEST],
        "branch_requested": view.branches[s.REQUESTED],
        "branch_revealed": view.branches[s.REVEALED],
        "branch_status": view.branches[s.STATUS],
        "class_null": view.classes[NULL],
        "class_votes": view.classes[VOTES],
        "confidence_plane": view.confidence_plane.reshape(e, -1),
        "globals": view.globals,
        "plane": view.plane.reshape(e, -1),
    }


@compiled
def show_start(view: View, episode: EpisodeState, beta: float) -> None:
    """The observation of a first state, but for ``show_totals``."""
    view.plane[:] = -1
    view.confidence_plane[:] = -1
    view.branches[:] = 0
    view.branches[s.LATEST] = -1
    view.confidences[:] = -1
    view.classes[:] = 0
    view.globals[BETA] = beta
    view.mask[:] = 0
    view.mask[actions.ANSWER] = 1


@inlined
def show_mask(view: View, episode: EpisodeState, i: int) -> None:
    """Which actions on branch ``i`` are legal."""
    n = episode.branches.shape[0]
    view.mask[2 + i] = rules.can_extend(episode, i)
    view.mask[2 + n + i] = rules.can_probe(episode, i)
    view.mask[2 + 2 * n + i] = rules.can_prune(episode, i)
    view.mask[2 + 3 * n + i] = rules.can_answer(episode, i)


@inlined
def is_null(episode: EpisodeState, seen: int) -> bool:
    """Whether a class of the episode means that a probe found no answer."""
    return episode.traces.nulls[episode.ledger[s.NULLS] + episode.codes[s.CODE_OF, seen]] == 1


@inlined
def show_reveal(view: View, episode: EpisodeState, i: int) -> None:
    """What branch ``i``'s latest probe revealed."""
    b = episode.branches[i]
    latest = b[s.LATEST]
    column = b[s.REVEALED] - 1
    if column < view.plane.shape[1]:
        view.plane[i, column] = latest
    if view.confidences.shape[0] > 0:
        confidence = np.float32(-1)
        if b[s.FINISHED] == 0:
            confidence = episode.traces.confidences[b[s.OFFSET] + column]
        view.confidences[i] = confidence
        if column < view.confidence_plane.shape[1]:
            view.confidence_plane[i, column] = confidence
    last = view.classes.shape[1] - 1
    null = is_null(episode, latest)
    if latest >= last:  # a column that classes share is null only while all of them are
        for other in range(last, episode.ledger[s.CLASSES]):
            null = null and is_null(episode, other)
    view.classes[NULL, min(latest, last)] = null


@inlined
def show_branch(view: View, episode: EpisodeState, i: int) -> None:
    """Bring everything that is observed of branch ``i`` up to date."""
    b = episode.branches[i]
    shown = view.branches
    last = view.classes.shape[1] - 1
    if shown[s.STATUS, i] == s.ACTIVE and shown[s.LATEST, i] >= 0:
        view.classes[VOTES, min(shown[s.LATEST, i], last)] -= 1
    if shown[s.REVEALED, i] != b[s.REVEALED]:
        show_reveal(view, episode, i)
    for column in range(s.OBSERVED):
        shown[column, i] = b[column]
    if b[s.STATUS] == s.ACTIVE and b[s.LATEST] >= 0:
        view.classes[VOTES, min(b[s.LATEST], last)] += 1
    show_mask(view, episode, i)


@inlined
def show_totals(view: View, episode: EpisodeState, full_cost: float) -> None:
    """Bring the global figures up to date; ``full_cost`` is C, tokens."""
    ledger = episode.ledger
    view.mask[actions.BRANCH] = rules.can_branch(episode)
    view.globals[OPENED] = ledger[s.OPENED]
    view.globals[SPENT] = min(ledger[s.SPENT] / full_cost, _HIGHEST)
    view.globals[CLOCK] = min(ledger[s.CLOCK] / full_cost, _HIGHEST)
    view.globals[REMAINING] = UNLIMITED
    if ledger[s.BUDGET] != s.NO_BUDGET:
        remaining = max(ledger[s.BUDGET] - ledger[s.SPENT], 0)
        view.globals[REMAINING] = min(remaining / full_cost, _HIGHEST)
