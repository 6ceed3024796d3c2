"""Checks of results that need no replay: of their environments, and of every episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.evaluation.results import EnvironmentRecord, Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.leaderboard.entries import RefusalError
from autotts_gym.traces.splits import split_of
from autotts_gym.traces.store import TraceStore

#: Entries of an environment's record that the environment itself does not determine.
_NOT_COMPARED: Final = ("name", "path", "details")


def row_name(run: Run) -> str:
    """A run in messages: controller, β and environment."""
    return f"{run.agent}{'' if run.beta is None else f' β={run.beta:g}'} on {run.env}"


def check_environment(recorded: EnvironmentRecord, store: TraceStore) -> None:
    """Compare the record of an environment with its traces.

    Raises:
        RefusalError: an entry differs.
    """
    actual = EnvironmentRecord.from_store(recorded.name, store, split_of(store.path))
    for entry in fields(EnvironmentRecord):
        was, now = getattr(recorded, entry.name), getattr(actual, entry.name)
        if entry.name not in _NOT_COMPARED and was != now:
            raise RefusalError(f"{recorded.name}: {entry.name} recorded {was!r}, here {now!r}")


def check_episodes(results: Results, run: Run, store: TraceStore) -> None:
    """Check that a run is complete, and that its episodes are consistent with the traces.

    Every question must be played once per seed. An episode is correct exactly if its answer is the
    gold answer; one that failed has no answer.

    Raises:
        RefusalError: they are not; the message names the first episode.
    """
    seeds = np.unique(np.asarray(results.seeds, np.int64))
    seed, question = (np.asarray(run.episodes[name]) for name in ("seed", "question"))
    if gap := _first_gap(seed, question, seeds, store.card.questions):
        raise RefusalError(
            f"{row_name(run)}: {gap}; every question must be played once with each of the "
            f"{len(seeds)} seeds of benchmark.json, sorted by seed and question"
        )
    _check_correctness(run, store, question)
    _check_order(run, "sequential_tokens", "tokens")
    _check_order(run, "probes", "actions")
    played = set(zip(seed.tolist(), question.tolist(), strict=True))
    if not played.issuperset(run.failures):
        raise RefusalError(f"{row_name(run)}: an episode failed that is not in episodes.parquet")


def _first_gap(
    seed: NDArray[np.int64], question: NDArray[np.int64], seeds: NDArray[np.int64], count: int
) -> str:
    """Where the episodes first differ from ``count`` questions for each seed; empty if nowhere."""
    expected = len(seeds) * count
    shared = np.arange(min(len(seed), expected))
    row, column = np.divmod(shared, count)
    differs = (seed[: len(shared)] != seeds[row]) | (question[: len(shared)] != column)
    k = int(np.argmax(differs)) if differs.any() else len(shared)
    if k < expected:
        return f"question {k % count}, seed {seeds[k // count]} is missing"
    return "" if len(seed) == expected else f"{len(seed)} episodes recorded, {expected} expected"


def _check_correctness(run: Run, store: TraceStore, question: NDArray[np.int64]) -> None:
    """Compare ``correct`` with the answers, for every episode."""
    right = _right_answers(store)
    for k, (q, answer) in enumerate(zip(question.tolist(), run.episodes["answer"], strict=True)):
        recorded = bool(run.episodes["correct"][k])
        failed = (int(run.episodes["seed"][k]), q) in run.failures
        if failed and (answer or recorded):
            raise _difference(run, k, "answer", answer or recorded, "none, because it failed")
        actual = not failed and right[q] is not None and answer == right[q]
        if recorded != actual:
            raise _difference(
                run, k, "correct", recorded, f"{actual}, because the answer is {answer!r}"
            )


def _right_answers(store: TraceStore) -> list[str | None]:
    """The correct answer of each question; None if no branch gives it."""
    t = store.tables
    return [
        None if code < 0 else answers[code]
        for code, answers in zip(t.gold_codes(), t.answers, strict=True)
    ]


def _check_order(run: Run, smaller: str, larger: str) -> None:
    above = np.asarray(run.episodes[smaller]) > np.asarray(run.episodes[larger])
    if above.any():
        k = int(np.argmax(above))
        limit = run.episodes[larger][k]
        raise _difference(run, k, smaller, run.episodes[smaller][k], f"at most {limit} {larger}")


def _difference(run: Run, k: int, what: str, recorded: object, should: str) -> RefusalError:
    return RefusalError(f"{episode_name(run, k)}: {what} recorded {recorded}, must be {should}")


def episode_name(run: Run, k: int) -> str:
    """Episode number ``k`` of a run in messages."""
    return (
        f"{row_name(run)}, question {run.episodes['question'][k]}, seed {run.episodes['seed'][k]}"
    )


def first_difference(a: Run, b: Run, columns: Sequence[str]) -> int | None:
    """The first episode in which two runs over the same episodes differ; None if they do not."""
    differs = np.zeros(len(a.episodes["seed"]), bool)
    for name in columns:
        if name in a.episodes and name in b.episodes:
            differs |= np.asarray(a.episodes[name], object) != np.asarray(b.episodes[name], object)
    return int(np.argmax(differs)) if differs.any() else None
