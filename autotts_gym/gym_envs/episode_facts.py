"""The visible state of an environment's episode, in tokens and branches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from autotts_gym.mdp import state as s
from autotts_gym.mdp.generation_confidence import check_window, lowest_confidence, mean_confidence

if TYPE_CHECKING:
    from autotts_gym.gym_envs.env_config import EnvConfig
    from autotts_gym.mdp.batch import Batch
    from autotts_gym.mdp.observation import GenerationView, View


class EpisodeFacts:
    """What ``AutoTTSEnv`` tells about its episode besides the observation; nothing is hidden.

    The environment sets ``_config``, ``_batch`` (of one episode) and ``_ledger`` (its record).
    """

    _config: EnvConfig
    _batch: Batch
    _ledger: Any

    @property
    def max_branches(self) -> int:
        """N, the largest number of branches of an episode."""
        return self._config.config.max_branches

    @property
    def interval(self) -> int:
        """Δ of the environment that this episode plays, tokens."""
        return int(self._ledger["interval"])

    @property
    def mean_length(self) -> float:
        """Mean length of the environment's branches, intervals; C is N times as much, in tokens."""
        return float(self._batch.mean_lengths(np.zeros(1, np.int64))[0])

    @property
    def mean_tokens(self) -> float:
        """Mean tokens of the environment's branches, over all of its questions."""
        return self._batch.full_cost(0) / self.max_branches

    @property
    def view(self) -> View:
        """The arrays of the observation, with an axis of one episode; not copied."""
        return self._batch.view

    @property
    def generation_view(self) -> GenerationView:
        """Those of generation confidence; empty if the traces hold none."""
        return self._batch.generation

    @property
    def depth_limit(self) -> int:
        """Depth of the deepest branch of the environment that this episode plays, intervals."""
        return int(self._ledger["depth_limit"])

    @property
    def budget(self) -> int | None:
        """B, tokens, or None."""
        return self._config.config.budget

    @property
    def auto_probe(self) -> bool:
        """Whether BRANCH and CONTINUE also probe."""
        return self._config.config.auto_probe

    @property
    def beta(self) -> float:
        """β of this episode."""
        return self._batch.beta(0)

    @property
    def latency_weight(self) -> float:
        """The weight w of sequential tokens in the cost of this episode."""
        return self._batch.latency_weight(0)

    @property
    def observes_latency(self) -> bool:
        """Whether observations show w and clock / L."""
        return self._config.observes_latency

    @property
    def spent(self) -> int:
        """Visible spent, tokens: charges, reconciled with the bill once an end is revealed."""
        return int(self._ledger["spent"])

    @property
    def clock(self) -> int:
        """Visible clock, tokens."""
        return int(self._ledger["clock"])

    def answer_text(self, answer: int) -> str:
        """The answer of a class of this episode; empty for -1.

        Raises:
            ValueError: no such class was revealed.
        """
        if not -1 <= answer < self._ledger["classes"]:
            raise ValueError(f"there is no answer class {answer} in this episode")
        return self._batch.answer_text(0, answer)

    @contextlib.contextmanager
    def billed_by_tokens(self) -> Iterator[None]:
        """Context in which opened branches are billed by ``"tokens"``, whatever ``billing`` is.

        A branch's billing is fixed when it is opened; published programs mix the two.
        """
        configured = int(self._ledger["billing"])
        self._ledger["billing"] = s.BY_TOKENS
        try:
            yield
        finally:
            self._ledger["billing"] = configured

    def is_null(self, answer: int) -> bool:
        """Whether a class of this episode is a null answer: the probe found none."""
        if not 0 <= answer < self._ledger["classes"]:
            return False
        flag = self._ledger["nulls"] + self._batch.codes[0, s.CODE_OF, answer]
        return bool(self._config.dataset.traces.nulls[flag])

    @property
    def has_generation_confidence(self) -> bool:
        """Whether the environment that this episode plays records generation confidences."""
        return bool(self._ledger["has_generation_confidence"])

    def generation_confidence(self, i: int, window: int | None = None) -> float:
        """Mean token confidence of the latest revealed intervals of branch ``i``.

        Args:
            i: number of the branch.
            window: number of intervals; None or 0 for all.

        Returns:
            As :meth:`autotts_gym.controllers.episode.Episode.generation_confidence`.

        Raises:
            ValueError: the window is negative.
        """
        sums, tokens = self._batch.revealed_confidences(0, i)
        return mean_confidence(sums, tokens, 0, len(sums), check_window(window))

    def lowest_confidence(self, i: int, window: int | None = None) -> float:
        """Lowest mean token confidence of a full window of branch ``i``.

        Args:
            i: number of the branch.
            window: number of intervals; None or 0 for all.

        Returns:
            As :meth:`autotts_gym.controllers.episode.Episode.lowest_confidence`.

        Raises:
            ValueError: the window is negative.
        """
        sums, tokens = self._batch.revealed_confidences(0, i)
        whole = len(sums) - int(self._batch.branches["finished"][0, i])
        lowest = lowest_confidence(sums, tokens, 0, whole, check_window(window))
        return lowest if lowest >= 0 else mean_confidence(sums, tokens, 0, len(sums), 0)
