"""The task of the tiny models: a chain of arithmetic steps modulo 100.

A question reads ``a=30;b+6;c*2;d*5;e-3?``: a value, and steps that each change it, under letters
in order. Its answer is the last value, modulo 100, as two digits: here ``57``. Steps are ``+k``
and ``-k`` with k from 2 to 9, and ``*k`` with k from 2 to 5; there are 3 to 11 of them.

A step that needs a carry or a borrow is a trap: the teacher (``autotts_gym.tinylm.teacher``) often
forgets it, and so does a model that learned from it. How many traps a question holds decides how
often it is answered, so question sets are drawn by strata of it. Drawn without, too many
questions are answered by every branch or by none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np

#: Values are modulo this, and written with two digits.
MODULUS: Final = 100
FEWEST_STEPS: Final = 3
MOST_STEPS: Final = 11
#: The letters of the first value and of the steps.
LETTERS: Final = "abcdefghijkl"

_STEP: Final = re.compile(r"([a-l])(?:([+-])([2-9])|(\*)([2-5]))")
_START: Final = re.compile(r"a=(\d\d)")


class Step(NamedTuple):
    """One step of a chain: ``operator`` is ``+``, ``-`` or ``*``, and ``k`` its number."""

    operator: str
    k: int

    def apply(self, value: int) -> int:
        """The value after this step, from 0 to 99."""
        if self.operator == "+":
            return (value + self.k) % MODULUS
        if self.operator == "-":
            return (value - self.k) % MODULUS
        return value * self.k % MODULUS

    def forgetful(self, value: int) -> int | None:
        """The value after this step where its carry or borrow is forgotten; None if it has none."""
        tens, ones = divmod(value, 10)
        if self.operator == "*":
            carries, tens, ones = ones * self.k >= 10, tens * self.k, ones * self.k
        else:
            ones += self.k if self.operator == "+" else -self.k
            carries = not 0 <= ones < 10
        return (10 * tens + ones % 10) % MODULUS if carries else None


class Traps(NamedTuple):
    """What a question holds: ``heavy`` traps, forgotten more often than not, and ``light`` ones."""

    heavy: int
    light: int


@dataclass(frozen=True)
class Chain:
    """A question: the value that it starts from (0 to 99), and its steps."""

    start: int
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """The question as it is written; ``parse`` reads it."""
        steps = ";".join(
            f"{letter}{step.operator}{step.k}"
            for letter, step in zip(LETTERS[1:], self.steps, strict=False)
        )
        return f"a={self.start:02};{steps}?"

    @property
    def prompt(self) -> str:
        """What a model is given."""
        return f"q:{self.text}"

    @property
    def answer(self) -> str:
        """The right answer, two digits."""
        return f"{self.continued(self.start, 0):02}"

    def continued(self, value: int, step: int) -> int:
        """The last value, exactly, if ``value`` is what step number ``step`` starts from."""
        for following in self.steps[step:]:
            value = following.apply(value)
        return value

    @property
    def traps(self) -> Traps:
        """The traps along the right path."""
        heavy = light = 0
        value = self.start
        for step in self.steps:
            if step.forgetful(value) is not None:
                heavy += is_heavy(step)
                light += is_light(step)
            value = step.apply(value)
        return Traps(heavy, light)


def is_heavy(step: Step) -> bool:
    """Whether a borrow in this step is a heavy trap."""
    return step.operator == "-" and step.k >= 7


def is_light(step: Step) -> bool:
    """Whether a carry in this step is a light trap."""
    return step.operator == "*" and step.k >= 4


def parse(text: str) -> Chain:
    """Read a question, as ``a=30;b+6;c*2;d*5;e-3?``.

    Raises:
        ValueError: says which part is wrong, and what would be right.
    """
    if not text.endswith("?"):
        raise ValueError(f"{text!r}: a question ends with '?'")
    first, *rest = text[:-1].split(";")
    start = _START.fullmatch(first)
    if not start or not start[1].isascii():
        raise ValueError(f"{text!r}: it starts with {first!r}, expected two digits as in 'a=30'")
    if not FEWEST_STEPS <= len(rest) <= MOST_STEPS:
        raise ValueError(
            f"{text!r}: it has {len(rest)} steps, expected {FEWEST_STEPS} to {MOST_STEPS}"
        )
    steps = []
    for letter, part in zip(LETTERS[1:], rest, strict=False):
        found = _STEP.fullmatch(part)
        if not found or found[1] != letter:
            raise ValueError(
                f"{text!r}: {part!r} is no step; expected {letter!r} and one of +k or -k with k "
                "from 2 to 9, or *k with k from 2 to 5"
            )
        steps.append(Step(found[2] or found[4], int(found[3] or found[5])))
    return Chain(int(start[1]), tuple(steps))


def draw(rng: np.random.Generator, fewest: int = FEWEST_STEPS, most: int = MOST_STEPS) -> Chain:
    """A chain with a number of steps from ``fewest`` to ``most``, both included."""
    # Plain lists: drawing one number at a time from a generator is slow.
    count = int(rng.integers(fewest, most + 1))
    operators = rng.integers(0, 3, count).tolist()
    numbers = rng.random(count).tolist()
    steps = tuple(
        Step("+-*"[operator], 2 + int(number * (4 if operator == 2 else 8)))
        for operator, number in zip(operators, numbers, strict=True)
    )
    return Chain(int(rng.integers(10, MODULUS)), steps)


# --- the two question sets -----------------------------------------------------------------------


@dataclass(frozen=True)
class Stratum:
    """Questions that belong together: ``count`` of them with steps and traps in these ranges.

    Ranges are inclusive.
    """

    name: str
    count: int
    steps: tuple[int, int]
    heavy: tuple[int, int]
    light: tuple[int, int]

    def holds(self, chain: Chain) -> bool:
        """Whether a chain belongs here."""
        heavy, light = chain.traps
        return (
            self.steps[0] <= len(chain.steps) <= self.steps[1]
            and self.heavy[0] <= heavy <= self.heavy[1]
            and self.light[0] <= light <= self.light[1]
        )


class QuestionSet(NamedTuple):
    """How a fixed set of questions is drawn."""

    seed: int
    strata: tuple[Stratum, ...]


#: The sets by name: ``chain`` for the search, ``chain-hard`` held out from it. Training leaves out
#: the questions of both.
SETS: Final[dict[str, QuestionSet]] = {
    "chain": QuestionSet(
        100,
        (
            Stratum("easy", 14, (4, 9), (0, 0), (0, 0)),
            Stratum("medium", 18, (5, 10), (0, 0), (1, 2)),
            Stratum("hard", 18, (5, 10), (1, 1), (0, 1)),
            Stratum("misleading", 10, (6, 11), (2, 3), (0, 2)),
        ),
    ),
    "chain-hard": QuestionSet(
        101,
        (
            Stratum("easy", 10, (6, 11), (0, 0), (0, 0)),
            Stratum("medium", 18, (6, 11), (0, 0), (1, 3)),
            Stratum("hard", 20, (6, 11), (1, 1), (0, 2)),
            Stratum("misleading", 12, (7, 11), (2, 4), (0, 3)),
        ),
    ),
}


class Question(NamedTuple):
    """A question of a set: its id, its text, and the right answer as two digits."""

    id: str
    question: str
    answer: str


@cache
def questions(name: str) -> tuple[Question, ...]:
    """The questions of a set, always the same; ids say the set, the stratum and a number.

    Args:
        name: ``chain`` or ``chain-hard``.

    Raises:
        ValueError: there is no such set; the message lists those there are.
    """
    if name not in SETS:
        raise ValueError(f"there is no question set {name!r}; there are {', '.join(SETS)}")
    # A set has none of the questions of those before it.
    taken: set[str] = set()
    for earlier in SETS:
        if earlier == name:
            break
        taken |= {question.question for question in questions(earlier)}
    seed, strata = SETS[name]
    rng = np.random.default_rng(seed)
    return tuple(
        Question(f"{name}-{stratum.name}-{number}", chain.text, chain.answer)
        for stratum in strata
        for number, chain in enumerate(_fill(stratum, rng, taken))
    )


def _fill(stratum: Stratum, rng: np.random.Generator, taken: set[str]) -> Iterator[Chain]:
    left = stratum.count
    while left:
        chain = draw(rng, *stratum.steps)
        if stratum.holds(chain) and chain.text not in taken:
            taken.add(chain.text)
            left -= 1
            yield chain


@cache
def reserved() -> frozenset[str]:
    """The texts of all questions that training must not see."""
    return frozenset(question.question for name in SETS for question in questions(name))
