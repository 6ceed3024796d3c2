"""Trace stores: frozen sets of recorded reasoning traces of one model on one benchmark.

Opening a store reads only its card. The tables are read on first use and checked against the
fingerprint on the card. See :mod:`autotts_gym.traces.store_files` for the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from numpy.typing import NDArray

from autotts_gym.traces.card import CARD, FORMAT, Card, check_interval
from autotts_gym.traces.encoder import TableEncoder
from autotts_gym.traces.exceptions import FrozenError, TraceError
from autotts_gym.traces.records import NULL_ANSWERS, Branch, Question, is_null
from autotts_gym.traces.store_files import (
    create_store_folder,
    mismatch,
    read_flags,
    read_tables,
    read_texts,
    write_tables,
)
from autotts_gym.traces.store_tables import Tables
from autotts_gym.traces.validation_cache import validate_once

__all__ = [
    "CARD",
    "FORMAT",
    "NULL_ANSWERS",
    "Branch",
    "Card",
    "FrozenError",
    "Question",
    "Tables",
    "TraceError",
    "TraceStore",
    "check_interval",
]


class TraceStore:
    """Frozen traces of one model on one benchmark.

    Create a store with :meth:`from_branches` (questions with string answers), :meth:`from_tables`
    (integer-coded tables) or :meth:`open` (a folder), and write it with :meth:`save`.

    ``len(store)`` is the number of questions, ``store[row]`` a question, ``store[start:stop]`` a
    list of questions; iteration yields the questions in order.

    Attributes:
        card: description of the store.
        path: its folder; None for a store in memory.
    """

    def __init__(
        self,
        card: Card,
        path: Path | None = None,
        tables: Tables | None = None,
        branch_texts: Sequence[str | None] | None = None,
        branch_flags: Sequence[str] | None = None,
    ) -> None:
        self.card = card
        self.path = path
        self._branch_texts = branch_texts
        self._branch_flags = branch_flags
        if tables is not None:
            self.tables = tables

    def __repr__(self) -> str:
        c = self.card
        where = str(self.path) if self.path else "in memory"
        size = f"{c.questions} questions, {c.branches} branches"
        return f"<TraceStore {where}: {size}, Δ={c.interval}>"

    # --- construction ----------------------------------------------------------------------------

    @classmethod
    def from_branches(
        cls,
        questions: Iterable[Question],
        interval: int,
        *,
        is_null: Callable[[str], bool] = is_null,
        synthetic: bool = False,
        details: dict[str, Any] | None = None,
    ) -> TraceStore:
        """Build a store from questions with string answers.

        Args:
            questions: the questions with their branches.
            interval: Δ, tokens between two probes.
            is_null: returns True for a null answer, which means that the probe found no answer.
            synthetic: whether the traces were generated rather than sampled from a model.
            details: additional entries of the card (model, sampling, source, licence, ...).

        Raises:
            TraceError: a value is invalid; the message names the question and the branch.
        """
        check_interval(interval)
        encoder = TableEncoder(is_null, interval)
        for question in questions:
            encoder.add(question)
        return cls.from_tables(
            encoder.tables(),
            interval,
            synthetic=synthetic,
            details=details,
            branch_texts=encoder.branch_texts if encoder.has_texts else None,
            branch_flags=encoder.branch_flags if any(encoder.branch_flags) else None,
        )

    @classmethod
    def from_tables(
        cls,
        tables: Tables,
        interval: int,
        *,
        synthetic: bool = False,
        details: dict[str, Any] | None = None,
        branch_texts: Sequence[str | None] | None = None,
        branch_flags: Sequence[str] | None = None,
    ) -> TraceStore:
        """Build a store from integer-coded tables, for example of generated traces.

        Args:
            tables: questions, branches and probes.
            interval: Δ, tokens between two probes.
            synthetic: whether the traces were generated rather than sampled from a model.
            details: additional entries of the card.
            branch_texts: text of each branch; None if texts were not recorded.
            branch_flags: flags of each branch (see :class:`~autotts_gym.traces.records.Branch`);
                None if there are none.

        Raises:
            TraceError: the interval, the number of questions or branches, or ``details`` is
                invalid.
        """
        check_interval(interval)
        if not len(tables.branch_counts):
            raise TraceError("there are no questions; at least one is needed")
        if tables.branch_counts.min() < 1:
            empty = int(tables.branch_counts.argmin())
            raise TraceError(f"question {empty}: has no branches; at least one is needed")
        details = dict(details or {})
        repeated = sorted(f.name for f in fields(Card) if f.name in details)
        if repeated:
            raise TraceError(
                f"details must not repeat the card's own entries: {', '.join(repeated)}"
            )
        card = Card(
            interval=interval,
            **tables.card_figures(),
            fingerprint=tables.fingerprint(interval),
            synthetic=synthetic,
            details=details,
        )
        return cls(card, tables=tables, branch_texts=branch_texts, branch_flags=branch_flags)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TraceStore:
        """Open the folder of a store. Only the card is read; the tables are read on first use.

        Raises:
            TraceError: the folder has no card, or an invalid one.
        """
        folder = Path(path)
        return cls(Card.load(folder / CARD), folder)

    # --- writing ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> TraceStore:
        """Write the store to a new folder atomically; returns the store opened from that folder.

        Raises:
            FrozenError: the path exists; stores are never overwritten.
        """
        folder = Path(path)
        with create_store_folder(folder) as temporary:
            self.write(temporary)
        return TraceStore.open(folder)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write the files of the store into an existing, empty folder."""
        folder = Path(folder)
        write_tables(folder, self.tables, self.branch_flags(), self.branch_texts())
        (folder / CARD).write_text(self.card.dump(), "utf-8")

    # --- reading ---------------------------------------------------------------------------------

    @cached_property
    def tables(self) -> Tables:
        """The integer-coded content, read on first use and checked against the card.

        Raises:
            TraceError: a table is missing or damaged, has an invalid value, or does not match the
                card.
        """
        assert self.path is not None, "a store in memory is created with its tables"
        tables = read_tables(self.path, self.card)
        try:
            fingerprint = tables.fingerprint(self.card.interval)
        except (ValueError, TypeError, AttributeError) as error:  # a missing value
            raise TraceError(f"{self.path}: its tables are not a trace store's: {error}") from error
        if fingerprint != self.card.fingerprint:
            raise TraceError(mismatch(self.path, ["fingerprint"]))
        try:
            validate_once(tables, self.card.interval, fingerprint)
        except TraceError as error:
            raise TraceError(f"{self.path}: {error}") from None
        # Rewards and the depth limit use figures of the card, so these are checked too.
        figures = tables.card_figures()
        kept = {name: getattr(self.card, name) for name in figures}
        wrong = [
            name
            for name, value in kept.items()
            # The cards of older stores do not have all entries.
            if value is not None and value != figures[name]
        ]
        if wrong:
            raise TraceError(mismatch(self.path, wrong))
        return tables

    def longest_tokens(self, width: int) -> float:
        """Expected tokens of the longest of ``width`` branches of a question, mean over questions.

        The branches are drawn from those that are stored, without replacement; if fewer are stored,
        the longest counts. It is read from the card for the width there
        (``longest_of``), and otherwise computed.

        Raises:
            TraceError: the tables are needed, and are damaged.
        """
        if self.card.longest_of == width and self.card.longest_tokens is not None:
            return self.card.longest_tokens
        return self.tables.longest_tokens(width)

    def branch_texts(self) -> list[str | None] | None:
        """Return the text of every branch, or None if texts were not recorded."""
        if self._branch_texts is not None:
            return list(self._branch_texts)
        return None if self.path is None else read_texts(self.path, self.card.branches)

    def branch_flags(self) -> list[str] | None:
        """Return the flags of every branch, or None if no branch has any.

        See :class:`~autotts_gym.traces.records.Branch`.
        """
        if self._branch_flags is not None:
            return list(self._branch_flags)
        return None if self.path is None else read_flags(self.path, self.card.branches)

    def __len__(self) -> int:
        return self.card.questions

    @overload
    def __getitem__(self, row: int) -> Question: ...

    @overload
    def __getitem__(self, row: slice) -> list[Question]: ...

    def __getitem__(self, row: int | slice) -> Question | list[Question]:
        if isinstance(row, slice):
            return list(self._questions(range(len(self))[row]))
        rows = range(len(self))
        if not -len(rows) <= row < len(rows):
            raise IndexError(f"question {row} is outside 0..{len(rows) - 1}")
        return self.question(rows[row])

    def __iter__(self) -> Iterator[Question]:
        return self._questions(range(len(self)))

    def question(self, row: int) -> Question:
        """Return question ``row`` with its branches decoded to strings.

        Raises:
            IndexError: there is no such question; negative rows are not allowed.
        """
        count = len(self.tables.ids)
        if not 0 <= row < count:
            raise IndexError(f"question {row} is outside 0..{count - 1}")
        return next(self._questions([row]))

    def _questions(self, rows: Sequence[int]) -> Iterator[Question]:
        """Decode the questions of these rows. Texts and flags are read once."""
        t = self.tables
        texts, flags = self.branch_texts(), self.branch_flags()
        for row in rows:
            first = int(t.branch_counts[:row].sum())
            start = int(t.lengths[:first].sum())
            answers, nulls = t.answers[row], t.nulls[row]
            as_texts = nulls == [is_null(answer) for answer in answers]
            branches = []
            for b in range(first, first + int(t.branch_counts[row])):
                span = slice(start, start + int(t.lengths[b]))
                intervals = slice(span.start + b, span.stop + b + 1)
                start = span.stop
                codes = [*t.probes[span], t.finals[b]]
                branches.append(
                    Branch(
                        probes=[answers[code] for code in codes[:-1]],
                        tokens=int(t.tokens[b]),
                        final=answers[t.finals[b]],
                        confidences=_listed(t.confidences, span),
                        probe_tokens=_listed(t.probe_tokens, span),
                        text=texts[b] if texts else None,
                        flags=flags[b] if flags else "",
                        nulls=None if as_texts else [bool(nulls[code]) for code in codes],
                        raw=None if t.raw is None else t.raw.of_branch(row, b, span),
                        confidence_sums=_listed(t.confidence_sums, intervals),
                        confidence_tokens=_listed(t.confidence_tokens, intervals),
                    )
                )
            yield Question(t.texts[row], t.golds[row], branches, t.ids[row])


def _listed(column: NDArray[Any] | None, rows: slice) -> list[Any] | None:
    """Some rows of a column as Python numbers."""
    return None if column is None else column[rows].tolist()
