"""What a proposer is, and what it is told: the contract of every one of them.

A round asks its proposer for programs. Each is checked and played, and what came of it is on record
before the next round asks again. A proposer that has none to offer says why, in a proposal without
a program: that is on record as well, and ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from autotts_gym.discovery.program_tree import Program, from_json, to_json

#: What a constant, a node of a tree or a slope costs, in right answers: of programs that do as
#: well, the one that is easier to read wins.
PARSIMONY: Final = 5e-5
#: What a rejected program loses: little enough to be built on.
_REJECTED: Final = 0.05


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
        tree: the same program as a typed tree, where it is one.
    """

    name: str
    source: str
    how: str
    parents: tuple[str, ...] = ()
    trouble: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    tree: Program | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of a program.

    Attributes:
        score: right answers less the price of tokens, see :mod:`autotts_gym.discovery.objective`;
            minus infinity where it could not be played.
        fault: why it was rejected, for people and models to read; empty if it was not.
        size: constants of the program; of a tree, its nodes and slopes.
        by_question: the score of every question that was searched on, in their order.
        curve: the β sweep as plain values, see ``Curve.facts``; empty where there is none.
        diagnosis: where its tokens went and what it lost, lines of text.
        traces: a few episodes action by action, lines of text.
    """

    score: float = float("-inf")
    fault: str = ""
    size: int = 0
    by_question: tuple[float, ...] = ()
    curve: dict[str, Any] = field(default_factory=dict)
    diagnosis: str = ""
    traces: str = ""


def fine_of(fault: str) -> float:
    """What a fault costs, in right answers."""
    return _REJECTED if fault else 0.0


@dataclass(frozen=True)
class Tried:
    """A program, and what came of it."""

    proposal: Proposal
    verdict: Verdict

    @property
    def name(self) -> str:
        return self.proposal.name

    @property
    def worth(self) -> float:
        """Its score, less the price of its size, and a fine where it was rejected."""
        verdict = self.verdict
        return verdict.score - PARSIMONY * verdict.size - fine_of(verdict.fault)

    @property
    def sound(self) -> bool:
        """Whether it was played, and not rejected."""
        return not self.verdict.fault and self.verdict.score > float("-inf")

    def facts(self) -> dict[str, Any]:
        """As plain values, for a journal."""
        proposal, verdict = self.proposal, self.verdict
        tree = {} if proposal.tree is None else {"tree": to_json(proposal.tree)}
        played = verdict.score > float("-inf")
        return {
            "name": proposal.name,
            "how": proposal.how,
            "parents": list(proposal.parents),
            "trouble": proposal.trouble,
            "cost": proposal.cost,
            "score": verdict.score if played else None,
            "fault": verdict.fault,
            "size": verdict.size,
            "by_question": list(verdict.by_question),
            "curve": verdict.curve,
            "diagnosis": verdict.diagnosis,
            "traces": verdict.traces,
            "source": proposal.source,
            **tree,
        }

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Tried:
        """What :meth:`facts` gave.

        Raises:
            ValueError: it is none.
        """
        try:
            proposal = Proposal(
                name=facts["name"],
                source=facts["source"],
                how=facts["how"],
                parents=tuple(facts["parents"]),
                trouble=facts["trouble"],
                cost=dict(facts["cost"]),
                tree=from_json(facts["tree"]) if "tree" in facts else None,
            )
            verdict = Verdict(
                score=float("-inf") if facts["score"] is None else float(facts["score"]),
                fault=facts["fault"],
                size=facts["size"],
                by_question=tuple(facts["by_question"]),
                curve=facts["curve"],
                diagnosis=facts["diagnosis"],
                traces=facts["traces"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no line of a journal: {error!r}") from error
        return cls(proposal, verdict)


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
