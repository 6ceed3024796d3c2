"""What of a store matters to a controller, in figures that can be set side by side.

Every question weighs the same, whatever its number of branches; only agreement is counted over
pairs of answers, so that questions with two wrong answers do not drown those with a hundred.
*Relative depth* of probe k of a branch with n probes is k / (n + 1); its *tenth* is the integer
part of ten times that. *Wrong* means neither the gold answer nor a null answer where agreement is
counted, and not the gold answer elsewhere. A figure that nothing can be counted for is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.store import Tables, TraceStore

if TYPE_CHECKING:
    from rich.table import Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Branches that vote together in the published table (SC@64).
WIDTH: Final = 64
#: Random subsets over which the plurality vote of ``WIDTH`` branches is averaged, and their seed.
_SUBSETS: Final = 64
_SEED: Final = 0
#: Questions whose probes are held in memory at once.
_BLOCK: Final = 64

_DECILES: Final = tuple(i / 10 for i in range(11))
_LENGTHS: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def _share(label: str, at: tuple[str, ...] = ()) -> Any:
    return field(metadata={"label": label, "format": "{:.1%}", "at": at})


def _figure(label: str, form: str = "{:.2f}", at: tuple[str, ...] = ()) -> Any:
    return field(metadata={"label": label, "format": form, "at": at})


_BY_TENTH: Final = tuple(f"{i / 10:.1f} to {(i + 1) / 10:.1f}" for i in range(10))
_BY_LENGTH: Final = tuple("least" if q == 0 else "most" if q == 1 else f"q{q}" for q in _LENGTHS)


@dataclass(frozen=True)
class Statistics:
    """Aggregate figures of a store (see :func:`describe`); all shares lie between 0 and 1.

    Attributes:
        questions, branches: how many there are in all.
        interval: Δ, tokens.
        accuracy: of a single branch.
        plurality: of the plurality of 64 random branches in random order (of all, where a question
            has fewer); ties go to the answer counted first.
        pass_any: probability that at least one of 64 random branches is right.
        plurality_wrong: share of questions whose plurality over all branches is wrong.
        accuracy_deciles: 11 values, least to most, of the questions' single-branch accuracies.
        tokens_mean: mean T, tokens.
        tokens_cv: standard deviation of T over its mean.
        tokens_cv_within: the same within a question.
        tokens_quantiles: T in tokens at 0, .05, .25, .5, .75, .95, .99 and 1.
        intervals_mean: mean n + 1.
        overhang_quantiles: T - n·Δ in intervals, at the same eight places.
        length_correlation: over questions, between accuracy and mean log T.
        wrong_length: how many times longer wrong branches are than right ones of the same question
            (geometric means; questions weigh by their pairs of a right and a wrong branch).
        null_by_depth: 10 values, null rate of the probes in each tenth of depth.
        accuracy_by_depth: 10 values, share of the probes that show the gold answer.
        plurality_by_depth: 10 values, share of questions where the plurality of the probes of
            that tenth is right (null answers vote too).
        settled: mean relative depth from which the final answer is shown for good.
        late_changes: share of branches whose answer changes after 3/4 of their depth.
        changes: mean number of probes, or final answers, that differ from the one before.
        final_nulls: share of branches whose final answer is null.
        wrong_agreement: probability that two wrong final answers of a question are equal.
        agreement_by_depth: 10 values, probability that two wrong probes of different branches of a
            question, of the same tenth of depth, are equal.
    """

    questions: int = _figure("questions", "{:d}")
    branches: int = _figure("branches", "{:d}")
    interval: int = _figure("interval (tokens)", "{:d}")
    accuracy: float = _share("accuracy, one branch")
    plurality: float = _share(f"accuracy, plurality of {WIDTH}")
    pass_any: float = _share(f"one of {WIDTH} right")
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
    wrong_length: float = _figure("length of wrong over right branches")
    null_by_depth: tuple[float, ...] = _share("null probes, depth", _BY_TENTH)
    accuracy_by_depth: tuple[float, ...] = _share("right probes, depth", _BY_TENTH)
    plurality_by_depth: tuple[float, ...] = _share("right plurality of probes, depth", _BY_TENTH)
    settled: float = _share("settled at depth")
    late_changes: float = _share("branches changing after 3/4")
    changes: float = _figure("changes in a branch")
    final_nulls: float = _share("null final answers")
    wrong_agreement: float = _share("agreement of wrong final answers")
    agreement_by_depth: tuple[float, ...] = _share("agreement of wrong probes, depth", _BY_TENTH)


def describe(store: TraceStore) -> Statistics:
    """Measure a store. Deterministic; about a second for a million probes.

    Memory beyond the store's own is that of the probes of 64 questions.
    """
    t = store.tables
    interval = store.card.interval
    question = np.repeat(np.arange(len(t.ids)), t.branch_counts)
    classes = _Classes.of(t)
    right = t.finals == classes.gold[question]
    null = classes.null[question, t.finals]
    accuracy = _means(question, right)
    rights = np.bincount(question, right).astype(np.int64)
    winner_right = np.array(_plurality(question, t.finals)[1] == classes.gold)
    equal, pairs = _agreement(question, t.finals, ~right & ~null, len(t.ids))

    tokens = t.tokens.astype(np.float64)
    mean = _means(question, tokens)
    deviation = np.sqrt(np.maximum(_means(question, (tokens - mean[question]) ** 2), 0))
    logs = np.log(tokens)

    by_depth = [
        _probes(t, classes, first, min(first + _BLOCK, len(t.ids)))
        for first in range(0, len(t.ids), _BLOCK)
    ]
    cells = {name: np.concatenate([block[name] for block in by_depth]) for name in by_depth[0]}

    return Statistics(
        questions=len(t.ids),
        branches=len(t.finals),
        interval=interval,
        accuracy=float(accuracy.mean()),
        plurality=float(_voting_accuracy(t, classes.gold).mean()),
        pass_any=float(pass_rates(t.branch_counts, rights, WIDTH)[:, -1].mean()),
        plurality_wrong=float(1 - winner_right.mean()),
        accuracy_deciles=_tuple(np.quantile(accuracy, _DECILES)),
        tokens_mean=float(mean.mean()),
        tokens_cv=float(tokens.std() / tokens.mean()),
        tokens_cv_within=float((deviation / mean).mean()),
        tokens_quantiles=_tuple(np.quantile(tokens, _LENGTHS)),
        intervals_mean=float(_means(question, t.lengths + 1).mean()),
        overhang_quantiles=_tuple(np.quantile(tokens / interval - t.lengths, _LENGTHS)),
        length_correlation=_correlation(accuracy, _means(question, logs)),
        wrong_length=_wrong_length(question, right, logs),
        null_by_depth=_tuple(_ratio(cells["nulls"], cells["probes"])),
        accuracy_by_depth=_tuple(_ratio(cells["rights"], cells["probes"])),
        plurality_by_depth=_tuple(_ratio(cells["winners"], cells["probes"] > 0)),
        settled=float(cells["settled"].mean()),
        late_changes=float(cells["late"].mean()),
        changes=float(cells["changes"].mean()),
        final_nulls=float(_means(question, null).mean()),
        wrong_agreement=_quotient(equal.sum(), pairs.sum()),
        agreement_by_depth=tuple(
            _quotient(e, p)
            for e, p in zip(cells["equal"].sum(0), cells["pairs"].sum(0), strict=True)
        ),
    )


def compare(a: Statistics, b: Statistics, names: tuple[str, str] = ("a", "b")) -> Table:
    """Two stores' figures side by side, as a table for the terminal."""
    from rich.table import Table

    table = Table("", *names, "difference")
    for column in table.columns[1:]:
        column.justify = "right"
    for item in fields(Statistics):
        form, at = item.metadata["format"], item.metadata["at"]
        values = getattr(a, item.name), getattr(b, item.name)
        rows = zip(at, *values, strict=True) if at else [("", *values)]
        for place, x, y in rows:
            label = f"{item.metadata['label']} {place}".rstrip()
            difference = form.replace(":", ":+", 1).format(x - y)
            table.add_row(label, form.format(x), form.format(y), difference)
    return table


# --- parts ---------------------------------------------------------------------------------------


class _Classes(NamedTuple):
    """Answer classes: int64[Q] codes of the gold answers (-1: never given); bool[Q, C] nulls."""

    gold: Ints
    null: NDArray[np.bool_]

    @classmethod
    def of(cls, t: Tables) -> _Classes:
        gold = [
            answers.index(g) if g in answers else -1
            for g, answers in zip(t.golds, t.answers, strict=True)
        ]
        null = np.zeros((len(t.ids), max(map(len, t.nulls))), np.bool_)
        for row, flags in zip(null, t.nulls, strict=True):
            row[: len(flags)] = flags
        return cls(np.array(gold, np.int64), null)


def _probes(t: Tables, classes: _Classes, first: int, last: int) -> dict[str, Floats]:
    """Figures of the probes of questions ``first`` to ``last`` - 1.

    Returns:
        float64[q, 10], by question and tenth of depth: ``probes`` (how many), ``nulls``,
        ``rights``, ``winners`` (1 where the plurality is right), ``equal`` and ``pairs`` (of wrong
        answers of different branches); float64[q], means over branches: ``settled``, ``late``,
        ``changes``.
    """
    q = last - first
    start, stop = (int(t.branch_counts[:row].sum()) for row in (first, last))
    begin, end = (int(t.lengths[:row].sum()) for row in (start, stop))
    n = t.lengths[start:stop]
    of_branch = np.repeat(np.arange(q), t.branch_counts[first:last])
    gold, null = classes.gold[first:last], classes.null[first:last]
    finals = t.finals[start:stop]

    branch = np.repeat(np.arange(len(n)), n)
    question = of_branch[branch]
    code = t.probes[begin:end]
    k = np.arange(end - begin) - (np.cumsum(n) - n)[branch] + 1
    tenth = 10 * k // (n + 1)[branch]
    cell = question * 10 + tenth
    right = code == gold[question]
    is_null = null[question, code]

    def count(flags: NDArray[np.bool_]) -> Floats:
        return np.bincount(cell[flags], minlength=q * 10).reshape(q, 10).astype(np.float64)

    voted, winner = _plurality(cell, code)
    winners = np.zeros(q * 10)
    winners[voted] = winner == gold[voted // 10]

    wrong = ~right & ~is_null
    equal, pairs = _agreement(cell, code, wrong, q * 10)
    # Probes of one branch repeat themselves; what counts is whether branches agree.
    same_equal, same_pairs = _agreement(branch * 10 + tenth, code, wrong, len(n) * 10)
    where = (np.repeat(of_branch, 10) * 10 + np.tile(np.arange(10), len(n))).astype(np.int64)
    equal -= np.bincount(where, same_equal, minlength=q * 10)
    pairs -= np.bincount(where, same_pairs, minlength=q * 10)

    # What follows a probe: the next one, or the final answer at depth n + 1.
    following = np.empty_like(code)
    following[:-1] = code[1:]
    following[k == n[branch]] = finals[n > 0]
    changes = following != code
    late = changes & (4 * (k + 1) > 3 * (n + 1)[branch])
    last_other = np.zeros(len(n), np.int64)
    other = code != finals[branch]
    np.maximum.at(last_other, branch[other], k[other])
    return {
        "probes": count(np.ones_like(right)),
        "nulls": count(is_null),
        "rights": count(right),
        "winners": winners.reshape(q, 10),
        "equal": equal.reshape(q, 10),
        "pairs": pairs.reshape(q, 10),
        "settled": _means(of_branch, (last_other + 1) / (n + 1)),
        "late": _means(of_branch, np.bincount(branch[late], minlength=len(n)) > 0),
        "changes": _means(of_branch, np.bincount(branch[changes], minlength=len(n))),
    }


def _plurality(group: Ints, code: NDArray[np.integer[Any]]) -> tuple[Ints, Ints]:
    """The groups that have votes, and each one's plurality; ties go to the first vote counted."""
    _, inverse, counts = np.unique(
        group * np.int64(1 << 16) + code, return_inverse=True, return_counts=True
    )
    # Stable, so that among equal counts the earliest vote of a group stays in front.
    order = np.lexsort((-counts[inverse], group))
    groups, first = np.unique(group[order], return_index=True)
    return groups, code[order[first]].astype(np.int64)


def _agreement(
    group: Ints, code: NDArray[np.integer[Any]], counted: NDArray[np.bool_], groups: int
) -> tuple[Floats, Floats]:
    """Ordered pairs of counted answers in each group: those that are equal, and all; float64[G]."""
    keys, counts = np.unique(group[counted] * np.int64(1 << 16) + code[counted], return_counts=True)
    equal = np.bincount(keys >> 16, counts * (counts - 1.0), minlength=groups)
    size = np.bincount(group[counted], minlength=groups).astype(np.float64)
    return np.asarray(equal, np.float64), size * (size - 1)


def _voting_accuracy(t: Tables, gold: Ints) -> Floats:
    """Accuracy of the plurality of ``WIDTH`` random branches, question by question; float64[Q]."""
    rng = np.random.default_rng(_SEED)
    accuracy = np.zeros(len(gold))
    ends = np.cumsum(t.branch_counts)
    for row, (end, size) in enumerate(zip(ends, t.branch_counts, strict=True)):
        order = rng.permuted(np.tile(np.arange(end - size, end), (_SUBSETS, 1)), axis=1)
        votes = t.finals[order[:, :WIDTH]].astype(np.int64)
        subset = np.arange(_SUBSETS)[:, None]
        counts = np.zeros((_SUBSETS, int(votes.max()) + 1), np.int64)
        np.add.at(counts, (subset, votes), 1)
        # argmax takes the first vote among those whose class has the most.
        winner = votes[subset[:, 0], counts[subset, votes].argmax(axis=1)]
        accuracy[row] = (winner == gold[row]).mean()
    return accuracy


def pass_rates(sizes: Ints, rights: Ints, most: int) -> Floats:
    """Probability that one of k branches, drawn without return, is right; float64[Q, most].

    Of n branches, c of them right, the mean over all subsets of k is
    ``1 − C(n − c, k) / C(n, k)``: the unbiased estimate for k new samples (Chen et al. 2021, arXiv
    2107.03374, section 2.1). It is a product of (n − c) / n, one less over one less, and so on, so
    that nothing in it gets large. Beyond n, it stays what it is for n.

    Args:
        sizes: int64[Q], the branches of each question.
        rights: int64[Q], how many of them are right.
        most: the highest k; column k − 1 is for k.
    """
    drawn = np.arange(most)
    wrong = np.maximum((sizes - rights)[:, None] - drawn, 0)
    left = np.maximum(sizes[:, None] - drawn, 1)
    missed = np.where(drawn < sizes[:, None], wrong / left, 1.0)
    return np.asarray(1 - missed.cumprod(axis=1))


def _wrong_length(question: Ints, right: NDArray[np.bool_], logs: Floats) -> float:
    rights = np.bincount(question, right)
    wrongs = np.bincount(question, ~right)
    both = (rights > 0) & (wrongs > 0)
    if not both.any():
        return float("nan")
    longer = (
        np.bincount(question, logs * ~right)[both] / wrongs[both]
        - np.bincount(question, logs * right)[both] / rights[both]
    )
    return float(np.exp(np.average(longer, weights=(rights * wrongs)[both])))


def _means(group: Ints, values: NDArray[Any]) -> Floats:
    """Mean of the values of each group; every group has some."""
    return np.asarray(np.bincount(group, values) / np.bincount(group), np.float64)


def _ratio(parts: Floats, wholes: NDArray[Any]) -> Floats:
    """Mean over questions of part / whole, column by column, where there is a whole."""
    there = wholes > 0
    shares = np.divide(parts, wholes, out=np.zeros_like(parts), where=there)
    return np.array(
        [_quotient(s, c) for s, c in zip(shares.sum(0), there.sum(0), strict=True)], np.float64
    )


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _correlation(a: Floats, b: Floats) -> float:
    if len(a) < 2 or not a.std() or not b.std():
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _tuple(values: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    return tuple(map(float, values))


#: What :func:`describe` finds in the traces published with arXiv 2605.08083 (Qwen3 on AIME24, 30
#: questions, 128 branches each, Δ = 500), rounded: aggregates, so that they can be compared with
#: where the files are not at hand.
# fmt: off
PUBLISHED_AIME24: Final[Mapping[str, Statistics]] = MappingProxyType(
    {
        "Qwen3-0.6B": Statistics(
            questions=30,
            branches=3840,
            interval=500,
            accuracy=0.1089,
            plurality=0.2146,
            pass_any=0.5121,
            plurality_wrong=0.7667,
            accuracy_deciles=(
                0.0, 0.0, 0.0, 0.0, 0.0, 0.0156, 0.0187, 0.0594, 0.1734, 0.3289, 0.8594,
            ),
            tokens_mean=15750.0,
            tokens_cv=0.5265,
            tokens_cv_within=0.4026,
            tokens_quantiles=(1249.0, 3827.0, 9701.0, 14745.0, 20691.0, 29740.0, 41308.0, 41498.0),
            intervals_mean=31.7112,
            overhang_quantiles=(-0.752, -0.32, 0.166, 0.576, 1.188, 2.5281, 4.0775, 7.996),
            length_correlation=-0.4495,
            wrong_length=1.2954,
            null_by_depth=(
                0.3069, 0.3855, 0.3876, 0.3693, 0.3468, 0.3122, 0.2618, 0.2115, 0.1456, 0.0567,
            ),
            accuracy_by_depth=(
                0.0121, 0.0205, 0.0275, 0.0343, 0.0412, 0.0456, 0.0523, 0.0613, 0.0711, 0.0863,
            ),
            plurality_by_depth=(
                0.0333, 0.0333, 0.0333, 0.0333, 0.0333, 0.0667, 0.1, 0.1, 0.1667, 0.1667,
            ),
            settled=0.8026,
            late_changes=0.7279,
            changes=10.3068,
            final_nulls=0.006,
            wrong_agreement=0.1055,
            agreement_by_depth=(
                0.3601, 0.2774, 0.2081, 0.1567, 0.1211, 0.1078, 0.0971, 0.0854, 0.0768, 0.0622,
            ),
        ),
        "Qwen3-1.7B": Statistics(
            questions=30,
            branches=3840,
            interval=500,
            accuracy=0.4594,
            plurality=0.7219,
            pass_any=0.799,
            plurality_wrong=0.2667,
            accuracy_deciles=(
                0.0, 0.0, 0.0313, 0.2453, 0.3125, 0.4062, 0.5234, 0.6992, 0.8625, 0.9781, 1.0,
            ),
            tokens_mean=16033.0,
            tokens_cv=0.5585,
            tokens_cv_within=0.368,
            tokens_quantiles=(1225.0, 4078.0, 8387.0, 15217.0, 22103.0, 31840.0, 41279.0, 41498.0),
            intervals_mean=31.9682,
            overhang_quantiles=(-0.718, -0.334, 0.236, 0.826, 1.717, 3.1841, 6.1906, 8.178),
            length_correlation=-0.7451,
            wrong_length=1.5944,
            null_by_depth=(
                0.0209, 0.0528, 0.0738, 0.0789, 0.0751, 0.0739, 0.0567, 0.0407, 0.0254, 0.0084,
            ),
            accuracy_by_depth=(
                0.026, 0.0563, 0.0835, 0.1189, 0.1584, 0.1999, 0.2488, 0.2885, 0.3333, 0.3819,
            ),
            plurality_by_depth=(
                0.0333, 0.0667, 0.1, 0.1667, 0.3, 0.3667, 0.3667, 0.4333, 0.4667, 0.6,
            ),
            settled=0.7092,
            late_changes=0.5336,
            changes=10.4034,
            final_nulls=0.0029,
            wrong_agreement=0.1699,
            agreement_by_depth=(
                0.5113, 0.3515, 0.3064, 0.2574, 0.2268, 0.2056, 0.1833, 0.1459, 0.1177, 0.1102,
            ),
        ),
        "Qwen3-4B": Statistics(
            questions=30,
            branches=3840,
            interval=500,
            accuracy=0.7185,
            plurality=0.8,
            pass_any=0.8913,
            plurality_wrong=0.2,
            accuracy_deciles=(
                0.0, 0.0141, 0.4391, 0.6961, 0.8375, 0.8867, 0.9344, 0.9922, 1.0, 1.0, 1.0,
            ),
            tokens_mean=13851.0,
            tokens_cv=0.6704,
            tokens_cv_within=0.3763,
            tokens_quantiles=(2076.0, 3715.0, 6544.0, 10794.0, 19636.0, 32108.0, 41231.0, 41482.0),
            intervals_mean=27.9734,
            overhang_quantiles=(-0.752, -0.358, 0.076, 0.446, 0.996, 2.8422, 5.4052, 8.24),
            length_correlation=-0.6433,
            wrong_length=1.6935,
            null_by_depth=(
                0.0818, 0.1335, 0.2106, 0.2178, 0.2125, 0.1719, 0.1182, 0.0847, 0.0578, 0.0179,
            ),
            accuracy_by_depth=(
                0.01, 0.037, 0.0712, 0.135, 0.2024, 0.2916, 0.3893, 0.4703, 0.5534, 0.6375,
            ),
            plurality_by_depth=(0.0, 0.0333, 0.0667, 0.1333, 0.1333, 0.3, 0.5, 0.6667, 0.7333, 0.8),
            settled=0.6806,
            late_changes=0.4635,
            changes=8.8672,
            final_nulls=0.0036,
            wrong_agreement=0.2962,
            agreement_by_depth=(
                0.5057, 0.3824, 0.3507, 0.3305, 0.3212, 0.2983, 0.2796, 0.2396, 0.2068, 0.1856,
            ),
        ),
        "Qwen3-8B": Statistics(
            questions=30,
            branches=3840,
            interval=500,
            accuracy=0.757,
            plurality=0.8036,
            pass_any=0.9283,
            plurality_wrong=0.2,
            accuracy_deciles=(
                0.0, 0.0375, 0.6625, 0.8313, 0.8516, 0.9336, 0.9594, 0.9922, 1.0, 1.0, 1.0,
            ),
            tokens_mean=14229.0,
            tokens_cv=0.6499,
            tokens_cv_within=0.3585,
            tokens_quantiles=(1977.0, 4259.0, 6785.0, 11270.0, 20036.0, 32817.0, 41302.0, 41470.0),
            intervals_mean=28.6831,
            overhang_quantiles=(-0.74, -0.366, 0.07, 0.461, 1.054, 3.1944, 5.2061, 8.4),
            length_correlation=-0.6249,
            wrong_length=1.5968,
            null_by_depth=(
                0.0091, 0.0274, 0.0666, 0.105, 0.1167, 0.1067, 0.0808, 0.0537, 0.0317, 0.014,
            ),
            accuracy_by_depth=(
                0.0214, 0.0392, 0.0968, 0.1699, 0.2536, 0.3413, 0.4369, 0.5212, 0.5994, 0.6873,
            ),
            plurality_by_depth=(0.0333, 0.0333, 0.1333, 0.1667, 0.4, 0.4667, 0.6, 0.7, 0.7333, 0.8),
            settled=0.6602,
            late_changes=0.4229,
            changes=8.8419,
            final_nulls=0.0128,
            wrong_agreement=0.3527,
            agreement_by_depth=(
                0.5698, 0.435, 0.3718, 0.3587, 0.3453, 0.3212, 0.2989, 0.2848, 0.2759, 0.2123,
            ),
        ),
    }
)
# fmt: on
