"""Many episodes side by side: struct of arrays, one compiled call for all of them.

The single environment is a batch of one. Rewards are settled here: the return of an episode is
``β · right − (1 − β) · true cost / C``, penalties for illegal actions apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import observation, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import BRANCH, BY_TOKENS
from autotts_gym.mdp.jit import entry_point, inlined
from autotts_gym.mdp.observation import View
from autotts_gym.mdp.state import EpisodeState, Traces
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset

#: Instead of an action: leave this episode alone.
SKIP: Final = -1

# Bits of an outcome.
TERMINATED: Final = 1
TRUNCATED: Final = 2
ILLEGAL: Final = 4

# Columns of weights.
_BETA: Final = 0
_FULL_COST: Final = 1  # C, tokens
_PENALTY: Final = 2


class EpisodeStart(NamedTuple):
    """What an episode starts from.

    Attributes:
        question: its row in the replay.
        beta: β in [0, 1].
        order: int64[max_branches], the question's branches in the order in which they open.
    """

    question: int
    beta: float
    order: NDArray[np.int64]


@inlined
def play_action(episode: EpisodeState, view: View, weights, action: int):
    """One action: returns its reward, the change of cost as a share of C, and the outcome."""
    ledger = episode.ledger
    before = ledger[s.SPENT]
    afforded = rules.affords_interval(episode), rules.affords_probe(episode)
    touched = rules.act(episode, action)
    outcome = 0
    reward = 0.0
    if touched == -2:
        outcome = ILLEGAL
        reward -= weights[_PENALTY]
    elif touched >= 0:
        observation.show_branch(view, episode, touched)
        if afforded != (rules.affords_interval(episode), rules.affords_probe(episode)):
            for i in range(ledger[s.OPENED]):
                observation.show_mask(view, episode, i)
        observation.show_totals(view, episode, weights[_FULL_COST])
    spent = ledger[s.SPENT]
    if ledger[s.ENDED]:
        outcome |= TERMINATED
        if rules.is_right(episode):
            reward += weights[_BETA]
    elif ledger[s.STEPS] >= ledger[s.STEP_LIMIT]:
        ledger[s.ENDED] = 1
        outcome |= TRUNCATED
    if ledger[s.ENDED]:
        spent = ledger[s.TRUE_SPENT]
    cost = (spent - before) / weights[_FULL_COST]
    return reward - (1 - weights[_BETA]) * cost, cost, outcome


@inlined
def view_of(e, plane, confidence_plane, branches, confidences, classes, totals, mask):
    """The observation of episode ``e``."""
    return View(
        plane[e],
        confidence_plane[e],
        branches[:, e],
        confidences[e],
        classes[:, e],
        totals[e],
        mask[e],
    )


@entry_point()
def _step(
    probes,
    trace_branches,
    trace_confidences,
    trace_probe_tokens,
    nulls,
    ledger,
    branches,
    codes,
    order,
    weights,
    plane,
    confidence_plane,
    shown_branches,
    confidences,
    classes,
    totals,
    mask,
    actions,
    rewards,
    costs,
    outcomes,
):
    traces = Traces(probes, trace_branches, trace_confidences, trace_probe_tokens, nulls)
    ended = 0
    for e in range(len(actions)):
        if actions[e] == SKIP:
            rewards[e] = 0.0
            costs[e] = 0.0
            outcomes[e] = 0
            continue
        episode = EpisodeState(ledger[e], branches[e], codes[e], order[e], traces)
        view = view_of(
            e, plane, confidence_plane, shown_branches, confidences, classes, totals, mask
        )
        rewards[e], costs[e], outcomes[e] = play_action(episode, view, weights[e], actions[e])
        ended += episode.ledger[s.ENDED]
    return ended


@entry_point()
def play_queues(
    probes,
    trace_branches,
    trace_confidences,
    trace_probe_tokens,
    nulls,
    ledger,
    branches,
    codes,
    order,
    weights,
    plane,
    confidence_plane,
    shown_branches,
    confidences,
    classes,
    totals,
    mask,
    queues,
    counts,
    outcomes,
):
    """Play several actions of some episodes, each up to its end or to what is illegal.

    An illegal action changes nothing, not even the count of steps. Its arguments are those of
    :meth:`Batch.arrays`.
    """
    traces = Traces(probes, trace_branches, trace_confidences, trace_probe_tokens, nulls)
    for e in range(len(counts)):
        if counts[e] == 0:
            continue
        episode = EpisodeState(ledger[e], branches[e], codes[e], order[e], traces)
        view = view_of(
            e, plane, confidence_plane, shown_branches, confidences, classes, totals, mask
        )
        agreed = ledger[e, s.BILLING]
        outcome = 0
        played = 0
        while played < counts[e] and outcome == 0:
            action = queues[e, played]
            by_tokens = action == BRANCH + BY_TOKENS
            if by_tokens:
                action = BRANCH
            if ledger[e, s.ENDED] or action < 0 or action >= mask.shape[1] or not mask[e, action]:
                outcome = ILLEGAL
                break
            if by_tokens:
                ledger[e, s.BILLING] = s.BY_TOKENS
            _, _, outcome = play_action(episode, view, weights[e], action)
            ledger[e, s.BILLING] = agreed
            queues[e, played] = action
            played += 1
        counts[e] = played
        outcomes[e] = outcome


@entry_point()
def _reset(
    probes,
    trace_branches,
    trace_confidences,
    trace_probe_tokens,
    nulls,
    ledger,
    branches,
    codes,
    order,
    weights,
    plane,
    confidence_plane,
    shown_branches,
    confidences,
    classes,
    totals,
    mask,
    terms,
    full_costs,
    questions,
    episodes,
    rows,
    betas,
    orders,
):
    traces = Traces(probes, trace_branches, trace_confidences, trace_probe_tokens, nulls)
    for k in range(len(episodes)):
        e = episodes[k]
        episode = EpisodeState(ledger[e], branches[e], codes[e], order[e], traces)
        view = view_of(
            e, plane, confidence_plane, shown_branches, confidences, classes, totals, mask
        )
        question = questions[rows[k]]
        store = question[s.Q_STORE]
        weights[e, _BETA] = betas[k]
        weights[e, _FULL_COST] = full_costs[store]
        rules.begin(episode, terms[store], question, rows[k], orders[k])
        observation.show_start(view, episode, betas[k])
        observation.show_totals(view, episode, full_costs[store])


class Batch:
    """``num_envs`` episodes, their observations, and the two calls that change them.

    Args:
        replay: what is played.
        terms: the terms of play.
        num_envs: E, how many episodes.
        max_depth: D, intervals that the plane shows.
        max_classes: M, class columns.
        plane: whether the plane is observed at all.
        invalid_penalty: what an illegal action costs, in units of reward.
        view: the arrays that observations are shown in; its own by default.

    Attributes:
        ledger: int64[E, LEDGER_SIZE], branches: int64[E, N, BRANCH_SIZE], codes: int16[E, 2, K],
            order: int64[E, N]: the episodes' state, see :mod:`autotts_gym.mdp.state`.
        view: the observations, with a leading axis for the episodes.
        rewards: float64[E], costs: float64[E] (shares of C), outcomes: uint8[E] (bits), of the
            latest step.
    """

    def __init__(
        self,
        replay: TraceDataset,
        terms: EpisodeConfig,
        num_envs: int,
        max_depth: int,
        max_classes: int,
        plane: bool,
        invalid_penalty: float,
        view: View | None = None,
    ) -> None:
        n = terms.max_branches
        replay.check_width(n)
        self.replay = replay
        self.terms = terms
        self._terms = np.array([terms.ledger(store) for store in replay.stores])
        self.full_costs = np.array([n * store.card.mean_tokens for store in replay.stores])
        self.ledger = np.zeros((num_envs, s.LEDGER_SIZE), np.int64)
        self.ledger[:, s.ENDED] = 1  # nothing to step before the first reset
        self.branches = np.zeros((num_envs, n, s.BRANCH_SIZE), np.int64)
        self.codes = np.zeros((num_envs, 2, replay.classes), np.int16)
        self.order = np.zeros((num_envs, n), np.int64)
        self._weights = np.zeros((num_envs, 3))
        self._weights[:, _PENALTY] = invalid_penalty
        self.view = view or observation.allocate(
            num_envs,
            n,
            max_depth,
            max_classes,
            plane=plane,
            confidences=replay.has_confidences,
        )
        self.actions = np.zeros(num_envs, np.int64)
        self.rewards = np.zeros(num_envs)
        self.costs = np.zeros(num_envs)
        self.outcomes = np.zeros(num_envs, np.uint8)
        self._bind()

    def _bind(self) -> None:
        state = (self.ledger, self.branches, self.codes, self.order, self._weights)
        self._arrays = (*self.replay.traces, *state, *self.view)
        self._step_arrays = (
            *self._arrays,
            self.actions,
            self.rewards,
            self.costs,
            self.outcomes,
        )

    def __getstate__(self) -> dict[str, Any]:
        # The bound tuples hold the same arrays once more: a copy must hold its own.
        return {k: v for k, v in self.__dict__.items() if k not in ("_arrays", "_step_arrays")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def step(self) -> int:
        """Play ``self.actions`` (int64[E]; ``SKIP`` leaves an episode alone).

        Returns how many episodes ended with it.
        """
        return int(_step(*self._step_arrays))

    def arrays(self, queues: NDArray[np.int32], counts: NDArray[np.int64]) -> tuple[Any, ...]:
        """Arguments of :func:`play_queues`; ``outcomes`` become those of each last action.

        Args:
            queues: int32[E, Q], ids of actions in their order, with ``BY_TOKENS`` added where that
                is meant; it is taken off those that are played.
            counts: int64[E], how many of each; afterwards, how many were played.
        """
        return (*self._arrays, queues, counts, self.outcomes)

    def reset(self, episodes: Sequence[int], draws: Sequence[EpisodeStart]) -> None:
        """Start ``episodes`` from their draws."""
        rows, betas, orders = zip(*draws, strict=True)
        _reset(
            *self._arrays,
            self._terms,
            self.full_costs,
            self.replay.questions,
            np.array(episodes, np.int64),
            np.array(rows, np.int64),
            np.array(betas, np.float64),
            np.array(orders, np.int64),
        )

    def rewind(self, draw: EpisodeStart, log: Sequence[int]) -> None:
        """Play the only episode of this batch anew, up to where it was.

        What was recorded may have grown meanwhile, as it does where an episode is live; what could
        be seen of the episode stays as it was.
        """
        self.reset([0], [draw])
        for action in log:
            self.actions[0] = action
            self.step()

    @property
    def mask(self) -> NDArray[np.int8]:
        """Which actions are legal, int8[E, A]."""
        return self.view.mask

    def observed(self) -> dict[str, NDArray[Any]]:
        """The arrays of the observations by key, each with the axis of episodes in front."""
        return observation.by_key(self.view)

    @property
    def betas(self) -> NDArray[np.float64]:
        """β of every episode, float64[E]."""
        return self._weights[:, _BETA]

    def beta(self, e: int) -> float:
        return float(self._weights[e, _BETA])

    def full_cost(self, e: int) -> float:
        """C of the environment that episode ``e`` plays, tokens."""
        return float(self._weights[e, _FULL_COST])

    def mean_lengths(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean length of a branch where some episodes play, intervals, float64[len(rows)]."""
        per_branch = self._weights[rows, _FULL_COST] / self.terms.max_branches
        lengths: NDArray[np.float64] = per_branch / self.ledger[rows, s.INTERVAL]
        return lengths

    def result(self, e: int) -> dict[str, Any]:
        """What is told of episode ``e`` when it has ended; see ``AutoTTSEnv``, "Information"."""
        ledger = self.ledger[e].tolist()
        row, given, tokens = ledger[s.QUESTION], ledger[s.ANSWER], ledger[s.TRUE_SPENT]
        right = given >= 0 and self.codes.item(e, s.CODE_OF, given) == ledger[s.GOLD]
        store, question = self.replay.locate(row)
        gold = self.replay.gold(row)
        return {
            "correct": None if gold is None else right,
            "answer": self.answer_text(e, given),
            "gold": gold,
            "tokens": tokens,
            "sequential_tokens": ledger[s.TRUE_CLOCK],
            "steps": ledger[s.STEPS],
            "probes": ledger[s.PROBES],
            "env": self.replay.names[store],
            "question": question,
            "beta": self._weights.item(e, _BETA),
            "accuracy_reward": float(right),
            "cost_reward": -tokens / self._weights.item(e, _FULL_COST),
        }

    def answer_text(self, e: int, answer_class: int) -> str:
        """The answer behind a class of episode ``e``; empty for -1."""
        if answer_class < 0:
            return ""
        answers = self.replay.answers(int(self.ledger[e, s.QUESTION]))
        return answers[self.codes[e, s.CODE_OF, answer_class]]
