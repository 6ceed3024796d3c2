"""Proposer that evolves programs with an island model, and tunes their constants by CMA-ES.

In each round, every island creates children from its best programs by mutation and crossover. The
constants of each child are tuned. The best parents and children survive, and the best program of
each island is copied to the next island. Programs are ranked by their fitness
(:attr:`autotts_gym.discovery.proposal.Candidate.fitness`): the score on the search set minus small
penalties for size and rejection. The first round also tunes the seed programs.

A round depends on the random seed and the recorded candidates only, so an interrupted run continues
exactly as it would have without the interruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery import variation
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import Constant, Program, simplify
from autotts_gym.discovery.proposal import Candidate, Proposal
from autotts_gym.discovery.proposers import tuning_jobs
from autotts_gym.discovery.proposers.tuning_jobs import Tuning

#: Number of folds of the questions for the cross-validation of the finalists.
FOLDS: Final = 5
#: Default penalty of the distance of constants from their start; the best of several out of fold
#: (docs/discovery.md).
SHRINKAGE: Final = 0.01
#: Probability that a child is created by crossover.
_CROSSOVER_RATE: Final = 0.35
#: Number of candidates in a tournament that selects a parent.
_TOURNAMENT: Final = 3


@dataclass(frozen=True)
class GeneticConfig:
    """Parameters of the genetic proposer. The names are part of the format of ``run.json``.

    Attributes:
        islands: number of islands.
        keep: number of programs that survive on an island.
        children: number of children per island and round.
        evaluations: evaluations for tuning the constants of a child.
        finalists: number of programs that are cross-validated at the end.
        knob: whether constants may depend on β.
        seed: random seed.
        shrinkage: penalty of the distance of constants from those that their tuning starts from,
            see :func:`~autotts_gym.discovery.constant_tuning.tune_constants`.
    """

    islands: int = 3
    keep: int = 6
    children: int = 4
    evaluations: int = 120
    finalists: int = 3
    knob: bool = True
    seed: int = 0
    shrinkage: float = SHRINKAGE


class GeneticProposer:
    """Evolves programs; a context manager that ends its worker processes.

    Args:
        config: parameters of the evolution.
        search: environments, questions and branch orders on which constants are tuned.
        recorded: recorded candidates by name; they are not tuned again.
        workers: number of worker processes.
    """

    def __init__(
        self,
        config: GeneticConfig,
        search: SearchSet,
        recorded: Mapping[str, Candidate],
        workers: int = 1,
    ) -> None:
        self.config, self._recorded = config, recorded
        self._search = search
        self._pool = tuning_jobs.create_pool(search, workers)

    def __enter__(self) -> GeneticProposer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def propose(self, round_number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """See :class:`autotts_gym.discovery.proposal.Proposer`."""
        config = self.config
        if round_number == 1:
            seeds = [
                Proposal(f"1-{name}", "", "seed", tree=self._apply_knob(program))
                for name, program in variation.seed_programs().items()
            ]
            floors = [-np.inf] * len(seeds)
            yield from self._tune_all(seeds, floors, [1, 0], 2 * config.evaluations)
        rng = np.random.default_rng([config.seed, round_number])
        children, floors = [], []
        for i, island in enumerate(self._islands(round_number)):
            for k in range(config.children):
                origin, parents, child = self._create_child(island, rng)
                child = self._apply_knob(child)
                name = f"{round_number}-{i}-{k}"
                children.append(Proposal(name, "", origin, parents, tree=child))
                floors.append(island[-1].fitness)
        yield from self._tune_all(children, floors, [round_number, 1], config.evaluations)

    def _apply_knob(self, program: Program) -> Program:
        return program if self.config.knob else fix_constants(program)

    def _islands(self, round_number: int) -> list[list[Candidate]]:
        """The programs of every island at the beginning of a round, from the recorded ones."""
        keep, children = self.config.keep, self.config.children
        seeds = [self._recorded[f"1-{name}"] for name in variation.seed_programs()]
        islands = [_best(seeds, keep) for _ in range(self.config.islands)]
        for earlier in range(1, round_number):
            grown = [
                _best(
                    [*island, *(self._recorded[f"{earlier}-{i}-{k}"] for k in range(children))],
                    keep,
                )
                for i, island in enumerate(islands)
            ]
            islands = [_best([*island, grown[i - 1][0]], keep) for i, island in enumerate(grown)]
        return islands

    def _create_child(
        self, island: Sequence[Candidate], rng: np.random.Generator
    ) -> tuple[str, tuple[str, ...], Program]:
        """Origin, names of the parents, and program of a new child."""
        while True:
            first, second = (self._select(island, rng) for _ in range(2))
            child, parents = tree_of(first), [first.name]
            if rng.random() < _CROSSOVER_RATE and first.name != second.name:
                child = variation.crossover(child, tree_of(second), rng)
                parents.append(second.name)
            else:
                for _ in range(1 + int(rng.integers(2))):
                    child = variation.mutate(child, rng)
            origin = "mutation" if len(parents) == 1 else "crossover"
            child = simplify(child)
            if variation.within_limits(child) and child != tree_of(first):
                return origin, tuple(parents), child

    def _select(self, island: Sequence[Candidate], rng: np.random.Generator) -> Candidate:
        """Tournament selection: the fittest of a few random candidates."""
        contestants = [island[int(rng.integers(len(island)))] for _ in range(_TOURNAMENT)]
        return max(contestants, key=lambda candidate: candidate.fitness)

    def _tune_all(
        self,
        proposals: Sequence[Proposal],
        floors: Sequence[float],
        seed_key: list[int],
        evaluations: int,
    ) -> Iterator[Proposal]:
        """Tune the constants of the proposals that are not recorded, and yield them in order.

        Args:
            proposals: proposals with trees.
            floors: score of each proposal below which tuning gives up.
            seed_key: derives the random seeds, together with the seed of the configuration.
            evaluations: evaluations per proposal.
        """
        entropy = [self.config.seed, *seed_key]
        seeds = np.random.SeedSequence(entropy).generate_state(len(proposals)).tolist()
        jobs = {
            proposal.name: self._submit(proposal.tree, evaluations, seed, floor)
            for proposal, seed, floor in zip(proposals, seeds, floors, strict=True)
            if proposal.name not in self._recorded
        }
        for proposal in proposals:
            if proposal.name in jobs:
                yield _with_source(proposal, jobs[proposal.name].result())

    def _submit(
        self, tree: Program | None, evaluations: int, seed: int, floor: float
    ) -> Future[Program]:
        assert tree is not None
        tuning = replace(self._tuning(evaluations), floor=floor)
        return self._pool.submit(tuning_jobs.tune, tree, tuning, 1 + seed % 2**30)

    def _tuning(self, evaluations: int) -> Tuning:
        return Tuning(evaluations, self.config.knob, self.config.shrinkage)

    def choose(
        self, round_number: int, history: Sequence[Candidate]
    ) -> tuple[Proposal, float, list[dict[str, Any]]]:
        """Choose the program that is best out of fold.

        A larger finalist has to be better than the smallest one by more than the standard error
        over questions of the difference.

        Args:
            round_number: number of the last round; the choice belongs to the round after it.
            history: all candidates.

        Returns:
            The chosen program, tuned on all questions and rounded; its out-of-fold score; and the
            finalists with their scores, as plain values.

        Raises:
            ValueError: every program was rejected.
        """
        accepted = [c for c in history if c.accepted and c.proposal.tree is not None]
        if not accepted:
            raise ValueError(
                "no program was accepted: in none do tokens rise with β; search for more rounds"
            )
        # Of programs with equal scores on every question, keep the fittest.
        distinct = {c.evaluation.by_question: c for c in _best(accepted, len(accepted))[::-1]}
        finalists = _best(list(distinct.values()), self.config.finalists)
        validated = self._cross_validate(finalists)
        unseen = np.mean(list(validated.values()), axis=0)
        smallest = int(np.argmin([finalist.evaluation.size for finalist in finalists]))
        gains = unseen - unseen[smallest]
        best = int(np.argmax(gains.mean(axis=1) - standard_error(gains)))
        winner = finalists[best]
        tuning = self._tuning(4 * self.config.evaluations)
        start = coarsen_constants(tree_of(winner))
        tree = self._pool.submit(tuning_jobs.tune_and_round, start, tuning).result()
        plain = [
            {
                "name": finalist.name,
                "unseen": float(unseen[i].mean()),
                "unseen_error": float(standard_error(unseen[i])),
                **{f"unseen_{of}": float(scores[i].mean()) for of, scores in validated.items()},
                "gain": float(gains[i].mean()),
                "gain_error": float(standard_error(gains[i])),
                "score": finalist.evaluation.score,
                "size": finalist.evaluation.size,
            }
            for i, finalist in enumerate(finalists)
        ]
        chosen = Proposal(f"{round_number + 1}-final", "", "tuning", (winner.name,))
        return _with_source(chosen, tree), float(unseen[best].mean()), plain

    def _cross_validate(self, finalists: Sequence[Candidate]) -> dict[str, NDArray[np.float64]]:
        """Scores of the finalists on what their constants were not tuned on, float64[F, Q].

        ``"questions"``: each fold of the questions is left out once. ``"models"``, if several
        environments have the same questions: each environment is left out once.
        """
        programs = [coarsen_constants(tree_of(finalist)) for finalist in finalists]
        tuning = self._tuning(2 * self.config.evaluations)
        questions = self._search.questions
        folds = [questions[fold::FOLDS] for fold in range(min(FOLDS, len(questions)))]
        submit = self._pool.submit
        by_fold = [
            [
                submit(
                    tuning_jobs.validate_questions,
                    *(program, tuning, 1 + fold),
                    [q for q in questions if q not in validation],
                    validation,
                )
                for fold, validation in enumerate(folds)
            ]
            for program in programs
        ]
        models = range(len(self._search.stores) if self._search.shares_questions else 0)
        by_model = [
            [submit(tuning_jobs.validate_environment, program, tuning, 1 + e, e) for e in models]
            for program in programs
        ]
        # The questions of all folds, in the order of the search set.
        order = np.argsort([questions.index(q) for validation in folds for q in validation])
        scores = {
            "questions": np.array(
                [np.concatenate([job.result() for job in jobs])[order] for jobs in by_fold]
            )
        }
        if models:
            scores["models"] = np.array(
                [np.mean([job.result() for job in jobs], axis=0) for jobs in by_model]
            )
        return scores


def standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error of means over the last axis."""
    count = values.shape[-1]
    errors: NDArray[np.float64] = values.std(axis=-1, ddof=min(1, count - 1)) / np.sqrt(count)
    return errors


def tree_of(candidate: Candidate) -> Program:
    """The tree of a candidate of the genetic proposer."""
    assert candidate.proposal.tree is not None
    return candidate.proposal.tree


def coarsen_constants(program: Program) -> Program:
    """Round constants to one significant digit, to remove most of the effect of their tuning.

    The first digit is 1, 1.5 or 2 to 9, so that the error is at most a quarter.
    """

    def coarsen(value: float) -> float:
        digits = float(f"{value:.0e}")
        halves = float(f"{2 * value:.0e}") / 2
        return halves if abs(value) < abs(2 * digits) and _is_one_and_half(halves) else digits

    return program.with_constants(
        [Constant(*map(coarsen, constant.coefficients)) for constant in program.constants]
    )


def _is_one_and_half(value: float) -> bool:
    return f"{abs(value):.1e}".startswith("1.5")


def fix_constants(program: Program) -> Program:
    """Fix the constants of a program at their values for β = 0.5."""
    return program.with_constants([Constant(c.at(0.5)) for c in program.constants])


def _with_source(proposal: Proposal, tree: Program) -> Proposal:
    """The proposal with a simplified tree and the source text generated from it."""
    tree = simplify(tree)
    source = generate_source(tree, "A controller found by the genetic proposer.")
    return Proposal(proposal.name, source, proposal.origin, proposal.parents, tree=tree)


def _best(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The fittest candidates, the best first, without duplicate programs."""
    distinct = {tree_of(candidate): candidate for candidate in candidates}
    return sorted(distinct.values(), key=lambda c: (-c.fitness, c.name))[:count]
