"""The integer-coded tables of a store, their fingerprint and their summary figures."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Header of the fingerprint; stores of all formats with the same episodes have the same one.
_FINGERPRINT: Final = 1


#: Default maximum number of branches, as in the published table (SC@64).
MAX_WIDTH: Final = 64


@dataclass(frozen=True)
class RawAnswers:
    """The answers as the model wrote them, of which the answer classes were made.

    Attributes:
        texts: distinct raw answers of each question, null answers among them.
        nulls: for each of them, whether it is a null answer.
        finals: int32[B], code of the raw final answer.
        probes: int32[P], codes of the raw answers of the probes.
    """

    texts: list[list[str]]
    nulls: list[list[bool]]
    finals: NDArray[np.int32]
    probes: NDArray[np.int32]

    def of_branch(self, question: int, branch: int, span: slice) -> list[str]:
        """The raw answers of a branch with the probes ``span``, and its final answer."""
        codes = *self.probes[span], self.finals[branch]
        return [self.texts[question][code] for code in codes]


@dataclass(frozen=True)
class Tables:
    """The integer-coded content of a store with Q questions, B branches and P probes.

    Answer code c of a question is ``answers[question][c]``. Values of intervals are stored branch
    after branch: interval k of branch b, counted from 1, is row ``lengths[:b].sum() + b + k - 1``.
    A branch with n probes has n + 1 intervals; the last one is what follows its last probe.

    Attributes:
        ids, texts, golds: one string per question.
        answers: answer classes of each question.
        nulls: for each answer class, whether it is a null answer.
        branch_counts: int64[Q], branches of each question; branches are sorted by question.
        lengths: int64[B], n of each branch.
        tokens: int64[B], T of each branch.
        finals: int16[B], code of the final answer.
        probes: int16[P], codes of the probes' answers.
        confidences: float32[P], or None.
        probe_tokens: int32[P], or None.
        raw: the answers as they were written, or None. They do not affect an episode.
        confidence_sums: float32[P + B], sum of the token confidences in each interval, or None.
        confidence_tokens: int32[P + B], number of tokens in that sum, 0 if unknown; None exactly if
            ``confidence_sums`` is.
    """

    ids: list[str]
    texts: list[str]
    golds: list[str]
    answers: list[list[str]]
    nulls: list[list[bool]]
    branch_counts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    tokens: NDArray[np.int64]
    finals: NDArray[np.int16]
    probes: NDArray[np.int16]
    confidences: NDArray[np.float32] | None = None
    probe_tokens: NDArray[np.int32] | None = None
    raw: RawAnswers | None = None
    confidence_sums: NDArray[np.float32] | None = None
    confidence_tokens: NDArray[np.int32] | None = None

    def fingerprint(self, interval: int) -> str:
        """Return the sha256 of everything that affects an episode.

        It does not depend on the layout of the files. That of tables without generation confidences
        is the same as before there were any.
        """
        digest = hashlib.sha256(f"autotts-traces {_FINGERPRINT} {interval}\n".encode())
        for strings in (self.ids, self.texts, self.golds, *self.answers):
            # With the lengths, two different lists of strings never have the same bytes.
            joined = "".join(strings).encode()
            digest.update(np.array([len(strings), *map(len, strings)], "<i8").tobytes())
            digest.update(joined)
        for flags in self.nulls:
            digest.update(bytes(flags) + b"/")
        arrays: list[tuple[NDArray[Any] | None, str]] = [
            (self.branch_counts, "<i8"),
            (self.lengths, "<i8"),
            (self.tokens, "<i8"),
            (self.finals, "<i2"),
            (self.probes, "<i2"),
            (self.confidences, "<f4"),
            (self.probe_tokens, "<i4"),
        ]
        for array, dtype in arrays:
            digest.update(b"-" if array is None else b"+")
            if array is not None:
                digest.update(np.ascontiguousarray(array, dtype).data)
        if self.confidence_sums is not None:
            digest.update(b"s" + np.ascontiguousarray(self.confidence_sums, "<f4").data)
        if self.confidence_tokens is not None:
            digest.update(b"t" + np.ascontiguousarray(self.confidence_tokens, "<i4").data)
        return digest.hexdigest()

    def tokens_per_interval(self, interval: int) -> NDArray[np.int64]:
        """The largest number of tokens that each interval can have, int64[P + B]."""
        most = np.full(len(self.probes) + len(self.lengths), interval, np.int64)
        last = np.cumsum(self.lengths + 1) - 1
        most[last] = np.maximum(self.tokens - self.lengths * interval, 0)
        return most

    def gold_codes(self) -> list[int]:
        """Code of each question's gold answer; -1 if no branch gives it.

        Where the answers are kept as they were written, a null answer is never the gold answer.
        Other stores, such as published ones, compare answers as strings.
        """
        return [
            next(
                (
                    c
                    for c, (a, n) in enumerate(zip(answers, nulls, strict=True))
                    if a == g and not (n and self.raw is not None)
                ),
                -1,
            )
            for g, answers, nulls in zip(self.golds, self.answers, self.nulls, strict=True)
        ]

    def card_figures(self) -> dict[str, Any]:
        """Return the entries of the card that are computed from the tables."""
        width = min(MAX_WIDTH, int(self.branch_counts.min()))
        starts = np.cumsum(self.branch_counts) - self.branch_counts
        means = np.add.reduceat(self.tokens, starts) / self.branch_counts
        return {
            "questions": len(self.branch_counts),
            "branches": len(self.lengths),
            "probes": len(self.probes),
            "depth": int(self.lengths.max()) + 1,
            # fsum rounds once, so the figure is the same on every machine.
            "mean_tokens": math.fsum(means) / len(means),
            "longest_of": width,
            "longest_tokens": self.longest_tokens(width),
        }

    def longest_tokens(self, width: int) -> float:
        """Expected tokens of the longest of ``width`` branches of a question.

        They are drawn from its stored branches without replacement; if a question has fewer, its
        longest branch counts. Exact up to rounding, and the same on every machine; every question
        has the same weight.
        """
        counts = self.branch_counts.tolist()
        questions = np.repeat(np.arange(len(counts)), counts)
        ascending = self.tokens[np.lexsort((self.tokens, questions))]
        shares = {n: _longest_shares(n, min(width, n)) for n in set(counts)}
        weighted = ascending * np.concatenate([shares[n] for n in counts])
        return math.fsum(weighted.tolist()) / len(counts)


def _longest_shares(n: int, width: int) -> NDArray[np.float64]:
    """Probabilities of the 1st to n-th shortest of n branches to be the longest of ``width`` drawn.

    That of the j-th is C(j − 1, width − 1) / C(n, width).
    """
    shares = np.zeros(n)
    draws, longest = math.comb(n, width), 1  # C(j − 1, width − 1), an exact integer
    for j in range(width, n + 1):
        shares[j - 1] = longest / draws
        longest = longest * j // (j - width + 1)
    return shares
