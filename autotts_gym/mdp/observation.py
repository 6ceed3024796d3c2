"""The observation of an episode: its arrays, and incremental updates.

It depends on the visible state only. The arrays are updated in place, branch by branch, and copied
once when an environment returns them, under the keys of :mod:`autotts_gym.mdp.observed_arrays`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import actions, rules
from autotts_gym.mdp import fields as f
from autotts_gym.mdp import state as s
from autotts_gym.mdp.generation_confidence import UNKNOWN
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.state import EpisodeState

# Rows of View.classes.
VOTES: Final = 0
NULL: Final = 1


class View(NamedTuple):
    """The arrays of one observation; N branches, D intervals, M answer classes, A actions.

    In a :class:`~autotts_gym.mdp.batch.Batch` of E episodes, every array has one more axis, as the
    annotations of the fields have it.
    It is the first (``plane``: int16[E, N, D]), except in ``branches`` (int16[C, E, N]) and
    ``classes`` (int16[2, E, M]), where the values of one column are contiguous.

    Attributes:
        plane: int16[N, D], or int16[N, 0] without planes.
        confidence_plane: float32[N, D], or float32[N, 0] without planes or confidences.
        branches: int16[C, N], one row for each of ``fields.BRANCH_COLUMNS``.
        confidences: float32[N], or float32[0] without confidences.
        classes: int16[2, M], rows ``VOTES`` and ``NULL``. Column M − 1 is shared by all further
            classes.
        globals: float32[G], one entry for each of ``fields.GLOBAL_COLUMNS``.
        mask: int8[A], 1 for each legal action.
    """

    plane: Annotated[NDArray[np.int16], Axes(np.int16, 3)]
    confidence_plane: Annotated[NDArray[np.float32], Axes(np.float32, 3)]
    branches: Annotated[NDArray[np.int16], Axes(np.int16, 3)]
    confidences: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    classes: Annotated[NDArray[np.int16], Axes(np.int16, 3)]
    globals: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    mask: Annotated[NDArray[np.int8], Axes(np.int8, 2)]


@inlined
def view_of(arrays: View, e: int) -> View:
    """The observation of episode ``e`` of a batch; compiled code only."""
    return View(
        arrays.plane[e],
        arrays.confidence_plane[e],
        arrays.branches[:, e],
        arrays.confidences[e],
        arrays.classes[:, e],
        arrays.globals[e],
        arrays.mask[e],
    )


class GenerationView(NamedTuple):
    """The arrays of an observation that show generation confidence; empty if none is recorded.

    They are no part of the :class:`View`, because the functions that take one would become slower.
    In a batch, every array has one more axis.

    Attributes:
        confidences: float32[N], that of the last revealed interval that has any, or float32[0].
        plane: float32[N, D], that of each interval, or float32[N, 0]; the latter without planes.
    """

    confidences: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    plane: Annotated[NDArray[np.float32], Axes(np.float32, 3)]


@inlined
def generation_view_of(arrays: GenerationView, e: int) -> GenerationView:
    """The generation confidences of episode ``e`` of a batch; compiled code only."""
    return GenerationView(arrays.confidences[e], arrays.plane[e])


def allocate(
    num_envs: int,
    max_branches: int,
    max_depth: int,
    max_classes: int,
    *,
    plane: bool,
    confidences: bool,
) -> View:
    """The arrays of ``num_envs`` observations."""
    e, n = num_envs, max_branches
    return View(
        plane=np.empty((e, n, max_depth if plane else 0), np.int16),
        confidence_plane=np.empty((e, n, max_depth if plane and confidences else 0), np.float32),
        branches=np.empty((len(f.BRANCH_COLUMNS), e, n), np.int16),
        confidences=np.empty((e, n if confidences else 0), np.float32),
        classes=np.empty((2, e, max_classes), np.int16),
        globals=np.empty((e, len(f.GLOBAL_COLUMNS)), np.float32),
        mask=np.zeros((e, actions.count(n)), np.int8),  # nothing is legal before the first reset
    )


def allocate_generation(view: View, *, recorded: bool) -> GenerationView:
    """The arrays of generation confidence of the observations ``view``."""
    shape = view.plane.shape
    plane = shape if recorded else (*shape[:2], 0)
    confidences = shape[0], shape[1] if recorded else 0
    return GenerationView(np.empty(confidences, np.float32), np.empty(plane, np.float32))


# --- updates -------------------------------------------------------------------------------------

# A loop over functions does not compile with numba. Each writer below therefore writes the last
# column, after calling the writer of the columns before it; numba inlines the whole chain.


def _branch_writer(specs: tuple[f.BranchColumn, ...]) -> Any:
    """Build one compiled function that writes all columns of a branch."""
    row = len(specs) - 1
    value = inlined(specs[row].value)
    if row == 0:

        @inlined
        def write_first(columns, i, branch, ledger):
            columns[0, i] = value(branch, ledger)

        return write_first
    write_others = _branch_writer(specs[:row])

    @inlined
    def write(columns, i, branch, ledger):
        write_others(columns, i, branch, ledger)
        columns[row, i] = value(branch, ledger)

    return write


def _globals_writer(specs: tuple[f.GlobalColumn, ...]) -> Any:
    """Build one compiled function that writes all global columns."""
    row = len(specs) - 1
    value, high = inlined(specs[row].value), specs[row].high
    if row == 0:

        @inlined
        def write_first(values, ledger):
            values[0] = min(value(ledger), high)

        return write_first
    write_others = _globals_writer(specs[:row])

    @inlined
    def write(values, ledger):
        write_others(values, ledger)
        values[row] = min(value(ledger), high)

    return write


_write_branch = _branch_writer(f.BRANCH_COLUMNS)
_write_globals = _globals_writer(f.GLOBAL_COLUMNS)


@compiled
def write_initial(view: View, episode: EpisodeState, used: int) -> None:
    """Write the observation of an initial state; the caller then calls ``update_globals``.

    Args:
        view: the observation.
        episode: the state.
        used: number of branches that the previous observation showed, see ``rules.begin``.
    """
    view.plane[:used] = -1
    view.confidence_plane[:used] = -1
    view.confidences[:] = -1
    view.classes[:] = 0
    view.mask[:] = 0
    view.mask[actions.ANSWER] = 1
    for i in range(used):
        _write_branch(view.branches, i, episode.branches[i], episode.ledger)


@inlined
def update_branch_mask(view: View, episode: EpisodeState, i: int) -> None:
    """Update the part of the action mask that belongs to branch ``i``."""
    n = episode.branches.shape[0]
    mask = view.mask
    mask[rules.action_id(actions.CONTINUE, i, n)] = rules.can_extend(episode, i)
    mask[rules.action_id(actions.PROBE, i, n)] = rules.can_probe(episode, i)
    mask[rules.action_id(actions.PRUNE, i, n)] = rules.can_prune(episode, i)
    mask[rules.action_id(actions.ANSWER_BRANCH, i, n)] = rules.can_answer(episode, i)


@inlined
def is_null(episode: EpisodeState, answer: int) -> bool:
    """Whether an answer class of the episode is a null answer."""
    return episode.traces.nulls[episode.ledger.nulls + episode.codes[s.CODE_OF, answer]] == 1


@inlined
def update_latest_answer(view: View, episode: EpisodeState, i: int) -> None:
    """Update planes, confidences and null flags after a probe of branch ``i``."""
    b = episode.branches[i]
    latest = b.latest
    column = b.revealed - 1
    if column < view.plane.shape[1]:
        view.plane[i, column] = latest
    if view.confidences.shape[0] > 0:
        confidence = np.float32(-1)
        if b.finished == 0:
            confidence = episode.traces.confidences[b.offset + column]
        view.confidences[i] = confidence
        if column < view.confidence_plane.shape[1]:
            view.confidence_plane[i, column] = confidence
    last = view.classes.shape[1] - 1
    null = is_null(episode, latest)
    if latest >= last:  # the last column is shared: it is null only if all of its classes are
        for other in range(last, episode.ledger.classes):
            null = null and is_null(episode, other)
    view.classes[NULL, min(latest, last)] = null


@compiled
def clear_generation(generation: GenerationView, used: int) -> None:
    """Write the generation confidences of an initial state; ``used`` as in ``write_initial``."""
    generation.confidences[:] = UNKNOWN
    generation.plane[:used] = UNKNOWN


@compiled
def _show_generation(generation: GenerationView, episode: EpisodeState, i: int, known: int) -> None:
    b, traces, plane = episode.branches[i], episode.traces, generation.plane
    first = b.offset + episode.order[i]  # of intervals there is one more per branch than of probes
    for k in range(known, b.revealed):
        tokens = traces.confidence_tokens[first + k]
        if tokens > 0:
            # The largest sums are rounded up in float32.
            mean = np.float32(min(traces.confidence_sums[first + k] / tokens, f.FLOAT_MAX))
            generation.confidences[i] = mean
            if k < plane.shape[1]:
                plane[i, k] = mean


@inlined
def update_generation(
    generation: GenerationView, view: View, episode: EpisodeState, i: int
) -> None:
    """Show the intervals of branch ``i`` that were revealed since ``update_branch``."""
    if generation.confidences.shape[0] > 0:
        _show_generation(generation, episode, i, view.branches[f.REVEALED, i])


@inlined
def update_branch(view: View, episode: EpisodeState, i: int) -> None:
    """Update everything in the observation that depends on branch ``i``."""
    b = episode.branches[i]
    columns = view.branches
    last = view.classes.shape[1] - 1
    if columns[f.STATUS, i] == s.ACTIVE and columns[f.LATEST, i] >= 0:
        view.classes[VOTES, min(columns[f.LATEST, i], last)] -= 1
    if columns[f.REVEALED, i] != b.revealed:
        update_latest_answer(view, episode, i)
    _write_branch(columns, i, b, episode.ledger)
    if b.status == s.ACTIVE and b.latest >= 0:
        view.classes[VOTES, min(b.latest, last)] += 1
    update_branch_mask(view, episode, i)


@inlined
def update_globals(view: View, episode: EpisodeState) -> None:
    """Update the global columns, and whether BRANCH is legal."""
    view.mask[actions.BRANCH] = rules.can_branch(episode)
    _write_globals(view.globals, episode.ledger)
