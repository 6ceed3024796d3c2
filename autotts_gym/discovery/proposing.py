"""What a proposer is, and what it is told: the contract of every one of them.

A round asks its proposer for programs. Each is checked and played, and what came of it is on record
before the next round asks again. A proposer that has none to offer says why, in a proposal without
a program: that is on record as well, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Proposal:
    """A program that is to be tried.

    Attributes:
        name: ``ROUND-NUMBER``, or ``ROUND-ISLAND-NUMBER``; those of round 0 are seeds.
        source: text of a controller, with ``solve(episode, beta)``; empty where there is none.
        how: it came about, as ``"seed"``, ``"mutation"`` or the name of a model.
        parents: names of the programs that it was made from, as far as that is known.
        trouble: why there is no program; what went wrong with the proposer, not with the program.
        cost: what it took, by unit: ``"prompt_tokens"``, ``"completion_tokens"``, ``"usd"``,
            ``"seconds"``.
    """

    name: str
    source: str
    how: str
    parents: tuple[str, ...] = ()
    trouble: str = ""
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What came of a program.

    Attributes:
        score: right answers less the price of tokens, see :mod:`autotts_gym.discovery.scoring`;
            minus infinity where it could not be played.
        fault: why it was rejected, for people and models to read; empty if it was not.
        curve: the β sweep as plain values, see ``Curve.facts``; empty where there is none.
        diagnosis: where its tokens went and what it lost, lines of text.
        traces: a few episodes action by action, lines of text.
    """

    score: float = float("-inf")
    fault: str = ""
    curve: dict[str, Any] = field(default_factory=dict)
    diagnosis: str = ""
    traces: str = ""


@dataclass(frozen=True)
class Tried:
    """A program, and what came of it."""

    proposal: Proposal
    verdict: Verdict


class Proposer(Protocol):
    """Who proposes programs."""

    def propose(self, number: int, history: Sequence[Tried]) -> Iterator[Proposal]:
        """The proposals of a round.

        Args:
            number: of the round, from 1.
            history: everything that was tried before this round, the seeds first.

        Yields:
            Proposals. What has been yielded is tried, and on record, before the next one is asked
            for; a round that was cut off is asked for anew, with the names that are on record
            already passed over unpaid.
        """
