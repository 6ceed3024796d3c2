"""Proposer of stop rules that are fitted by regression over replays.

For every reading policy of a fixed list, a model of the gain of reading on is fitted to replays of
the search set, and a controller stops where the gain is below its price
(:mod:`autotts_gym.discovery.stop_regression`). Number of terms and strength of the ridge are chosen
for the first reading policy, by cross-validation over folds of the questions and over environments.
Nothing is random, so an interrupted search continues exactly as it would have without the
interruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.objective import BETAS, SearchSet
from autotts_gym.discovery.program_tree import Constant, Node, Program, round_constant, simplify
from autotts_gym.discovery.proposal import Candidate, Proposal
from autotts_gym.discovery.proposers.genetic import fix_constants, standard_error
from autotts_gym.discovery.replays import Recorder
from autotts_gym.discovery.stop_regression import TERMS, GainModel, StopRegression
from autotts_gym.discovery.tree_rollout import TreeRollout

#: Number of folds of the questions.
FOLDS: Final = 5
#: Penalties of the ridge, the strongest first: with it, terms count nearly equally.
RIDGES: Final = (1.0, 0.03)
#: Numbers of terms of the model.
_TERMS: Final = range(2, len(TERMS) + 1)
#: Slope in the weight of latency of the number of branches at the start.
_TILT: Final = 16.0
#: Length at which branches are dropped, in mean branches, and how much earlier by ln(1 + votes).
_DROPS: Final = ((1.4, 0.1), (1.5, 0.2), (1.5, 0.3))
#: Branches that are added for each that finishes, as base, and slopes in β and in the weight.
_GROWN: Final = (0.0, 1.0, 1.0)
#: Number of branches at the start of patient policies, likewise, and when they drop branches.
_FEW: Final = (-1.0, 8.0, _TILT)
_PATIENT_DROPS: Final = ((1.4, 0.2), (1.5, 0.2), (1.5, 0.3), (1.5, 0.4))
#: Origin of the proposals in the journal.
_ORIGIN: Final = "regression"


def reading_policies(latency: Sequence[float] = (0.0,), patient: bool = False) -> list[Program]:
    """The reading policies: that of the seed program ``widening``, a little wider, and variants.

    They differ in the number of branches at the start, in how many are added for each that
    finishes, and in the length at which branches are dropped. In all but the second one, more
    branches run as the weight of latency rises.

    Args:
        latency: weights of latency of the search. With several, the number of branches depends on
            the weight.
        patient: those that start with few branches. They save tokens, and take longer.
    """
    if patient:
        policies = [_reading(_FEW, _GROWN, drop) for drop in _PATIENT_DROPS]
    else:
        policies = [
            _reading(),
            _reading(width=(2.0, 4.0)),
            _reading(drop=None, fade=0.0),
            *(_reading(growth=_GROWN, drop=drop) for drop in _DROPS),
            *(_reading(drop=drop) for drop in _DROPS[1:]),
        ]
    return policies if len(latency) > 1 else [_at_weight(p, latency[0]) for p in policies]


def _at_weight(program: Program, weight: float) -> Program:
    """A program at one weight of latency, on which its constants do not depend any more."""
    return program.with_constants(
        [Constant(round_constant(c.at(0.0, weight)), c.slope) for c in program.constants]
    )


def _reading(
    width: tuple[float, ...] = (5.0, 8.0, _TILT),
    growth: tuple[float, ...] | None = None,
    drop: tuple[float, float] | None = _DROPS[0],
    fade: float = 0.5,
) -> Program:
    """A reading policy.

    Args:
        width: number of branches at the start, as base, and slopes in β and in the weight.
        growth: number of branches that are added for each that finishes, likewise; None for 1.
        drop: length at which branches are dropped before there are votes, in mean branches, and how
            much earlier they are dropped for each ln(1 + votes); None for never.
        fade: the weight of a vote falls by this power of e per mean branch of length.
    """

    def constant(*coefficients: float) -> Node:
        return Node(Constant(*coefficients))

    added = Node("finished")
    if growth is not None:
        added = Node(pt.MUL, (constant(*growth), added))
    dropped = constant(-1.0)
    if drop is not None:
        longest, haste = drop
        earlier = Node(pt.MUL, (constant(haste), Node(pt.LN, (Node("votes"),))))
        limit = Node(pt.SUB, (constant(longest), earlier))
        dropped = Node(pt.SUB, (Node("length"), limit))
    faded = Node(pt.FADE, (Node(pt.MUL, (constant(fade), Node("length"))),))
    return Program(
        weight=faded if fade else constant(1.0),
        drop=dropped,
        stop=constant(-1.0),
        width=Node(pt.ADD, (constant(*width), added)),
        stride=Constant(1.0),
    )


@dataclass(frozen=True)
class _Fit:
    """A fitted reading policy.

    Attributes:
        program: the controller, fitted to everything.
        by_questions: controllers that are fitted without each fold of the questions.
        by_environments: controllers that are fitted without each environment.
        terms: number of terms of the model.
        ridge: strength of the ridge.
    """

    program: Program
    by_questions: list[Program]
    by_environments: list[Program]
    terms: int
    ridge: float


class RegressionProposer:
    """Proposes a controller for every reading policy.

    Args:
        search: environments, questions and branch orders to fit to.
        recorded: recorded candidates by name; they are not fitted again before the choice.
        attempts: number of proposals in a round.
        knob: whether constants may depend on β.
        patient: whether controllers read few branches at a time unless latency has a weight.
    """

    def __init__(
        self,
        search: SearchSet,
        recorded: Mapping[str, Candidate],
        attempts: int,
        knob: bool = True,
        patient: bool = False,
    ) -> None:
        self._search, self._recorded = search, recorded
        self._attempts, self._knob = attempts, knob
        self._recorder, self._rollout = Recorder(search), TreeRollout(search)
        # Without a knob, constants do not depend on the weight either.
        self._latency = search.latency if knob else (float(np.mean(search.latency)),)
        self._readings = reading_policies(self._latency, patient)
        self._fits: dict[int, _Fit] = {}
        self._folds = [search.questions[fold::FOLDS] for fold in range(FOLDS)]
        self._folds = [fold for fold in self._folds if fold]

    def propose(self, round_number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """See :class:`autotts_gym.discovery.proposal.Proposer`."""
        for k in range(self._attempts):
            name = f"{round_number}-{k}"
            if self._number(name) < len(self._readings) and name not in self._recorded:
                yield _proposal(name, self._fit(self._number(name)).program)

    def _number(self, name: str) -> int:
        """Number of the reading policy of a candidate."""
        round_number, k = map(int, name.split("-"))
        return (round_number - 1) * self._attempts + k

    def _fit(self, number: int) -> _Fit:
        """Fit a reading policy, with the setting that validates best with the first one."""
        if number not in self._fits:
            settings = [(terms, ridge) for terms in _TERMS for ridge in RIDGES]
            if number > 0:
                first = self._fit(0)
                settings = [(first.terms, first.ridge)]
            self._fits[number] = self._cross_validate(self._readings[number], settings)
        return self._fits[number]

    def _cross_validate(self, reading: Program, settings: Sequence[tuple[int, float]]) -> _Fit:
        """Fit a reading policy with the setting that validates best.

        Args:
            reading: the reading policy.
            settings: numbers of terms and strengths of the ridge.
        """
        search = self._search
        betas = BETAS if self._knob else (0.5,)
        replays = self._recorder.replay(reading, betas, self._latency)
        regression = StopRegression(replays)
        left_out = range(len(search.stores)) if len(search.stores) > 1 else ()
        parts = [
            [~np.isin(replays.questions, fold) for fold in self._folds],
            [replays.environments != e for e in left_out],
        ]
        fits: list[tuple[GainModel, list[list[GainModel]]]] = []
        payoffs = []
        for terms, ridge in settings:
            # A weaker ridge starts from the fit with the stronger one.
            is_path = bool(fits) and ridge != RIDGES[0]
            everything = regression.fit(terms, ridge, start=fits[-1][0] if is_path else None)
            folds = [
                [regression.fit(terms, ridge, kept, everything) for kept in part] for part in parts
            ]
            unseen = [
                np.sum(
                    [
                        regression.payoffs(model, ~kept)
                        for model, kept in zip(fitted, part, strict=True)
                    ],
                    axis=0,
                )
                for fitted, part in zip(folds, parts, strict=True)
                if part
            ]
            fits.append((everything, folds))
            payoffs.append(float(np.mean(unseen)))
        best = int(np.argmax(payoffs))
        everything, folds = fits[best]
        by_questions, by_environments = (
            [self._program(reading, model) for model in part] for part in folds
        )
        return _Fit(
            self._program(reading, everything), by_questions, by_environments, *settings[best]
        )

    def _program(self, reading: Program, model: GainModel) -> Program:
        program = replace(reading, stop=model.stop_tree())
        return simplify(program if self._knob else fix_constants(program))

    def choose(
        self, round_number: int, history: Sequence[Candidate]
    ) -> tuple[Proposal, float, list[dict[str, Any]]]:
        """Choose the controller that is best out of fold.

        Another reading policy than the first one has to be better by more than the standard error
        over questions of the difference.

        Args:
            round_number: number of the last round; the choice belongs to the round after it.
            history: all candidates.

        Returns:
            The chosen controller; its out-of-fold score; and all controllers with their scores, as
            plain values.

        Raises:
            ValueError: every controller was rejected.
        """
        finalists = [c for c in history if c.accepted and c.proposal.origin == _ORIGIN]
        if not finalists:
            raise ValueError(
                "no controller was accepted: in none do tokens rise with β; use more questions"
            )
        fits = [self._fit(self._number(finalist.name)) for finalist in finalists]
        scores = [self._unseen_scores(fit) for fit in fits]
        unseen = np.array([np.mean(list(by_part.values()), axis=0) for by_part in scores])
        gains = unseen - unseen[0]
        errors = standard_error(gains)
        best = int(np.argmax(gains.mean(axis=1) - errors))
        plain = [
            {
                "name": finalist.name,
                "unseen": float(unseen[i].mean()),
                "unseen_error": float(standard_error(unseen[i])),
                **{f"unseen_{part}": float(of.mean()) for part, of in scores[i].items()},
                "gain": float(gains[i].mean()),
                "gain_error": float(errors[i]),
                "score": finalist.evaluation.score,
                "size": finalist.evaluation.size,
                "terms": fits[i].terms,
                "ridge": fits[i].ridge,
            }
            for i, finalist in enumerate(finalists)
        ]
        name = f"{round_number + 1}-final"
        chosen = _proposal(name, fits[best].program, (finalists[best].name,))
        return chosen, float(unseen[best].mean()), plain

    def _unseen_scores(self, fit: _Fit) -> dict[str, NDArray[np.float64]]:
        """Scores by question, float64[Q], of controllers that were fitted without what they play.

        ``"questions"``: without each fold; ``"environments"``: without each environment, if there
        are several.
        """
        sweep, questions = self._rollout.sweep, self._search.questions
        played = zip(fit.by_questions, self._folds, strict=True)
        by_fold = np.concatenate([sweep(program, fold).by_question for program, fold in played])
        order = np.argsort([questions.index(q) for fold in self._folds for q in fold])
        scores = {"questions": by_fold[order]}
        if fit.by_environments:
            scores["environments"] = np.mean(
                [
                    sweep(program, environments=[e]).by_question
                    for e, program in enumerate(fit.by_environments)
                ],
                axis=0,
            )
        return scores


def _proposal(name: str, program: Program, parents: tuple[str, ...] = ()) -> Proposal:
    source = generate_source(program, "A controller whose stop rule was fitted by regression.")
    return Proposal(name, source, _ORIGIN, parents, tree=program)
