"""The genetic proposer: programs are bred on islands, their constants tuned by CMA-ES.

In a round, every island breeds children from its best programs, by mutation and crossover; each
child's constants are tuned; the best of parents and children stay; and the best of all islands
visits the next one. Programs are compared by their fitness: the score on the search set, minus a
small penalty for size (:class:`~autotts_gym.discovery.proposal.Candidate`). The first round also
tunes the seed programs.

Nothing but the seed and what is on record decides what a round does: one that was cut off goes on
as it would have.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import numpy as np

from autotts_gym.discovery import variation
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.constant_tuning import reduce_program, tune_constants
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import Constant, Program, simplify
from autotts_gym.discovery.proposal import Candidate, Proposal, rejection_penalty
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.processes import end_with_parent

#: Tuned once more on four fifths of the questions, and scored on the others.
FOLDS: Final = 5


@dataclass(frozen=True)
class Breeding:
    """How programs are bred.

    Attributes:
        islands: that breed by themselves.
        keep: programs of an island.
        children: of an island in a round.
        evaluations: of each child, while its constants are tuned.
        finalists: programs that are cross-validated at the end.
        knob: whether constants may move with β.
        seed: of everything.
    """

    islands: int = 3
    keep: int = 6
    children: int = 4
    evaluations: int = 120
    finalists: int = 3
    knob: bool = True
    seed: int = 0


# --- in the processes of the pool ----------------------------------------------------------------

_rollout: TreeRollout


def _set_up(stores: dict[str, TraceStore], questions: list[int], seeds: int) -> None:
    global _rollout
    end_with_parent(group=False)
    _rollout = TreeRollout(SearchSet(stores, questions, seeds))


def _score(program: Program, questions: Sequence[int] | None, knob: bool) -> float:
    """What tuning maximises: the score of a sweep, less a fine where the knob is none."""
    curve = _rollout.sweep(program, questions)
    return curve.score - (rejection_penalty(curve.rejection()) if knob else 0.0)


def _tune(program: Program, evaluations: int, seed: int, knob: bool, floor: float) -> Program:
    return tune_constants(program, lambda p: _score(p, None, knob), evaluations, seed, knob, floor)


def _finish(program: Program, evaluations: int, knob: bool) -> Program:
    """Tuned at length, and pared."""

    def score(candidate: Program) -> float:
        return _score(candidate, None, knob)

    return reduce_program(tune_constants(program, score, evaluations, 1, knob), score)


def _tune_on(
    program: Program, evaluations: int, seed: int, knob: bool, seen: list[int], unseen: list[int]
) -> float:
    """Score on unseen questions after tuning on others."""
    found = tune_constants(program, lambda p: _score(p, seen, knob), evaluations, seed, knob)
    return _rollout.sweep(found, unseen).score


# --- the proposer --------------------------------------------------------------------------------


class Genetic:
    """Breeds programs; a proposer.

    Args:
        how: programs are bred.
        search: what they are tuned on.
        known: what is on record, by name; it is not tuned again.
        workers: processes that tune.
    """

    def __init__(
        self, how: Breeding, search: SearchSet, known: Mapping[str, Candidate], workers: int = 1
    ) -> None:
        self.how, self._known = how, known
        self._rows = search.questions
        stores = dict(zip(search.names, search.stores, strict=True))
        context = multiprocessing.get_context("spawn")
        given = (stores, search.questions, search.seeds)
        self._pool = ProcessPoolExecutor(workers, context, _set_up, given)

    def __enter__(self) -> Genetic:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def propose(self, number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """See :class:`autotts_gym.discovery.proposal.Proposer`."""
        how = self.how
        if number == 1:
            begun = [
                Proposal(f"1-{name}", "", "seed", tree=_without(program, how.knob))
                for name, program in variation.seed_programs().items()
            ]
            floors = [-np.inf] * len(begun)
            yield from self._tuned(begun, floors, [1, 0], 2 * how.evaluations)
        rng = np.random.default_rng([how.seed, number])
        planned, floors = [], []
        for island, programs in enumerate(self._islands(number)):
            for k in range(how.children):
                kind, parents, child = self._child(programs, rng)
                child = _without(child, how.knob)
                planned.append(Proposal(f"{number}-{island}-{k}", "", kind, parents, tree=child))
                floors.append(programs[-1].fitness)
        yield from self._tuned(planned, floors, [number, 1], how.evaluations)

    def _islands(self, number: int) -> list[list[Candidate]]:
        """The programs of every island as a round begins, from what is on record."""
        how = self.how
        begun = [self._known[f"1-{name}"] for name in variation.seed_programs()]
        islands = [_best(begun, how.keep) for _ in range(how.islands)]
        for gone in range(1, number):
            grown = [
                _best(
                    [*island, *(self._known[f"{gone}-{i}-{k}"] for k in range(how.children))],
                    how.keep,
                )
                for i, island in enumerate(islands)
            ]
            islands = [
                _best([*island, grown[i - 1][0]], how.keep) for i, island in enumerate(grown)
            ]
        return islands

    def _child(
        self, island: Sequence[Candidate], rng: np.random.Generator
    ) -> tuple[str, tuple[str, ...], Program]:
        while True:
            one, other = (self._chosen(island, rng) for _ in range(2))
            child, parents = tree_of(one), [one.name]
            if rng.random() < 0.35 and one.name != other.name:
                child = variation.crossover(child, tree_of(other), rng)
                parents.append(other.name)
            else:
                for _ in range(1 + int(rng.integers(2))):
                    child = variation.mutate(child, rng)
            kind = "mutation" if len(parents) == 1 else "crossover"
            child = simplify(child)
            if variation.within_limits(child) and child != tree_of(one):
                return kind, tuple(parents), child

    def _chosen(self, island: Sequence[Candidate], rng: np.random.Generator) -> Candidate:
        """The best of three."""
        some = [island[int(rng.integers(len(island)))] for _ in range(3)]
        return max(some, key=lambda tried: tried.fitness)

    def _tuned(
        self,
        planned: Sequence[Proposal],
        floors: Sequence[float],
        drawn_by: list[int],
        evaluations: int,
    ) -> Iterator[Proposal]:
        """Those that are not on record, with their constants tuned, in order."""
        entropy = [self.how.seed, *drawn_by]
        drawn = np.random.SeedSequence(entropy).generate_state(len(planned)).tolist()
        jobs = {
            proposal.name: self._submit(proposal.tree, evaluations, seed, floor)
            for proposal, seed, floor in zip(planned, drawn, floors, strict=True)
            if proposal.name not in self._known
        }
        for proposal in planned:
            if proposal.name in jobs:
                yield _written(proposal, jobs[proposal.name].result())

    def _submit(
        self, tree: Program | None, evaluations: int, seed: int, floor: float
    ) -> Future[Program]:
        assert tree is not None
        given = (tree, evaluations, 1 + seed % 2**30, self.how.knob, floor)
        return self._pool.submit(_tune, *given)

    def choose(
        self, number: int, history: Sequence[Candidate]
    ) -> tuple[Proposal, float, list[dict[str, Any]]]:
        """The program that does best on questions that its constants were not tuned on.

        Args:
            number: of the last round; the choice belongs to the one after it.
            history: everything that was tried.

        Returns:
            The program, tuned at length on all questions and pared; its score on unseen questions;
            and the finalists with theirs, as plain values.

        Raises:
            ValueError: every program was rejected.
        """
        sound = [tried for tried in history if tried.accepted and tried.proposal.tree is not None]
        if not sound:
            raise ValueError(
                "no program has a knob that spends more as it rises; search for more rounds"
            )
        different = {t.evaluation.by_question: t for t in _best(sound, len(sound))[::-1]}
        finalists = _best(list(different.values()), self.how.finalists)
        evaluations = 2 * self.how.evaluations
        folds = [self._rows[fold::FOLDS] for fold in range(min(FOLDS, len(self._rows)))]
        jobs = [
            self._pool.submit(
                _tune_on,
                forgotten(tree_of(tried)),
                evaluations,
                1 + fold,
                self.how.knob,
                [q for q in self._rows if q not in unseen],
                unseen,
            )
            for tried in finalists
            for fold, unseen in enumerate(folds)
        ]
        scores = np.array([job.result() for job in jobs]).reshape(len(finalists), -1)
        means = np.average(scores, axis=1, weights=[len(fold) for fold in folds])
        best = int(np.argmax(means))
        chosen = finalists[best]
        given = (tree_of(chosen), 2 * evaluations, self.how.knob)
        tree = self._pool.submit(_finish, *given).result()
        plain = [
            {
                "name": t.name,
                "score": t.evaluation.score,
                "unseen": float(m),
                "size": t.evaluation.size,
            }
            for t, m in zip(finalists, means, strict=True)
        ]
        final = Proposal(f"{number + 1}-final", "", "tuning", (chosen.name,))
        return _written(final, tree), float(means[best]), plain


def tree_of(tried: Candidate) -> Program:
    """Its tree; only programs that were bred have one."""
    assert tried.proposal.tree is not None
    return tried.proposal.tree


def forgotten(program: Program) -> Program:
    """The program with the constants' orders of magnitude alone: powers of two, without slopes."""

    def rough(constant: Constant) -> Constant:
        size = abs(constant.at(0.5))
        power = 2.0 ** round(np.log2(size)) if size > 1e-9 else 0.0
        return Constant(float(np.copysign(power, constant.at(0.5))))

    return program.with_constants([rough(constant) for constant in program.constants])


def _without(program: Program, knob: bool) -> Program:
    """The program, where there is no knob with its constants as they are half way."""
    if knob:
        return program
    return program.with_constants([Constant(c.at(0.5)) for c in program.constants])


def _written(proposal: Proposal, tree: Program) -> Proposal:
    tree = simplify(tree)
    text = generate_source(tree, "A controller found by the genetic proposer.")
    return Proposal(proposal.name, text, proposal.origin, proposal.parents, tree=tree)


def _best(of: Sequence[Candidate], count: int) -> list[Candidate]:
    """The best ones, each program once."""
    ranked = sorted({tree_of(t): t for t in of}.values(), key=lambda t: (-t.fitness, t.name))
    return ranked[:count]
