"""Sampling of synthetic questions, branches and probes from a :class:`SyntheticModel`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.synthetic_model import SyntheticModel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Answers are the integers below this, as in AIME; the null answers follow.
_INTEGERS: Final = 1000
_NO: Final = _INTEGERS
_ERR: Final = _INTEGERS + 1
_STRINGS: Final = np.array([*map(str, range(_INTEGERS)), "No", "ERR"], dtype=object)
#: Number of frequent wrong final answers, and of first-glance answers. Rank 0 is the gold answer;
#: the frequent wrong answers, the first-glance answers and the tail follow.
_FREQUENT: Final = 8
_TAIL: Final = 1 + 2 * _FREQUENT


class QuestionTraits(NamedTuple):
    """Random properties of Q questions.

    Attributes:
        accuracy: float64[Q], single-branch accuracy.
        length: float64[Q], log tokens of a correct branch.
        overhang: float64[Q], share of T that is not part of any interval.
        found: float64[Q], logit of the relative depth at which the answer is found.
        null: float64[Q], null rate.
        tail: float64[Q], share of wrong final answers that are one-off guesses.
        wrong, guess: float64[Q, _FREQUENT], cumulative weights of the frequent wrong final
            answers and of the first-glance answers.
        trap: bool[Q], whether both have the same most frequent answer.
    """

    accuracy: Floats
    length: Floats
    overhang: Floats
    found: Floats
    null: Floats
    tail: Floats
    wrong: Floats
    guess: Floats
    trap: NDArray[np.bool_]

    @classmethod
    def draw(cls, m: SyntheticModel, q: int, rng: np.random.Generator) -> QuestionTraits:
        """Draw the properties of ``q`` questions."""
        # Stratified, so that a small store has the same share of misleading questions.
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

    def rows(self, first: int, last: int) -> QuestionTraits:
        """The properties of questions ``first`` to ``last`` - 1."""
        columns: Any = (column[first:last] for column in self)
        return QuestionTraits(*columns)


class TraceBlock(NamedTuple):
    """Tables of a block of questions; names, shapes and dtypes are those of ``Tables``."""

    golds: list[str]
    answers: list[list[str]]
    nulls: list[list[bool]]
    lengths: Ints
    tokens: Ints
    finals: NDArray[np.int16]
    probes: NDArray[np.int16]


def draw_block(
    m: SyntheticModel,
    traits: QuestionTraits,
    branches: int,
    interval: int,
    rng: np.random.Generator,
) -> TraceBlock:
    """Draw the traces of some questions.

    Args:
        m: the parameters.
        traits: properties of the questions.
        branches: branches of each question.
        interval: Δ, tokens.
        rng: source of randomness.
    """
    q = len(traits.accuracy)
    # Column r of a row is the answer of rank r.
    pool = rng.permuted(np.tile(np.arange(_INTEGERS, dtype=np.int16), (q, 1)), axis=1)
    drawn = _draw_branches(m, traits, pool, branches, interval, rng)
    question, n = drawn.question, drawn.probes
    branch = np.repeat(np.arange(len(question)), n)
    answers = _draw_probes(m, traits, pool, drawn, branch, rng)

    # Codes number the answers of each question in numerical order.
    given = np.zeros((q, _INTEGERS + 2), np.bool_)
    given[question, drawn.final] = True
    given[question[branch], answers] = True
    codes = (np.cumsum(given, axis=1) - 1).astype(np.int16)
    classes = [np.flatnonzero(row) for row in given]
    return TraceBlock(
        golds=[str(gold) for gold in pool[:, 0]],
        answers=[list(_STRINGS[row]) for row in classes],
        nulls=[(row >= _INTEGERS).tolist() for row in classes],
        lengths=n,
        tokens=drawn.tokens.astype(np.int64),
        finals=codes[question, drawn.final],
        probes=codes[question[branch], answers],
    )


class _Branches(NamedTuple):
    """Branches of a block: question, final answer, T, n, and the depth of finding the answer."""

    question: Ints
    final: NDArray[np.int16]
    tokens: Floats
    probes: Ints
    found: Floats


def _draw_branches(
    m: SyntheticModel,
    traits: QuestionTraits,
    pool: NDArray[np.int16],
    branches: int,
    interval: int,
    rng: np.random.Generator,
) -> _Branches:
    question = np.repeat(np.arange(len(traits.accuracy)), branches)
    b = len(question)
    wrong = rng.random(b) >= traits.accuracy[question]
    ranks = np.where(wrong, _wrong_ranks(question, traits, rng), 0)
    final = pool[question, ranks]
    null = wrong & (rng.random(b) < m.null_final)
    final[null] = _nulls(m, int(null.sum()), rng)
    log_tokens = (
        traits.length[question] + m.length_wrong * wrong + m.length_branch * rng.standard_normal(b)
    )
    ceiling = m.saturation * m.limit
    uncut = np.ceil(ceiling * -np.expm1(-np.exp(np.minimum(log_tokens, 700)) / ceiling))
    cut = np.floor(m.limit + m.closing * rng.random(b))
    tokens = np.maximum(np.where(uncut < m.limit, uncut, cut), 1)
    n = np.floor(tokens * (1 - traits.overhang[question]) / interval + m.shortfall).astype(np.int64)
    n = np.clip(n, 0, max(int(m.limit) // interval - 1, 0))
    found = _sigmoid(
        traits.found[question]
        + m.found_wrong * wrong
        + m.found_length * np.log(tokens / m.length)
        + m.found_branch * rng.standard_normal(b)
    )
    return _Branches(question, final, tokens, n, found)


def _draw_probes(
    m: SyntheticModel,
    traits: QuestionTraits,
    pool: NDArray[np.int16],
    drawn: _Branches,
    branch: Ints,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Draw the answers of all probes; ``branch`` is the branch of each probe."""
    question, final, n = drawn.question, drawn.final, drawn.probes
    p = len(branch)
    k = np.arange(p) - (np.cumsum(n) - n)[branch] + 1
    depth = k / (n + 1)[branch]
    is_found = (depth >= drawn.found[branch]) | (k == n[branch])
    # A probe draws an answer at the first one, where the answer is found, and at random.
    draws = rng.random(p) < m.switch + (m.switch_late - m.switch) * depth
    draws |= k == 1
    draws[1:] |= is_found[1:] & ~is_found[:-1]
    at = np.flatnonzero(draws)
    question_at = question[branch[at]]
    guess = _guesses(m, question_at, depth[at], traits, rng)
    new = pool[question_at, guess]
    keeps = is_found[at] & (rng.random(len(at)) >= m.lapse)
    new[keeps] = final[branch[at[keeps]]]
    shown: NDArray[np.int16] = new[np.cumsum(draws) - 1]
    rate = traits.null[question][branch] * np.where(
        is_found, m.null_found, m.null_start + (1 - m.null_start) * np.minimum(4 * depth, 1)
    )
    null = rng.random(p) < rate
    shown[null] = _nulls(m, int(null.sum()), rng)
    last = k == n[branch]
    shown[last] = final[branch[last]]
    return shown


def _wrong_ranks(question: Ints, traits: QuestionTraits, rng: np.random.Generator) -> Ints:
    """Ranks of wrong final answers: frequent ones of their questions, or ones of the tail."""
    rank = 1 + _categories(traits.wrong, question, rng)
    tail = rng.random(len(question)) < traits.tail[question]
    rank[tail] = rng.integers(_TAIL, _INTEGERS, int(tail.sum()))
    return rank


def _guesses(
    m: SyntheticModel,
    question: Ints,
    depth: Floats,
    traits: QuestionTraits,
    rng: np.random.Generator,
) -> Ints:
    """Ranks of the answers that branches show before they find their answer."""
    rank = 1 + _FREQUENT + _categories(traits.guess, question, rng)
    # A trap: the first-glance answer is also the most frequent wrong final answer.
    rank[(rank == 1 + _FREQUENT) & traits.trap[question]] = 1
    lured = rng.random(len(question)) < m.lure + (m.lure_late - m.lure) * depth
    rank[lured] = _wrong_ranks(question[lured], traits, rng)
    rank[rng.random(len(question)) < m.glimpse] = 0
    return rank


def _categories(cumulative: Floats, row: Ints, rng: np.random.Generator) -> Ints:
    """Draw a column from the cumulative weights in row ``row[i]``, for each i."""
    # Adding its number to each row gives one sorted array, which is searched at once.
    rows, columns = cumulative.shape
    flat = (cumulative + np.arange(rows)[:, None]).ravel()
    column = np.searchsorted(flat, row + rng.random(len(row)), side="right") - row * columns
    return np.asarray(np.clip(column, 0, columns - 1), np.int64)


def _stick_breaking(concentration: float, rows: int, rng: np.random.Generator) -> Floats:
    """Cumulative weights of ``_FREQUENT`` answers; float64[rows, _FREQUENT], the last 1."""
    remaining = np.cumprod(1 - rng.beta(1, concentration, (rows, _FREQUENT)), axis=1)
    remaining[:, -1] = 0
    return np.asarray(1 - remaining)


def _nulls(m: SyntheticModel, size: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Draw null answers."""
    return np.where(rng.random(size) < m.null_no, _NO, _ERR).astype(np.int16)


def _beta(mean: Floats, concentration: float, rng: np.random.Generator) -> Floats:
    """Draw from Beta distributions; a mean of exactly 0 or 1 is returned unchanged."""
    inside = np.clip(mean, 1e-9, 1 - 1e-9)
    values = rng.beta(inside * concentration, (1 - inside) * concentration)
    return np.where((mean > 0) & (mean < 1), values, mean)


def _logit(share: float) -> float:
    bounded = min(max(share, 1e-12), 1 - 1e-12)
    return float(np.log(bounded / (1 - bounded)))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
