"""Chains of arithmetic steps modulo 100: the task of the tiny models.

A question reads ``a=30;b+6;c*2;d*5;e-3?``: a start value, then 3 to 11 steps, labelled with
consecutive letters. Each step changes the value. The answer is the last value modulo 100, written
with two digits: here ``57``. Steps are ``+k`` and ``-k`` with k from 2 to 9, and ``*k`` with k from
2 to 5.

A step that needs a carry or a borrow is a *trap*: the teacher
(:mod:`autotts_gym.tinylm.teacher`) often forgets the carry, and so does a model trained on its
traces. The number of traps controls how often a question is answered correctly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

#: Values are computed modulo this number and written with two digits.
MODULUS: Final = 100
MIN_STEPS: Final = 3
MAX_STEPS: Final = 11
#: Labels of the start value and of the steps.
LETTERS: Final = "abcdefghijkl"

_STEP: Final = re.compile(r"([a-l])(?:([+-])([2-9])|(\*)([2-5]))")
_START: Final = re.compile(r"a=(\d\d)")


class Step(NamedTuple):
    """One step of a chain: ``operator`` is ``+``, ``-`` or ``*``; ``k`` is its operand."""

    operator: str
    k: int

    def apply(self, value: int) -> int:
        """Return the value after this step, from 0 to 99."""
        if self.operator == "+":
            return (value + self.k) % MODULUS
        if self.operator == "-":
            return (value - self.k) % MODULUS
        return value * self.k % MODULUS

    def apply_without_carry(self, value: int) -> int | None:
        """Return the value if the carry or borrow is forgotten; None if the step has none."""
        tens, ones = divmod(value, 10)
        if self.operator == "*":
            carries, tens, ones = ones * self.k >= 10, tens * self.k, ones * self.k
        else:
            ones += self.k if self.operator == "+" else -self.k
            carries = not 0 <= ones < 10
        return (10 * tens + ones % 10) % MODULUS if carries else None


class Traps(NamedTuple):
    """Number of traps in a question; ``heavy`` ones cause more errors than ``light`` ones."""

    heavy: int
    light: int


@dataclass(frozen=True)
class Chain:
    """A question: the start value (0 to 99) and the steps."""

    start: int
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """Text of the question; :func:`parse_chain` reads it back."""
        steps = ";".join(
            f"{letter}{step.operator}{step.k}"
            for letter, step in zip(LETTERS[1:], self.steps, strict=False)
        )
        return f"a={self.start:02};{steps}?"

    @property
    def prompt(self) -> str:
        """Prompt of the model."""
        return f"q:{self.text}"

    @property
    def answer(self) -> str:
        """Gold answer, two digits."""
        return f"{self.result_from(self.start, 0):02}"

    def result_from(self, value: int, step: int) -> int:
        """Return the exact last value if step number ``step`` starts from ``value``."""
        for following in self.steps[step:]:
            value = following.apply(value)
        return value

    @property
    def traps(self) -> Traps:
        """Number of traps along the correct path."""
        heavy = light = 0
        value = self.start
        for step in self.steps:
            if step.apply_without_carry(value) is not None:
                heavy += is_heavy_trap(step)
                light += is_light_trap(step)
            value = step.apply(value)
        return Traps(heavy, light)


def is_heavy_trap(step: Step) -> bool:
    """Whether a borrow in this step is a heavy trap."""
    return step.operator == "-" and step.k >= 7


def is_light_trap(step: Step) -> bool:
    """Whether a carry in this step is a light trap."""
    return step.operator == "*" and step.k >= 4


def parse_chain(text: str) -> Chain:
    """Parse the text of a question, such as ``a=30;b+6;c*2;d*5;e-3?``.

    Raises:
        ValueError: the text is malformed; the message names the part and the expected form.
    """
    if not text.endswith("?"):
        raise ValueError(f"{text!r}: a question ends with '?'")
    first, *rest = text[:-1].split(";")
    start = _START.fullmatch(first)
    if not start or not start[1].isascii():
        raise ValueError(f"{text!r}: starts with {first!r}, expected two digits as in 'a=30'")
    if not MIN_STEPS <= len(rest) <= MAX_STEPS:
        raise ValueError(f"{text!r}: has {len(rest)} steps, expected {MIN_STEPS} to {MAX_STEPS}")
    steps = []
    for letter, part in zip(LETTERS[1:], rest, strict=False):
        match = _STEP.fullmatch(part)
        if not match or match[1] != letter:
            raise ValueError(
                f"{text!r}: {part!r} is not a step; expected {letter!r} and one of +k or -k with k "
                "from 2 to 9, or *k with k from 2 to 5"
            )
        steps.append(Step(match[2] or match[4], int(match[3] or match[5])))
    return Chain(int(start[1]), tuple(steps))


def random_chain(
    rng: np.random.Generator, min_steps: int = MIN_STEPS, max_steps: int = MAX_STEPS
) -> Chain:
    """Draw a chain with ``min_steps`` to ``max_steps`` steps, both included."""
    # Plain lists: drawing one number at a time from a generator is slow.
    count = int(rng.integers(min_steps, max_steps + 1))
    operators = rng.integers(0, 3, count).tolist()
    numbers = rng.random(count).tolist()
    steps = tuple(
        Step("+-*"[operator], 2 + int(number * (4 if operator == 2 else 8)))
        for operator, number in zip(operators, numbers, strict=True)
    )
    return Chain(int(rng.integers(10, MODULUS)), steps)
