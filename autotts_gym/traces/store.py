"""The store: reasoning traces, recorded once and frozen.

A store is a folder::

    card.yaml          what this is: model, benchmark, sampling, Δ, counts, fingerprint
    questions.parquet  id, text, gold, answers (its answer classes), nulls (which of them are null)
    branches.parquet   question, probes (how many), tokens, final (a class) [, flags], a row each
    probes.parquet     answer (a class) [, confidence] [, tokens], a row a probe, in branch order
    texts.parquet      text, a row a branch (only where texts were recorded)

Answers are integer-coded, question by question: code ``c`` of a question is ``answers[c]``.
Opening a store reads the card alone; the tables are read when they are first needed, and held to
the card's fingerprint.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from reprlib import repr as _short  # values in messages: never long, never deep
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT: Final = 1
CARD: Final = "card.yaml"

#: What the published probes record when they find no answer (AutoTTS, arXiv 2605.08083).
NULL_ANSWERS: Final = frozenset({"No", "ERR", ""})

_MOST_CLASSES: Final = np.iinfo(np.int16).max
_MOST_TOKENS: Final = np.iinfo(np.int32).max
#: What an observation shows has bounds, and must stay within them.
_MOST_CONFIDENCE: Final = 1e6


class TraceError(ValueError):
    """Traces that cannot be used; the message says where they are wrong and what would be right."""


class FrozenError(TraceError):
    """Something already stands where a store was to be written."""


@dataclass(frozen=True)
class Branch:
    """One reasoning trace as it was recorded.

    Attributes:
        probes: answers after interval 1, 2, ..., n (n may be 0).
        tokens: T, tokens of the whole branch, its closing text included; positive.
        final: the branch's final answer.
        confidences: a number a probe, or None.
        probe_tokens: tokens that each probe cost, or None.
        text: the trace itself, or None.
        flags: what is odd about it, words such as ``cut`` with spaces between; mostly empty.
    """

    probes: Sequence[str]
    tokens: int
    final: str
    confidences: Sequence[float] | None = None
    probe_tokens: Sequence[int] | None = None
    text: str | None = None
    flags: str = ""


@dataclass(frozen=True)
class Question:
    """A question with its branches."""

    text: str
    gold: str
    branches: Sequence[Branch]
    id: str = ""


@dataclass(frozen=True)
class Card:
    """What a store is, as ``card.yaml`` tells it.

    Attributes:
        interval: Δ, tokens.
        questions, branches, probes: how many there are.
        depth: intervals of the deepest branch, max n + 1.
        mean_tokens: mean tokens of a branch, each question weighing the same.
        fingerprint: sha256 over everything that is played.
        details: anything else worth knowing (model, sampling, source, licence, ...).
    """

    interval: int
    questions: int
    branches: int
    probes: int
    depth: int
    mean_tokens: float
    fingerprint: str
    synthetic: bool = False
    format: int = FORMAT
    details: dict[str, Any] = field(default_factory=dict)

    def dump(self) -> str:
        """The card as YAML."""
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "details"}
        return yaml.safe_dump(facts | self.details, sort_keys=False, allow_unicode=True)

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card; raises ``TraceError`` where it is missing or not a card."""
        try:
            facts = yaml.load(path.read_text("utf-8"), _YAML_LOADER)
        except FileNotFoundError:
            raise TraceError(f"{path.parent}: no {CARD}, so this is not a trace store") from None
        except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: month 13, for one
            raise TraceError(f"{path}: cannot be read as YAML: {error}") from error
        if not isinstance(facts, dict):
            raise TraceError(f"{path}: must be a mapping, not {type(facts).__name__}")
        if facts.get("format") != FORMAT:
            found = facts.get("format")
            raise TraceError(f"{path}: store format {found!r}; this version reads format {FORMAT}")
        known = {f.name for f in fields(cls)} - {"details"}
        details = {key: value for key, value in facts.items() if key not in known}
        try:
            return cls(**{k: v for k, v in facts.items() if k in known}, details=details)
        except TypeError as error:
            raise TraceError(f"{path}: {error}") from error


_YAML_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Tables:
    """The integer-coded content of a store; B branches, P probes, Q questions.

    Attributes:
        ids, texts, golds: a string a question.
        answers, nulls: a question's answer classes, and whether each is a null answer.
        branch_counts: int64[Q], branches of each question (they follow one another).
        lengths: int64[B], n of each branch.
        tokens: int64[B], T of each branch.
        finals: int16[B], code of the final answer.
        probes: int16[P], codes of the probes' answers.
        confidences: float32[P], or None.
        probe_tokens: int32[P], or None.
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

    def fingerprint(self, interval: int) -> str:
        """sha256 over everything that is played, independent of how it is laid out on disk."""
        digest = hashlib.sha256(f"autotts-traces {FORMAT} {interval}\n".encode())
        for strings in (self.ids, self.texts, self.golds, *self.answers):
            # Lengths first, so that no two lists of strings can read the same.
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
        return digest.hexdigest()


class TraceStore:
    """Frozen traces of one (model, benchmark) pair.

    Make one with :meth:`from_branches` (traces that you have), :meth:`from_tables` (already
    integer-coded) or :meth:`open` (a folder); write it with :meth:`save`.

    Attributes:
        card: what the store is.
        path: its folder, or None while it is only in memory.
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

    # --- making one ------------------------------------------------------------------------------

    @classmethod
    def from_branches(
        cls,
        questions: Iterable[Question],
        interval: int,
        *,
        is_null: Callable[[str], bool] = NULL_ANSWERS.__contains__,
        synthetic: bool = False,
        details: dict[str, Any] | None = None,
    ) -> TraceStore:
        """Build a store from traces that you already have.

        Args:
            questions: the questions with their branches.
            interval: Δ, tokens between two probes.
            is_null: tells which answers mean that the probe found none.
            synthetic: whether the traces were made up rather than sampled from a model.
            details: what else the card should say (model, sampling, source, licence, ...).

        Raises:
            TraceError: names the question and the branch that is wrong, and what was expected.
        """
        encoder = _Encoder(is_null)
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
        """Build a store from integer-coded tables (for generators and other fast sources)."""
        check_interval(interval)
        if not len(tables.branch_counts):
            raise TraceError("there are no questions; at least one is needed")
        if tables.branch_counts.min() < 1:
            empty = int(tables.branch_counts.argmin())
            raise TraceError(f"question {empty}: has no branches; at least one is needed")
        details = dict(details or {})
        taken = sorted(f.name for f in fields(Card) if f.name in details)
        if taken:
            raise TraceError(f"details must not repeat the card's own entries: {', '.join(taken)}")
        card = Card(
            interval=interval,
            **_figures(tables),
            fingerprint=tables.fingerprint(interval),
            synthetic=synthetic,
            details=details,
        )
        return cls(card, tables=tables, branch_texts=branch_texts, branch_flags=branch_flags)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TraceStore:
        """Open a store's folder. Only its card is read until the traces are needed."""
        folder = Path(path)
        return cls(Card.load(folder / CARD), folder)

    def save(self, path: str | os.PathLike[str]) -> TraceStore:
        """Write the store to a new folder, all of it or nothing, and return it opened from there.

        Raises:
            FrozenError: something stands there already; stores are never written over.
        """
        folder = Path(path)
        with staged(folder) as stage:
            self.write(stage)
        return TraceStore.open(folder)

    def write(self, folder: Path) -> None:
        """Write the store's files into an existing, empty folder."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        t = self.tables
        # pa.array keeps int16 as it is; the names here are those that ``tables`` reads.
        files: dict[str, dict[str, Any]] = {
            "questions": {
                "id": pa.array(t.ids, pa.string()),
                "text": pa.array(t.texts, pa.string()),
                "gold": pa.array(t.golds, pa.string()),
                "answers": pa.array(t.answers, pa.list_(pa.string())),
                "nulls": pa.array(t.nulls, pa.list_(pa.bool_())),
            },
            "branches": {
                "question": np.repeat(
                    np.arange(len(t.branch_counts), dtype=np.int32), t.branch_counts
                ),
                "probes": t.lengths.astype(np.int32),
                "tokens": t.tokens,
                "final": t.finals,
            },
            "probes": {"answer": t.probes},
        }
        if t.confidences is not None:
            files["probes"]["confidence"] = t.confidences
        if t.probe_tokens is not None:
            files["probes"]["tokens"] = t.probe_tokens
        flags = self.branch_flags()
        if flags is not None:
            files["branches"]["flags"] = pa.array(flags, pa.string())
        texts = self.branch_texts()
        if texts is not None:
            files["texts"] = {"text": pa.array(texts, pa.large_string())}
        for name, columns in files.items():
            pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="zstd")
        (folder / CARD).write_text(self.card.dump(), "utf-8")

    # --- reading ---------------------------------------------------------------------------------

    @cached_property
    def tables(self) -> Tables:
        """The integer-coded content; read on first use and held to the card.

        Raises:
            TraceError: a table is missing, damaged, or not the one that the card describes.
        """
        assert self.path is not None, "a store in memory is made with its tables"
        questions = self._read("questions")
        branches = self._read("branches")
        probes = self._read("probes")
        try:
            tables = Tables(
                ids=questions["id"].to_pylist(),
                texts=questions["text"].to_pylist(),
                golds=questions["gold"].to_pylist(),
                answers=questions["answers"].to_pylist(),
                nulls=questions["nulls"].to_pylist(),
                branch_counts=np.bincount(
                    _column(branches, "question", "int64"), minlength=len(questions)
                ).astype(np.int64),
                lengths=_column(branches, "probes", "int64"),
                tokens=_column(branches, "tokens", "int64"),
                finals=_column(branches, "final", "int16"),
                probes=_column(probes, "answer", "int16"),
                confidences=_optional(probes, "confidence", "float32"),
                probe_tokens=_optional(probes, "tokens", "int32"),
            )
            fingerprint = tables.fingerprint(self.card.interval)
        except (KeyError, ValueError, TypeError, NotImplementedError) as error:
            raise TraceError(f"{self.path}: its tables are not a trace store's: {error}") from error
        facts: dict[str, Any] = {"fingerprint": fingerprint}
        if fingerprint == self.card.fingerprint:
            # Reward and depth limit come from the card, so its figures are held to the tables too.
            facts |= _figures(tables)
        wrong = [name for name, fact in facts.items() if getattr(self.card, name) != fact]
        if wrong:
            raise TraceError(
                f"{self.path}: its tables do not match the {', '.join(wrong)} of its {CARD}; "
                "a store is frozen, so collect or import it again under a new name"
            )
        return tables

    def _read(self, name: str) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self.path is not None
        path = self.path / f"{name}.parquet"
        try:
            # Not read_table: it brings the machinery of partitioned data sets along.
            return pq.ParquetFile(path, memory_map=True).read()
        except (OSError, pa.ArrowException) as error:
            raise TraceError(f"{path}: cannot be read: {error}") from error

    def branch_texts(self) -> list[str | None] | None:
        """The recorded text of every branch, or None where texts were not recorded."""
        if self._branch_texts is not None:
            return list(self._branch_texts)
        if self.path is None or not (self.path / "texts.parquet").exists():
            return None
        texts: list[str | None] = self._read("texts")["text"].to_pylist()
        return texts

    def branch_flags(self) -> list[str] | None:
        """What is odd about every branch (see :class:`Branch`), or None where nothing is."""
        if self._branch_flags is not None or self.path is None:
            return None if self._branch_flags is None else list(self._branch_flags)
        table = self._read("branches")
        if "flags" not in table.column_names:
            return None
        flags: list[str] = table["flags"].to_pylist()
        return flags

    def question(self, row: int) -> Question:
        """Question ``row`` with its branches decoded, for reading rather than for playing.

        Raises:
            IndexError: there is no such question.
        """
        t = self.tables
        if not 0 <= row < len(t.ids):
            raise IndexError(f"question {row} is outside 0..{len(t.ids) - 1}")
        first = int(t.branch_counts[:row].sum())
        at = int(t.lengths[:first].sum())
        answers = t.answers[row]
        texts, flags = self.branch_texts(), self.branch_flags()
        branches = []
        for b in range(first, first + int(t.branch_counts[row])):
            of_branch = slice(at, at + int(t.lengths[b]))
            at = of_branch.stop
            branches.append(
                Branch(
                    probes=[answers[code] for code in t.probes[of_branch]],
                    tokens=int(t.tokens[b]),
                    final=answers[t.finals[b]],
                    confidences=None
                    if t.confidences is None
                    else [float(c) for c in t.confidences[of_branch]],
                    probe_tokens=None
                    if t.probe_tokens is None
                    else [int(c) for c in t.probe_tokens[of_branch]],
                    text=texts[b] if texts else None,
                    flags=flags[b] if flags else "",
                )
            )
        return Question(t.texts[row], t.golds[row], branches, t.ids[row])


def check_interval(interval: object) -> None:
    """Raise ``TraceError`` unless ``interval`` is a usable Δ."""
    if type(interval) is not int or not 0 < interval <= _MOST_TOKENS:
        shown = _short(interval)
        raise TraceError(f"the interval must be a positive integer (tokens), got {shown}")


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` on success, and leaves nothing otherwise.

    Raises:
        FrozenError: something stands at ``target`` already, before or at the end, or ``target``
            lies inside a store.
    """
    _refuse_existing(target)
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the last step is a rename within one file system.
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield stage
            stage.chmod(0o755)
            for file in stage.rglob("*"):
                if file.is_file():
                    with file.open("r+b") as handle:  # Windows flushes only what it may write
                        os.fsync(handle.fileno())
            _refuse_existing(target)
            try:
                stage.rename(target)
            except OSError:
                _refuse_existing(target)  # another process was quicker
                raise
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except BaseException:
        with contextlib.suppress(OSError):  # no longer empty: not ours alone
            for parent in made:
                parent.rmdir()
        raise


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise FrozenError(
            f"{target} exists already, and stores are frozen: choose another name, or remove it"
        )
    for parent in target.parents:
        if (parent / CARD).exists():
            raise FrozenError(f"{target} would lie inside the store {parent}, and that is frozen")


def _figures(t: Tables) -> dict[str, Any]:
    """What a card tells of its tables in figures."""
    starts = np.cumsum(t.branch_counts) - t.branch_counts
    means = np.add.reduceat(t.tokens, starts) / t.branch_counts
    return {
        "questions": len(t.branch_counts),
        "branches": len(t.lengths),
        "probes": len(t.probes),
        "depth": int(t.lengths.max()) + 1,
        # fsum rounds once, so the figure is the same on every machine.
        "mean_tokens": math.fsum(means) / len(means),
    }


def _column(table: pa.Table, name: str, kind: str) -> NDArray[Any]:
    """A column as ``kind``; raises ``ValueError`` where that would change or lose a value."""
    column = table[name].cast(kind)
    if column.null_count:
        raise ValueError(f"{name} has gaps")
    array: NDArray[Any] = column.to_numpy()
    return array


def _optional(table: pa.Table, name: str, kind: str) -> NDArray[Any] | None:
    return _column(table, name, kind) if name in table.column_names else None


class _Encoder:
    """Turns questions with answer strings into integer-coded tables, checking as it goes."""

    def __init__(self, is_null: Callable[[str], bool]) -> None:
        self._is_null = is_null
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._golds: list[str] = []
        self._answers: list[list[str]] = []
        self._counts: list[int] = []
        self._lengths: list[int] = []
        self._tokens: list[int] = []
        self._finals: list[int] = []
        self._probes: list[int] = []
        self._confidences: list[float] | None = None
        self._probe_tokens: list[int] | None = None
        self.branch_texts: list[str | None] = []
        self.branch_flags: list[str] = []
        self.has_texts = False

    def add(self, question: Question) -> None:
        row = len(self._ids)
        where = f"question {row}"
        _check_string(question.text, f"{where}: its text")
        _check_string(question.gold, f"{where}: its gold answer")
        _check_string(question.id, f"{where}: its id")
        if not question.branches:
            raise TraceError(f"{where}: has no branches; at least one is needed")
        codes: dict[str, int] = {}
        for number, branch in enumerate(question.branches):
            self._add_branch(branch, codes, f"{where}, branch {number}")
        if len(codes) > _MOST_CLASSES:
            raise TraceError(
                f"{where}: {len(codes)} different answers; a question can have {_MOST_CLASSES}"
            )
        self._ids.append(question.id or str(row))
        self._texts.append(question.text)
        self._golds.append(question.gold)
        self._answers.append(list(codes))
        self._counts.append(len(question.branches))

    def _add_branch(self, branch: Branch, codes: dict[str, int], where: str) -> None:
        if type(branch.tokens) is not int or not 0 < branch.tokens <= _MOST_TOKENS:
            shown = _short(branch.tokens)
            raise TraceError(f"{where}: tokens must be a positive integer below 2**31, got {shown}")
        if isinstance(branch.probes, str) or not isinstance(branch.probes, Sequence):
            kind = type(branch.probes).__name__
            raise TraceError(f"{where}: probes must be a list of strings, got {kind}")
        for answer in (*branch.probes, branch.final):
            if not isinstance(answer, str):
                raise TraceError(f"{where}: answers must be strings, got {_short(answer)}")
            if answer not in codes:
                _check_string(answer, f"{where}: an answer")
                codes[answer] = len(codes)
        if branch.text is not None:
            _check_string(branch.text, f"{where}: its text")
            self.has_texts = True
        self._probes += [codes[answer] for answer in branch.probes]
        self._finals.append(codes[branch.final])
        self._lengths.append(len(branch.probes))
        self._tokens.append(branch.tokens)
        self.branch_texts.append(branch.text)
        _check_string(branch.flags, f"{where}: its flags")
        self.branch_flags.append(branch.flags)
        first = len(self._lengths) == 1
        self._confidences = _extend_optional(
            self._confidences, branch.confidences, branch, first, f"{where}: confidences"
        )
        self._probe_tokens = _extend_optional(
            self._probe_tokens,
            branch.probe_tokens,
            branch,
            first,
            f"{where}: probe_tokens",
            whole=True,
        )

    def tables(self) -> Tables:
        confidences, costs = self._confidences, self._probe_tokens
        return Tables(
            ids=self._ids,
            texts=self._texts,
            golds=self._golds,
            answers=self._answers,
            nulls=[[bool(self._is_null(a)) for a in answers] for answers in self._answers],
            branch_counts=np.array(self._counts, np.int64),
            lengths=np.array(self._lengths, np.int64),
            tokens=np.array(self._tokens, np.int64),
            finals=np.array(self._finals, np.int16),
            probes=np.array(self._probes, np.int16),
            confidences=None if confidences is None else np.array(confidences, np.float32),
            probe_tokens=None if costs is None else np.array(costs, np.int32),
        )


def _extend_optional(
    column: list[Any] | None,
    values: Sequence[Any] | None,
    branch: Branch,
    first: bool,
    what: str,
    *,
    whole: bool = False,
) -> list[Any] | None:
    """Add a branch's optional figures to their column: every branch has them, or none has."""
    if first:
        column = None if values is None else []
    if (column is None) != (values is None):
        raise TraceError(f"{what} must be there for every branch or for none")
    if column is None or values is None:
        return None
    if len(values) != len(branch.probes):
        raise TraceError(f"{what}: {len(values)} for {len(branch.probes)} probes")
    kinds, most = (int, _MOST_TOKENS) if whole else (int | float, _MOST_CONFIDENCE)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= most:
            wanted = "integers" if whole else "finite numbers"
            limits = f"of at least 0 and at most {most:,.0f}"
            raise TraceError(f"{what} must be {wanted} {limits}, got {_short(value)}")
    column += values
    return column


_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _check_string(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise TraceError(f"{what} must be a string, got {type(value).__name__}")
    lone = _LONE_SURROGATE.search(value)
    if lone:
        raise TraceError(
            f"{what} is not valid Unicode: lone surrogate {lone[0]!r} at character {lone.start()}"
        )
