"""Oracle bounds: limits on what any controller can reach on a store, or save in an episode.

The bounds of a store (:func:`pass_at`, :func:`ceiling`) depend on its recorded branches only. The
bounds of episodes are the cost of the same actions with perfect stopping (:func:`oracle_cost`), and
the accuracy with the best β for each question (:func:`best_beta_per_question`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotts_gym.evaluation.bootstrap import common_grid
from autotts_gym.evaluation.runs import Run
from autotts_gym.traces.answer_statistics import pass_rates
from autotts_gym.traces.splits import HELD_OUT
from autotts_gym.traces.store import TraceStore

# --- bounds of a store ---------------------------------------------------------------------------


def pass_at(store: TraceStore, ks: Sequence[int]) -> dict[int, float]:
    """Return pass@k for each k: the probability that at least one of k branches ends correctly.

    It is the mean over questions of :func:`autotts_gym.traces.answer_statistics.pass_rates`.

    Raises:
        ValueError: a k is below 1, or above the number of branches of some question.
    """
    correct = _correct_branches(store)
    counts = np.array([len(branches) for branches in correct])
    correct_counts = np.array([branches.sum() for branches in correct])
    for k in ks:
        if not 1 <= k <= counts.min():
            raise ValueError(
                f"pass@{k} needs k between 1 and the branches of every question: question "
                f"{counts.argmin()} has {counts.min()}"
            )
    rates = pass_rates(counts, correct_counts, max(ks, default=0))
    return {k: float(rates[:, k - 1].mean()) for k in ks}


@dataclass(frozen=True)
class Ceiling:
    """Upper bounds on accuracy; shares of questions.

    Attributes:
        plurality: probability that the plurality of all final answers is correct, in a random
            branch order: of several answers with the most votes, the one counted first wins, and
            each is equally likely to be first. Null answers vote, as they do in an environment.
        never_final: questions on which no branch ends with the correct answer, so that no vote over
            final answers can be correct.
        never_revealed: questions on which no probe shows the correct answer either, so that no
            controller can be correct.
    """

    plurality: float
    never_final: float
    never_revealed: float


def ceiling(store: TraceStore) -> Ceiling:
    """Compute the upper bounds on accuracy that the recorded branches set."""
    t = store.tables
    ends = np.cumsum(t.branch_counts)
    probe_ends = np.concatenate([[0], np.cumsum(t.lengths)])
    plurality, never_final, never_revealed = [], [], []
    for gold, end, count in zip(_gold_codes(store), ends, t.branch_counts, strict=True):
        start = end - count
        votes = np.bincount(t.finals[start:end], minlength=1)
        leading = np.flatnonzero(votes == votes.max())
        plurality.append((leading == gold).sum() / len(leading))
        absent = gold < 0 or not (t.finals[start:end] == gold).any()
        never_final.append(absent)
        shown = t.probes[probe_ends[start] : probe_ends[end]]
        never_revealed.append(absent and not (shown == gold).any())
    return Ceiling(
        float(np.mean(plurality)), float(np.mean(never_final)), float(np.mean(never_revealed))
    )


def _gold_codes(store: TraceStore) -> list[int]:
    """Code of each question's gold answer; -1 if no branch gives it."""
    return store.tables.gold_codes()


def _correct_branches(store: TraceStore) -> list[NDArray[np.bool_]]:
    """For each question, which of its branches end with the gold answer."""
    finals = np.split(store.tables.finals, np.cumsum(store.tables.branch_counts)[:-1])
    return [codes == gold for codes, gold in zip(finals, _gold_codes(store), strict=True)]


# --- bounds of episodes --------------------------------------------------------------------------


@dataclass(frozen=True)
class OracleCost:
    """Cost of a run with perfect stopping.

    Attributes:
        tokens: mean tokens per episode.
        ratio: divided by the run's own mean tokens; NaN if those are 0.
    """

    tokens: float
    ratio: float


def oracle_cost(run: Run) -> OracleCost | None:
    """Compute the cost of a run if every episode stopped at the best moment.

    A correct episode costs its settled tokens (see :mod:`autotts_gym.mdp.settled_tokens`): it stops
    when the final answer last changed. A wrong episode costs nothing: it is abandoned at once. The
    accuracy is that of the run. No controller can reach this bound, since neither moment can be
    known in advance; it limits what better stopping alone can save.

    Returns:
        None if the run has no settled tokens.
    """
    if "settled_tokens" not in run.episodes:
        return None
    tokens = np.where(run.episodes["correct"], run.episodes["settled_tokens"], 0).mean()
    run_tokens = np.mean(run.episodes["tokens"])
    return OracleCost(float(tokens), float(tokens / run_tokens) if run_tokens else float("nan"))


@dataclass(frozen=True)
class BestBeta:
    """Cross-fitted choice of one β for each question.

    Attributes:
        accuracy, tokens: means over all episodes, each scored with a β chosen on other seeds.
        betas: float64[2, Q], β of each question, chosen on the first half of the seeds (scored on
            the second) and on the second half (scored on the first).
    """

    accuracy: float
    tokens: float
    betas: NDArray[np.float64]


def best_beta_per_question(runs: Sequence[Run], split: str) -> BestBeta:
    """Choose the best β of each question on half of the seeds, and score it on the other half.

    Both halves take both roles, so every episode is scored once, by a choice that did not use it.
    The best β has the highest accuracy; ties are broken by the fewest tokens, then by the lowest β.
    The first half of the seeds are those at even positions.

    A β chosen on an environment is tuned on it, even if cross-fitted, so held-out environments are
    rejected.

    Args:
        runs: runs of one agent on one environment for at least two values of β, with the same
            episodes.
        split: split of the environment; ``"held-out"`` is rejected.

    Raises:
        ValueError: the environment is held out; the runs are not of one agent on one environment
            with different β; there are fewer than two runs or two seeds.
    """
    if len({(run.agent, run.env) for run in runs}) != 1:
        raise ValueError("the runs must be of one agent on one environment")
    where = f"{runs[0].agent} on {runs[0].env}"
    if split == HELD_OUT:
        raise ValueError(f"{where}: β must not be chosen on a held-out environment")
    by_beta = {run.beta: run for run in runs if run.beta is not None}
    if len(by_beta) < len(runs) or len(by_beta) < 2:
        raise ValueError(
            f"{where}: needs runs with at least two different β, got {[r.beta for r in runs]}"
        )
    betas = sorted(by_beta)
    s, q = common_grid({f"{where} at β={b:g}": by_beta[b].episodes for b in betas})
    if s < 2:
        raise ValueError(f"{where}: needs at least two seeds, one to choose and one to score")
    # float64[β, seed, question]
    correct, tokens = (
        np.stack([np.asarray(by_beta[b].episodes[name], np.float64) for b in betas]).reshape(
            -1, s, q
        )
        for name in ("correct", "tokens")
    )
    first = np.arange(s) % 2 == 0
    chosen, total_correct, total_tokens = [], 0.0, 0.0
    for half in (first, ~first):
        # Sums, not means: equal counts must compare equal, without rounding.
        sums = correct[:, half].sum(axis=1), tokens[:, half].sum(axis=1)
        best = np.lexsort((sums[1], -sums[0]), axis=0)[0]  # stable, and β is ascending
        chosen.append(np.array(betas)[best])
        total_correct += correct[best, :, np.arange(q)][:, ~half].sum()
        total_tokens += tokens[best, :, np.arange(q)][:, ~half].sum()
    return BestBeta(float(total_correct / (s * q)), float(total_tokens / (s * q)), np.stack(chosen))
