"""The scene of an episode in a batch: what rendering shows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gymnasium import error
from numpy.typing import NDArray

from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch import TRUNCATED, Batch

if TYPE_CHECKING:
    from autotts_gym.gym_envs.rendering import Scene


class RevealedAnswers:
    """Every answer that was revealed in the episodes of a batch; observations may leave it out.

    Attributes:
        plane: int16[E, N, D], class that a probe revealed after each interval, -1 for none.
    """

    def __init__(self, batch: Batch) -> None:
        episodes, width = batch.branches.shape
        self.plane = np.full((episodes, width, batch.dataset.depth), -1, np.int16)

    def clear(self, episodes: list[int] | NDArray[np.int64]) -> None:
        """Forget these episodes, which start again."""
        self.plane[episodes] = -1

    def update(self, batch: Batch) -> None:
        """Add what the latest step revealed."""
        e, i = np.nonzero(batch.branches["revealed"])
        probed = batch.branches[e, i]
        self.plane[e, i, probed["revealed"] - 1] = probed["latest"]


def scene_of(batch: Batch, e: int, revealed: RevealedAnswers, last_action: str) -> Scene:
    """The scene of episode ``e``, as :mod:`autotts_gym.gym_envs.rendering` draws it.

    Raises:
        gymnasium.error.ResetNeeded: no episode was started yet.
    """
    from autotts_gym.gym_envs.rendering import Scene

    dataset, ledger, branches = batch.dataset, batch.ledger[e], batch.branches[e]
    if not ledger["interval"]:
        raise error.ResetNeeded("there is nothing to render yet: call reset() before render()")
    store, question = dataset.locate(int(ledger["question"]))
    nulls = dataset.stores[store].tables.nulls[question]
    classes = range(int(ledger["classes"]))
    outcome = ""
    if ledger["ended"]:
        batch.conclude([e])
        texts = batch.texts(e)
        outcome = f"answered {texts['answer'] or 'nothing'}"
        if batch.info.has_gold[e]:
            outcome += ": correct" if batch.info.correct[e] else f": wrong ({texts['gold']})"
        if batch.outcomes[e] & TRUNCATED:
            outcome = "truncated by the step limit"
    return Scene(
        plane=revealed.plane[e],
        status=branches["status"],
        requested=branches["requested"],
        latest=branches["latest"],
        finished=branches["finished"],
        nulls=[nulls[batch.codes[e, s.CODE_OF, c]] for c in classes],
        labels=[batch.answer_text(e, c) for c in classes],
        depth_limit=int(ledger["depth_limit"]),
        spent=int(ledger["spent"]),
        clock=int(ledger["clock"]),
        budget=batch.config.budget,
        beta=batch.beta(e),
        last_action=last_action,
        outcome=outcome,
        title=f"{dataset.names[store]}, question {question}",
        latency_weight=batch.latency_weight(e),
    )
