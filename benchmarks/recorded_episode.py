"""An episode on recorded branches in plain Python: what was read, shown and billed, and voting.

It does not use the environment, its rules or the helper functions of the package: costs follow from
how far each branch was read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autotts_gym.traces.store import Branch

WIDTH, WARM_UP = 64, 16


@dataclass
class Run:
    """An episode: recorded branches, how far each was read, and the costs.

    Attributes:
        branches: in the order in which they open.
        interval: Δ, tokens.
        window: length of a confidence window, intervals.
        billing: "tokens" or "interval".
        nulls: null answers.
        depths: intervals read of each open branch.
        clock: sequential tokens.
        probes: number of probes.
        pruned: branches that were pruned.
    """

    branches: Sequence[Branch]
    interval: int
    window: int
    billing: str
    nulls: frozenset[str]
    depths: list[int] = field(default_factory=list)
    clock: int = 0
    probes: int = 0
    pruned: set[int] = field(default_factory=set)

    def cost(self, i: int, depth: int) -> int:
        """Billed tokens of the first intervals of a branch."""
        branch, n, charged = self.branches[i], len(self.branches[i].probes), depth * self.interval
        if self.billing == "interval":
            return charged if depth <= n else max(branch.tokens, n * self.interval)
        return min(branch.tokens, charged) if depth <= n else branch.tokens

    @property
    def tokens(self) -> int:
        return sum(self.cost(i, depth) for i, depth in enumerate(self.depths))

    def end(self, i: int) -> int:
        return len(self.branches[i].probes) + 1

    def is_finished(self, i: int) -> bool:
        return self.depths[i] == self.end(i)

    def shown(self, i: int, depth: int) -> str:
        """The answer that a branch shows at a depth; its final one at and past its end."""
        branch = self.branches[i]
        return branch.probes[depth - 1] if depth < self.end(i) else branch.final

    def latest(self, i: int) -> str:
        return self.shown(i, self.depths[i])

    def vote(self, i: int) -> str | None:
        """The latest answer, or None if it is null."""
        answer = self.latest(i)
        return None if answer in self.nulls else answer

    def running(self) -> list[int]:
        opened = range(len(self.depths))
        return [i for i in opened if i not in self.pruned and not self.is_finished(i)]

    def open(self, count: int) -> list[int]:
        """Open branches until ``count`` are open; returns the new ones."""
        new = list(range(len(self.depths), min(count, len(self.branches))))
        self.depths += [0] * len(new)
        return new

    def advance(self, chosen: Iterable[int], whole: bool = False) -> list[int]:
        """Read branches by an interval, or whole, in parallel, and probe each once.

        Returns:
            Those that finish, in order of their tokens, then of their index.
        """
        costs, finished = [0], []
        for i in chosen:
            before = self.cost(i, self.depths[i]) if self.depths[i] else 0
            self.depths[i] = self.end(i) if whole else self.depths[i] + 1
            costs.append(self.cost(i, self.depths[i]) - before)
            self.probes += 1
            if self.is_finished(i):
                finished.append(i)
        self.clock += max(costs)
        return sorted(finished, key=lambda i: (self.cost(i, self.depths[i]), i))

    def confidence(self, i: int, depth: int) -> float:
        """Mean token confidence of the last window up to a depth."""
        sums, counts = self.branches[i].confidence_sums, self.branches[i].confidence_tokens
        if sums is None or counts is None:
            return -1.0
        pairs = [(s, c) for s, c in zip(sums[:depth], counts[:depth], strict=True) if c > 0]
        return _mean(pairs[-self.window :])

    def full_windows(self, i: int, depth: int) -> list[float]:
        """Means of the full windows up to a depth; a last, partial interval is in none."""
        sums, counts = self.branches[i].confidence_sums, self.branches[i].confidence_tokens
        assert sums is not None
        assert counts is not None
        whole = min(depth, len(self.branches[i].probes))
        pairs = [(s, c) for s, c in zip(sums[:whole], counts[:whole], strict=True) if c > 0]
        return [
            _mean(pairs[k : k + self.window]) for k in range(max(0, len(pairs) - self.window + 1))
        ]

    def windows(self, i: int, depth: int) -> list[float]:
        """The full windows up to a depth, or the mean over all tokens if there is none."""
        sums, counts = self.branches[i].confidence_sums, self.branches[i].confidence_tokens
        assert sums is not None
        assert counts is not None
        everything = [(s, c) for s, c in zip(sums[:depth], counts[:depth], strict=True) if c > 0]
        return self.full_windows(i, depth) or [_mean(everything)]

    def fallback(self) -> str:
        """The plurality of the latest answers that are not null, or of all."""
        active = [i for i in range(len(self.depths)) if i not in self.pruned]
        votes = [(self.vote(i), 1.0) for i in active]
        return leader(votes) or leader([(self.latest(i), 1.0) for i in active]) or ""


def _mean(pairs: Sequence[tuple[float, int]]) -> float:
    count = sum(c for _, c in pairs)
    return sum(float(s) for s, _ in pairs) / count if count else -1.0


def tally(votes: Iterable[tuple[str | None, float]]) -> dict[str, float]:
    """Weight of every answer, in the order of first counting; None does not vote."""
    found: dict[str, float] = {}
    for answer, weight in votes:
        if answer is not None and weight > 0:
            found[answer] = found.get(answer, 0.0) + weight
    return found


def leader(votes: Iterable[tuple[str | None, float]]) -> str | None:
    found = tally(votes)
    return max(found, key=found.__getitem__) if found else None


def clipped(beta: float) -> float:
    return min(max(beta, 0.0), 1.0)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the two nearest values."""
    ordered = sorted(values)
    position = round(percent / 100 * (len(ordered) - 1), 9)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
