"""MARS in plain Python, written again from its description; see ``field_controllers.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from recorded_episode import WARM_UP, WIDTH, Run, clipped, leader, percentile, tally


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


def mars(
    run: Run,
    beta: float,
    kept: float | None = None,
    *,
    oracle: bool = False,
    fixed_gamma: float | None = None,
) -> str:
    """MARS; with ``kept``, on DeepConf: filtered, and weighted by confidence.

    Args:
        run, beta: the episode.
        kept: percentage of the warm-up branches that the filter keeps.
        oracle: use the true switches of all branches, which no controller can see.
        fixed_gamma: γ, instead of the calibrated one.
    """
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

    if fixed_gamma is not None:
        gamma = fixed_gamma
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
                q = 0.0
                if depth < run.end(i):
                    q = switches(i, depth) if oracle else chance(features(run, i, depth))
                ballots.append(ballot(i, depth, q))
        answer = safe_leader(ballots, gamma, 0.5 + clipped(beta))
        if answer is not None and (depth > 1 or answer == guard):
            return answer
    ended = [*warm, *(i for i in others if i not in dropped)]
    ballots = [ballot(i, run.end(i), 0.0) for i in ended]
    return leader((b.answer, b.weight) for b in ballots) or run.fallback()


def mars_deepconf(run: Run, beta: float) -> str:
    return mars(run, beta, kept=10)
