"""One episode of the decision process, in plain Python: slow, and meant to be obviously right.

Written from the rules alone (docs/process.md), before their compiled form was read. Nothing is
kept up to date that can be counted anew from what was requested and revealed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from autotts_gym.traces.store import NULL_ANSWERS, Branch, TraceStore


class Game:
    """What all episodes over some stores have in common.

    The arguments are those of the environment, named as they are there.
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
    ) -> None:
        self.intervals = [store.card.interval for store in stores]
        self.questions = [
            [store.question(row) for row in range(store.card.questions)] for store in stores
        ]
        every = [[b for q in questions for b in q.branches] for questions in self.questions]
        self.max_branches = max_branches
        self.billing = billing
        self.budget = budget
        self.auto_probe = auto_probe
        self.step_limit = step_limit
        self.invalid_penalty = invalid_penalty
        self.full = observation == "full"
        self.max_classes = max_classes
        self.depth_limits = [max(len(b.probes) for b in branches) + 1 for branches in every]
        self.max_depth = max(self.depth_limits) if max_depth is None else max_depth
        self.full_costs = [  # C
            max_branches * fmean(fmean(b.tokens for b in q.branches) for q in questions)
            for questions in self.questions
        ]
        self.recorded = probe_tokens == "recorded"
        # What the budget must cover: the cost of the next probe is not known before the look.
        self.probe_charges = [
            max((cost for b in branches for cost in b.probe_tokens or ()), default=0)
            if self.recorded
            else int(probe_tokens)
            for branches in every
        ]
        self.confidences = any(b.confidences for branches in every for b in branches)


@dataclass
class Seen:
    """What a probe revealed."""

    depth: int
    answer: str
    finished: bool
    confidence: float  # -1 where none was recorded


@dataclass
class Open:
    """An opened branch: what it is, and what has happened to it."""

    trace: Branch
    active: bool = True
    requested: int = 0  # intervals asked for
    seen: list[Seen] = field(default_factory=list)  # in the order of the looks
    # When its text is ready: on the visible clock as charged (Δ an interval) and, hidden, as it
    # really was; and on the true clock.
    ready_charged: int = 0
    ready_actual: int = 0
    ready_true: int = 0

    @property
    def end(self) -> int:
        """The interval after which it is finished."""
        return len(self.trace.probes) + 1

    @property
    def finished(self) -> bool:
        """Whether its end was revealed."""
        return bool(self.seen) and self.seen[-1].finished

    @property
    def probed(self) -> bool:
        """Whether its present depth was looked at already."""
        return bool(self.seen) and self.seen[-1].depth == self.requested


class Episode:
    """One episode over a question of a store, whose branches open in this order."""

    def __init__(self, game: Game, store: int, row: int, order: Sequence[int], beta: float) -> None:
        question = game.questions[store][row]
        self.game = game
        self.beta = beta
        self.gold = question.gold
        self.traces = [question.branches[b] for b in order[: game.max_branches]]
        self.interval = game.intervals[store]
        self.depth_limit = game.depth_limits[store]
        self.probe_charge = game.probe_charges[store]
        self.C = game.full_costs[store]

        self.open: list[Open] = []
        self.classes: list[str] = []  # answers by first appearance
        self.probe_bill = 0
        self.clock = 0  # visible
        self.true_clock = 0
        self.steps = 0
        self.probes = 0
        self.illegal = 0
        self.done = False

    # --- costs -----------------------------------------------------------------------------------

    def bill(self, trace: Branch, k: int) -> int:
        """Tokens really billed for interval ``k``, counted from 1."""
        n, delta = len(trace.probes), self.interval
        if k > n + 1:
            return 0  # it has ended: nothing is generated
        if k == n + 1:
            return max(0, trace.tokens - n * delta)
        if self.game.billing == "interval":
            return delta
        return min(max(trace.tokens - (k - 1) * delta, 0), delta)

    def true_bill(self, branch: Open) -> int:
        return sum(self.bill(branch.trace, k) for k in range(1, branch.requested + 1))

    @property
    def tokens(self) -> int:
        """The true cost."""
        return self.probe_bill + sum(self.true_bill(branch) for branch in self.open)

    @property
    def spent(self) -> int:
        """What is visible of it: Δ for each requested interval until the end is revealed."""
        return self.probe_bill + sum(
            self.true_bill(branch) if branch.finished else self.interval * branch.requested
            for branch in self.open
        )

    # --- legality --------------------------------------------------------------------------------

    @property
    def mask(self) -> list[bool]:
        return [self.legal(action) for action in range(2 + 4 * self.game.max_branches)]

    def legal(self, action: int) -> bool:
        auto = self.game.auto_probe
        step_charge = self.interval + (self.probe_charge if auto else 0)
        if action == 0:
            return True
        if action == 1:
            return len(self.open) < self.game.max_branches and self.covers(step_charge)
        kind, i = divmod(action - 2, self.game.max_branches)
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
        return bool(branch.seen)  # ANSWER(i)

    def covers(self, charge: int) -> bool:
        return self.game.budget is None or self.spent + charge <= self.game.budget

    # --- actions ---------------------------------------------------------------------------------

    def step(self, action: int) -> tuple[float, bool, bool, dict[str, Any]]:
        """Reward, terminated, truncated and info (but for what names the question)."""
        assert not self.done
        kind, i = divmod(action - 2, self.game.max_branches)
        legal = self.legal(action)
        before = self.spent
        terminated = False
        answer = None
        self.steps += 1
        if not legal:
            self.illegal += 1
        elif action == 0:
            terminated, answer = True, self.plurality()
        elif action == 1:
            self.open.append(Open(self.traces[len(self.open)]))
            self.generate(self.open[-1])
        elif kind == 0:
            self.generate(self.open[i])
        elif kind == 1:
            self.probe(self.open[i])
        elif kind == 2:
            self.open[i].active = False
        else:
            terminated, answer = True, self.open[i].seen[-1].answer

        truncated = not terminated and self.steps == self.game.step_limit
        self.done = terminated or truncated
        cost = (self.tokens if self.done else self.spent) - before
        right = answer == self.gold  # nothing revealed: no answer, and wrong
        reward = -(1 - self.beta) * cost / self.C + (self.beta if right else 0)
        reward -= 0 if legal else self.game.invalid_penalty
        info: dict[str, Any] = {"invalid_action": not legal, "cost": cost / self.C}
        if self.done:
            info |= {
                "correct": right,
                "answer": answer or "",
                "gold": self.gold,
                "tokens": self.tokens,
                "sequential_tokens": self.true_clock,
                "steps": self.steps,
                "probes": self.probes,
                "beta": self.beta,
                "accuracy_reward": float(right),
                "cost_reward": -self.tokens / self.C,
            }
        return reward, terminated, truncated, info

    def generate(self, branch: Open) -> None:
        branch.requested += 1
        tokens = self.bill(branch.trace, branch.requested)
        branch.ready_charged = max(branch.ready_charged, self.clock) + self.interval
        branch.ready_actual = max(branch.ready_actual, self.clock) + tokens
        branch.ready_true = max(branch.ready_true, self.true_clock) + tokens
        if self.game.auto_probe:
            self.probe(branch)

    def probe(self, branch: Open) -> None:
        trace, k = branch.trace, branch.requested
        self.probes += 1
        self.true_clock = max(self.true_clock, branch.ready_true)
        if k >= branch.end:
            branch.requested = branch.end
            branch.seen.append(Seen(branch.end, trace.final, True, -1))
            self.clock = max(self.clock, branch.ready_actual)
            self.probe_bill += 0 if self.game.recorded else self.probe_charge
        else:
            confidence = -1 if trace.confidences is None else trace.confidences[k - 1]
            branch.seen.append(Seen(k, trace.probes[k - 1], False, confidence))
            self.clock = max(self.clock, branch.ready_charged)
            costs = trace.probe_tokens if self.game.recorded else None
            self.probe_bill += self.probe_charge if costs is None else costs[k - 1]
        if branch.seen[-1].answer not in self.classes:
            self.classes.append(branch.seen[-1].answer)

    def plurality(self) -> str | None:
        """The most frequent of the active branches' latest answers; ties go to the first vote."""
        votes = [branch.seen[-1].answer for branch in self.open if branch.active and branch.seen]
        return max(votes, key=votes.count, default=None)  # max keeps the first of equals

    # --- what is seen ----------------------------------------------------------------------------

    def observe(self) -> dict[str, np.ndarray]:
        game = self.game
        N, D, M = game.max_branches, game.max_depth, game.max_classes
        columns = {
            name: np.zeros(N, np.int16)
            for name in ("status", "requested", "revealed", "latest", "finished", "unread")
        }
        columns["latest"][:] = -1
        plane, confidence_plane = np.full((N, D), -1, np.int16), np.full((N, D), -1, np.float32)
        confidence = np.full(N, -1, np.float32)
        votes, null = np.zeros(M, np.int16), np.zeros(M, np.int16)
        for i, branch in enumerate(self.open):
            columns["status"][i] = 1 if branch.active else 2
            columns["requested"][i] = branch.requested
            columns["finished"][i] = branch.finished
            for seen in branch.seen:
                number = self.classes.index(seen.answer)
                if seen.depth <= D:
                    plane[i, seen.depth - 1] = number
                    confidence_plane[i, seen.depth - 1] = seen.confidence
            if branch.seen:  # the latest
                columns["revealed"][i] = seen.depth
                columns["latest"][i] = number
                confidence[i] = seen.confidence
                votes[min(number, M - 1)] += branch.active
            unread = branch.requested - columns["revealed"][i]
            columns["unread"][i] = min(int(unread) * self.interval, 2**15 - 1)
        for column in range(M):
            held = self.classes[column : None if column == M - 1 else column + 1]
            null[column] = bool(held) and all(answer in NULL_ANSWERS for answer in held)
        figures = [len(self.open), self.spent / self.C, -1, self.clock / self.C, self.beta]
        if game.budget is not None:
            figures[2] = max(0, game.budget - self.spent) / self.C
        observation = {f"branch_{name}": column for name, column in columns.items()} | {
            "class_votes": votes,
            "class_null": null,
            "globals": np.minimum(figures, 1e6).astype(np.float32),
            "action_mask": np.array(self.mask, np.int8),
        }
        if game.full:
            observation["plane"] = plane.ravel()
        if game.confidences:
            observation["branch_confidence"] = confidence
        if game.full and game.confidences:
            observation["confidence_plane"] = confidence_plane.ravel()
        return observation


class Moments:
    """What ANSWER would have given, and what had been spent, after every action of an episode.

    Args:
        one: an episode at its start.
    """

    def __init__(self, one: Episode) -> None:
        self.one = one
        self.all: list[tuple[str | None, int]] = []
        self.note()

    def note(self) -> None:
        """Take down the moment that is."""
        self.all.append((self.one.plurality(), self.one.tokens))

    def settled(self, last: int) -> int:
        """The tokens when the answer was there to stay; all of them, where it never was.

        Args:
            last: the last action.
        """
        one, n = self.one, self.one.game.max_branches
        if last == 0:
            given = one.plurality()
        elif last >= 2 + 3 * n:
            given = one.open[last - 2 - 3 * n].seen[-1].answer
        else:
            return one.tokens  # nothing was answered
        settled = one.tokens
        for plurality, tokens in reversed(self.all):
            if plurality != given:
                break
            settled = tokens
        return settled
