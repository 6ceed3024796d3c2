"""Diagnosis of a program: where its tokens went and why its answers are incorrect.

The episodes of all environments are pooled, and every token counts the same. Causes are those of
:mod:`autotts_gym.discovery.error_analysis`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery import error_analysis as ea
from autotts_gym.discovery.error_analysis import ErrorAnalysis

#: Maximum number of characters of a line of text.
LINE_WIDTH: Final = 100
#: Names of difficulties, and the smallest share of correct recorded branches of each.
DIFFICULTIES: Final = {"easy": 0.75, "medium": 0.25, "hard": 0.0}
#: An episode stopped late if its answer last changed before this share of its tokens.
LATE: Final = 0.5
#: Number of distinct error messages in the text; the plain values contain all of them.
_MESSAGES: Final = 5

#: Descriptions of the causes.
CAUSE_LABELS: Final = {
    ea.FAILED: "failed",
    ea.OVERRULED: "answered against its own plurality",
    ea.EARLY: "stopped too early",
    ea.PRUNED: "pruned correct branches",
    ea.NARROW: "opened too few branches",
    ea.OUTVOTED: "gold answer outvoted",
    ea.ABSENT: "no correct branch",
}


@dataclass(frozen=True)
class DifficultyGroup:
    """Episodes on the questions of one difficulty.

    Attributes:
        name: a key of ``DIFFICULTIES``.
        questions: number of questions; each environment's questions are counted separately.
        accuracy: share of episodes with a correct answer.
        full_vote: accuracy of the vote of all ``max_branches`` branches.
        tokens: share of all tokens at this β.
    """

    name: str
    questions: int
    accuracy: float
    full_vote: float
    tokens: float


@dataclass(frozen=True)
class BetaDiagnosis:
    """Diagnosis of the episodes at one β.

    Attributes:
        beta: β.
        episodes: number of episodes.
        accuracy: share of episodes with a correct answer.
        full_vote: accuracy of the vote of all ``max_branches`` branches, read to their ends.
        tokens: mean true total tokens of an episode.
        counts: number of episodes by cause, for all of ``error_analysis.CAUSES``; they add up to
            ``episodes``.
        shares: share of all tokens by cause; they add up to 1, or to 0 if no tokens were spent.
        unread_tokens: mean tokens of reading the active branches of early stops to their ends,
            which makes their answers correct; None without early stops.
        settled: share of the tokens of correct episodes that are settled tokens (spent before the
            answer last changed); None if these episodes have no tokens.
        late: number of correct episodes whose settled tokens are less than ``LATE`` of their
            tokens.
        late_tokens: mean tokens that these episodes spent after the answer last changed; None
            without such episodes.
        opened, opened_correct: number of branches opened in all episodes, and of these, number of
            branches with a correct final answer.
        pruned, pruned_correct: the same of pruned branches.
        unread, unread_correct: the same of the branches of incorrect episodes that are neither
            pruned nor known to be finished.
        difficulties: groups that have questions, the easiest first.
    """

    beta: float
    episodes: int
    accuracy: float
    full_vote: float
    tokens: float
    counts: dict[str, int]
    shares: dict[str, float]
    unread_tokens: float | None
    settled: float | None
    late: int
    late_tokens: float | None
    opened: int
    opened_correct: int
    pruned: int
    pruned_correct: int
    unread: int
    unread_correct: int
    difficulties: tuple[DifficultyGroup, ...]


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of a program.

    Attributes:
        rows: one row per β, in ascending order.
        errors: number of episodes ended by each error message, the most frequent first.
    """

    rows: tuple[BetaDiagnosis, ...]
    errors: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """All values as plain values."""
        return {"rows": [asdict(row) for row in self.rows], "errors": self.errors}

    def text(self) -> str:
        """Lines of at most ``LINE_WIDTH`` characters, for people and language models."""
        lines = [line for row in self.rows for line in _lines(row)]
        for message, count in list(self.errors.items())[:_MESSAGES]:
            lines.append(f"error in {count:,} episodes: {message}")
        if (left := len(self.errors) - _MESSAGES) > 0:
            lines.append(f"and {left} other messages")
        return "\n".join(truncate_line(line) for line in lines)


def diagnose(analyses: Iterable[ErrorAnalysis]) -> Diagnosis:
    """Diagnose a program from the error analyses of all environments and values of β.

    Raises:
        ValueError: there are no episodes.
    """
    by_beta: dict[float, list[ErrorAnalysis]] = {}
    errors: Counter[str] = Counter()
    for analysis in analyses:
        if len(analysis.cause):
            by_beta.setdefault(analysis.episodes.beta, []).append(analysis)
            errors.update(analysis.episodes.failures.values())
    if not by_beta:
        raise ValueError("there are no episodes to diagnose")
    rows = tuple(_diagnose_beta(beta, by_beta[beta]) for beta in sorted(by_beta))
    # Messages of equal frequency are sorted by their text, so that the result is deterministic.
    return Diagnosis(rows, dict(sorted(errors.items(), key=lambda e: (-e[1], e[0]))))


def difficulty_index(correct_share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into ``DIFFICULTIES`` for each share of correct branches, int64[K]."""
    minima = np.array(list(DIFFICULTIES.values()))
    index: NDArray[np.int64] = (correct_share[:, None] >= minima).argmax(axis=1)
    return index


# --- values --------------------------------------------------------------------------------------


def _diagnose_beta(beta: float, analyses: Sequence[ErrorAnalysis]) -> BetaDiagnosis:
    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(analysis, name) for analysis in analyses])

    cause, tokens, settled = joined("cause"), joined("tokens"), joined("settled")
    correct, incorrect = cause == ea.CORRECT, cause != ea.CORRECT
    late = correct & (settled < LATE * tokens)
    early = cause == ea.EARLY
    masks = {name: cause == index for index, name in enumerate(ea.CAUSES)}
    return BetaDiagnosis(
        beta=beta,
        episodes=len(cause),
        accuracy=float(correct.mean()),
        full_vote=float(joined("full_vote_correct").mean()),
        tokens=float(tokens.mean()),
        counts={name: int(mask.sum()) for name, mask in masks.items()},
        shares={n: _ratio(tokens[mask].sum(), tokens.sum()) or 0.0 for n, mask in masks.items()},
        unread_tokens=_ratio(joined("unread_tokens").sum(), early.sum()),
        settled=_ratio(settled[correct].sum(), tokens[correct].sum()),
        late=int(late.sum()),
        late_tokens=_ratio((tokens - settled)[late].sum(), late.sum()),
        opened=int(joined("opened").sum()),
        opened_correct=int(joined("opened_correct").sum()),
        pruned=int(joined("pruned").sum()),
        pruned_correct=int(joined("pruned_correct").sum()),
        unread=int(joined("unread")[incorrect].sum()),
        unread_correct=int(joined("unread_correct")[incorrect].sum()),
        difficulties=tuple(_difficulty_groups(analyses, joined)),
    )


def _difficulty_groups(analyses: Sequence[ErrorAnalysis], joined: Any) -> Iterable[DifficultyGroup]:
    index, tokens = difficulty_index(joined("correct_share")), joined("tokens")
    correct, full_vote = joined("correct"), joined("full_vote_correct")
    # The same question in several analyses of an environment counts once.
    questions = [(a.episodes.env, q) for a in analyses for q in a.episodes.questions.tolist()]
    for k, name in enumerate(DIFFICULTIES):
        group = index == k
        if group.any():
            yield DifficultyGroup(
                name,
                len({questions[e] for e in np.flatnonzero(group)}),
                float(correct[group].mean()),
                float(full_vote[group].mean()),
                _ratio(tokens[group].sum(), tokens.sum()) or 0.0,
            )


def _ratio(part: Any, total: Any) -> float | None:
    return float(part / total) if total else None


# --- text ----------------------------------------------------------------------------------------


def _lines(row: BetaDiagnosis) -> Iterable[str]:
    def items(causes: Sequence[int]) -> list[str]:
        """Episodes and shares of tokens of the causes that occur."""
        return [
            f"{CAUSE_LABELS[c]} {row.counts[ea.CAUSES[c]]:,} ({row.shares[ea.CAUSES[c]]:.0%})"
            for c in causes
            if row.counts[ea.CAUSES[c]]
        ]

    def share(causes: Sequence[int]) -> float:
        return sum(row.shares[ea.CAUSES[c]] for c in causes)

    yield (
        f"β = {row.beta:g}: accuracy {row.accuracy:.3f} in {row.episodes:,} episodes, "
        f"{row.tokens:,.0f} tokens per episode; vote of all branches: {row.full_vote:.3f}"
    )
    yield (
        f"  tokens: {row.shares['correct']:.0%} in correct episodes, {share(ea.AVOIDABLE):.0%} in "
        f"avoidable errors, {share(ea.UNAVOIDABLE):.0%} in unavoidable errors"
    )
    yield from _listed("  avoidable errors, episodes (tokens)", items(ea.AVOIDABLE))
    if row.unread_tokens is not None:
        yield (
            f"    an early stop needs {row.unread_tokens:,.0f} more tokens to read its branches to "
            "their ends"
        )
    yield from _listed("  unavoidable errors, episodes (tokens)", items(ea.UNAVOIDABLE))
    if row.settled is not None:
        yield f"  correct episodes: the answer last changed after {row.settled:.0%} of their tokens"
    if row.late_tokens is not None:
        yield (
            f"    in {row.late:,} of {row.counts['correct']:,} before {LATE:.0%}; these spent "
            f"{row.late_tokens:,.0f} more tokens each"
        )
    kinds = {
        "opened": (row.opened, row.opened_correct),
        "pruned": (row.pruned, row.pruned_correct),
        "unread in incorrect episodes": (row.unread, row.unread_correct),
    }
    shares = [f"{correct / n:.0%} of {n:,} {kind}" for kind, (n, correct) in kinds.items() if n]
    yield from _listed("  branches with a correct final answer", shares)
    yield from _listed(
        "  questions",
        [
            f"{d.questions} {d.name}: accuracy {d.accuracy:.2f} (all branches {d.full_vote:.2f}), "
            f"{d.tokens:.0%} of tokens"
            for d in row.difficulties
        ],
    )


def _listed(head: str, items: Sequence[str]) -> Iterable[str]:
    """A list of items, broken into lines; no lines without items."""
    if not items:
        return
    line = f"{head}: {items[0]}"
    for item in items[1:]:
        if len(line) + len(item) + 3 > LINE_WIDTH:  # ", " before the item and "," after it
            yield f"{line},"
            line = f"    {item}"
        else:
            line += f", {item}"
    yield line


def truncate_line(line: str) -> str:
    """A single line of at most ``LINE_WIDTH`` printable characters."""
    plain = "".join(c if c.isprintable() else " " for c in line)
    return plain if len(plain) <= LINE_WIDTH else plain[: LINE_WIDTH - 1] + "…"
