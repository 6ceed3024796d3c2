"""The fallible teacher: a program that writes the training traces of the tiny models.

The teacher works through a chain in one to five passes and answers with the last result::

    hmm.first:b+6=36;c*2=72;d*5=?50;e-3=47;so 47.wait,not ok.redo:b+6=36;...;so 57,was 47.ok.

* **Errors.** It makes human mistakes: it forgets a borrow, drops a carry, is off by one, or skips a
  step. Later passes contain fewer errors, but mostly repeat the result of the previous pass for the
  same step.
* **Doubts.** A question mark precedes many wrong results and few correct ones.
* **Stopping.** Whether it stops after a pass depends on the style word at the start of the trace,
  on the doubts in the pass, and on whether the result equals that of the previous pass.

The traces therefore have the properties that make test-time scaling a decision problem: branches
disagree, the majority is mostly but not always correct, answers change late, lengths differ, and
wrong branches tend to be longer, as in traces of large models. These properties are built in; they
are not emergent reasoning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from autotts_gym.tinylm.arithmetic_chain import (
    LETTERS,
    MODULUS,
    Chain,
    Step,
    is_heavy_trap,
    is_light_trap,
)

#: Token that ends the thinking, and the text between it and the digits of the answer.
END_OF_THINKING: Final = "</think>"
ANSWER_PREFIX: Final = "answer:"


class TracePiece(NamedTuple):
    """A piece of a trace's text.

    ``probe_answer`` is the answer that the teacher gives if stopped before the end of the piece.
    """

    text: str
    probe_answer: int


class TeacherTrace(NamedTuple):
    """A trace of the teacher: the thinking in pieces, and the answer (0 to 99)."""

    pieces: list[TracePiece]
    answer: int

    @property
    def thinking(self) -> str:
        """The thinking, without the token that ends it."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def text(self) -> str:
        """The thinking, the token that ends it, and the answer."""
        return f"{self.thinking}{END_OF_THINKING}{ANSWER_PREFIX}{self.answer:02}"


class _StepRecord(NamedTuple):
    """How the latest pass computed a step."""

    value: int
    result: int
    doubted: bool


@dataclass(frozen=True)
class Teacher:
    """Error and stopping probabilities of the teacher.

    Values are probabilities from 0 to 1 where nothing else is said.

    Attributes:
        errors: factor on all error probabilities except ``heavy``.
        heavy: forget a borrow where k is 7 or more. Better teachers forget it as often: these
            errors are what misleads a majority vote.
        borrow: forget a borrow where k is less than 7.
        light: drop the carry of a product where k is 4 or more.
        product: drop the carry of a product where k is less than 4.
        carry: drop the carry of a sum.
        slip: be off by 1 or by 10 in any other step.
        skip: leave out a step in a pass.
        later: factor on the error probabilities for every pass after the first.
        repeat: repeat the previous pass's result and doubt for a step that starts from the same
            value.
        doubt: doubt a wrong result.
        qualm: doubt a correct result of a step with a carry or borrow; a quarter of it for other
            steps.
        styles: style words, each with its probability to stop after a pass.
        sure, unsure: factors on the stopping probability after a pass without and with doubts.
        agree, differ: factors on the stopping probability where the result equals that of the
            previous pass, and where it does not. The stopping probability is at most 0.95.
        most: maximum number of passes.
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
        """Return the attributes as plain values."""
        return {**asdict(self), "styles": dict(self.styles)}

    def write_trace(self, chain: Chain, rng: np.random.Generator) -> TeacherTrace:
        """Write a trace for a chain."""
        # One block of random numbers: drawing them one at a time would dominate the run time.
        uniforms = iter(rng.random(self.most * (3 * len(chain.steps) + 8) + 1).tolist())
        style, stop_probability = self.styles[int(next(uniforms) * len(self.styles))]
        exact = int(chain.answer)
        pieces = [TracePiece(f"{style}.", exact)]
        memory: list[_StepRecord | None] = [None] * len(chain.steps)
        candidate: int | None = None
        for number in range(self.most):
            word = "first" if not number else ("redo" if next(uniforms) < 0.5 else "recheck")
            pieces.append(TracePiece(f"{word}:", exact if candidate is None else candidate))
            result, doubts = self._write_pass(chain, number, candidate, memory, uniforms, pieces)
            if candidate is None:
                pieces.append(TracePiece(f"so {result:02}.", result))
            else:
                pieces.append(TracePiece(f"so {result:02},was {candidate:02}.", candidate))
            stop = stop_probability * (self.unsure if doubts else self.sure)
            if candidate is not None:
                stop *= self.agree if candidate == result else self.differ
            candidate = result
            if number == self.most - 1 or next(uniforms) < min(stop, 0.95):
                break
            pieces.append(TracePiece("wait,not ok.", candidate))
        assert candidate is not None
        pieces.append(TracePiece("ok.", candidate))
        return TeacherTrace(pieces, candidate)

    def _write_pass(
        self,
        chain: Chain,
        number: int,
        candidate: int | None,
        memory: list[_StepRecord | None],
        uniforms: Iterator[float],
        pieces: list[TracePiece],
    ) -> tuple[int, int]:
        """Append one pass over the steps to ``pieces`` and update ``memory``.

        Args:
            chain: the question.
            number: number of the pass, from 0.
            candidate: result of the previous pass; None in the first.
            memory: how the previous pass computed each step; None for a skipped step.
            uniforms: random numbers from 0 to 1.
            pieces: pieces of the trace so far.

        Returns:
            The result of the pass, and the number of doubted steps.
        """
        error_factor = self.later**number
        skipped = -1
        if next(uniforms) < self.skip * min(self.errors, 1):
            skipped = int(next(uniforms) * len(chain.steps))
        value = chain.start
        doubts = 0
        for index, step in enumerate(chain.steps):
            if index == skipped:
                memory[index] = None
                continue
            # Before the first pass ends, a probe's target is the exact result of the rest.
            answer = candidate if candidate is not None else chain.result_from(value, index)
            last = memory[index]
            if last is not None and last.value == value and next(uniforms) < self.repeat:
                _, result, doubted = last
            else:
                result = self._step_result(step, value, error_factor, next(uniforms))
                doubted = next(uniforms) < self._doubt_probability(step, value, result)
            doubts += doubted
            memory[index] = _StepRecord(value, result, doubted)
            name = f"{LETTERS[index + 1]}{step.operator}{step.k}"
            pieces.append(TracePiece(f"{name}={'?' * doubted}{result:02};", answer))
            value = result
        return value, doubts

    def _doubt_probability(self, step: Step, value: int, result: int) -> float:
        """Probability to doubt a step's result."""
        if result != step.apply(value):
            return self.doubt
        return self.qualm if step.apply_without_carry(value) is not None else self.qualm / 4

    def _step_result(self, step: Step, value: int, error_factor: float, u: float) -> int:
        """Result of a step, possibly wrong; ``u`` is uniform from 0 to 1."""
        exact = step.apply(value)
        factor = self.errors * error_factor
        without_carry = step.apply_without_carry(value)
        if without_carry is not None:
            if is_heavy_trap(step):
                rate = self.heavy * error_factor
            elif step.operator == "*":
                rate = (self.light if is_light_trap(step) else self.product) * factor
            else:
                rate = (self.carry if step.operator == "+" else self.borrow) * factor
            if u < rate:
                return without_carry
            u = (u - rate) / (1 - rate)
        slip = self.slip * factor
        if u < slip:
            return (exact + (1, -1, 10, -10)[int(u / slip * 4)]) % MODULUS
        return exact


#: Writes single passes without errors, for the first part of the training.
FAULTLESS: Final = Teacher(errors=0.0, heavy=0.0, qualm=0.0, styles=(("quick", 1.0),), most=1)
