"""Made-up traces with the statistics of real ones, for training and for tests without the data.

*The model.* A question is misleading (hardly any branch answers it) or fair, and has its own
accuracy, length, null rate, and stock of wrong answers: a few that attract (weights by stick
breaking) and a long tail. A branch draws whether it is right, its length, its final answer, and
the depth at which it *finds* that answer. Before, its probes show guesses, at first from a small
stock of first-glance answers that branches share, later more and more from the question's wrong
final answers; afterwards they show the final answer, with lapses. What a probe shows is repeated
until something is drawn anew. Any probe may come back null, mostly before the answer is found.
The last probe shows the final answer, as it does in every published trace.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from autotts_gym.traces.statistics import Statistics, compare, describe
from autotts_gym.traces.store import Tables, TraceError, TraceStore, check_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Answers are the integers below this, as in AIME; the null answers follow.
_INTEGERS: Final = 1000
_NO: Final = _INTEGERS
_ERR: Final = _INTEGERS + 1
_STRINGS: Final = np.array([*map(str, range(_INTEGERS)), "No", "ERR"], dtype=object)
#: Answers in each stock that attracts: rank 0 is the gold answer, then the wrong final answers'
#: attractors, then the first-glance answers, then the tail.
_ATTRACTORS: Final = 8
_TAIL: Final = 1 + 2 * _ATTRACTORS
#: Questions whose probes are in memory at once.
_BLOCK: Final = 64


def _share(default: float, vary: float = 0.4) -> Any:
    """A probability or share; ``randomized`` varies it on the logit scale."""
    return _parameter(default, 0.0, 1.0, "share", vary)


def _scale(default: float, low: float, high: float, vary: float = 0.25) -> Any:
    """A positive quantity; varied on the log scale."""
    return _parameter(default, low, high, "scale", vary)


def _effect(default: float, low: float, high: float, vary: float = 0.2) -> Any:
    """A shift of either sign; varied as it is."""
    return _parameter(default, low, high, "effect", vary)


def _parameter(default: float, low: float, high: float, kind: str, vary: float) -> Any:
    facts = {"low": low, "high": high, "kind": kind, "vary": vary}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class SyntheticModel:
    """What traces are drawn from; the default resembles Qwen3-4B on AIME24.

    The default was fitted to the statistics of the traces published for Qwen3-4B (arXiv
    2605.08083; ``PUBLISHED_AIME24``), one model rather than the average of four, so that what goes
    together there goes together here. On 3,000 questions (published): accuracy of a branch 71.4 %
    (71.8), of the plurality of 64 80.5 % (80.0); tokens 13.8k (13.9k), coefficient of variation
    .67 (.67), wrong branches 1.69 (1.69) times longer than right ones; settled at depth .69 (.68),
    47 % (46) of branches changing after 3/4; 8.9 (8.9) changes a branch. Null rate and accuracy of
    probes are within 4 points in every tenth of depth, wrong answers' agreement within 7. Known
    to be off: wrong answers agree more in the last tenth (25 % against 19 %), and the plurality
    of probes is right too often around half the depth (23 % against 13 %, of 30 questions).
    A store of 60 questions scatters about this (accuracy by 1.6 points, tokens by 6 %, as standard
    deviations).

    Ranges are inclusive. *Shares* lie in 0 to 1. Effects on a logit or a log add to it.

    Attributes:
        misleading: share of questions that hardly any branch answers.
        misleading_accuracy: mean single-branch accuracy of those (share).
        accuracy: mean single-branch accuracy of the other questions (share).
        accuracy_concentration: a + b of the Beta distributions of both (0.01 to 1e6).

        length: median tokens of a right branch of a question that all branches answer
            (1 to 1e9).
        length_difficulty: log tokens that a question gains from accuracy 1 to accuracy 0 (-5 to 5).
        length_wrong: log tokens that a wrong branch is longer (-5 to 5).
        length_question: standard deviation of log tokens between questions (0 to 3).
        length_branch: the same between branches of a question (0 to 3).
        saturation: limits that length tends to as it grows, x to s (1 - exp(-x / s)); what is said
            of log tokens is said of x (0.01 to 1e6; large for none).
        limit: tokens at which a branch is cut (1 to 2**30).
        closing: tokens of closing text that a cut branch may add, at most (0 to 2**30).
        overhang: mean share of T that is not part of any interval; questions differ, with a
            gamma distribution of shape 2 (share).
        shortfall: intervals by which T may fall short of n·Δ, at most (0 to 100).

        found: median relative depth at which right branches find their answer (share).
        found_wrong: logits by which wrong branches find theirs later (-10 to 10).
        found_length: the same for each log unit by which a branch is longer than ``length``
            (-10 to 10).
        found_question: standard deviation of these logits between questions (0 to 10).
        found_branch: the same between branches of a question (0 to 10).
        lapse: chance that what is drawn after the answer was found is a guess (share).
        glimpse: chance that a guess is the gold answer (share).
        switch, switch_late: chance that a probe draws anew rather than repeat the last, at depth
            0 and 1 (shares).
        lure, lure_late: share of guesses that come from the question's wrong final answers, at
            depth 0 and 1; the others are first-glance answers (shares).

        null: median null rate of probes before the answer is found (share).
        null_start: what remains of that at depth 0; all of it from depth 1/4 (share).
        null_found: what remains of that once the answer is found (share).
        null_accuracy: logits that a question's null rate gains from accuracy 0 to 1 (-10 to 10).
        null_question: standard deviation of these logits between questions (0 to 10).
        null_no: share of nulls that read "No"; the others read "ERR" (share).
        null_final: share of wrong branches whose final answer is null (share).

        wrong_concentration: stick-breaking concentration of wrong final answers; two that attract
            agree with probability 1 / (1 + it) (0.01 to 100).
        guess_concentration: the same for first-glance answers (0.01 to 100).
        tail: mean share of a question's wrong final answers that are one-off guesses (share).
        trap: share of questions whose first first-glance answer is also the first of their wrong
            final answers (share).
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
        """Raise ``TraceError``, naming the parameter and its range, for a value outside."""
        for item in fields(self):
            value = getattr(self, item.name)
            low, high = item.metadata["low"], item.metadata["high"]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise TraceError(
                    f"{item.name} must be a number from {low:g} to {high:g}, got {value!r}"
                )


def randomized(rng: np.random.Generator, around: SyntheticModel | None = None) -> SyntheticModel:
    """A model drawn around another (the default one), for training that must carry over.

    Every parameter but ``limit`` and ``closing`` moves by a normal deviate on its natural scale
    (logit, log, or as it is), difficulty furthest. Around the default, the middle nine tenths of
    stores have single-branch accuracies of 47 to 84 % (published: Qwen3-1.7B 46, Qwen3-8B 76) and
    mean lengths of 10k to 20k tokens.
    """
    around = around or SyntheticModel()
    drawn = {}
    for item in fields(SyntheticModel):
        value, facts = getattr(around, item.name), item.metadata
        move = facts["vary"] * rng.standard_normal()
        if facts["kind"] == "share":
            # The odds are multiplied: 0 and 1 stay where they are.
            odds = value * np.exp(move)
            value = odds / (1 - value + odds)
        elif facts["kind"] == "scale":
            value = value * np.exp(move)
        else:
            value = value + move
        drawn[item.name] = float(np.clip(value, facts["low"], facts["high"]))
    return SyntheticModel(**drawn)


def generate(
    model: SyntheticModel | None = None,
    questions: int = 60,
    branches: int = 128,
    seed: int = 0,
    interval: int = 500,
) -> TraceStore:
    """Draw a store of traces; the same arguments give the same store.

    Args:
        model: what to draw from; None for the default.
        questions: how many, at least 1. Of them, the share of misleading ones is exact (to one
            question), so that a small store is not easy or hard by chance.
        branches: of each question, at least 1.
        seed: of the random numbers, at least 0.
        interval: Δ, tokens between two probes.

    Returns:
        A store whose card says ``synthetic: true`` and, under ``synthetic_model``, the parameters
        and the seed. No branch has more than ``limit // interval`` intervals, or one.

    Raises:
        TraceError: an argument is out of range; the message says which.
    """
    model = model or SyntheticModel()
    check_interval(interval)
    for name, value, least in (
        ("questions", questions, 1),
        ("branches", branches, 1),
        ("seed", seed, 0),
    ):
        if type(value) is not int or value < least:
            raise TraceError(f"{name} must be an integer of at least {least}, got {value!r}")
    rng = np.random.default_rng(seed)
    traits = _Traits.draw(model, questions, rng)
    blocks = [
        _block(model, traits.rows(first, first + _BLOCK), branches, interval, rng)
        for first in range(0, questions, _BLOCK)
    ]
    tables = Tables(
        ids=[f"synthetic-{row}" for row in range(questions)],
        texts=[f"Synthetic question {row}." for row in range(questions)],
        golds=[gold for block in blocks for gold in block.golds],
        answers=[answers for block in blocks for answers in block.answers],
        nulls=[nulls for block in blocks for nulls in block.nulls],
        branch_counts=np.full(questions, branches, np.int64),
        lengths=np.concatenate([block.lengths for block in blocks]),
        tokens=np.concatenate([block.tokens for block in blocks]),
        finals=np.concatenate([block.finals for block in blocks]),
        probes=np.concatenate([block.probes for block in blocks]),
    )
    # Plain floats, whatever kind of number the model was made with: the card is YAML.
    parameters = {name: float(value) for name, value in asdict(model).items()}
    details = {"synthetic_model": {"seed": seed, **parameters}}
    return TraceStore.from_tables(tables, interval, synthetic=True, details=details)


def calibration_report(store: TraceStore | Statistics, reference: TraceStore | Statistics) -> Table:
    """A store's statistics beside those of the store that it should resemble."""
    a, b = (describe(s) if isinstance(s, TraceStore) else s for s in (store, reference))
    return compare(a, b, ("store", "reference"))


# --- drawing -------------------------------------------------------------------------------------


class _Traits(NamedTuple):
    """What distinguishes questions; one value each; stocks are float64[Q, _ATTRACTORS]."""

    accuracy: Floats
    length: Floats  # log tokens of a right branch
    overhang: Floats
    found: Floats  # logit
    null: Floats
    tail: Floats
    wrong: Floats  # a stock's cumulative weights
    guess: Floats  # the same
    trap: NDArray[np.bool_]

    @classmethod
    def draw(cls, m: SyntheticModel, q: int, rng: np.random.Generator) -> _Traits:
        # Stratified: a small store has its share of hard questions too.
        misleading = (rng.permutation(q) + rng.random()) / q < m.misleading
        mean = np.where(misleading, m.misleading_accuracy, m.accuracy)
        accuracy = _beta(mean, m.accuracy_concentration, rng)
        noise = rng.standard_normal((3, q))
        return cls(
            accuracy=accuracy,
            length=np.log(m.length)
            + m.length_difficulty * (1 - accuracy)
            + m.length_question * noise[0],
            overhang=np.minimum(m.overhang / 2 * rng.standard_gamma(2, q), 1),
            found=_logit(m.found) + m.found_question * noise[1],
            null=_sigmoid(
                _logit(m.null) + m.null_accuracy * (accuracy - 0.5) + m.null_question * noise[2]
            ),
            tail=_beta(np.full(q, m.tail), 2.0, rng),
            wrong=_stick_breaking(m.wrong_concentration, q, rng),
            guess=_stick_breaking(m.guess_concentration, q, rng),
            trap=rng.random(q) < m.trap,
        )

    def rows(self, first: int, last: int) -> _Traits:
        columns: Any = (column[first:last] for column in self)
        return _Traits(*columns)


class _Block(NamedTuple):
    """The tables of some questions; names, shapes and dtypes are those of ``Tables``."""

    golds: list[str]
    answers: list[list[str]]
    nulls: list[list[bool]]
    lengths: Ints
    tokens: Ints
    finals: NDArray[np.int16]
    probes: NDArray[np.int16]


def _block(
    m: SyntheticModel, traits: _Traits, branches: int, interval: int, rng: np.random.Generator
) -> _Block:
    q = len(traits.accuracy)
    # Ranks become answers here: column r of a row is the answer of rank r.
    pool = rng.permuted(np.tile(np.arange(_INTEGERS, dtype=np.int16), (q, 1)), axis=1)

    # Branches.
    question = np.repeat(np.arange(q), branches)
    b = len(question)
    wrong = rng.random(b) >= traits.accuracy[question]
    finals = np.where(wrong, _wrong_ranks(question, traits, rng), 0)
    final = pool[question, finals]
    null = wrong & (rng.random(b) < m.null_final)
    final[null] = _nulls(m, int(null.sum()), rng)
    log_tokens = (
        traits.length[question] + m.length_wrong * wrong + m.length_branch * rng.standard_normal(b)
    )
    ceiling = m.saturation * m.limit
    whole = np.ceil(ceiling * -np.expm1(-np.exp(np.minimum(log_tokens, 700)) / ceiling))
    cut = np.floor(m.limit + m.closing * rng.random(b))
    tokens = np.maximum(np.where(whole < m.limit, whole, cut), 1)
    n = np.floor(tokens * (1 - traits.overhang[question]) / interval + m.shortfall).astype(np.int64)
    n = np.clip(n, 0, max(int(m.limit) // interval - 1, 0))
    found = _sigmoid(
        traits.found[question]
        + m.found_wrong * wrong
        + m.found_length * np.log(tokens / m.length)
        + m.found_branch * rng.standard_normal(b)
    )

    # Probes: a draw at the first one, where the answer is found, and at random; else a repetition.
    branch = np.repeat(np.arange(b), n)
    p = len(branch)
    k = np.arange(p) - (np.cumsum(n) - n)[branch] + 1
    depth = k / (n + 1)[branch]
    is_found = (depth >= found[branch]) | (k == n[branch])
    draws = rng.random(p) < m.switch + (m.switch_late - m.switch) * depth
    draws |= k == 1
    draws[1:] |= is_found[1:] & ~is_found[:-1]
    at = np.flatnonzero(draws)
    asked = question[branch[at]]
    guess = _guesses(m, asked, depth[at], traits, rng)
    drawn = pool[asked, guess]
    keeps = is_found[at] & (rng.random(len(at)) >= m.lapse)
    drawn[keeps] = final[branch[at[keeps]]]
    shown = drawn[np.cumsum(draws) - 1]
    rate = traits.null[question][branch] * np.where(
        is_found, m.null_found, m.null_start + (1 - m.null_start) * np.minimum(4 * depth, 1)
    )
    null = rng.random(p) < rate
    shown[null] = _nulls(m, int(null.sum()), rng)
    last = k == n[branch]
    shown[last] = final[branch[last]]

    # Codes: the answers of each question that were given, in numerical order.
    given = np.zeros((q, _INTEGERS + 2), np.bool_)
    given[question, final] = True
    given[question[branch], shown] = True
    codes = (np.cumsum(given, axis=1) - 1).astype(np.int16)
    answers = [np.flatnonzero(row) for row in given]
    return _Block(
        golds=[str(gold) for gold in pool[:, 0]],
        answers=[list(_STRINGS[row]) for row in answers],
        nulls=[(row >= _INTEGERS).tolist() for row in answers],
        lengths=n,
        tokens=tokens.astype(np.int64),
        finals=codes[question, final],
        probes=codes[question[branch], shown],
    )


def _wrong_ranks(question: Ints, traits: _Traits, rng: np.random.Generator) -> Ints:
    """A wrong final answer each: an attractor of its question, or one of the tail."""
    rank = 1 + _categories(traits.wrong, question, rng)
    tail = rng.random(len(question)) < traits.tail[question]
    rank[tail] = rng.integers(_TAIL, _INTEGERS, int(tail.sum()))
    return rank


def _guesses(
    m: SyntheticModel, question: Ints, depth: Floats, traits: _Traits, rng: np.random.Generator
) -> Ints:
    """What a branch shows that has no answer yet (ranks)."""
    rank = 1 + _ATTRACTORS + _categories(traits.guess, question, rng)
    # A trap: what comes to mind first is what most wrong branches end with.
    rank[(rank == 1 + _ATTRACTORS) & traits.trap[question]] = 1
    lured = rng.random(len(question)) < m.lure + (m.lure_late - m.lure) * depth
    rank[lured] = _wrong_ranks(question[lured], traits, rng)
    rank[rng.random(len(question)) < m.glimpse] = 0
    return rank


def _categories(cumulative: Floats, row: Ints, rng: np.random.Generator) -> Ints:
    """A draw from row ``row[i]`` of cumulative weights, for each i."""
    # Rows shifted by their number make one sorted array, searched at once.
    rows, columns = cumulative.shape
    flat = (cumulative + np.arange(rows)[:, None]).ravel()
    found = np.searchsorted(flat, row + rng.random(len(row)), side="right") - row * columns
    return np.asarray(np.clip(found, 0, columns - 1), np.int64)


def _stick_breaking(concentration: float, rows: int, rng: np.random.Generator) -> Floats:
    """Cumulative weights of ``_ATTRACTORS`` answers; float64[rows, _ATTRACTORS], the last 1."""
    left = np.cumprod(1 - rng.beta(1, concentration, (rows, _ATTRACTORS)), axis=1)
    left[:, -1] = 0
    return np.asarray(1 - left)


def _nulls(m: SyntheticModel, size: int, rng: np.random.Generator) -> NDArray[np.int16]:
    return np.where(rng.random(size) < m.null_no, _NO, _ERR).astype(np.int16)


def _beta(mean: Floats, concentration: float, rng: np.random.Generator) -> Floats:
    """Beta deviates; a mean of exactly 0 or 1 is itself."""
    inside = np.clip(mean, 1e-9, 1 - 1e-9)
    drawn = rng.beta(inside * concentration, (1 - inside) * concentration)
    return np.where((mean > 0) & (mean < 1), drawn, mean)


def _logit(share: float) -> float:
    bounded = min(max(share, 1e-12), 1 - 1e-12)
    return float(np.log(bounded / (1 - bounded)))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
