"""The field's controllers in plain Python, written again from their descriptions.

They do not use the environment, its rules or the helper functions of the package: an episode is a
list of recorded branches, and its costs follow from how far each was read. They are slow, and test
the controllers in ``agents/`` episode by episode::

    python benchmarks/field_controllers.py --env tinylm --seeds 10 --beta 0,0.5,1

Every controller is a function ``(run, beta) -> answer``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.records import NULL_ANSWERS
from autotts_gym.traces.store import Branch, TraceStore

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


# --- first to finish and shortest chains ---------------------------------------------------------


def first_finish(run: Run, beta: float) -> str:
    run.open(round(1 + 15 * clipped(beta)))
    while run.running():
        for i in run.advance(run.running()):
            if (answer := run.vote(i)) is not None:
                return answer
    return run.fallback()


def short_m_at_k(run: Run, beta: float) -> str:
    run.open(round(3 + 13 * clipped(beta)))
    finished: list[int] = []
    pool: list[int] = []
    while run.running():
        finished += run.advance(run.running())
        while len(pool) < len(finished):
            if len(pool) >= 3 and any(run.vote(i) for i in pool):
                break
            pool.append(finished[len(pool)])
        if len(pool) >= 3 and any(run.vote(i) for i in pool):
            break
    votes = tally((run.vote(i), 1) for i in pool)
    if not votes:
        return run.fallback()

    def shortest(answer: str) -> int:
        return min(run.cost(i, run.depths[i]) for i in pool if run.vote(i) == answer)

    return min(votes, key=lambda answer: (-votes[answer], shortest(answer)))


# --- adaptive self-consistency in parallel -------------------------------------------------------


def beta_stopping(run: Run, beta: float) -> str:
    run.open(WIDTH)
    pool: list[tuple[str | None, float]] = []
    while run.running():
        pool += [(run.vote(i), 1) for i in run.advance(run.running())]
        counts = [*sorted(tally(pool).values(), reverse=True), 0, 0]
        a, b = int(counts[0]), int(counts[1])
        n = a + b + 1
        tail = sum(math.comb(n, k) for k in range(a + 1, n + 1)) / 2**n
        if a > 0 and 1 - tail > 0.90 + 0.10 * clipped(beta):
            break
    return leader(pool) or run.fallback()


def doubling(run: Run, beta: float) -> str:
    votes: list[tuple[str | None, float]] = []
    count = 2
    while len(votes) < min(WIDTH, len(run.branches)):
        new = run.open(min(count, WIDTH))
        run.advance(new, whole=True)
        votes += [(run.vote(i), 1) for i in new]
        found = tally(votes)
        share = max(found.values()) / sum(found.values()) if found else 0.0
        if share >= 0.55 + 0.40 * clipped(beta) - 1e-12:
            break
        count *= 2
    return leader(votes) or run.fallback()


def certaindex(run: Run, beta: float) -> str:
    votes: list[tuple[str | None, float]] = []
    while len(votes) < min(WIDTH, len(run.branches)):
        new = run.open(min(len(votes) + 5, WIDTH))
        run.advance(new, whole=True)
        votes += [(run.vote(i), 1) for i in new]
        counts = tally(votes).values()
        n = sum(counts)
        if len(votes) > 5 and n > 1:
            entropy = -sum(c / n * math.log(c / n) for c in counts)
            if (math.log(n) - entropy) / math.log(n) >= 0.5 + 0.45 * clipped(beta) - 1e-9:
                break
    return leader(votes) or run.fallback()


# --- MARS ----------------------------------------------------------------------------------------


@dataclass
class Ballot:
    """A branch at a checkpoint: its vote, the vote's weight, and its chance of switching."""

    answer: str | None
    weight: float
    switch: float


def safe_leader(ballots: Sequence[Ballot], gamma: float, scale: float) -> str | None:
    votes = tally((b.answer, b.weight) for b in ballots)
    if not votes:
        return None
    first = max(votes, key=votes.__getitem__)
    for challenger in [*votes, None]:
        if challenger == first:
            continue
        risk = 0.0
        for b in ballots:
            if b.answer is not None and b.answer == first:
                risk += b.switch * b.weight * 2 * gamma
            elif b.answer is not None and b.answer == challenger:
                risk -= b.switch * b.weight
            else:
                risk += b.switch * b.weight * gamma
        margin = votes[first] - (votes[challenger] if challenger is not None else 0)
        # Whole votes times hundredths are ties if they differ by less than rounding errors.
        if margin <= scale * risk + 1e-9:
            return None
    return first


def calibrated_gamma(checkpoints: Sequence[Sequence[Ballot]]) -> float:
    """γ from the ballots of the warm-up branches, with true switches, at every checkpoint."""
    if not checkpoints or len(checkpoints[0]) < 4:
        return 1.0

    def play(gamma: float) -> tuple[str | None, int]:
        for at, ballots in enumerate(checkpoints):
            answer = safe_leader(ballots, gamma, 1.0)
            if answer is not None:
                return answer, at
        return leader((b.answer, b.weight) for b in checkpoints[-1]), len(checkpoints) - 1

    reference, stop = play(1.0)
    band = 1.0
    for tenths in range(9, -1, -1):
        if play(tenths / 10)[0] != reference:
            break
        band = tenths / 10
    voters = sum(b.answer is not None and b.weight > 0 for b in checkpoints[stop])
    if not voters:
        return 1.0
    return min(max(round(band + 1 / math.sqrt(voters), 2), 0.5), 1.0)


def features(run: Run, i: int, depth: int) -> list[float]:
    shown = [run.shown(i, d) for d in range(1, depth + 1)]
    changes = sum(a != b for a, b in pairwise(shown))
    streak = 1
    while streak < depth and shown[-streak - 1] == shown[-1]:
        streak += 1
    now = run.confidence(i, depth)
    trend = now - run.confidence(i, depth - 1) if depth > 1 else 0.0
    return [depth, now, changes, streak, trend]


def newton(
    x: NDArray[np.float64], y: NDArray[np.float64], ridge: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logistic regression; the last column of x is the intercept, which has no ridge."""
    penalty = np.full(x.shape[1], ridge)
    penalty[-1] = 0.0

    def likelihood(w: NDArray[np.float64]) -> float:
        z = x @ w
        return float((y * z - np.logaddexp(0, z)).sum() - (penalty * w**2).sum())

    w = start
    for _ in range(100):
        p = 0.5 * (1 + np.tanh(x @ w / 2))
        gradient = x.T @ (y - p) - 2 * penalty * w
        if abs(gradient).max() < 1e-11:
            break
        # σ(z)σ(−z) instead of p(1 − p), which loses all digits near 1.
        slopes = 0.25 / np.cosh(np.clip(x @ w, -700, 700) / 2) ** 2
        try:
            step = np.linalg.solve(x.T @ (slopes[:, None] * x) + 2 * np.diag(penalty), gradient)
        except np.linalg.LinAlgError:
            break
        share, value = 1.0, likelihood(w)
        while likelihood(w + share * step) < value - 1e-12 * max(1, abs(value)) and share > 1e-6:
            share /= 2
        w = w + share * step
    return w


def switch_model(
    rows: Sequence[Sequence[float]], labels: Sequence[float]
) -> Callable[[Sequence[float]], float]:
    if not labels or len(set(labels)) == 1:
        constant = labels[0] if labels else 1.0
        return lambda row: constant
    x, y = np.array(rows, float), np.array(labels, float)
    kept = x.std(axis=0) > 1e-10
    mean, std = x[:, kept].mean(axis=0), x[:, kept].std(axis=0)
    ones = np.ones((len(y), 1))
    standard = np.hstack([(x[:, kept] - mean) / std, ones])
    w = newton(standard, y, 0.01, np.zeros(standard.shape[1]))

    def raw(z: NDArray[np.float64]) -> NDArray[np.float64]:
        q = np.clip(0.5 * (1 + np.tanh(z / 2)), 1e-7, 1 - 1e-7)
        return np.log(q / (1 - q))

    a, b = newton(np.hstack([raw(standard @ w)[:, None], ones]), y, 0.0, np.array([1.0, 0.0]))

    def chance(row: Sequence[float]) -> float:
        values = (np.array(row, float)[kept] - mean) / std
        odds = a * raw(np.array([values @ w[:-1] + w[-1]]))[0] + b
        return float(0.5 * (1 + math.tanh(odds / 2)))

    return chance


def mars(run: Run, beta: float, kept: float | None = None) -> str:
    """MARS; with ``kept``, on DeepConf: filtered, and weighted by confidence."""
    warm = run.open(min(WIDTH, WARM_UP))
    while any(i in run.running() for i in warm):
        run.advance(i for i in warm if i in run.running())
    last = max(run.end(i) for i in warm)
    threshold = -math.inf
    if kept is not None:
        threshold = percentile([min(run.windows(i, run.end(i))) for i in warm], 100 - kept)

    def low(i: int, depth: int) -> float:
        """The lowest full window so far; for a whole branch without one, the mean."""
        if depth >= run.end(i):
            return min(run.windows(i, run.end(i)))
        return min(run.full_windows(i, depth), default=math.inf)

    def ballot(i: int, depth: int, switch: float) -> Ballot:
        depth = min(depth, run.end(i))
        answer = run.shown(i, depth)
        weight = 1.0
        if kept is not None:
            weight = max(run.confidence(i, depth), 0) if low(i, depth) >= threshold else 0.0
        return Ballot(None if answer in run.nulls else answer, weight, switch)

    def switches(i: int, depth: int) -> float:
        return float(run.shown(i, depth) != run.branches[i].final)

    gamma = calibrated_gamma(
        [[ballot(i, d, switches(i, d)) for i in warm] for d in range(1, last + 1)]
    )
    pairs = [(i, d) for i in warm for d in range(1, run.end(i))]
    chance = switch_model([features(run, *p) for p in pairs], [switches(*p) for p in pairs])

    finals = [ballot(i, last, 0.0) for i in warm]
    guard = leader((b.answer, b.weight) for b in finals)
    others = run.open(WIDTH)
    depth = 0
    dropped: set[int] = set()
    while run.running() or not depth:
        depth += 1
        run.advance(i for i in others if i in run.running())
        ballots = list(finals)
        for i in others:
            if i not in dropped and kept is not None and low(i, depth) < threshold:
                dropped.add(i)
                run.pruned.add(i)
            if i not in dropped:
                running = depth < run.end(i)
                q = chance(features(run, i, depth)) if running else 0.0
                ballots.append(ballot(i, depth, q))
        answer = safe_leader(ballots, gamma, 0.5 + clipped(beta))
        if answer is not None and (depth > 1 or answer == guard):
            return answer
    ended = [*warm, *(i for i in others if i not in dropped)]
    ballots = [ballot(i, run.end(i), 0.0) for i in ended]
    return leader((b.answer, b.weight) for b in ballots) or run.fallback()


def mars_deepconf(run: Run, beta: float) -> str:
    return mars(run, beta, kept=10)


# --- DeepConf ------------------------------------------------------------------------------------


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the two nearest values."""
    ordered = sorted(values)
    position = round(percent / 100 * (len(ordered) - 1), 9)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def deepconf_online(run: Run, beta: float) -> str:
    warm = run.open(min(WIDTH, WARM_UP))
    run.advance(warm, whole=True)
    lows = {i: min(run.windows(i, run.end(i))) for i in warm}
    threshold = percentile(list(lows.values()), 100 - (10 + 80 * clipped(beta)))
    votes = [(run.vote(i), lows[i]) for i in warm if lows[i] >= threshold]
    run.open(WIDTH)
    while run.running():
        for i in run.advance(run.running()):
            low = min(run.windows(i, run.end(i)))
            if low >= threshold:
                votes.append((run.vote(i), low))
            else:
                run.pruned.add(i)
        for i in run.running():
            if min(run.full_windows(i, run.depths[i]), default=math.inf) < threshold:
                run.pruned.add(i)
        found = tally(votes)
        if found and max(found.values()) >= 0.95 * sum(found.values()) - 1e-9:
            break
    return leader(votes) or run.fallback()


def _offline(run: Run, beta: float, measure: Callable[[int], float]) -> str:
    opened = range(len(run.depths))
    scores = [measure(i) for i in opened]
    threshold = percentile(scores, 100 - (10 + 80 * clipped(beta)))
    kept = [(run.vote(i), scores[i]) for i in opened if scores[i] >= threshold]
    return leader(kept) or run.fallback()


def deepconf_offline(run: Run, beta: float) -> str:
    run.advance(run.open(WIDTH), whole=True)
    return _offline(run, beta, lambda i: run.confidence(i, run.end(i)))


def deepconf_bottom10(run: Run, beta: float) -> str:
    run.open(WIDTH)
    while run.running():
        run.advance(run.running())

    def bottom(i: int) -> float:
        means = sorted(run.windows(i, run.end(i)))
        tenth = means[: max(1, len(means) // 10)]
        return sum(tenth) / len(tenth)

    return _offline(run, beta, bottom)


CONTROLLERS = {
    function.__name__: function
    for function in (
        *(first_finish, short_m_at_k, beta_stopping, doubling, certaindex, mars),
        *(deepconf_online, deepconf_offline, deepconf_bottom10, mars_deepconf),
    )
}

#: Controllers that need generation confidences.
NEED_CONFIDENCE = {"deepconf_online", "deepconf_offline", "deepconf_bottom10", "mars_deepconf"}


# --- comparison ----------------------------------------------------------------------------------


def null_answers(branches: Sequence[Branch]) -> frozenset[str]:
    """The answers of a question that are marked as null; by default, those with a null text."""
    found = set()
    for branch in branches:
        answers = [*branch.probes, branch.final]
        flags = branch.nulls or [answer in NULL_ANSWERS for answer in answers]
        found |= {answer for answer, flag in zip(answers, flags, strict=True) if flag}
    return frozenset(found)


#: Of an episode: answer, tokens, sequential tokens, probes.
Outcome = tuple[str, int, int, int]


def outcomes(
    name: str,
    store: TraceStore,
    questions: NDArray[np.int64],
    orders: NDArray[np.int64],
    beta: float,
    billing: Literal["tokens", "interval"] = "tokens",
) -> list[Outcome]:
    """Play a controller's description."""
    card, rows = store.card, []
    window = max(1, round(min(2048.0, card.mean_tokens / 4) / card.interval))
    recorded = {int(q): store.question(int(q)).branches for q in np.unique(questions)}
    nulls = {q: null_answers(branches) for q, branches in recorded.items()}
    for question, order in zip(questions.tolist(), orders.tolist(), strict=True):
        branches = [recorded[question][k] for k in order]
        run = Run(branches, card.interval, window, billing, nulls[question])
        answer = CONTROLLERS[name](run, beta)
        rows.append((answer, run.tokens, run.clock, run.probes))
    return rows


def played(
    name: str,
    store: TraceStore,
    questions: NDArray[np.int64],
    orders: NDArray[np.int64],
    beta: float,
    billing: Literal["tokens", "interval"] = "tokens",
) -> list[Outcome]:
    """Play the controller of ``agents/``."""
    rollout = Rollout(load(name), store, EpisodeConfig(orders.shape[1], billing))
    result = rollout.play(questions, orders, beta)
    if result.failures:
        raise RuntimeError(f"{name} failed: {result.failures}")
    columns = (result.answers, result.tokens, result.sequential_tokens, result.probes)
    return [(str(a), int(t), int(s), int(p)) for a, t, s, p in zip(*columns, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("controllers", nargs="*", help="by default all that the traces allow")
    parser.add_argument("--env", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--beta", default="0,0.25,0.5,0.75,1")
    given = parser.parse_args()
    different = 0
    for env, store in registry.open_stores(*given.env).items():
        rows = store.card.questions
        questions = np.tile(np.arange(rows), given.seeds)
        seeds = np.repeat(np.arange(given.seeds), rows)
        width = min(WIDTH, int(store.tables.branch_counts.min()))
        orders = branch_orders("random", seeds, questions, store, width)
        for name in given.controllers or CONTROLLERS:
            if name in NEED_CONFIDENCE and store.tables.confidence_sums is None:
                continue
            for beta in map(float, given.beta.split(",")):
                expected = outcomes(name, store, questions, orders, beta)
                found = played(name, store, questions, orders, beta)
                pairs = enumerate(zip(expected, found, strict=True))
                wrong = [k for k, (e, f) in pairs if e != f]
                different += len(wrong)
                print(f"{env}  {name}  β={beta:g}: {len(wrong)} of {len(questions)} differ")
                for k in wrong[:3]:
                    print(f"    {questions[k]}, seed {seeds[k]}: {expected[k]}, found {found[k]}")
    raise SystemExit(different > 0)


if __name__ == "__main__":
    main()
