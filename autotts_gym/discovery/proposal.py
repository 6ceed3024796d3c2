"""Proposals, evaluations, candidates, and the protocol of proposers.

In every round, a proposer generates proposals. Each one is evaluated and recorded before the next
one is requested. A proposer that has no program to offer yields a proposal without a source and
with an error; it is recorded like any other, and the search continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from autotts_gym.discovery.program_tree import Program, from_json, to_json

#: Penalty for each constant, tree node or slope, in correct answers per question. Of two programs
#: with the same score, the smaller one wins.
PARSIMONY: Final = 5e-5
#: Penalty for a rejected program. It is small, so that proposers may still build on the program.
_REJECTED: Final = 0.05


@dataclass(frozen=True)
class Proposal:
    """A program to evaluate.

    Attributes:
        name: ``ROUND-NUMBER`` or ``ROUND-ISLAND-NUMBER``; round 0 holds the seed controllers.
        source: source text of a controller that defines ``solve(episode, beta)``; empty if the
            proposer has no program.
        origin: ``"seed"``, ``"mutation"``, ``"crossover"``, or the name of the model or command.
        parents: names of the candidates that the program was made from, as far as they are known.
        error: why there is no program; describes a failure of the proposer, not of the program.
        cost: cost of the proposal by unit: ``"prompt_tokens"``, ``"completion_tokens"``, ``"usd"``,
            ``"seconds"``.
        tree: the same program as a typed tree, if it has one.
    """

    name: str
    source: str
    origin: str
    parents: tuple[str, ...] = ()
    error: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    tree: Program | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for files. The keys are part of the file formats."""
        return {
            "name": self.name,
            "source": self.source,
            "how": self.origin,
            "parents": list(self.parents),
            "trouble": self.error,
            "cost": self.cost,
            "tree": None if self.tree is None else to_json(self.tree),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Proposal:
        """The proposal that :meth:`to_dict` converted.

        Raises:
            ValueError: the values do not describe a proposal.
        """
        try:
            tree = values.get("tree")
            return cls(
                name=values["name"],
                source=values["source"],
                origin=values["how"],
                parents=tuple(values["parents"]),
                error=values["trouble"],
                cost=dict(values["cost"]),
                tree=None if tree is None else from_json(tree),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a proposal: {error!r}") from error


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a program.

    Attributes:
        score: correct answers per question minus the price of tokens, see
            :mod:`autotts_gym.discovery.objective`; minus infinity if the program could not be
            played.
        rejection: why the program was rejected, for people and language models; empty if it was
            accepted.
        size: of the program's constants, see :func:`.evaluator.program_size`; for a tree, number
            of nodes and slopes.
        by_question: score of every question of the search set, in order.
        curve: the β sweep as plain values, see
            :meth:`autotts_gym.discovery.objective.Curve.to_dict`; empty if it was not played.
        diagnosis: where the tokens went and why episodes failed, as lines of text.
        transcripts: a few episodes action by action, as lines of text.
    """

    score: float = float("-inf")
    rejection: str = ""
    size: int = 0
    by_question: tuple[float, ...] = ()
    curve: dict[str, Any] = field(default_factory=dict)
    diagnosis: str = ""
    transcripts: str = ""


def rejection_penalty(rejection: str) -> float:
    """Penalty of a rejection, in correct answers per question; 0 for an accepted program."""
    return _REJECTED if rejection else 0.0


@dataclass(frozen=True)
class Candidate:
    """A proposal and its evaluation: a controller under search."""

    proposal: Proposal
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """The proposal's name."""
        return self.proposal.name

    @property
    def fitness(self) -> float:
        """The score minus the penalties for size and rejection."""
        evaluation = self.evaluation
        penalty = PARSIMONY * evaluation.size
        return evaluation.score - penalty - rejection_penalty(evaluation.rejection)

    @property
    def accepted(self) -> bool:
        """Whether the program was played and not rejected."""
        return not self.evaluation.rejection and self.evaluation.score > float("-inf")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the journal. The keys are part of the file format."""
        evaluation, proposal = self.evaluation, self.proposal.to_dict()
        source, tree = proposal.pop("source"), proposal.pop("tree")
        played = evaluation.score > float("-inf")
        return {
            **proposal,
            "score": evaluation.score if played else None,
            "fault": evaluation.rejection,
            "size": evaluation.size,
            "by_question": list(evaluation.by_question),
            "curve": evaluation.curve,
            "diagnosis": evaluation.diagnosis,
            "traces": evaluation.transcripts,
            "source": source,
            **({} if tree is None else {"tree": tree}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Candidate:
        """The candidate that :meth:`to_dict` converted.

        Raises:
            ValueError: the values do not describe a candidate.
        """
        try:
            evaluation = Evaluation(
                score=float("-inf") if values["score"] is None else float(values["score"]),
                rejection=values["fault"],
                size=values["size"],
                by_question=tuple(values["by_question"]),
                curve=values["curve"],
                diagnosis=values["diagnosis"],
                transcripts=values["traces"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a journal entry of a candidate: {error!r}") from error
        return cls(Proposal.from_dict(values), evaluation)


class ProposerError(ValueError):
    """A proposer cannot generate any proposal; the message says what has to change."""


class Proposer(Protocol):
    """Generates candidate controllers."""

    def propose(self, round_number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """Generate the proposals of a round.

        Args:
            round_number: number of the round, from 1.
            history: all candidates of earlier rounds, the seed controllers first.

        Yields:
            Proposals. Each one is evaluated and recorded before the next one is requested. After
            an interruption, the round is requested again; names that are already recorded must be
            skipped, so that no proposal is paid for twice.
        """
