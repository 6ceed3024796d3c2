"""The two fixed question sets of the tiny models: ``chain`` (search) and ``chain-hard`` (held out).

Questions are drawn in strata by their number of traps. Without strata, too many questions would be
answered correctly by all branches or by none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np

from autotts_gym.tinylm.arithmetic_chain import Chain, random_chain


@dataclass(frozen=True)
class Stratum:
    """A group of ``count`` questions whose steps and traps lie in the given inclusive ranges."""

    name: str
    count: int
    steps: tuple[int, int]
    heavy: tuple[int, int]
    light: tuple[int, int]

    def contains(self, chain: Chain) -> bool:
        """Whether a chain belongs to this stratum."""
        heavy, light = chain.traps
        return (
            self.steps[0] <= len(chain.steps) <= self.steps[1]
            and self.heavy[0] <= heavy <= self.heavy[1]
            and self.light[0] <= light <= self.light[1]
        )


class QuestionSet(NamedTuple):
    """Random seed and strata of a fixed question set."""

    seed: int
    strata: tuple[Stratum, ...]


#: Question sets by name. Training leaves out the questions of all of them.
QUESTION_SETS: Final[dict[str, QuestionSet]] = {
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


class ChainQuestion(NamedTuple):
    """A question of a set: id, text, and gold answer as two digits."""

    id: str
    question: str
    answer: str


@cache
def questions(name: str) -> tuple[ChainQuestion, ...]:
    """Return the questions of a set, the same in every call.

    Ids are ``SET-STRATUM-NUMBER``.

    Args:
        name: ``chain`` or ``chain-hard``.

    Raises:
        ValueError: the set does not exist; the message lists the sets.
    """
    if name not in QUESTION_SETS:
        raise ValueError(f"unknown question set {name!r}; the sets are {', '.join(QUESTION_SETS)}")
    # Sets are disjoint: each one leaves out the questions of the sets before it.
    used: set[str] = set()
    for earlier in QUESTION_SETS:
        if earlier == name:
            break
        used |= {question.question for question in questions(earlier)}
    seed, strata = QUESTION_SETS[name]
    rng = np.random.default_rng(seed)
    return tuple(
        ChainQuestion(f"{name}-{stratum.name}-{number}", chain.text, chain.answer)
        for stratum in strata
        for number, chain in enumerate(_draw_stratum(stratum, rng, used))
    )


def _draw_stratum(stratum: Stratum, rng: np.random.Generator, used: set[str]) -> Iterator[Chain]:
    """Draw the chains of a stratum; adds their texts to ``used``."""
    remaining = stratum.count
    while remaining:
        chain = random_chain(rng, *stratum.steps)
        if stratum.contains(chain) and chain.text not in used:
            used.add(chain.text)
            remaining -= 1
            yield chain


@cache
def reserved_questions() -> frozenset[str]:
    """Return the texts of all questions that training must not contain."""
    return frozenset(question.question for name in QUESTION_SETS for question in questions(name))
