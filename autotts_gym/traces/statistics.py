"""Statistics of a store that matter to a controller, for comparing stores.

Every question has the same weight, whatever its number of branches. Agreement is counted over
pairs of answers instead, so that a question with two wrong answers weighs less than one with a
hundred. The *relative depth* of probe k of a branch with n probes is k / (n + 1), and its *tenth*
is the integer part of ten times that. *Wrong* answers differ from the gold answer; for agreement,
null answers do not count as wrong. A statistic without data is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.answer_statistics import (
    WIDTH,
    AnswerClasses,
    Floats,
    Ints,
    agreement,
    group_means,
    pass_rates,
    plurality_answers,
    voting_accuracy,
)
from autotts_gym.traces.probe_statistics import probe_statistics
from autotts_gym.traces.separation import branch_confidence, group_window, separation
from autotts_gym.traces.store import TraceStore

if TYPE_CHECKING:
    from rich.table import Table

#: Questions whose probes are processed at once, which limits the memory.
_BLOCK: Final = 64

_DECILES: Final = tuple(i / 10 for i in range(11))
_LENGTH_QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def _share(label: str, at: tuple[str, ...] = ()) -> Any:
    """A share from 0 to 1; ``at`` labels the entries of a tuple."""
    return field(metadata={"label": label, "format": "{:.1%}", "at": at})


def _figure(label: str, form: str = "{:.2f}", at: tuple[str, ...] = ()) -> Any:
    """A number; ``at`` labels the entries of a tuple."""
    return field(metadata={"label": label, "format": form, "at": at})


_BY_TENTH: Final = tuple(f"{i / 10:.1f} to {(i + 1) / 10:.1f}" for i in range(10))
_BY_LENGTH: Final = tuple(
    "least" if q == 0 else "most" if q == 1 else f"q{q}" for q in _LENGTH_QUANTILES
)


@dataclass(frozen=True)
class Statistics:
    """Aggregate statistics of a store (see :func:`describe`). Shares are from 0 to 1.

    Attributes:
        questions, branches: total counts.
        interval: Δ, tokens.
        accuracy: accuracy of a single branch.
        plurality: accuracy of the plurality of 64 random branches in random order (of all
            branches, if a question has fewer); the first vote breaks ties.
        pass_any: probability that at least one of 64 random branches is correct.
        plurality_wrong: share of questions whose plurality over all branches is wrong.
        accuracy_deciles: 11 values, minimum to maximum of the questions' single-branch accuracies.
        tokens_mean: mean T, tokens.
        tokens_cv: coefficient of variation of T (standard deviation over mean).
        tokens_cv_within: mean coefficient of variation of T within a question.
        tokens_quantiles: quantiles of T in tokens at 0, .05, .25, .5, .75, .95, .99 and 1.
        intervals_mean: mean n + 1.
        overhang_quantiles: quantiles of T - n·Δ in intervals, at the same eight levels.
        length_correlation: correlation over questions of accuracy and mean log T.
        wrong_length: length of wrong branches relative to correct ones of the same question
            (geometric means; questions are weighted by their pairs of a correct and a wrong
            branch).
        null_by_depth: 10 values, null rate of the probes in each tenth of depth.
        accuracy_by_depth: 10 values, share of the probes with the gold answer.
        plurality_by_depth: 10 values, share of questions where the plurality of the probes of
            that tenth is correct (null answers vote too).
        settled: mean relative depth from which the answer stays the final answer.
        late_changes: share of branches whose answer changes after 3/4 of their depth.
        changes: mean number of probes or final answers that differ from the one before.
        final_nulls: share of branches whose final answer is null.
        wrong_agreement: probability that two wrong final answers of a question are equal.
        agreement_by_depth: 10 values, probability that two wrong probes of different branches of a
            question, in the same tenth of depth, are equal.
        shorter_correct: probability that a correct branch is shorter than a wrong one of the same
            question (equal lengths count one half): the area under the ROC curve of the length.
        surer_correct: the same that its mean generation confidence is higher.
        lowest_surer_correct: the same of its lowest group confidence, over windows of a quarter of
            the mean branch in whole intervals.
    """

    questions: int = _figure("questions", "{:d}")
    branches: int = _figure("branches", "{:d}")
    interval: int = _figure("interval (tokens)", "{:d}")
    accuracy: float = _share("accuracy, one branch")
    plurality: float = _share(f"accuracy, plurality of {WIDTH}")
    pass_any: float = _share(f"one of {WIDTH} correct")
    plurality_wrong: float = _share("questions with a wrong plurality")
    accuracy_deciles: tuple[float, ...] = _share(
        "accuracy of questions", tuple(f"q{q}" for q in _DECILES)
    )
    tokens_mean: float = _figure("tokens, mean", "{:.0f}")
    tokens_cv: float = _figure("tokens, coefficient of variation")
    tokens_cv_within: float = _figure("the same within a question")
    tokens_quantiles: tuple[float, ...] = _figure("tokens", "{:.0f}", _BY_LENGTH)
    intervals_mean: float = _figure("intervals, mean")
    overhang_quantiles: tuple[float, ...] = _figure("T - n·Δ (intervals)", at=_BY_LENGTH)
    length_correlation: float = _figure("correlation of accuracy and log tokens")
    wrong_length: float = _figure("length of wrong over correct branches")
    null_by_depth: tuple[float, ...] = _share("null probes, depth", _BY_TENTH)
    accuracy_by_depth: tuple[float, ...] = _share("correct probes, depth", _BY_TENTH)
    plurality_by_depth: tuple[float, ...] = _share("correct plurality of probes, depth", _BY_TENTH)
    settled: float = _share("settled at depth")
    late_changes: float = _share("branches changing after 3/4")
    changes: float = _figure("changes in a branch")
    final_nulls: float = _share("null final answers")
    wrong_agreement: float = _share("agreement of wrong final answers")
    agreement_by_depth: tuple[float, ...] = _share("agreement of wrong probes, depth", _BY_TENTH)
    shorter_correct: float = _share("correct branch shorter than wrong")
    surer_correct: float = _share("correct branch surer, mean confidence")
    lowest_surer_correct: float = _share("correct branch surer, lowest confidence")


def describe(store: TraceStore) -> Statistics:
    """Compute the statistics of a store.

    The result is deterministic. A million probes take about a second. The additional memory is
    that of the probes of 64 questions.
    """
    t = store.tables
    interval = store.card.interval
    question = np.repeat(np.arange(len(t.ids)), t.branch_counts)
    classes = AnswerClasses.from_tables(t)
    correct = t.finals == classes.gold[question]
    null = classes.null[question, t.finals]
    accuracy = group_means(question, correct)
    correct_counts = np.bincount(question, correct).astype(np.int64)
    plurality_correct = np.array(plurality_answers(question, t.finals)[1] == classes.gold)
    equal, pairs = agreement(question, t.finals, ~correct & ~null, len(t.ids))

    tokens = t.tokens.astype(np.float64)
    mean = group_means(question, tokens)
    confidence = branch_confidence(t, interval, group_window(float(tokens.mean()), interval))
    deviation = np.sqrt(np.maximum(group_means(question, (tokens - mean[question]) ** 2), 0))
    logs = np.log(tokens)

    by_depth = [
        probe_statistics(t, classes, first, min(first + _BLOCK, len(t.ids)))
        for first in range(0, len(t.ids), _BLOCK)
    ]
    cells = {name: np.concatenate([block[name] for block in by_depth]) for name in by_depth[0]}

    return Statistics(
        questions=len(t.ids),
        branches=len(t.finals),
        interval=interval,
        accuracy=float(accuracy.mean()),
        plurality=float(voting_accuracy(t, classes.gold).mean()),
        pass_any=float(pass_rates(t.branch_counts, correct_counts, WIDTH)[:, -1].mean()),
        plurality_wrong=float(1 - plurality_correct.mean()),
        accuracy_deciles=_tuple(np.quantile(accuracy, _DECILES)),
        tokens_mean=float(mean.mean()),
        tokens_cv=float(tokens.std() / tokens.mean()),
        tokens_cv_within=float((deviation / mean).mean()),
        tokens_quantiles=_tuple(np.quantile(tokens, _LENGTH_QUANTILES)),
        intervals_mean=float(group_means(question, t.lengths + 1).mean()),
        overhang_quantiles=_tuple(np.quantile(tokens / interval - t.lengths, _LENGTH_QUANTILES)),
        length_correlation=_correlation(accuracy, group_means(question, logs)),
        wrong_length=_wrong_length(question, correct, logs),
        null_by_depth=_tuple(_ratio(cells["nulls"], cells["probes"])),
        accuracy_by_depth=_tuple(_ratio(cells["correct"], cells["probes"])),
        plurality_by_depth=_tuple(_ratio(cells["plurality_correct"], cells["probes"] > 0)),
        settled=float(cells["settled"].mean()),
        late_changes=float(cells["late_changes"].mean()),
        changes=float(cells["changes"].mean()),
        final_nulls=float(group_means(question, null).mean()),
        wrong_agreement=_quotient(equal.sum(), pairs.sum()),
        agreement_by_depth=tuple(
            _quotient(e, p)
            for e, p in zip(cells["equal"].sum(0), cells["pairs"].sum(0), strict=True)
        ),
        shorter_correct=separation(question, correct, -tokens),
        surer_correct=separation(question, correct, confidence.mean),
        lowest_surer_correct=separation(question, correct, confidence.lowest),
    )


def compare(a: Statistics, b: Statistics, names: tuple[str, str] = ("a", "b")) -> Table:
    """Compare two statistics side by side in a table for the terminal.

    Args:
        a, b: the statistics.
        names: headers of their columns.
    """
    from rich.table import Table

    table = Table("", *names, "difference")
    for column in table.columns[1:]:
        column.justify = "right"
    for item in fields(Statistics):
        form, at = item.metadata["format"], item.metadata["at"]
        values = getattr(a, item.name), getattr(b, item.name)
        rows = zip(at, *values, strict=True) if at else [("", *values)]
        for level, x, y in rows:
            label = f"{item.metadata['label']} {level}".rstrip()
            difference = formatted(x - y, form.replace(":", ":+", 1))
            table.add_row(label, formatted(x, form), formatted(y, form), difference)
    return table


def formatted(value: float, form: str) -> str:
    """A statistic as text; a dash without data.

    Args:
        value: the statistic.
        form: its format, in the metadata of the field.
    """
    return "–" if math.isnan(value) else form.format(value)


def _wrong_length(question: Ints, correct: NDArray[np.bool_], logs: Floats) -> float:
    """See ``wrong_length`` of :class:`Statistics`; ``logs`` are log tokens."""
    correct_counts = np.bincount(question, correct)
    wrong_counts = np.bincount(question, ~correct)
    both = (correct_counts > 0) & (wrong_counts > 0)
    if not both.any():
        return float("nan")
    longer = (
        np.bincount(question, logs * ~correct)[both] / wrong_counts[both]
        - np.bincount(question, logs * correct)[both] / correct_counts[both]
    )
    return float(np.exp(np.average(longer, weights=(correct_counts * wrong_counts)[both])))


def _ratio(parts: Floats, wholes: NDArray[Any]) -> Floats:
    """Mean of part / whole over the questions with a positive whole, for each column."""
    valid = wholes > 0
    shares = np.divide(parts, wholes, out=np.zeros_like(parts), where=valid)
    return np.array(
        [_quotient(s, c) for s, c in zip(shares.sum(0), valid.sum(0), strict=True)], np.float64
    )


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _correlation(a: Floats, b: Floats) -> float:
    if len(a) < 2 or not a.std() or not b.std():
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _tuple(values: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    return tuple(map(float, values))
