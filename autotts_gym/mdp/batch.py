"""Batches of episodes: structure of arrays, one compiled call for a step of all of them.

The single environment is a batch of one. :mod:`autotts_gym.mdp.batch_kernels` has the compiled
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import observation, observed_arrays
from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch_kernels import SKIP as SKIP
from autotts_gym.mdp.batch_kernels import (
    BatchArrays,
    PlayedArrays,
    StartArrays,
    StepArrays,
    begin_episodes,
    conclude_episodes,
    replay_actions,
    start_episodes,
    step_episodes,
)
from autotts_gym.mdp.episode_draws import (
    DRAWN,
    DrawSources,
    DrawTables,
    Streams,
    draw_start,
)
from autotts_gym.mdp.episode_info import InfoArrays, InfoSources
from autotts_gym.mdp.observation import View
from autotts_gym.mdp.packed_arrays import pack, word_count
from autotts_gym.mdp.slices import Program, bound
from autotts_gym.mdp.state import EpisodeArrays, Records
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.mdp.transition import COST, LATENCY, TOKENS
from autotts_gym.mdp.transition import ILLEGAL as ILLEGAL
from autotts_gym.mdp.transition import TERMINATED as TERMINATED
from autotts_gym.mdp.transition import TRUNCATED as TRUNCATED


class EpisodeStart(NamedTuple):
    """What an episode starts from.

    Attributes:
        question: its row in the dataset.
        beta: β in [0, 1].
        order: int64[max_branches], the question's branches in the order in which they open.
        latency_weight: w in [0, 1]; None for that of the episode's configuration.
    """

    question: int
    beta: float
    order: NDArray[np.int64]
    latency_weight: float | None = None


class Batch:
    """``num_envs`` episodes, their observations, and the calls that change them.

    Args:
        dataset: the traces that are played.
        config: the configuration of every episode.
        num_envs: E, number of episodes.
        max_depth: D, intervals that the planes show.
        max_classes: M, class columns.
        plane: whether observations have planes.
        invalid_penalty: penalty for an illegal action, in units of reward.
        view: arrays to write the observations to; newly allocated by default.
        flat: slices of the observations as one array; those are not written by default.
        observes_latency: whether observations show w and the clock as a share of L.
        draws: what ``start`` draws from; without it, episodes start by ``reset`` only.
        threads: number of threads that may run the batch's programs at once, each on its own
            episodes.

    Attributes:
        ledger: LEDGER[E], branches: BRANCH[E, N], codes: int16[E, 3, K], order: int64[E, N]: the
            state of the episodes, see :mod:`autotts_gym.mdp.state`.
        view, generation: the observations, with an axis of episodes.
        full_costs: float64[S], C of each store, tokens.
        rewards: float64[E], outcomes: uint8[E] (bits), of the latest step.
        costs: float64[E], what the latest step is charged: (1 − w) · ``token_costs`` +
            w · ``latency_costs``.
        token_costs: float64[E], change of tokens as a share of C.
        latency_costs: float64[E], change of the clock as a share of L.
        invalid: int8[E], 1 if the latest action was illegal.
        flat: float32[E, F], see ``mdp/flat_observation.py``; F = 0 if not wanted.
        info: the numbers of the episodes that ``info`` holds; results once they have ended.
        streams: the streams of random numbers that ``start`` draws from.
    """

    def __init__(
        self,
        dataset: TraceDataset,
        config: EpisodeConfig,
        num_envs: int,
        max_depth: int,
        max_classes: int,
        plane: bool,
        invalid_penalty: float,
        view: View | None = None,
        flat: dict[str, slice] | None = None,
        *,
        observes_latency: bool = False,
        draws: DrawTables | None = None,
        threads: int = 1,
    ) -> None:
        n = config.max_branches
        dataset.check_width(n)
        self.dataset = dataset
        self.config = config
        self._observes_latency = observes_latency
        self._initial = np.stack([config.ledger(store) for store in dataset.stores])
        self._initial["invalid_penalty"] = invalid_penalty
        self.full_costs: NDArray[np.float64] = self._initial["full_cost"]
        state = EpisodeArrays.allocate(dataset.traces, dataset.classes, n, num_envs)
        state.ledger["ended"] = 1  # nothing to step before the first reset
        self._state = state
        self.view = view or observation.allocate(
            num_envs,
            n,
            max_depth,
            max_classes,
            plane=plane,
            confidences=dataset.has_confidences,
        )
        self.generation = observation.allocate_generation(
            self.view, recorded=dataset.has_generation_confidences
        )
        self.actions = np.zeros(num_envs, np.int64)
        self.rewards = np.zeros(num_envs)
        self._costs = np.zeros((3, num_envs))
        self.outcomes = np.zeros(num_envs, np.uint8)
        self.invalid = np.zeros(num_envs, np.int8)
        self.info = InfoArrays.allocate(num_envs)
        self.flat_slices = flat or {}
        flat_size = max((part.stop for part in self.flat_slices.values()), default=0)
        self.flat = np.zeros((num_envs, flat_size), np.float32)
        self.streams = Streams.allocate(num_envs)
        self._draws = draws
        most = 0 if draws is None else int(draws.branch_counts.max())
        self._orders = np.zeros((threads, most), np.int64)
        self._chosen = np.zeros(num_envs, np.int64)
        self._bind()

    def _bind(self) -> None:
        """Keep the arguments of kernels ready: a step has no time to collect them."""
        self.ledger: Records = self._state.ledger
        self.branches: Records = self._state.branches
        self.codes, self.order = self._state.codes, self._state.order
        self.costs: NDArray[np.float64] = self._costs[COST]
        self.token_costs: NDArray[np.float64] = self._costs[TOKENS]
        self.latency_costs: NDArray[np.float64] = self._costs[LATENCY]
        self._played_arrays = PlayedArrays(
            BatchArrays(self._state, self.view, self.generation),
            StepArrays(
                self.actions,
                self.rewards,
                self._costs,
                self.outcomes,
                self.invalid,
                InfoSources(
                    self.info,
                    self.dataset.questions,
                    self.dataset.has_gold,
                    self.dataset.first_question,
                ),
            ),
            self._compiled_flat(),
            self._initial,
        )
        played_size = word_count(PlayedArrays)
        if self._draws is None:
            self._played_packed = pack(self._played_arrays)
        else:
            self._draw_sources = DrawSources(self._draws, self.streams)
            self._start_packed = pack(
                StartArrays(self._played_arrays, self._draw_sources, self._orders, self._chosen)
            )
            self._start_address = self._start_packed.ctypes.data
            # Every array is packed once: the words of a part are among those of the whole.
            self._played_packed = self._start_packed[:played_size]
            self._draws_packed = self._start_packed[played_size:][: word_count(DrawSources)]
        self._packed = self._played_packed[: word_count(BatchArrays)]
        self._played_address = self._played_packed.ctypes.data

    def _compiled_flat(self) -> NDArray[np.float32]:
        """The flat observations that compiled code writes, float32[E, F]."""
        return self.flat

    #: Attributes that refer to arrays of other attributes; a copy binds them anew.
    _BOUND: Final = (
        "ledger",
        "branches",
        "codes",
        "order",
        "costs",
        "token_costs",
        "latency_costs",
        "_played_arrays",
        "_packed",
        "_played_packed",
        "_played_address",
        "_draw_sources",
        "_draws_packed",
        "_start_packed",
        "_start_address",
    )

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in self._BOUND}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def step_program(self) -> Program:
        """Plays ``self.actions`` (int64[E]; ``SKIP`` leaves an episode unchanged).

        Its result is the number of episodes that ended.
        """
        return bound(step_episodes, self._played_packed)

    def step(self) -> None:
        """Play ``self.actions`` in this thread."""
        step_episodes(self._played_address, 0, len(self.actions), 0)

    def play(self, action: int) -> None:
        """Play an action in the first episode of a batch that has no other."""
        self.actions[0] = action
        self.step()

    def queue_arguments(
        self, queues: NDArray[np.int32], counts: NDArray[np.int64]
    ) -> tuple[Any, ...]:
        """Arguments of :func:`play_queues`; ``outcomes`` receives those of each last action.

        Args:
            queues: int32[E, Q], action ids in order; ``BY_TOKENS`` added to BRANCH bills the
                branch by tokens, and is removed from the actions that were played.
            counts: int64[E], number of queued actions; overwritten by the number played.
        """
        return (self._packed, queues, counts, self.outcomes)

    def reset(self, episodes: Sequence[int], starts: Sequence[EpisodeStart]) -> None:
        """Start ``episodes``, each from its entry of ``starts``."""
        rows, betas, orders, weights = zip(*starts, strict=True)
        configured = self.config.latency_weight
        chosen = np.array(episodes, np.int64)
        begin_episodes(
            self._played_packed,
            chosen,
            np.array(rows, np.int64),
            np.array(betas, np.float64),
            np.array([configured if w is None else w for w in weights], np.float64),
            np.array(orders, np.int64),
        )
        self.choose(chosen)
        self._follow_start(len(chosen))

    def choose(self, chosen: NDArray[np.int64]) -> None:
        """Choose the episodes that the program of starts is about, int64[K]."""
        self._chosen[: len(chosen)] = chosen

    def start_program(self) -> Program:
        """Starts the next episodes of the chosen ones, as their streams draw them."""
        return bound(start_episodes, self._start_packed)

    def start(self, chosen: NDArray[np.int64]) -> None:
        """Start the next episodes of ``chosen``, int64[K], in this thread."""
        self.choose(chosen)
        start_episodes(self._start_address, 0, len(chosen), 0)
        self._follow_start(len(chosen))

    def _follow_start(self, count: int) -> None:
        """Called when the first ``count`` of the chosen episodes have started."""

    def drawn_start(self, e: int, store: int = DRAWN, question: int = DRAWN) -> EpisodeStart:
        """What the stream of ``e`` draws for the next episode, which is not started.

        Args:
            e: the sub-environment.
            store: index of the store to draw from; drawn by default.
            question: row of the question in the dataset; drawn by default.
        """
        order, width = np.empty(self._orders.shape[1], np.int64), self.config.max_branches
        row, beta, weight = draw_start(self._draws_packed, e, store, question, width, order)
        return EpisodeStart(row, beta, order[:width], weight)

    def conclude(self, episodes: Sequence[int] | NDArray[np.int64]) -> None:
        """Write the infos of ``episodes``, whose ends no step has reported."""
        conclude_episodes(self._played_packed, np.asarray(episodes, np.int64))

    def rewind(self, start: EpisodeStart, log: Sequence[int]) -> None:
        """Replay the only episode of this batch up to its present step.

        A live episode needs this when its traces have grown; what is visible stays the same.
        """
        self.reset([0], [start])
        replay_actions(self._packed, np.array(log, np.int64))

    @property
    def mask(self) -> NDArray[np.int8]:
        """Legal actions, int8[E, A]."""
        return self.view.mask

    def observed(self) -> dict[str, NDArray[Any]]:
        """See :func:`~autotts_gym.mdp.observed_arrays.by_key`."""
        return observed_arrays.by_key(self.view, self.generation, latency=self._observes_latency)

    @property
    def betas(self) -> NDArray[np.float64]:
        """β of every episode, float64[E]; a view."""
        betas: NDArray[np.float64] = self.ledger["beta"]
        return betas

    def beta(self, e: int) -> float:
        """β of episode ``e``."""
        return float(self.ledger["beta"][e])

    def latency_weight(self, e: int) -> float:
        """The latency weight w of episode ``e``."""
        return float(self.ledger["latency_weight"][e])

    def full_cost(self, e: int) -> float:
        """C of the environment that episode ``e`` plays, tokens."""
        return float(self.ledger["full_cost"][e])

    def mean_lengths(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean branch length in the environments of episodes ``rows``, intervals, float64[K]."""
        ledger = self.ledger[rows]
        lengths: NDArray[np.float64] = (
            ledger["full_cost"] / self.config.max_branches / ledger["interval"]
        )
        return lengths

    def revealed_confidences(self, e: int, i: int) -> tuple[list[float], list[int]]:
        """What probes have revealed of the generation confidence of branch ``i`` of episode ``e``.

        Returns:
            Confidence sum and number of tokens of each revealed interval; empty without recorded
            confidences.
        """
        traces, branch = self.dataset.traces, self.branches[e, i]
        first = int(branch["offset"] + self.order[e, i])
        revealed = slice(first, first + int(branch["revealed"]))
        return (
            traces.confidence_sums[revealed].tolist(),
            traces.confidence_tokens[revealed].tolist(),
        )

    def texts(self, e: int) -> dict[str, str]:
        """The strings of ``info`` of episode ``e``; empty until the episode has ended."""
        ledger = self.ledger[e]
        if not ledger["ended"]:
            return dict.fromkeys(("answer", "gold", "env"), "")
        row = int(ledger["question"])
        store, _ = self.dataset.locate(row)
        return {
            "answer": self.answer_text(e, int(ledger["answer"])),
            "gold": self.dataset.gold(row) or "",
            "env": self.dataset.names[store],
        }

    def answer_text(self, e: int, answer: int) -> str:
        """The answer of a class of episode ``e``; empty for -1."""
        if answer < 0:
            return ""
        answers = self.dataset.answers(int(self.ledger["question"][e]))
        return answers[int(self.codes[e, s.CODE_OF, answer])]
