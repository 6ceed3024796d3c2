"""Where a program's tokens went and what it lost, as figures and as lines of text.

Episodes of all environments are put together, each token counting the same; causes are those of
:mod:`autotts_gym.discovery.error_analysis`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery import error_analysis as h
from autotts_gym.discovery.error_analysis import EpisodeDiagnosis

#: Characters of a line of text at most.
WIDTH: Final = 100
#: Difficulties, and the least share of recorded right branches from which a question is of each.
DIFFICULTIES: Final = {"easy": 0.75, "medium": 0.25, "hard": 0.0}
#: An answer that was there for good before this share of the tokens was spent stopped late.
LATE: Final = 0.5
#: Messages of errors that the text has; the figures have all of them.
_MESSAGES: Final = 5

#: What a program did wrong, in words.
WORDS: Final = {
    h.FAILED: "failed",
    h.OVERRULED: "answered against its own plurality",
    h.EARLY: "stopped too early",
    h.PRUNED: "pruned the right branches",
    h.NARROW: "opened too few branches",
    h.OUTVOTED: "the right answer is outvoted",
    h.ABSENT: "no branch ends right",
}


@dataclass(frozen=True)
class Difficulty:
    """The episodes of the questions of one difficulty.

    Attributes:
        name: a key of ``DIFFICULTIES``.
        questions: how many, each environment's own counted apart.
        accuracy: share of its episodes that came out right.
        reading_all: share that reading all ``max_branches`` branches whole would have got right.
        tokens: share of all tokens at this β.
    """

    name: str
    questions: int
    accuracy: float
    reading_all: float
    tokens: float


@dataclass(frozen=True)
class AtBeta:
    """What became of the episodes at one β.

    Attributes:
        beta: β.
        episodes: how many.
        accuracy: share of them that came out right.
        reading_all: share that reading all ``max_branches`` branches whole would have got right.
        tokens: mean true tokens of an episode.
        counts: episodes by cause, all of ``hindsight.CAUSES``; they add up to ``episodes``.
        shares: share of all tokens that went into them, by cause; they add up to 1 (to 0 where
            nothing was spent).
        reading_on: mean tokens that it would have taken to read the open branches of early stops
            to their ends, which makes them right; None without an early stop.
        settled: share of the tokens of the right episodes that had been spent when the answer was
            there to stay (settled tokens); None where they have none.
        late: right episodes whose answer was there to stay before ``LATE`` of their tokens were
            spent.
        late_tokens: mean tokens that these spent afterwards; None without any.
        opened, opened_right: branches opened in all episodes, and those that end right.
        pruned, pruned_right: of these, those that were pruned.
        unread, unread_right: branches of episodes that came out wrong that were neither pruned nor
            seen to end.
        difficulties: those that there are questions of, the easiest first.
    """

    beta: float
    episodes: int
    accuracy: float
    reading_all: float
    tokens: float
    counts: dict[str, int]
    shares: dict[str, float]
    reading_on: float | None
    settled: float | None
    late: int
    late_tokens: float | None
    opened: int
    opened_right: int
    pruned: int
    pruned_right: int
    unread: int
    unread_right: int
    difficulties: tuple[Difficulty, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What became of a program's episodes.

    Attributes:
        rows: one a β, rising.
        errors: how many episodes each error ended, by message, the most frequent first.
    """

    rows: tuple[AtBeta, ...]
    errors: dict[str, int]

    def facts(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {"rows": [asdict(row) for row in self.rows], "errors": self.errors}

    def text(self) -> str:
        """Lines for people and models, ``WIDTH`` characters at most."""
        lines = [line for row in self.rows for line in _lines(row)]
        for message, count in list(self.errors.items())[:_MESSAGES]:
            lines.append(f"error in {count:,} episodes: {message}")
        if (left := len(self.errors) - _MESSAGES) > 0:
            lines.append(f"and {left} other messages")
        return "\n".join(cut(line) for line in lines)


def diagnose(parts: Iterable[EpisodeDiagnosis]) -> Diagnosis:
    """The diagnosis of a program from its episodes on every environment at every β.

    Raises:
        ValueError: there is no episode.
    """
    by_beta: dict[float, list[EpisodeDiagnosis]] = {}
    errors: Counter[str] = Counter()
    for part in parts:
        if len(part.cause):
            by_beta.setdefault(part.logged.beta, []).append(part)
            errors.update(part.logged.failures.values())
    if not by_beta:
        raise ValueError("there are no episodes to diagnose")
    rows = tuple(_at(beta, by_beta[beta]) for beta in sorted(by_beta))
    # Equally frequent ones go by their text, so that one program has one diagnosis.
    return Diagnosis(rows, dict(sorted(errors.items(), key=lambda e: (-e[1], e[0]))))


def difficulty(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places in ``DIFFICULTIES`` of questions with some shares of right branches."""
    least = np.array(list(DIFFICULTIES.values()))
    found: NDArray[np.int64] = (share[:, None] >= least).argmax(axis=1)
    return found


# --- figures -------------------------------------------------------------------------------------


def _at(beta: float, parts: Sequence[EpisodeDiagnosis]) -> AtBeta:
    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    cause, tokens, settled = joined("cause"), joined("tokens"), joined("settled")
    right, wrong = cause == h.RIGHT, cause != h.RIGHT
    places = range(len(h.CAUSES))
    late = right & (settled < LATE * tokens)
    early = cause == h.EARLY
    return AtBeta(
        beta=beta,
        episodes=len(cause),
        accuracy=float(right.mean()),
        reading_all=float(joined("all_right").mean()),
        tokens=float(tokens.mean()),
        counts={h.CAUSES[c]: int((cause == c).sum()) for c in places},
        shares={h.CAUSES[c]: _ratio(tokens[cause == c].sum(), tokens.sum()) or 0.0 for c in places},
        reading_on=_ratio(joined("reading_on").sum(), early.sum()),
        settled=_ratio(settled[right].sum(), tokens[right].sum()),
        late=int(late.sum()),
        late_tokens=_ratio((tokens - settled)[late].sum(), late.sum()),
        opened=int(joined("opened").sum()),
        opened_right=int(joined("opened_right").sum()),
        pruned=int(joined("pruned").sum()),
        pruned_right=int(joined("pruned_right").sum()),
        unread=int(joined("unread")[wrong].sum()),
        unread_right=int(joined("unread_right")[wrong].sum()),
        difficulties=tuple(_difficulties(parts, joined)),
    )


def _difficulties(parts: Sequence[EpisodeDiagnosis], joined: Any) -> Iterable[Difficulty]:
    place, tokens = difficulty(joined("share")), joined("tokens")
    right, all_right = joined("right"), joined("all_right")
    # An environment that was played in several parts has its questions once.
    questions = [(part.logged.env, q) for part in parts for q in part.logged.questions.tolist()]
    for k, name in enumerate(DIFFICULTIES):
        of = place == k
        if of.any():
            yield Difficulty(
                name,
                len({questions[e] for e in np.flatnonzero(of)}),
                float(right[of].mean()),
                float(all_right[of].mean()),
                _ratio(tokens[of].sum(), tokens.sum()) or 0.0,
            )


def _ratio(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


# --- text ----------------------------------------------------------------------------------------


def _lines(row: AtBeta) -> Iterable[str]:
    def lost(causes: Sequence[int]) -> list[str]:
        """Episodes and shares of tokens by cause, of those that there are."""
        return [
            f"{WORDS[c]} {row.counts[h.CAUSES[c]]:,} ({row.shares[h.CAUSES[c]]:.0%})"
            for c in causes
            if row.counts[h.CAUSES[c]]
        ]

    def share(causes: Sequence[int]) -> float:
        return sum(row.shares[h.CAUSES[c]] for c in causes)

    yield (
        f"β = {row.beta:g}: {row.accuracy:.3f} right of {row.episodes:,} episodes, "
        f"{row.tokens:,.0f} tokens each; reading all: {row.reading_all:.3f}"
    )
    yield (
        f"  tokens: {row.shares['right']:.0%} on right episodes, {share(h.BY_PROGRAM):.0%} lost by "
        f"the program, {share(h.ANYWAY):.0%} lost anyway"
    )
    yield from _listed("  lost by the program, episodes (tokens)", lost(h.BY_PROGRAM))
    if row.reading_on is not None:
        yield f"    to read on to the ends takes {row.reading_on:,.0f} tokens more in an early stop"
    yield from _listed("  lost anyway, episodes (tokens)", lost(h.ANYWAY))
    if row.settled is not None:
        yield f"  right episodes: the answer stood for good after {row.settled:.0%} of their tokens"
    if row.late_tokens is not None:
        yield (
            f"    in {row.late:,} of {row.counts['right']:,} before {LATE:.0%}; these spent "
            f"{row.late_tokens:,.0f} tokens more each"
        )
    kinds = {
        "opened": (row.opened, row.opened_right),
        "pruned": (row.pruned, row.pruned_right),
        "left unread in lost episodes": (row.unread, row.unread_right),
    }
    ends = [f"{right / n:.0%} of {n:,} {kind}" for kind, (n, right) in kinds.items() if n]
    yield from _listed("  branches that end right", ends)
    yield from _listed(
        "  questions",
        [
            f"{d.questions} {d.name} {d.accuracy:.2f} right (reading all {d.reading_all:.2f}) for "
            f"{d.tokens:.0%} of tokens"
            for d in row.difficulties
        ],
    )


def _listed(head: str, items: Sequence[str]) -> Iterable[str]:
    """The lines of a list; nothing where it is empty."""
    if not items:
        return
    line = f"{head}: {items[0]}"
    for item in items[1:]:
        if len(line) + len(item) + 3 > WIDTH:  # ", " before it, and "," after it
            yield f"{line},"
            line = f"    {item}"
        else:
            line += f", {item}"
    yield line


def cut(line: str) -> str:
    """One line of text that is no longer than ``WIDTH``, whatever an error's message holds."""
    plain = "".join(c if c.isprintable() else " " for c in line)
    return plain if len(plain) <= WIDTH else plain[: WIDTH - 1] + "…"
