"""Parameters of the generator of synthetic traces.

A question is misleading (almost no branch answers it) or fair. It has its own accuracy, length,
null rate and wrong answers: a few frequent ones (weights by stick breaking) and a long tail. A
branch draws whether it is correct, its length, its final answer, and the depth at which it *finds*
that answer. Before that depth, its probes show guesses: at first mostly from a small set of
first-glance answers that branches share, later more and more from the question's wrong final
answers. After that depth they show the final answer, with lapses. A probe repeats the answer before
it until a new one is drawn. Any probe may be null, mostly before the answer is found. The last
probe shows the final answer, as in every published trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from autotts_gym.traces.exceptions import TraceError


def _share(default: float, vary: float = 0.4) -> Any:
    """A probability or share; ``randomized`` varies it on the logit scale."""
    return _parameter(default, 0.0, 1.0, "share", vary)


def _scale(default: float, low: float, high: float, vary: float = 0.25) -> Any:
    """A positive quantity; ``randomized`` varies it on the log scale."""
    return _parameter(default, low, high, "scale", vary)


def _effect(default: float, low: float, high: float, vary: float = 0.2) -> Any:
    """A shift of either sign; ``randomized`` varies it additively."""
    return _parameter(default, low, high, "effect", vary)


def _parameter(default: float, low: float, high: float, kind: str, vary: float) -> Any:
    metadata = {"low": low, "high": high, "kind": kind, "vary": vary}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class SyntheticModel:
    """Parameters of synthetic traces. The default resembles Qwen3-4B on AIME24.

    The default was fitted to the statistics of the traces published for Qwen3-4B (arXiv
    2605.08083; ``PUBLISHED_AIME24``). One model was chosen instead of the average of four, so that
    its statistics fit together. On 3,000 questions (published value in parentheses): accuracy of a
    branch 71.4 % (71.8), of the plurality of 64 80.5 % (80.0); tokens 13.8k (13.9k), coefficient of
    variation .67 (.67), wrong branches 1.69 (1.69) times longer than correct ones; settled at depth
    .69 (.68), 47 % (46) of branches change after 3/4; 8.9 (8.9) changes per branch. Null rate and
    accuracy of probes are within 4 points in every tenth of depth, the agreement of wrong answers
    within 7. Known deviations: wrong answers agree more in the last tenth (25 % against 19 %), and
    the plurality of probes is correct too often around half the depth (23 % against 13 %, of 30
    questions). Stores of 60 questions vary around these values (standard deviations: accuracy 1.6
    points, tokens 6 %).

    Ranges are inclusive. *Shares* are from 0 to 1. Effects are added to a logit or a log.

    Attributes:
        misleading: share of questions that almost no branch answers correctly.
        misleading_accuracy: mean single-branch accuracy of those (share).
        accuracy: mean single-branch accuracy of the other questions (share).
        accuracy_concentration: a + b of the Beta distributions of both (0.01 to 1e6).

        length: median tokens of a correct branch of a question that all branches answer correctly
            (1 to 1e9).
        length_difficulty: increase of log tokens from accuracy 1 to accuracy 0 (-5 to 5).
        length_wrong: increase of log tokens for wrong branches (-5 to 5).
        length_question: standard deviation of log tokens between questions (0 to 3).
        length_branch: standard deviation of log tokens between branches of a question (0 to 3).
        saturation: limits long branches: x becomes s (1 - exp(-x / s)), where s is this value times
            ``limit`` and x the length that the other parameters give (0.01 to 1e6).
        limit: tokens at which a branch is cut (1 to 2**30).
        closing: maximum tokens of closing text that a cut branch adds (0 to 2**30).
        overhang: mean share of T that is not part of any interval; varies between questions by a
            gamma distribution of shape 2 (share).
        shortfall: maximum of n·Δ - T in intervals (0 to 100).

        found: median relative depth at which correct branches find their answer (share).
        found_wrong: increase of its logit for wrong branches (-10 to 10).
        found_length: increase of its logit per log unit of length above ``length`` (-10 to 10).
        found_question: standard deviation of its logit between questions (0 to 10).
        found_branch: standard deviation of its logit between branches of a question (0 to 10).
        lapse: probability that a new answer after the answer was found is a guess (share).
        glimpse: probability that a guess is the gold answer (share).
        switch, switch_late: probability that a probe draws a new answer, at depth 0 and 1 (shares).
        lure, lure_late: share of guesses from the question's wrong final answers, at depth 0 and
            1; the other guesses are first-glance answers (shares).

        null: median null rate of probes before the answer is found (share).
        null_start: factor of the null rate at depth 0; it rises to 1 at depth 1/4 (share).
        null_found: factor of the null rate after the answer is found (share).
        null_accuracy: increase of the null rate's logit from accuracy 0 to 1 (-10 to 10).
        null_question: standard deviation of the null rate's logit between questions (0 to 10).
        null_no: share of null answers that are "No"; the others are "ERR" (share).
        null_final: share of wrong branches whose final answer is null (share).

        wrong_concentration: stick-breaking concentration c of frequent wrong final answers; two of
            them are equal with probability 1 / (1 + c) (0.01 to 100).
        guess_concentration: stick-breaking concentration of first-glance answers (0.01 to 100).
        tail: mean share of a question's wrong final answers that are one-off guesses (share).
        trap: share of questions whose most frequent first-glance answer is also the most frequent
            wrong final answer (share).
    """

    misleading: float = _share(0.2, 0.8)
    misleading_accuracy: float = _share(0.05)
    accuracy: float = _share(0.88, 0.8)
    accuracy_concentration: float = _scale(4.5, 0.01, 1e6)

    length: float = _scale(9000.0, 1.0, 1e9)
    length_difficulty: float = _effect(0.62, -5, 5)
    length_wrong: float = _effect(0.62, -5, 5)
    length_question: float = _scale(0.5, 0, 3)
    length_branch: float = _scale(0.41, 0, 3)
    saturation: float = _scale(1.4, 0.01, 1e6)
    limit: float = _scale(40_960, 1, 2**30, vary=0)
    closing: float = _scale(540, 0, 2**30, vary=0)
    overhang: float = _share(0.035)
    shortfall: float = _scale(0.75, 0, 100)

    found: float = _share(0.6)
    found_wrong: float = _effect(0.75, -10, 10)
    found_length: float = _effect(0.5, -10, 10)
    found_question: float = _scale(1.0, 0, 10)
    found_branch: float = _scale(0.75, 0, 10)
    lapse: float = _share(0.02)
    glimpse: float = _share(0.005)
    switch: float = _share(0.64)
    switch_late: float = _share(0.38)
    lure: float = _share(0.16)
    lure_late: float = _share(0.7)

    null: float = _share(0.08)
    null_start: float = _share(0.15)
    null_found: float = _share(0.05)
    null_accuracy: float = _effect(2.4, -10, 10, vary=0.7)
    null_question: float = _scale(1.9, 0, 10)
    null_no: float = _share(0.01, 1.5)
    null_final: float = _share(0.013)

    wrong_concentration: float = _scale(1.0, 0.01, 100)
    guess_concentration: float = _scale(0.5, 0.01, 100)
    tail: float = _share(0.31)
    trap: float = _share(0.5)

    def __post_init__(self) -> None:
        """Raise ``TraceError`` with the parameter and its range for an invalid value."""
        for item in fields(self):
            value = getattr(self, item.name)
            low, high = item.metadata["low"], item.metadata["high"]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise TraceError(
                    f"{item.name} must be a number from {low:g} to {high:g}, got {value!r}"
                )


def randomized(rng: np.random.Generator, around: SyntheticModel | None = None) -> SyntheticModel:
    """Draw a random model around another one, for domain randomization in training.

    Every parameter except ``limit`` and ``closing`` moves by a normal deviate on its natural scale
    (logit, log, or linear), those of difficulty the most. Around the default, 90 % of the stores
    have single-branch accuracies of 47 to 84 % (published: Qwen3-1.7B 46, Qwen3-8B 76) and mean
    lengths of 10k to 20k tokens.

    Args:
        rng: source of randomness.
        around: the center; by default, the default model.
    """
    around = around or SyntheticModel()
    parameters = {}
    for item in fields(SyntheticModel):
        value, metadata = getattr(around, item.name), item.metadata
        move = metadata["vary"] * rng.standard_normal()
        if metadata["kind"] == "share":
            # Multiplying the odds keeps 0 and 1 unchanged.
            odds = value * np.exp(move)
            value = odds / (1 - value + odds)
        elif metadata["kind"] == "scale":
            value = value * np.exp(move)
        else:
            value = value + move
        parameters[item.name] = float(np.clip(value, metadata["low"], metadata["high"]))
    return SyntheticModel(**parameters)
