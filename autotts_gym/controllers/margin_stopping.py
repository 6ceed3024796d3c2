"""MARS: margin-adversarial risk-controlled stopping, for controllers.

Chen et al. 2026, "MARS: Margin-Adversarial Risk-controlled Stopping for Parallel LLM Test-time
Scaling" (arXiv 2606.12935). Warm-up branches are read whole. From them, a logistic regression
learns how likely a running branch is to change its answer. The others then run together, and stop
as soon as no challenger can be expected to overtake the leading answer.

The bundled controllers ``mars`` and ``mars_deepconf`` call :func:`stop_by_margin`.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.helpers import (
    answer_with,
    confidence_window,
    leaders,
    open_branches,
    percentile,
    weighted_vote,
)
from autotts_gym.controllers.logistic_regression import CalibratedModel, fit_calibrated, probability

if TYPE_CHECKING:
    from autotts_gym.controllers.episode import Episode

#: Maximum number of branches.
WIDTH: Final = 64

#: Number of warm-up branches.
WARM_UP: Final = 16

#: Penalty of the squared coefficients of the switch probabilities.
PENALTY: Final = 0.01

#: Fewest warm-up branches from which γ is calibrated.
FEWEST: Final = 4

#: Columns of the features of a branch.
DEPTH, CONFIDENCE, CHANGES, STREAK, TREND = range(5)


class Ballots(NamedTuple):
    """Votes of branches, at one checkpoint or, with a first axis of checkpoints, at several.

    Attributes:
        shown: int64[..., n], class that each branch votes for; -1 if it has no answer.
        weights: float64[..., n], weight of each vote; 0 leaves a branch out.
        switching: float64[..., n], probability that a vote changes; 0 if the branch is finished.
    """

    shown: NDArray[np.int64]
    weights: NDArray[np.float64]
    switching: NDArray[np.float64]


class WarmUp(NamedTuple):
    """What probes of running warm-up branches showed, by checkpoint and branch.

    Attributes:
        features: float64[depths, n, 5]; zeros where a branch was not probed, or was finished.
        classes: int64[depths, n], answers; -1 there.
        lows: float64[depths, n], lowest confidence of a full window so far; infinite before.
    """

    features: NDArray[np.float64]
    classes: NDArray[np.int64]
    lows: NDArray[np.float64]


# γ is in hundredths everywhere, so that sums of whole votes are exact, and ties are ties.


def safe_leader(ballots: Ballots, gamma: float, scale: float) -> int:
    """The leading answer, if no challenger can be expected to overtake it.

    A running branch that switches costs the margin of the leader over a challenger 2γ times its
    weight if it votes for the leader, −1 times if it votes for the challenger, and γ times
    otherwise. The leader is safe if its margin over every answer with votes, and over an answer
    that has no vote yet, exceeds ``scale`` times the expected cost.

    Args:
        ballots: at one checkpoint.
        gamma: γ, hundredths.
        scale: factor of the expected cost.

    Returns:
        The class of the answer, -1 if it is not safe, or if there are no votes.
    """
    shown, weights, switching = ballots
    answers = np.empty(len(shown), np.int64)
    votes = np.zeros(len(shown))
    leaving = np.zeros(len(shown))  # expected weight of the branches that leave an answer
    slots, all_leaving = 0, 0.0
    for i in range(len(shown)):
        if weights[i] <= 0:
            continue
        all_leaving += weights[i] * switching[i]
        if shown[i] < 0:
            continue
        slot = 0
        while slot < slots and answers[slot] != shown[i]:
            slot += 1
        if slot == slots:
            answers[slot] = shown[i]
            slots += 1
        votes[slot] += weights[i]
        leaving[slot] += weights[i] * switching[i]
    best, most, _ = leaders(votes, slots)
    if best < 0:
        return -1
    cost = gamma * (all_leaving + leaving[best])  # of an answer without votes
    if 100 * most <= scale * cost:
        return -1
    for slot in range(slots):
        cost = gamma * (all_leaving + leaving[best] - leaving[slot]) - 100 * leaving[slot]
        if slot != best and 100 * (most - votes[slot]) <= scale * cost:
            return -1
    return answers[best]  # type: ignore[no-any-return]


def leading_answer(ballots: Ballots) -> int:
    """The class with the largest weight, ties to the first in order; -1 without votes."""
    answers = np.empty(len(ballots.shown), np.int64)
    votes = np.zeros(len(ballots.shown))
    slots = 0
    for i in range(len(ballots.shown)):
        if ballots.shown[i] >= 0 and ballots.weights[i] > 0:
            slots = weighted_vote(answers, votes, slots, ballots.shown[i], ballots.weights[i])
    best, _, _ = leaders(votes, slots)
    return answers[best] if best >= 0 else -1


def checkpoint(ballots: Ballots, row: int) -> Ballots:
    """The ballots of one checkpoint of several."""
    return Ballots(ballots.shown[row], ballots.weights[row], ballots.switching[row])


def stopping_point(ballots: Ballots, gamma: float) -> tuple[int, int]:
    """Answer and checkpoint at which the rule stops, with a factor of 1.

    If it never stops, the answer is the plurality at the last checkpoint.

    Args:
        ballots: at one checkpoint or more.
        gamma: γ, hundredths.
    """
    last = len(ballots.shown) - 1
    for row in range(last + 1):
        answer = safe_leader(checkpoint(ballots, row), gamma, 1.0)
        if answer >= 0:
            return answer, row
    return leading_answer(checkpoint(ballots, last)), last


def calibrated_gamma(ballots: Ballots, branches: int) -> float:
    """γ of a question, from its warm-up branches and their true switches; hundredths, 50 to 100.

    The smallest γ of the unbroken run 1, 0.9, … whose answer is that of γ = 1, plus 1/√n with n
    the number of branches that vote where γ = 1 stops.

    Args:
        ballots: of the warm-up branches at every checkpoint.
        branches: number of warm-up branches; with fewer than 4, γ is 1.
    """
    if branches < FEWEST or len(ballots.shown) == 0:
        return 100.0
    reference, stop = stopping_point(ballots, 100.0)
    smallest = 100.0
    for tenths in range(9, -1, -1):
        gamma = 10.0 * tenths
        answer, _ = stopping_point(ballots, gamma)
        if answer != reference:
            break
        smallest = gamma
    voters = 0
    for i in range(ballots.shown.shape[1]):
        voters += ballots.shown[stop, i] >= 0 and ballots.weights[stop, i] > 0
    if voters == 0:
        return 100.0
    return min(max(float(np.rint(smallest + 100 / sqrt(voters))), 50.0), 100.0)


def observe(features: NDArray[np.float64], depth: int, confidence: float, is_same: bool) -> None:
    """Update the features of a branch after a probe that shows it running.

    Args:
        features: float64[5], changed in place; zeros before the first probe. Depth in intervals,
            confidence of the last window, answer changes so far, length of the present streak of
            equal answers, and change of the confidence since the last probe.
        depth: of the probe, intervals.
        confidence: mean generation confidence of the last window at that depth.
        is_same: whether the answer equals that of the probe before.
    """
    if features[DEPTH] > 0:
        features[TREND] = confidence - features[CONFIDENCE]
        features[CHANGES] += 0 if is_same else 1
        features[STREAK] = features[STREAK] + 1 if is_same else 1
    else:
        features[STREAK] = 1
    features[DEPTH] = depth
    features[CONFIDENCE] = confidence


class Others(NamedTuple):
    """The branches after the warm-up.

    Attributes:
        first: index of the first.
        window: length of a confidence window, intervals.
        threshold: confidence below which a branch is pruned; -∞ without a filter.
        features: float64[n, 5], of each branch at its last probe.
        before: int64[n], answer of each branch at its last probe.
    """

    first: int
    window: int
    threshold: float
    features: NDArray[np.float64]
    before: NDArray[np.int64]


def vote_of(episode: Episode, answer: int) -> int:
    """The class that an answer votes for: -1 if it is null."""
    return -1 if episode.is_null(answer) else answer


def read_warm_up(episode: Episode, branches: int, window: int) -> WarmUp:
    """Open branches and read them to their ends together, probing each at every interval."""
    depths = episode.depth_limit
    features = np.zeros((depths, branches, 5))
    classes = np.full((depths, branches), -1)
    lows = np.full((depths, branches), inf)
    current = np.zeros((branches, 5))
    before = np.full(branches, -1)  # answer of each branch at its last probe
    open_branches(episode, branches)
    moved = episode.probe_all()
    while moved > 0:
        for i in range(episode.opened):
            depth = episode.revealed(i)
            if episode.finished(i) or depth <= current[i, DEPTH]:
                continue
            answer = episode.latest(i)
            confidence = episode.generation_confidence(i, window)
            observe(current[i], depth, confidence, answer == before[i])
            before[i] = answer
            features[depth - 1, i] = current[i]
            classes[depth - 1, i] = answer
            if depth >= window:
                lows[depth - 1, i] = episode.lowest_confidence(i, window)
        moved = episode.extend_all() + episode.probe_all()
    return WarmUp(features, classes, lows)


def warm_up_threshold(episode: Episode, window: int, kept: float) -> float:
    """The confidence below which DeepConf's filter drops branches; -∞ if it keeps all.

    Args:
        window: length of a window, intervals.
        kept: percentage of the finished branches whose lowest confidence reaches the threshold.
    """
    lowest = np.empty(episode.max_branches)
    count = 0
    for i in range(episode.opened):
        if episode.finished(i):
            lowest[count] = episode.lowest_confidence(i, window)
            count += 1
    return percentile(lowest[:count], 100 - kept) if kept < 100 and count > 0 else -inf


def weight_of(confidence: float, lowest: float, threshold: float) -> float:
    """Weight of a vote: its confidence, 0 below the threshold; 1 without a threshold."""
    if threshold == -inf:
        return 1.0
    return max(confidence, 0.0) if lowest >= threshold else 0.0


def warm_up_ballots(episode: Episode, warm_up: WarmUp, window: int, threshold: float) -> Ballots:
    """Votes of the warm-up branches, with their true switches, up to the end of the deepest."""
    branches = warm_up.classes.shape[1]
    deepest = 0
    for i in range(episode.opened):
        if episode.finished(i):
            deepest = max(deepest, episode.revealed(i))
    shown = np.full((deepest, branches), -1)
    weights = np.zeros((deepest, branches))
    switching = np.zeros((deepest, branches))
    for i in range(episode.opened):
        if not episode.finished(i):
            continue  # the budget ends before the branch does
        end = episode.revealed(i) - 1
        final = episode.latest(i)
        for row in range(end):
            answer = warm_up.classes[row, i]
            if answer < 0:
                continue  # the budget did not cover a probe
            shown[row, i] = vote_of(episode, answer)
            switching[row, i] = 0.0 if answer == final else 1.0
            confidence = warm_up.features[row, i, CONFIDENCE]
            weights[row, i] = weight_of(confidence, warm_up.lows[row, i], threshold)
        confidence = episode.generation_confidence(i, window)
        lowest = episode.lowest_confidence(i, window)
        shown[end:, i] = vote_of(episode, final)
        weights[end:, i] = weight_of(confidence, lowest, threshold)
    return Ballots(shown, weights, switching)


def switch_model(episode: Episode, warm_up: WarmUp) -> CalibratedModel:
    """Fit the chance that an answer is not the branch's final one, on the finished branches."""
    depths, branches = warm_up.classes.shape
    rows = np.empty((depths * branches, 5))
    labels = np.empty(depths * branches)
    count = 0
    for i in range(episode.opened):
        for row in range(depths):
            if episode.finished(i) and warm_up.classes[row, i] >= 0:
                rows[count] = warm_up.features[row, i]
                labels[count] = 0.0 if warm_up.classes[row, i] == episode.latest(i) else 1.0
                count += 1
    return fit_calibrated(rows[:count], labels[:count], PENALTY)


def count_votes(episode: Episode, others: Others, model: CalibratedModel, ballots: Ballots) -> None:
    """Prune branches below the threshold, and update the ballots of the others, in place."""
    for i in range(others.first, episode.opened):
        depth, done = episode.revealed(i), episode.finished(i)
        if depth == 0 or not episode.active(i):
            continue
        is_full = done or depth >= others.window
        lowest = episode.lowest_confidence(i, others.window) if is_full else inf
        if lowest < others.threshold:
            ballots.weights[i] = 0.0
            episode.prune(i)
            continue
        answer = episode.latest(i)
        confidence = episode.generation_confidence(i, others.window)
        ballots.shown[i] = vote_of(episode, answer)
        ballots.weights[i] = weight_of(confidence, lowest, others.threshold)
        if done:
            ballots.switching[i] = 0.0
        elif depth > others.features[i, DEPTH]:
            is_same = answer == others.before[i]
            observe(others.features[i], depth, confidence, is_same)
            others.before[i] = answer
            ballots.switching[i] = probability(model, others.features[i])


def stop_by_margin(episode: Episode, scale: float, kept: float) -> None:
    """Play one episode by MARS.

    Args:
        scale: factor of the expected cost; 1 as published.
        kept: percentage of the warm-up branches that DeepConf's filter keeps; the threshold of
            their lowest confidence also prunes the other branches, and votes are weighted by the
            confidence of the last window. With 100, no branch is filtered and all votes weigh 1.
    """
    width = min(WIDTH, episode.max_branches)
    warm, window = min(WARM_UP, width), confidence_window(episode)
    warm_up = read_warm_up(episode, warm, window)
    threshold = warm_up_threshold(episode, window, kept)
    history = warm_up_ballots(episode, warm_up, window, threshold)
    finished = 0
    for i in range(episode.opened):
        finished += episode.finished(i)
    gamma = calibrated_gamma(history, finished)
    model = switch_model(episode, warm_up)
    episode.note("gamma", gamma / 100)

    shown, weights = np.full(width, -1), np.zeros(width)
    if len(history.shown) > 0:
        shown[:warm] = history.shown[-1]
        weights[:warm] = history.weights[-1]
    ballots = Ballots(shown, weights, np.zeros(width))
    guard = leading_answer(ballots)
    others = Others(warm, window, threshold, np.zeros((width, 5)), np.full(width, -1))
    open_branches(episode, width)
    moved = episode.probe_all()
    is_first = True
    while True:
        count_votes(episode, others, model, ballots)
        answer = safe_leader(ballots, gamma, scale)
        if answer >= 0 and (answer == guard or not is_first):
            return answer_with(episode, answer)
        if moved == 0:
            break
        moved = episode.extend_all() + episode.probe_all()
        is_first = False
    for i in range(episode.opened):
        if not episode.finished(i):
            weights[i] = 0.0  # the budget ends before the branch does
    return answer_with(episode, leading_answer(ballots))
