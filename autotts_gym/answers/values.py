"""The normal forms of answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from autotts_gym.answers.nodes import Node
from autotts_gym.answers.units import Unit


@dataclass(frozen=True, slots=True)
class Text:
    """Prose, or notation that no other form reads.

    Attributes:
        form: normal form of prose (``words.prose_form``), or the joined
            tokens.
        prose: whether it is prose, which is case-blind.
    """

    form: str
    prose: bool


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number or expression, with or without a unit.

    Attributes:
        node: the expression.
        tight: its other reading if it is ambiguous, as ``1/2x`` is; else ``node``.
        unit: its unit; None if none is written.
    """

    node: Node
    tight: Node
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A letter of a choice, with the text behind it, if there is one: ``B) 12``."""

    letter: str
    content: Answer | None = None


@dataclass(frozen=True, slots=True)
class Time:
    """A time or duration such as ``2:30`` or ``3 pm``, in seconds; ``half`` is am, pm or empty."""

    seconds: int
    half: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """A calendar date."""

    date: date


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio such as ``1:2:3``."""

    parts: tuple[Node, ...]


SequenceKind = Literal["list", "tuple", "square", "set", "assignments"]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Several answers.

    Attributes:
        kind: ``list`` (no brackets; without order), ``tuple`` (round), ``square``, ``set`` (curly;
            without order and repetition), ``assignments`` (``x=1, y=2``).
        items: its elements.
    """

    kind: SequenceKind
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval; an end that is None is infinite."""

    low: Node | None
    high: Node | None
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Intervals:
    """A union of intervals, from low to high."""

    pieces: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    r"""An equation or inequality of an expression with 0: ``=``, ``<``, ``\le`` or ``\ne``."""

    sign: str
    node: Node


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix by rows."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """An answer with a name: ``x=5``, ``x>3``, ``P(A)=0.5``."""

    name: str
    value: Answer


Answer: TypeAlias = (
    Text | Quantity | Choice | Time | Day | Ratio | Sequence | Intervals | Relation | Matrix | Named
)
