"""Jobs of the genetic proposer's worker processes: tuning, rounding and cross-validation."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery.constant_tuning import round_program, tune_constants
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import Program
from autotts_gym.discovery.proposal import rejection_penalty
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.processes import check_can_spawn, end_with_parent

_rollout: TreeRollout


@dataclass(frozen=True)
class Tuning:
    """How constants are tuned.

    Attributes:
        evaluations: evaluations of the score.
        knob: whether constants may depend on β, and whether β has to control spending.
        shrinkage: penalty of the distance from the constants at the start.
        floor: score below which tuning gives up.
    """

    evaluations: int
    knob: bool
    shrinkage: float
    floor: float = -math.inf


def create_pool(search: SearchSet, workers: int) -> ProcessPoolExecutor:
    """A pool of processes that run the jobs of this module on a search set."""
    check_can_spawn("the genetic proposer")
    stores = dict(zip(search.names, search.stores, strict=True))
    context = multiprocessing.get_context("spawn")
    arguments = (stores, search.questions, search.seeds, search.latency)
    return ProcessPoolExecutor(workers, context, _initialize, arguments)


def _initialize(
    stores: dict[str, TraceStore], questions: list[int], seeds: int, latency: tuple[float, ...]
) -> None:
    global _rollout
    end_with_parent(group=False)
    _rollout = TreeRollout(SearchSet(stores, questions, seeds, latency=latency))


def tune(
    program: Program,
    tuning: Tuning,
    seed: int,
    questions: Sequence[int] | None = None,
    environments: Sequence[int] | None = None,
) -> Program:
    """Tune the constants of a program on all questions and environments, or on the given ones."""

    def score(candidate: Program) -> float:
        return _score(candidate, tuning.knob, questions, environments)

    return tune_constants(
        program,
        score,
        tuning.evaluations,
        seed,
        tuning.knob,
        tuning.floor,
        latency=len(_rollout.search.latency) > 1,
        shrinkage=tuning.shrinkage,
    )


def _score(
    program: Program,
    knob: bool,
    questions: Sequence[int] | None = None,
    environments: Sequence[int] | None = None,
) -> float:
    """The score, minus a penalty if β does not control spending."""
    curve = _rollout.sweep(program, questions, environments)
    return curve.score - (rejection_penalty(curve.rejection()) if knob else 0.0)


def tune_and_round(program: Program, tuning: Tuning) -> Program:
    """Tune the constants of a program on all questions, and round them.

    The nodes stay as they were validated: removing those that the score on the search set does not
    need costs accuracy on other branch orders, and latency.
    """
    return round_program(tune(program, tuning, 1), lambda p: _score(p, tuning.knob))


def validate_questions(
    program: Program, tuning: Tuning, seed: int, training: list[int], validation: list[int]
) -> NDArray[np.float64]:
    """Tune the constants on some questions, and return the scores of others, float64[Q]."""
    tuned = tune(program, tuning, seed, training)
    return _rollout.sweep(tuned, validation).by_question


def validate_environment(
    program: Program, tuning: Tuning, seed: int, left_out: int
) -> NDArray[np.float64]:
    """Tune the constants on all other environments, and return one's scores, float64[Q]."""
    others = [e for e in range(len(_rollout.search.stores)) if e != left_out]
    tuned = tune(program, tuning, seed, environments=others)
    return _rollout.sweep(tuned, environments=[left_out]).by_question
