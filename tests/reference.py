"""Reference implementation of one episode of the decision process, in plain Python.

It is slow and simple, and written from docs/process.md alone, independently of the compiled rules.
It recomputes every derived quantity from the requested and revealed intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import fmean
from typing import Any

import numpy as np

from autotts_gym.traces.store import NULL_ANSWERS, Branch, TraceStore


class Config:
    """Configuration and stores, shared by all episodes.

    The arguments have the names and meanings of the environment's arguments.
    """

    def __init__(
        self,
        stores: Sequence[TraceStore],
        *,
        max_branches: int,
        billing: str = "tokens",
        budget: int | None = None,
        probe_tokens: int | str = 0,
        auto_probe: bool = False,
        step_limit: int | None = None,
        invalid_penalty: float = 0.01,
        observation: str = "full",
        max_depth: int | None = None,
        max_classes: int = 64,
        latency_weight: float = 0.0,
    ) -> None:
        self.intervals = [store.card.interval for store in stores]
        self.questions = [
            [store.question(row) for row in range(store.card.questions)] for store in stores
        ]
        branches_by_store = [
            [b for q in questions for b in q.branches] for questions in self.questions
        ]
        self.max_branches = max_branches
        self.billing = billing
        self.budget = budget
        self.auto_probe = auto_probe
        self.step_limit = step_limit
        self.invalid_penalty = invalid_penalty
        self.full = observation == "full"
        self.max_classes = max_classes
        self.depth_limits = [
            max(len(b.probes) for b in branches) + 1 for branches in branches_by_store
        ]
        self.max_depth = max(self.depth_limits) if max_depth is None else max_depth
        self.full_costs = [  # C
            max_branches * fmean(fmean(b.tokens for b in q.branches) for q in questions)
            for questions in self.questions
        ]
        self.latency_weight = latency_weight
        self.full_latencies = [  # L
            fmean(expected_longest([b.tokens for b in q.branches], max_branches) for q in questions)
            for questions in self.questions
        ]
        self.recorded = probe_tokens == "recorded"
        # The charge that the budget must cover; the cost of a probe is known only afterwards.
        self.probe_charges = [
            max((cost for b in branches for cost in b.probe_tokens or ()), default=0)
            if self.recorded
            else int(probe_tokens)
            for branches in branches_by_store
        ]
        self.confidences = any(b.confidences for branches in branches_by_store for b in branches)


def expected_longest(tokens: Sequence[int], count: int) -> float:
    """Expected maximum of ``count`` of these numbers, drawn without replacement."""
    count = min(count, len(tokens))

    def at_most(limit: int) -> Fraction:  # the probability of such a maximum
        return Fraction(
            math.comb(sum(t <= limit for t in tokens), count), math.comb(len(tokens), count)
        )

    return float(sum(t * (at_most(t) - at_most(t - 1)) for t in set(tokens)))


@dataclass
class ProbeResult:
    """Result of one probe."""

    depth: int
    answer: str
    finished: bool
    confidence: float  # -1 without a recorded confidence


@dataclass
class OpenBranch:
    """An open branch: its recorded trace and its state."""

    trace: Branch
    active: bool = True
    requested: int = 0  # requested intervals
    results: list[ProbeResult] = field(default_factory=list)  # in the order of the probes
    # The clock value (tokens) at which the requested text is ready: on the visible clock with
    # charged lengths (Δ per interval), on the visible clock with actual lengths (hidden), and on
    # the true clock.
    ready_charged: int = 0
    ready_actual: int = 0
    ready_true: int = 0

    @property
    def end(self) -> int:
        """The number of intervals of the whole branch."""
        return len(self.trace.probes) + 1

    @property
    def finished(self) -> bool:
        """Whether a probe has revealed the end."""
        return bool(self.results) and self.results[-1].finished

    def known_confidences(self, *, whole: bool = False) -> list[tuple[float, int]]:
        """Confidence sum and number of tokens of each revealed interval that has some.

        Args:
            whole: leave out the last interval of a finished branch.
        """
        depth = self.results[-1].depth if self.results else 0
        sums, counts = self.trace.confidence_sums or (), self.trace.confidence_tokens or ()
        depth -= whole and self.finished
        return [pair for pair in zip(sums[:depth], counts[:depth], strict=True) if pair[1]]

    @property
    def probed(self) -> bool:
        """Whether the current depth has been probed."""
        return bool(self.results) and self.results[-1].depth == self.requested


def mean_confidence(intervals: Sequence[tuple[float, int]]) -> float:
    """Mean over the tokens of some intervals; -1 without any."""
    tokens = sum(count for _, count in intervals)
    return sum(total for total, _ in intervals) / tokens if tokens else -1.0


class Episode:
    """One episode over a question of a store, with a fixed order of branches."""

    def __init__(
        self, config: Config, store: int, row: int, order: Sequence[int], beta: float
    ) -> None:
        question = config.questions[store][row]
        self.config = config
        self.store, self.row = store, row
        self.beta = beta
        self.gold = question.gold
        self.traces = [question.branches[b] for b in order[: config.max_branches]]
        self.interval = config.intervals[store]
        self.depth_limit = config.depth_limits[store]
        self.probe_charge = config.probe_charges[store]
        self.C = config.full_costs[store]
        self.L = config.full_latencies[store]
        self.latency_weight = config.latency_weight
        self.mean_tokens = self.C / config.max_branches
        self.has_generation_confidence = question.branches[0].confidence_sums is not None

        self.open: list[OpenBranch] = []
        self.classes: list[str] = []  # distinct answers in order of first appearance
        self.probe_bill = 0
        self.clock = 0  # visible
        self.true_clock = 0
        self.steps = 0
        self.probes = 0
        self.illegal = 0
        self.done = False

    # --- costs -----------------------------------------------------------------------------------

    def bill(self, trace: Branch, k: int) -> int:
        """Tokens in the true bill of interval ``k``, counted from 1."""
        n, delta = len(trace.probes), self.interval
        if k > n + 1:
            return 0  # after the end, no text is generated
        if k == n + 1:
            return max(0, trace.tokens - n * delta)
        if self.config.billing == "interval":
            return delta
        return min(max(trace.tokens - (k - 1) * delta, 0), delta)

    def true_bill(self, branch: OpenBranch) -> int:
        return sum(self.bill(branch.trace, k) for k in range(1, branch.requested + 1))

    @property
    def tokens(self) -> int:
        """Total tokens of the episode (the true cost)."""
        return self.probe_bill + sum(self.true_bill(branch) for branch in self.open)

    @property
    def spent(self) -> int:
        """The visible cost in tokens: Δ per requested interval until the end is revealed."""
        return self.probe_bill + sum(
            self.true_bill(branch) if branch.finished else self.interval * branch.requested
            for branch in self.open
        )

    # --- legality --------------------------------------------------------------------------------

    @property
    def mask(self) -> list[bool]:
        return [self.legal(action) for action in range(2 + 4 * self.config.max_branches)]

    def legal(self, action: int) -> bool:
        auto = self.config.auto_probe
        step_charge = self.interval + (self.probe_charge if auto else 0)
        if action == 0:
            return True
        if action == 1:
            return len(self.open) < self.config.max_branches and self.covers(step_charge)
        kind, i = divmod(action - 2, self.config.max_branches)
        if i >= len(self.open):
            return False
        branch = self.open[i]
        if kind == 0:  # CONTINUE
            grows = not branch.finished and branch.requested < self.depth_limit
            return branch.active and grows and self.covers(step_charge)
        if kind == 1:  # PROBE
            new = not branch.finished and not branch.probed
            return branch.active and new and not auto and self.covers(self.probe_charge)
        if kind == 2:  # PRUNE
            return branch.active
        return bool(branch.results)  # ANSWER(i)

    def covers(self, charge: int) -> bool:
        return self.config.budget is None or self.spent + charge <= self.config.budget

    # --- actions ---------------------------------------------------------------------------------

    def step(self, action: int) -> tuple[float, bool, bool, dict[str, Any]]:
        """Returns reward, terminated, truncated and info, with strings (without ``env``)."""
        assert not self.done
        kind, i = divmod(action - 2, self.config.max_branches)
        legal = self.legal(action)
        before, clock_before = self.spent, self.clock
        terminated = False
        answer = None
        self.steps += 1
        if not legal:
            self.illegal += 1
        elif action == 0:
            terminated, answer = True, self.plurality()
        elif action == 1:
            self.open.append(OpenBranch(self.traces[len(self.open)]))
            self.generate(self.open[-1])
        elif kind == 0:
            self.generate(self.open[i])
        elif kind == 1:
            self.probe(self.open[i])
        elif kind == 2:
            self.open[i].active = False
        else:
            terminated, answer = True, self.open[i].results[-1].answer

        truncated = not terminated and self.steps == self.config.step_limit
        self.done = terminated or truncated
        tokens = ((self.tokens if self.done else self.spent) - before) / self.C
        latency = ((self.true_clock if self.done else self.clock) - clock_before) / self.L
        cost = self.mixed(tokens, latency)
        correct = answer == self.gold  # without a probe there is no answer, which is incorrect
        reward = -(1 - self.beta) * cost + (self.beta if correct else 0)
        reward -= 0 if legal else self.config.invalid_penalty
        info = self.initial_info()
        info |= {
            "invalid_action": np.int8(not legal),
            "cost": np.float64(cost),
            "token_cost": np.float64(tokens),
            "latency_cost": np.float64(latency),
        }
        if self.done:
            info |= {
                "correct": np.int8(correct),
                "has_gold": np.int8(self.gold != ""),
                "answer_class": np.int64(-1 if answer is None else self.classes.index(answer)),
                "answer": answer or "",
                "gold": self.gold,
                "tokens": np.int64(self.tokens),
                "sequential_tokens": np.int64(self.true_clock),
                "steps": np.int64(self.steps),
                "probes": np.int64(self.probes),
                "env_index": np.int64(self.store),
                "question": np.int64(self.row),
                "accuracy_reward": np.float64(correct),
                "cost_reward": np.float64(
                    -self.mixed(self.tokens / self.C, self.true_clock / self.L)
                ),
                "token_reward": np.float64(-self.tokens / self.C),
                "latency_reward": np.float64(-self.true_clock / self.L),
            }
        return reward, terminated, truncated, info

    def mixed(self, tokens: float, latency: float) -> float:
        """The cost of shares of C and of L."""
        return (1 - self.latency_weight) * tokens + self.latency_weight * latency

    def initial_info(self) -> dict[str, Any]:
        """The info after a reset, with strings, without the mask."""
        flags = dict.fromkeys(("invalid_action", "correct", "has_gold"), np.int8(0))
        unknown = dict.fromkeys(("answer_class", "env_index", "question"), np.int64(-1))
        counts = dict.fromkeys(("tokens", "sequential_tokens", "steps", "probes"), np.int64(0))
        parts = ("cost", "token_cost", "latency_cost")
        rewards = ("accuracy_reward", "cost_reward", "token_reward", "latency_reward")
        zeros = dict.fromkeys((*parts, *rewards), np.float64(0))
        texts = dict.fromkeys(("answer", "gold", "env"), "")
        knobs = {"beta": np.float64(self.beta), "latency_weight": np.float64(self.latency_weight)}
        return flags | unknown | counts | zeros | texts | knobs

    def generate(self, branch: OpenBranch) -> None:
        branch.requested += 1
        tokens = self.bill(branch.trace, branch.requested)
        branch.ready_charged = max(branch.ready_charged, self.clock) + self.interval
        branch.ready_actual = max(branch.ready_actual, self.clock) + tokens
        branch.ready_true = max(branch.ready_true, self.true_clock) + tokens
        if self.config.auto_probe:
            self.probe(branch)

    def probe(self, branch: OpenBranch) -> None:
        trace, k = branch.trace, branch.requested
        self.probes += 1
        self.true_clock = max(self.true_clock, branch.ready_true)
        if k >= branch.end:
            branch.requested = branch.end
            branch.results.append(ProbeResult(branch.end, trace.final, True, -1))
            self.clock = max(self.clock, branch.ready_actual)
            self.probe_bill += 0 if self.config.recorded else self.probe_charge
        else:
            confidence = -1 if trace.confidences is None else trace.confidences[k - 1]
            branch.results.append(ProbeResult(k, trace.probes[k - 1], False, confidence))
            self.clock = max(self.clock, branch.ready_charged)
            costs = trace.probe_tokens if self.config.recorded else None
            self.probe_bill += self.probe_charge if costs is None else costs[k - 1]
        if branch.results[-1].answer not in self.classes:
            self.classes.append(branch.results[-1].answer)

    def plurality(self) -> str | None:
        """The most frequent latest answer of the active branches; ties go to the first vote."""
        votes = [
            branch.results[-1].answer for branch in self.open if branch.active and branch.results
        ]
        return max(votes, key=votes.count, default=None)  # max returns the first maximum

    def generation_confidence(self, i: int, window: int | None = None) -> float:
        """Mean token confidence of the last ``window`` revealed intervals of branch ``i``."""
        known = self.open[i].known_confidences() if i < len(self.open) else []
        return mean_confidence(known[-window:] if window else known)

    def lowest_confidence(self, i: int, window: int | None = None) -> float:
        """Lowest mean token confidence of a full window of branch ``i``."""
        if i >= len(self.open):
            return -1.0
        whole = self.open[i].known_confidences(whole=True)
        windows = [whole[k : k + window] for k in range(len(whole) - window + 1)] if window else []
        means = [mean_confidence(intervals) for intervals in windows]
        return min(means, default=mean_confidence(self.open[i].known_confidences()))

    # --- observations ----------------------------------------------------------------------------

    def observe(self) -> dict[str, np.ndarray]:
        config = self.config
        N, D, M = config.max_branches, config.max_depth, config.max_classes
        columns = {
            name: np.zeros(N, np.int16)
            for name in ("status", "requested", "revealed", "latest", "finished", "unread")
        }
        columns["latest"][:] = -1
        plane, confidence_plane = np.full((N, D), -1, np.int16), np.full((N, D), -1, np.float32)
        confidence = np.full(N, -1, np.float32)
        generation = np.full(N, -1, np.float32)
        generation_plane = np.full((N, D), -1, np.float32)
        votes, null = np.zeros(M, np.int16), np.zeros(M, np.int16)
        for i, branch in enumerate(self.open):
            columns["status"][i] = 1 if branch.active else 2
            columns["requested"][i] = branch.requested
            columns["finished"][i] = branch.finished
            for result in branch.results:
                class_number = self.classes.index(result.answer)
                if result.depth <= D:
                    plane[i, result.depth - 1] = class_number
                    confidence_plane[i, result.depth - 1] = result.confidence
            sums, counts = branch.trace.confidence_sums, branch.trace.confidence_tokens
            for k in range(branch.results[-1].depth if branch.results else 0):
                if counts and counts[k]:
                    generation[i] = np.float32(sums[k] / counts[k])
                    if k < D:
                        generation_plane[i, k] = generation[i]
            if branch.results:  # `result` is the latest one
                columns["revealed"][i] = result.depth
                columns["latest"][i] = class_number
                confidence[i] = result.confidence
                votes[min(class_number, M - 1)] += branch.active
            unread = branch.requested - columns["revealed"][i]
            columns["unread"][i] = min(int(unread) * self.interval, 2**15 - 1)
        for column in range(M):
            members = self.classes[column : None if column == M - 1 else column + 1]
            null[column] = bool(members) and all(answer in NULL_ANSWERS for answer in members)
        numbers = [len(self.open), self.spent / self.C, -1, self.clock / self.C, self.beta]
        if config.budget is not None:
            numbers[2] = max(0, config.budget - self.spent) / self.C
        if config.latency_weight:
            numbers += [self.latency_weight, self.clock / self.L]
        observation = {f"branch_{name}": column for name, column in columns.items()} | {
            "class_votes": votes,
            "class_null": null,
            "globals": np.minimum(numbers, 1e6).astype(np.float32),
            "action_mask": np.array(self.mask, np.int8),
            "branch_generation_confidence": generation,
        }
        if config.full:
            observation["plane"] = plane.ravel()
            observation["generation_confidence_plane"] = generation_plane.ravel()
        if config.confidences:
            observation["branch_confidence"] = confidence
        if config.full and config.confidences:
            observation["confidence_plane"] = confidence_plane.ravel()
        return observation


class AnswerHistory:
    """The plurality answer and the total tokens after every action of an episode.

    Args:
        episode: an episode before its first action.
    """

    def __init__(self, episode: Episode) -> None:
        self.episode = episode
        self.entries: list[tuple[str | None, int]] = []
        self.record()

    def record(self) -> None:
        """Append the current plurality answer and total tokens."""
        self.entries.append((self.episode.plurality(), self.episode.tokens))

    def settled_tokens(self, last_action: int) -> int:
        """Total tokens when the plurality last became the final answer.

        These are the total tokens of the episode if it has no answer, or if the final answer is not
        the plurality.
        """
        episode, n = self.episode, self.episode.config.max_branches
        if last_action == 0:
            final_answer = episode.plurality()
        elif last_action >= 2 + 3 * n:
            final_answer = episode.open[last_action - 2 - 3 * n].results[-1].answer
        else:
            return episode.tokens  # no answer
        settled = episode.tokens
        for plurality, tokens in reversed(self.entries):
            if plurality != final_answer:
                break
            settled = tokens
        return settled


def draw_start(
    key: Any,
    episode: int,
    rows: list[list[int]],
    branch_counts: list[int],
    limits: list[tuple[float, float]],
    width: int,
) -> tuple[int, float, float, list[int]]:
    """The question, β, w and branches of an episode, from NumPy's Philox.

    Args:
        key: uint64[2], the key of the stream.
        episode: number of the episode in the stream.
        rows: the questions to draw from, of each store.
        branch_counts: number of branches of each question.
        limits: the ranges of β and of w.
        width: number of branches.
    """
    counter = np.array([0, episode, 0, 0], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(4 + width).tolist()
    questions = rows[words[0] * len(rows) >> 64]
    row = questions[words[1] * len(questions) >> 64]
    beta, weight = (
        low + (high - low) * ((word >> 11) / 2**53)
        for (low, high), word in zip(limits, words[2:4], strict=True)
    )
    halves = [half for word in words[4:] for half in (word & 0xFFFFFFFF, word >> 32)]
    order = list(range(branch_counts[row]))
    for k in range(width):
        chosen = k + (halves[k] * (len(order) - k) >> 32)
        order[k], order[chosen] = order[chosen], order[k]
    return row, beta, weight, order[:width]
