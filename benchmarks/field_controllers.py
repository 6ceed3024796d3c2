"""The field's controllers in plain Python, written again from their descriptions.

They share no code with the package's rules and controllers, see ``recorded_episode.py``. They are
slow, and test the controllers in ``agents/`` episode by episode::

    python benchmarks/field_controllers.py --env tinylm --seeds 10 --beta 0,0.5,1

Every controller is a function ``(run, beta) -> answer``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from mars_description import mars, mars_deepconf
from numpy.typing import NDArray
from recorded_episode import WARM_UP, WIDTH, Run, clipped, leader, percentile, tally

from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.records import NULL_ANSWERS
from autotts_gym.traces.store import Branch, TraceStore

# --- first to finish and shortest chains ---------------------------------------------------------


def first_finish(run: Run, beta: float) -> str:
    run.open(round(1 + 15 * clipped(beta)))
    while run.running():
        for i in run.advance(run.running()):
            if (answer := run.vote(i)) is not None:
                return answer
    return run.fallback()


def short_m_at_k(run: Run, beta: float) -> str:
    run.open(round(3 + 13 * clipped(beta)))
    finished: list[int] = []
    pool: list[int] = []
    while run.running():
        finished += run.advance(run.running())
        while len(pool) < len(finished):
            if len(pool) >= 3 and any(run.vote(i) for i in pool):
                break
            pool.append(finished[len(pool)])
        if len(pool) >= 3 and any(run.vote(i) for i in pool):
            break
    votes = tally((run.vote(i), 1) for i in pool)
    if not votes:
        return run.fallback()

    def shortest(answer: str) -> int:
        return min(run.cost(i, run.depths[i]) for i in pool if run.vote(i) == answer)

    return min(votes, key=lambda answer: (-votes[answer], shortest(answer)))


# --- adaptive self-consistency in parallel -------------------------------------------------------


def beta_stopping(run: Run, beta: float) -> str:
    run.open(WIDTH)
    pool: list[tuple[str | None, float]] = []
    while run.running():
        pool += [(run.vote(i), 1) for i in run.advance(run.running())]
        counts = [*sorted(tally(pool).values(), reverse=True), 0, 0]
        a, b = int(counts[0]), int(counts[1])
        n = a + b + 1
        tail = sum(math.comb(n, k) for k in range(a + 1, n + 1)) / 2**n
        if a > 0 and 1 - tail > 0.90 + 0.10 * clipped(beta):
            break
    return leader(pool) or run.fallback()


def doubling(run: Run, beta: float) -> str:
    votes: list[tuple[str | None, float]] = []
    count = 2
    while len(votes) < min(WIDTH, len(run.branches)):
        new = run.open(min(count, WIDTH))
        run.advance(new, whole=True)
        votes += [(run.vote(i), 1) for i in new]
        found = tally(votes)
        share = max(found.values()) / sum(found.values()) if found else 0.0
        if share >= 0.55 + 0.40 * clipped(beta) - 1e-12:
            break
        count *= 2
    return leader(votes) or run.fallback()


def certaindex(run: Run, beta: float) -> str:
    votes: list[tuple[str | None, float]] = []
    while len(votes) < min(WIDTH, len(run.branches)):
        new = run.open(min(len(votes) + 5, WIDTH))
        run.advance(new, whole=True)
        votes += [(run.vote(i), 1) for i in new]
        counts = tally(votes).values()
        n = sum(counts)
        if len(votes) > 5 and n > 1:
            entropy = -sum(c / n * math.log(c / n) for c in counts)
            if (math.log(n) - entropy) / math.log(n) >= 0.5 + 0.45 * clipped(beta) - 1e-9:
                break
    return leader(votes) or run.fallback()


# --- DeepConf ------------------------------------------------------------------------------------


def deepconf_online(run: Run, beta: float) -> str:
    warm = run.open(min(WIDTH, WARM_UP))
    run.advance(warm, whole=True)
    lows = {i: min(run.windows(i, run.end(i))) for i in warm}
    threshold = percentile(list(lows.values()), 100 - (10 + 80 * clipped(beta)))
    votes = [(run.vote(i), lows[i]) for i in warm if lows[i] >= threshold]
    run.open(WIDTH)
    while run.running():
        for i in run.advance(run.running()):
            low = min(run.windows(i, run.end(i)))
            if low >= threshold:
                votes.append((run.vote(i), low))
            else:
                run.pruned.add(i)
        for i in run.running():
            if min(run.full_windows(i, run.depths[i]), default=math.inf) < threshold:
                run.pruned.add(i)
        found = tally(votes)
        if found and max(found.values()) >= 0.95 * sum(found.values()) - 1e-9:
            break
    return leader(votes) or run.fallback()


def _offline(run: Run, beta: float, measure: Callable[[int], float]) -> str:
    opened = range(len(run.depths))
    scores = [measure(i) for i in opened]
    threshold = percentile(scores, 100 - (10 + 80 * clipped(beta)))
    kept = [(run.vote(i), scores[i]) for i in opened if scores[i] >= threshold]
    return leader(kept) or run.fallback()


def deepconf_offline(run: Run, beta: float) -> str:
    run.advance(run.open(WIDTH), whole=True)
    return _offline(run, beta, lambda i: run.confidence(i, run.end(i)))


def deepconf_bottom10(run: Run, beta: float) -> str:
    run.open(WIDTH)
    while run.running():
        run.advance(run.running())

    def bottom(i: int) -> float:
        means = sorted(run.windows(i, run.end(i)))
        tenth = means[: max(1, len(means) // 10)]
        return sum(tenth) / len(tenth)

    return _offline(run, beta, bottom)


CONTROLLERS = {
    function.__name__: function
    for function in (
        *(first_finish, short_m_at_k, beta_stopping, doubling, certaindex, mars),
        *(deepconf_online, deepconf_offline, deepconf_bottom10, mars_deepconf),
    )
}

#: Controllers that need generation confidences.
NEED_CONFIDENCE = {"deepconf_online", "deepconf_offline", "deepconf_bottom10", "mars_deepconf"}


# --- comparison ----------------------------------------------------------------------------------


def null_answers(branches: Sequence[Branch]) -> frozenset[str]:
    """The answers of a question that are marked as null; by default, those with a null text."""
    found = set()
    for branch in branches:
        answers = [*branch.probes, branch.final]
        flags = branch.nulls or [answer in NULL_ANSWERS for answer in answers]
        found |= {answer for answer, flag in zip(answers, flags, strict=True) if flag}
    return frozenset(found)


#: Of an episode: answer, tokens, sequential tokens, probes.
Outcome = tuple[str, int, int, int]


def outcomes(
    name: str,
    store: TraceStore,
    questions: NDArray[np.int64],
    orders: NDArray[np.int64],
    beta: float,
    billing: Literal["tokens", "interval"] = "tokens",
) -> list[Outcome]:
    """Play a controller's description."""
    card, rows = store.card, []
    window = max(1, round(min(2048.0, card.mean_tokens / 4) / card.interval))
    recorded = {int(q): store.question(int(q)).branches for q in np.unique(questions)}
    nulls = {q: null_answers(branches) for q, branches in recorded.items()}
    for question, order in zip(questions.tolist(), orders.tolist(), strict=True):
        branches = [recorded[question][k] for k in order]
        run = Run(branches, card.interval, window, billing, nulls[question])
        answer = CONTROLLERS[name](run, beta)
        rows.append((answer, run.tokens, run.clock, run.probes))
    return rows


def played(
    name: str,
    store: TraceStore,
    questions: NDArray[np.int64],
    orders: NDArray[np.int64],
    beta: float,
    billing: Literal["tokens", "interval"] = "tokens",
) -> list[Outcome]:
    """Play the controller of ``agents/``."""
    rollout = Rollout(load(name), store, EpisodeConfig(orders.shape[1], billing))
    result = rollout.play(questions, orders, beta)
    if result.failures:
        raise RuntimeError(f"{name} failed: {result.failures}")
    columns = (result.answers, result.tokens, result.sequential_tokens, result.probes)
    return [(str(a), int(t), int(s), int(p)) for a, t, s, p in zip(*columns, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("controllers", nargs="*", help="by default all that the traces allow")
    parser.add_argument("--env", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--beta", default="0,0.25,0.5,0.75,1")
    given = parser.parse_args()
    different = 0
    for env, store in registry.open_stores(*given.env).items():
        rows = store.card.questions
        questions = np.tile(np.arange(rows), given.seeds)
        seeds = np.repeat(np.arange(given.seeds), rows)
        width = min(WIDTH, int(store.tables.branch_counts.min()))
        orders = branch_orders("random", seeds, questions, store, width)
        for name in given.controllers or CONTROLLERS:
            if name in NEED_CONFIDENCE and store.tables.confidence_sums is None:
                continue
            for beta in map(float, given.beta.split(",")):
                expected = outcomes(name, store, questions, orders, beta)
                found = played(name, store, questions, orders, beta)
                pairs = enumerate(zip(expected, found, strict=True))
                wrong = [k for k, (e, f) in pairs if e != f]
                different += len(wrong)
                print(f"{env}  {name}  β={beta:g}: {len(wrong)} of {len(questions)} differ")
                for k in wrong[:3]:
                    print(f"    {questions[k]}, seed {seeds[k]}: {expected[k]}, found {found[k]}")
    raise SystemExit(different > 0)


if __name__ == "__main__":
    main()
