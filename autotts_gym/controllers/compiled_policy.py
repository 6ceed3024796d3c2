"""Episodes of a trained policy in one compiled call: rules, macro-actions and network together."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.compiled_network import (
    NetworkArrays,
    most_likely,
    most_likely_single,
    update_logits,
)
from autotts_gym.mdp import fields as f
from autotts_gym.mdp.jit import entry_point
from autotts_gym.mdp.macro_transition import MacroBatchArrays, play_macro_action
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.transition import TRUNCATED


class PolicyArrays(NamedTuple):
    """A batch, the network that plays it, and the memory of the batch's features as numbers.

    Attributes:
        played: the batch.
        network: weights and working memory.
        branches: float32[E, N, NUM_BRANCH_FEATURES].
        features: float32[E, NUM_ALL_GLOBAL_FEATURES].
    """

    played: MacroBatchArrays
    network: NetworkArrays
    branches: Annotated[NDArray[np.float32], Axes(np.float32, 3)]
    features: Annotated[NDArray[np.float32], Axes(np.float32, 2)]


@entry_point(packed=PolicyArrays)
def play_episodes(arrays, truncated, queue, history, lengths, atomic):
    """Play the first episodes of a batch, which were reset, to their ends.

    Args:
        arrays: :class:`PolicyArrays`.
        truncated: bool[K], set to whether the step limit ended each of the K episodes.
        queue, history, lengths, atomic: as for ``play_macro_action``.
    """
    net = arrays.network
    views = arrays.played.batch.views
    for e in range(len(truncated)):
        outcome = 0
        while arrays.played.batch.episodes.ledger[e].ended == 0:
            opened = int(views.globals[e, f.OPENED])
            update_logits(net, arrays.branches[e], arrays.features[e], opened)
            if atomic:
                action = most_likely_single(net.logits, views.mask[e], opened)
            else:
                action = most_likely(net.logits, arrays.played.macro.mask[e])
            outcome = play_macro_action(arrays.played, e, action, queue, history, lengths, atomic)[
                4
            ]
        truncated[e] = outcome & TRUNCATED != 0
