"""Jobs of the genetic proposer's worker processes: tuning, reduction and cross-validation."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from autotts_gym.discovery.constant_tuning import reduce_program, tune_constants
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import Program
from autotts_gym.discovery.proposal import rejection_penalty
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.processes import check_can_spawn, end_with_parent

_rollout: TreeRollout


def create_pool(search: SearchSet, workers: int) -> ProcessPoolExecutor:
    """A pool of processes that run the jobs of this module on a search set."""
    check_can_spawn("the genetic proposer")
    stores = dict(zip(search.names, search.stores, strict=True))
    context = multiprocessing.get_context("spawn")
    arguments = (stores, search.questions, search.seeds)
    return ProcessPoolExecutor(workers, context, _initialize, arguments)


def _initialize(stores: dict[str, TraceStore], questions: list[int], seeds: int) -> None:
    global _rollout
    end_with_parent(group=False)
    _rollout = TreeRollout(SearchSet(stores, questions, seeds))


def _score(program: Program, questions: Sequence[int] | None, knob: bool) -> float:
    """Objective of the tuning: the score, minus a penalty if β does not control spending."""
    curve = _rollout.sweep(program, questions)
    return curve.score - (rejection_penalty(curve.rejection()) if knob else 0.0)


def tune(program: Program, evaluations: int, seed: int, knob: bool, floor: float) -> Program:
    """Tune the constants of a program on all questions."""
    return tune_constants(program, lambda p: _score(p, None, knob), evaluations, seed, knob, floor)


def tune_and_reduce(program: Program, evaluations: int, knob: bool) -> Program:
    """Tune the constants of a program on all questions, and simplify the program."""

    def score(candidate: Program) -> float:
        return _score(candidate, None, knob)

    return reduce_program(tune_constants(program, score, evaluations, 1, knob), score)


def cross_validate(
    program: Program,
    evaluations: int,
    seed: int,
    knob: bool,
    training: list[int],
    validation: list[int],
) -> float:
    """Tune the constants on some questions, and return the score on others."""
    tuned = tune_constants(program, lambda p: _score(p, training, knob), evaluations, seed, knob)
    return _rollout.sweep(tuned, validation).score
