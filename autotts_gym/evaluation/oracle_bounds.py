"""What is left: bounds on what any controller can reach, from the traces and from the episodes.

The bounds of a store (:func:`pass_at`, :func:`ceiling`) are of its recorded branches, whoever
plays. Those of episodes ask what the same decisions would have cost one who knows
(:func:`clairvoyant`), and what there is in choosing β question by question
(:func:`best_fixed_beta`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotts_gym.evaluation.metrics import common_grid
from autotts_gym.evaluation.results import Run
from autotts_gym.traces.splits import HELD_OUT
from autotts_gym.traces.statistics import pass_rates
from autotts_gym.traces.store import TraceStore

# --- of a store ----------------------------------------------------------------------------------


def pass_at(store: TraceStore, ks: Sequence[int]) -> dict[int, float]:
    """Probability that one of k branches ends with the right answer, mean over questions, by k.

    The mean over questions of :func:`autotts_gym.traces.statistics.pass_rates`.

    Raises:
        ValueError: a k is below 1, or above the number of branches that some question has.
    """
    right = _right(store)
    counts = np.array([len(of) for of in right])
    rights = np.array([of.sum() for of in right])
    for k in ks:
        if not 1 <= k <= counts.min():
            raise ValueError(
                f"pass@{k} needs k between 1 and the branches of every question: question "
                f"{counts.argmin()} has {counts.min()}"
            )
    rates = pass_rates(counts, rights, max(ks, default=0))
    return {k: float(rates[:, k - 1].mean()) for k in ks}


@dataclass(frozen=True)
class Ceiling:
    """What the final answers of all recorded branches come to; shares of questions.

    Attributes:
        plurality: probability that their plurality is right, in a random order: where several
            answers have the most votes, each of them is as likely to be the one counted first, and
            that one wins. Null answers vote, as they do in an environment.
        never_final: questions where no branch ends with the right answer: no vote over final
            answers can be right.
        never_shown: questions where no probe shows it either: no controller can be right.
    """

    plurality: float
    never_final: float
    never_shown: float


def ceiling(store: TraceStore) -> Ceiling:
    """What voting can come to, and on which share of questions nothing can."""
    t = store.tables
    ends = np.cumsum(t.branch_counts)
    probe_ends = np.concatenate([[0], np.cumsum(t.lengths)])
    plurality, never_final, never_shown = [], [], []
    for gold, end, count in zip(_golds(store), ends, t.branch_counts, strict=True):
        start = end - count
        votes = np.bincount(t.finals[start:end], minlength=1)
        leading = np.flatnonzero(votes == votes.max())
        plurality.append((leading == gold).sum() / len(leading))
        absent = gold < 0 or not (t.finals[start:end] == gold).any()
        never_final.append(absent)
        shown = t.probes[probe_ends[start] : probe_ends[end]]
        never_shown.append(absent and not (shown == gold).any())
    return Ceiling(
        float(np.mean(plurality)), float(np.mean(never_final)), float(np.mean(never_shown))
    )


def _golds(store: TraceStore) -> list[int]:
    """Code of every question's right answer; -1 where it is none of its answer classes."""
    t = store.tables
    return [
        answers.index(gold) if gold in answers else -1
        for gold, answers in zip(t.golds, t.answers, strict=True)
    ]


def _right(store: TraceStore) -> list[NDArray[np.bool_]]:
    """For every question, which of its branches end with the right answer."""
    finals = np.split(store.tables.finals, np.cumsum(store.tables.branch_counts)[:-1])
    return [of == gold for of, gold in zip(finals, _golds(store), strict=True)]


# --- of episodes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clairvoyant:
    """What a row's decisions would have cost one who knows how they come out.

    Attributes:
        tokens: mean tokens an episode.
        share: of the row's own; NaN where those are 0.
    """

    tokens: float
    share: float


def clairvoyant(run: Run) -> Clairvoyant | None:
    """The cost of a row's decisions without what was spent on making sure.

    An episode that comes out right costs its settled tokens (see :mod:`autotts_gym.mdp.settled_tokens`):
    it is ended as soon as its answer stands for good. One that comes out wrong costs nothing: it is
    given up at once. The accuracy is the row's own. No controller can do it, for neither can be
    known; it bounds what better stopping alone could save.

    Returns:
        None where settled tokens were not worked out.
    """
    if "settled_tokens" not in run.episodes:
        return None
    tokens = np.where(run.episodes["correct"], run.episodes["settled_tokens"], 0).mean()
    own = np.mean(run.episodes["tokens"])
    return Clairvoyant(float(tokens), float(tokens / own) if own else float("nan"))


@dataclass(frozen=True)
class BestBeta:
    """Choosing β question by question, one β for all seeds of a question.

    Attributes:
        accuracy, tokens: means over the episodes of the seeds that had no part in the choice.
        betas: float64[2, Q], β of every question, chosen on the first half of the seeds (scored on
            the second) and on the second (scored on the first).
    """

    accuracy: float
    tokens: float
    betas: NDArray[np.float64]


def best_fixed_beta(runs: Sequence[Run], split: str) -> BestBeta:
    """The best fixed β of every question, chosen on half of the seeds and scored on the other.

    Both ways round, so every episode is scored once, and none by a choice that it had a part in.
    The best β has the highest accuracy; among equals the fewest tokens, then it is the lowest. The
    first half of the seeds is every other one, from the first on.

    A β that is chosen on an environment is tuned on it. So this is refused on a held-out one, where
    nothing is selected, cross-fitted or not.

    Args:
        runs: one agent's rows on one environment, two β or more, the same episodes in each.
        split: the environment's; ``"held-out"`` is refused.

    Raises:
        ValueError: the environment is held out; the rows are not those of one agent on one
            environment over different β; there are fewer than two of them, or than two seeds.
    """
    if len({(run.agent, run.env) for run in runs}) != 1:
        raise ValueError("the rows must be those of one agent on one environment")
    where = f"{runs[0].agent} on {runs[0].env}"
    if split == HELD_OUT:
        raise ValueError(f"{where}: nothing is selected on a held-out environment, β neither")
    by_beta = {run.beta: run for run in runs if run.beta is not None}
    if len(by_beta) < len(runs) or len(by_beta) < 2:
        raise ValueError(f"{where}: needs two different β or more, got {[r.beta for r in runs]}")
    betas = sorted(by_beta)
    s, q = common_grid({f"{where} at β={b:g}": by_beta[b].episodes for b in betas})
    if s < 2:
        raise ValueError(f"{where}: needs two seeds or more, one to choose and one to score")
    # float64[β, seed, question]
    right, tokens = (
        np.stack([np.asarray(by_beta[b].episodes[name], np.float64) for b in betas]).reshape(
            -1, s, q
        )
        for name in ("correct", "tokens")
    )
    first = np.arange(s) % 2 == 0
    chosen, rights, costs = [], 0.0, 0.0
    for half in (first, ~first):
        # Sums, not means: equal counts are equal, however they would round.
        sums = right[:, half].sum(axis=1), tokens[:, half].sum(axis=1)
        best = np.lexsort((sums[1], -sums[0]), axis=0)[0]  # stable, and β rises
        chosen.append(np.array(betas)[best])
        rights += right[best, :, np.arange(q)][:, ~half].sum()
        costs += tokens[best, :, np.arange(q)][:, ~half].sum()
    return BestBeta(float(rights / (s * q)), float(costs / (s * q)), np.stack(chosen))
