"""The fallible teacher, who writes the traces that the tiny models learn from.

It works a chain through in one to five passes::

    hmm.first:b+6=36;c*2=72;d*5=?50;e-3=47;so 47.wait,not ok.redo:b+6=36;...;so 57,was 47.ok.

and answers with the last result. It errs in ways that a person would: it forgets to borrow, drops
a carry, slips by one, skips a step. Later passes err less, but mostly repeat what an earlier pass
made of the same step. It has doubts: a question mark stands before many results that are wrong, and
before few that are right. Whether it stops after a pass depends on the style word that it starts
with, on its doubts, and on whether the result is the one of the pass before.

So the traces have what makes test-time scaling a decision: branches disagree, the majority is
mostly right but not always, an answer settles late, lengths differ, and those that go astray go on
for longer, as they do in the traces of large models. That is by construction, not reasoning that
emerged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from autotts_gym.tinylm.task import LETTERS, MODULUS, Chain, Step, is_heavy, is_light

#: What ends the thinking, and what follows it before the answer's digits.
END_OF_THINKING: Final = "</think>"
ANSWER: Final = "answer:"


@dataclass(frozen=True)
class Teacher:
    """How the teacher errs and when it stops; chances are from 0 to 1.

    Attributes:
        errors: factor on the chances to err, but for ``heavy``.
        heavy, borrow: chances to forget a borrow where k is 7 or more, and less. Where k is 7 or
            more the better teachers forget it as often: that is what misleads a majority.
        light, product: chances to drop the carry of a product where k is 4 or more, and less.
        carry: chance to drop the carry of a sum.
        slip: chance to be off by 1 or by 10 in any other step.
        skip: chance that a pass leaves a step out.
        later: factor on the chances to err for every pass after the first.
        repeat: chance to repeat the result of the pass before, and its doubt, where a step starts
            from the same value.
        doubt: chance to doubt a wrong result.
        qualm: chance to doubt a right one where there was something to forget; a quarter of it
            elsewhere.
        styles: style words, and the chance to stop after a pass that each gives.
        sure, unsure: what a stopping chance is multiplied with after a pass without doubts, and
            after one with.
        agree, differ: the same where the result is that of the pass before, and where it is not;
            the chance is then at most 0.95.
        most: passes at most.
    """

    errors: float = 1.0
    heavy: float = 0.65
    borrow: float = 0.15
    light: float = 0.30
    product: float = 0.10
    carry: float = 0.06
    slip: float = 0.01
    skip: float = 0.03
    later: float = 0.7
    repeat: float = 0.88
    doubt: float = 0.8
    qualm: float = 0.05
    styles: tuple[tuple[str, float], ...] = (("quick", 0.36), ("hmm", 0.25), ("careful", 0.16))
    sure: float = 2.5
    unsure: float = 0.2
    agree: float = 1.3
    differ: float = 0.5
    most: int = 5

    def card(self) -> dict[str, Any]:
        """The attributes as plain values."""
        return {**asdict(self), "styles": dict(self.styles)}

    def write(self, chain: Chain, rng: np.random.Generator) -> Trace:
        """A trace for a chain."""
        # One block of random numbers: drawing them one at a time would take most of the time.
        draws = iter(rng.random(self.most * (3 * len(chain.steps) + 8) + 1).tolist())
        style, stopping = self.styles[int(next(draws) * len(self.styles))]
        pieces = [Piece(f"{style}.", int(chain.answer))]
        before: list[tuple[int, int, bool] | None] = [None] * len(chain.steps)
        candidate: int | None = None
        for number in range(self.most):
            fading = self.later**number
            word = "first" if not number else ("redo" if next(draws) < 0.5 else "recheck")
            held = candidate if candidate is not None else int(chain.answer)
            pieces.append(Piece(f"{word}:", held))
            skipped = -1
            if next(draws) < self.skip * min(self.errors, 1):
                skipped = int(next(draws) * len(chain.steps))
            value = chain.start
            doubts = 0
            for index, step in enumerate(chain.steps):
                if index == skipped:
                    before[index] = None
                    continue
                # Before there is a candidate, a probe's target is the exact rest of the chain.
                held = candidate if candidate is not None else chain.continued(value, index)
                last = before[index]
                if last is not None and last[0] == value and next(draws) < self.repeat:
                    _, result, doubted = last
                else:
                    result = self._result(step, value, fading, next(draws))
                    doubted = next(draws) < self._doubt(step, value, result)
                doubts += doubted
                before[index] = (value, result, doubted)
                name = f"{LETTERS[index + 1]}{step.operator}{step.k}"
                pieces.append(Piece(f"{name}={'?' * doubted}{result:02};", held))
                value = result
            held = candidate if candidate is not None else value
            was = "" if candidate is None else f",was {candidate:02}"
            pieces.append(Piece(f"so {value:02}{was}.", held))
            stop = stopping * (self.unsure if doubts else self.sure)
            if candidate is not None:
                stop *= self.agree if candidate == value else self.differ
            candidate = value
            if number == self.most - 1 or next(draws) < min(stop, 0.95):
                break
            pieces.append(Piece("wait,not ok.", candidate))
        assert candidate is not None
        pieces.append(Piece("ok.", candidate))
        return Trace(pieces, candidate)

    def _doubt(self, step: Step, value: int, result: int) -> float:
        """The chance to doubt what a step made of a value."""
        if result != step.apply(value):
            return self.doubt
        return self.qualm if step.forgetful(value) is not None else self.qualm / 4

    def _result(self, step: Step, value: int, fading: float, u: float) -> int:
        """What a step makes of a value; ``u`` is uniform from 0 to 1."""
        exact = step.apply(value)
        chance = self.errors * fading
        forgetful = step.forgetful(value)
        if forgetful is not None:
            if is_heavy(step):
                rate = self.heavy * fading
            elif step.operator == "*":
                rate = (self.light if is_light(step) else self.product) * chance
            else:
                rate = (self.carry if step.operator == "+" else self.borrow) * chance
            if u < rate:
                return forgetful
            u = (u - rate) / (1 - rate)
        slip = self.slip * chance
        if u < slip:
            return (exact + (1, -1, 10, -10)[int(u / slip * 4)]) % MODULUS
        return exact


class Piece(NamedTuple):
    """Text of a trace, and what the teacher would answer if stopped before its end."""

    text: str
    held: int


class Trace(NamedTuple):
    """What the teacher wrote: the thinking in pieces, and the answer (0 to 99)."""

    pieces: list[Piece]
    answer: int

    @property
    def thinking(self) -> str:
        """The thinking, without the token that ends it."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def text(self) -> str:
        """The thinking, its end, and the answer."""
        return f"{self.thinking}{END_OF_THINKING}{ANSWER}{self.answer:02}"


#: Writes single passes without fault, which the first part of the training is on.
FAULTLESS: Final = Teacher(errors=0.0, heavy=0.0, qualm=0.0, styles=(("quick", 1.0),), most=1)
