"""Conversion of questions with string answers into integer-coded tables, with validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from reprlib import repr as _short  # keeps values in messages short
from typing import Any, Final

import numpy as np

from autotts_gym.traces.exceptions import TraceError
from autotts_gym.traces.records import Branch, Question
from autotts_gym.traces.store_tables import RawAnswers, Tables
from autotts_gym.traces.table_validation import MAX_CLASSES, MAX_CONFIDENCE, MAX_TOKENS

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class TableEncoder:
    """Builds tables from questions, one :meth:`add` at a time.

    Args:
        is_null: whether an answer is a null answer.
        interval: Δ, tokens.

    Attributes:
        branch_texts: text of each branch so far.
        branch_flags: flags of each branch so far.
        has_texts: whether any branch has a text.
    """

    def __init__(self, is_null: Callable[[str], bool], interval: int) -> None:
        self._is_null = is_null
        self._interval = interval
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._golds: list[str] = []
        self._answers: list[list[str]] = []
        self._nulls: list[list[bool]] = []
        self._has_raw = False
        self._raw_texts: list[list[str]] = []
        self._raw_nulls: list[list[bool]] = []
        self._raw_probes: list[int] = []
        self._raw_finals: list[int] = []
        self._counts: list[int] = []
        self._lengths: list[int] = []
        self._tokens: list[int] = []
        self._finals: list[int] = []
        self._probes: list[int] = []
        self._confidences: list[float] | None = None
        self._probe_tokens: list[int] | None = None
        self._has_generation_confidences = False
        self._confidence_sums: list[float] = []
        self._confidence_tokens: list[int] = []
        self.branch_texts: list[str | None] = []
        self.branch_flags: list[str] = []
        self.has_texts = False

    def add(self, question: Question) -> None:
        """Add a question with its branches.

        Raises:
            TraceError: names the row of the question, the branch, and the invalid value.
        """
        row = len(self._ids)
        where = f"question {row}"
        _check_string(question.text, f"{where}: its text")
        _check_string(question.gold, f"{where}: its gold answer")
        _check_string(question.id, f"{where}: its id")
        if not question.branches:
            raise TraceError(f"{where}: has no branches; at least one is needed")
        codes: dict[tuple[str, bool], int] = {}
        raw_codes: dict[tuple[str, bool], int] = {}
        for number, branch in enumerate(question.branches):
            self._add_branch(branch, codes, raw_codes, f"{where}, branch {number}")
        if len(codes) > MAX_CLASSES:
            raise TraceError(
                f"{where}: {len(codes)} different answers; a question can have {MAX_CLASSES}"
            )
        self._ids.append(question.id or str(row))
        self._texts.append(question.text)
        self._golds.append(question.gold)
        self._answers.append([answer for answer, _ in codes])
        self._nulls.append([null for _, null in codes])
        self._raw_texts.append([answer for answer, _ in raw_codes])
        self._raw_nulls.append([null for _, null in raw_codes])
        self._counts.append(len(question.branches))

    def _add_branch(
        self,
        branch: Branch,
        codes: dict[tuple[str, bool], int],
        raw_codes: dict[tuple[str, bool], int],
        where: str,
    ) -> None:
        if type(branch.tokens) is not int or not 0 < branch.tokens <= MAX_TOKENS:
            shown = _short(branch.tokens)
            raise TraceError(f"{where}: tokens must be a positive integer below 2**31, got {shown}")
        if isinstance(branch.probes, str) or not isinstance(branch.probes, Sequence):
            kind = type(branch.probes).__name__
            raise TraceError(f"{where}: probes must be a list of strings, got {kind}")
        answers = [*branch.probes, branch.final]
        for answer in answers:
            if not isinstance(answer, str):
                raise TraceError(f"{where}: answers must be strings, got {_short(answer)}")
        nulls = self._null_flags(branch, where)
        coded = _encode(answers, nulls, codes, where)
        if branch.text is not None:
            _check_string(branch.text, f"{where}: its text")
            self.has_texts = True
        _check_string(branch.flags, f"{where}: its flags")
        first = not self._lengths
        self._add_raw(branch, nulls, raw_codes, first, where)
        self._add_generation_confidences(branch, first, where)
        self._confidences = _extend_optional(
            self._confidences, branch.confidences, branch, first, f"{where}: confidences"
        )
        self._probe_tokens = _extend_optional(
            self._probe_tokens,
            branch.probe_tokens,
            branch,
            first,
            f"{where}: probe_tokens",
            integers=True,
        )
        self._probes += coded[:-1]
        self._finals.append(coded[-1])
        self._lengths.append(len(branch.probes))
        self._tokens.append(branch.tokens)
        self.branch_texts.append(branch.text)
        self.branch_flags.append(branch.flags)

    def _null_flags(self, branch: Branch, where: str) -> list[bool]:
        if branch.nulls is None:
            return [bool(self._is_null(answer)) for answer in (*branch.probes, branch.final)]
        flags = list(branch.nulls)
        if len(flags) != len(branch.probes) + 1 or not all(type(flag) is bool for flag in flags):
            raise TraceError(f"{where}: nulls must be a bool for each probe and the final answer")
        return flags

    def _add_raw(
        self,
        branch: Branch,
        nulls: list[bool],
        codes: dict[tuple[str, bool], int],
        first: bool,
        where: str,
    ) -> None:
        if first:
            self._has_raw = branch.raw is not None
        if self._has_raw != (branch.raw is not None):
            raise TraceError(f"{where}: raw answers must be there for every branch or for none")
        if branch.raw is None:
            return
        if len(branch.raw) != len(nulls) or not all(isinstance(raw, str) for raw in branch.raw):
            raise TraceError(f"{where}: raw must be a string for each probe and the final answer")
        coded = _encode(branch.raw, nulls, codes, where)
        self._raw_probes += coded[:-1]
        self._raw_finals.append(coded[-1])

    def _add_generation_confidences(self, branch: Branch, first: bool, where: str) -> None:
        sums, counts = branch.confidence_sums, branch.confidence_tokens
        if first:
            self._has_generation_confidences = sums is not None
        for name, values in (("confidence_sums", sums), ("confidence_tokens", counts)):
            if self._has_generation_confidences != (values is not None):
                raise TraceError(f"{where}: {name} must be there for every branch or for none")
        if sums is None or counts is None:
            return
        n, interval = len(branch.probes), self._interval
        for name, given in (("confidence_sums", sums), ("confidence_tokens", counts)):
            if len(given) != n + 1:
                raise TraceError(f"{where}: {name}: {len(given)} for {n + 1} intervals")
        most = [interval] * n + [max(branch.tokens - n * interval, 0)]
        for k in range(n + 1):
            here = f"{where}, interval {k + 1}"
            _check_number(counts[k], int, most[k], f"{here}: confidence_tokens")
            _check_number(
                sums[k], int | float, counts[k] * MAX_CONFIDENCE, f"{here}: confidence_sums"
            )
        self._confidence_sums += sums
        self._confidence_tokens += counts

    def tables(self) -> Tables:
        """Return the tables of all questions added so far."""
        confidences, costs = self._confidences, self._probe_tokens
        has_sums = self._has_generation_confidences
        return Tables(
            ids=self._ids,
            texts=self._texts,
            golds=self._golds,
            answers=self._answers,
            nulls=self._nulls,
            branch_counts=np.array(self._counts, np.int64),
            lengths=np.array(self._lengths, np.int64),
            tokens=np.array(self._tokens, np.int64),
            finals=np.array(self._finals, np.int16),
            probes=np.array(self._probes, np.int16),
            confidences=None if confidences is None else np.array(confidences, np.float32),
            probe_tokens=None if costs is None else np.array(costs, np.int32),
            raw=self._raw_answers(),
            confidence_sums=np.array(self._confidence_sums, np.float32) if has_sums else None,
            confidence_tokens=np.array(self._confidence_tokens, np.int32) if has_sums else None,
        )

    def _raw_answers(self) -> RawAnswers | None:
        if not self._has_raw:
            return None
        return RawAnswers(
            self._raw_texts,
            self._raw_nulls,
            np.array(self._raw_finals, np.int32),
            np.array(self._raw_probes, np.int32),
        )


def _encode(
    answers: Sequence[str], nulls: list[bool], codes: dict[tuple[str, bool], int], where: str
) -> list[int]:
    """Codes of answers, with new ones for those that are not in ``codes`` yet."""
    coded = []
    for key in zip(answers, nulls, strict=True):
        if key not in codes:
            _check_string(key[0], f"{where}: an answer")
            codes[key] = len(codes)
        coded.append(codes[key])
    return coded


def _extend_optional(
    column: list[Any] | None,
    values: Sequence[Any] | None,
    branch: Branch,
    first: bool,
    what: str,
    *,
    integers: bool = False,
) -> list[Any] | None:
    """Append a branch's optional values to their column: every branch has them, or none has."""
    if first:
        column = None if values is None else []
    if (column is None) != (values is None):
        raise TraceError(f"{what} must be there for every branch or for none")
    if column is None or values is None:
        return None
    if len(values) != len(branch.probes):
        raise TraceError(f"{what}: {len(values)} for {len(branch.probes)} probes")
    kinds, maximum = (int, MAX_TOKENS) if integers else (int | float, MAX_CONFIDENCE)
    for value in values:
        _check_number(value, kinds, maximum, what)
    column += values
    return column


def _check_number(value: object, kinds: Any, maximum: float, what: str) -> None:
    """Check that a value is a number of these types, at least 0 and at most ``maximum``."""
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= maximum:
        wanted = "integers" if kinds is int else "finite numbers"
        limits = f"of at least 0 and at most {maximum:,.0f}"
        raise TraceError(f"{what} must be {wanted} {limits}, got {_short(value)}")


def _check_string(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise TraceError(f"{what} must be a string, got {type(value).__name__}")
    lone = _LONE_SURROGATE.search(value)
    if lone:
        raise TraceError(
            f"{what} is not valid Unicode: lone surrogate {lone[0]!r} at character {lone.start()}"
        )
