"""What MARS and DeepConf rest on, measured with knowledge that no controller has.

Two tables per environment:

- MARS: how often the answer at which it stops is the plurality of all branches, and what it saves,
  for several γ. With the true switches, γ = 1 and a factor of 1, the two answers must be equal.
- DeepConf: accuracy of the branches that its filters keep and drop, where there are generation
  confidences.

::

    python benchmarks/field_study.py --env qwen2.5-coder-0.5b --seeds 10
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from field_controllers import null_answers
from mars_description import mars
from recorded_episode import WIDTH, Run, leader, percentile
from rich.console import Console
from rich.table import Table

from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore

#: β of MARS: the published factor of 1.
BETA = 0.5

#: Name of a variant -> arguments of ``mars``.
VARIANTS: dict[str, dict[str, float | bool]] = {
    "true switches, γ = 1": {"oracle": True, "fixed_gamma": 1.0},
    "true switches, γ calibrated": {"oracle": True},
    "learned, γ = 1": {"fixed_gamma": 1.0},
    "learned, γ = 0.75": {"fixed_gamma": 0.75},
    "learned, γ = 0.5": {"fixed_gamma": 0.5},
    "learned, γ calibrated": {},
}

#: Percentages of the branches that DeepConf keeps.
KEPT = (10.0, 50.0, 90.0)


def runs(store: TraceStore, seeds: int) -> Iterator[tuple[Run, str]]:
    """Episodes that nothing has been read of, each with the gold answer."""
    card = store.card
    window = max(1, round(min(2048.0, card.mean_tokens / 4) / card.interval))
    for q in range(card.questions):
        question = store.question(q)
        nulls = null_answers(question.branches)
        for seed in range(seeds):
            order = branch_order("random", seed, q, len(question.branches))[:WIDTH]
            branches = [question.branches[k] for k in order]
            yield Run(branches, card.interval, window, "tokens", nulls), question.gold


def full_vote(run: Run) -> str | None:
    """The plurality of the final answers of all branches."""
    finals = [branch.final for branch in run.branches]
    return leader((None if answer in run.nulls else answer, 1.0) for answer in finals)


def mars_rows(store: TraceStore, seeds: int) -> dict[str, tuple[float, float, float]]:
    """Variant -> share of equal answers, share of tokens saved, and accuracy."""
    rows = {}
    for name, arguments in VARIANTS.items():
        equal, spent, full, right = [], 0, 0, []
        for run, gold in runs(store, seeds):
            answer = mars(run, BETA, **arguments)  # type: ignore[arg-type]
            voted = full_vote(run)
            equal.append(voted is None or answer == voted)
            right.append(answer == gold)
            spent += run.tokens
            full += sum(branch.tokens for branch in run.branches)
        rows[name] = float(np.mean(equal)), 1 - spent / full, float(np.mean(right))
    return rows


def bottom(run: Run, i: int) -> float:
    means = sorted(run.windows(i, run.end(i)))
    return float(np.mean(means[: max(1, len(means) // 10)]))


#: Name of a confidence -> that of a whole branch.
MEASURES: dict[str, Callable[[Run, int], float]] = {
    "lowest window": lambda run, i: min(run.windows(i, run.end(i))),
    "bottom 10 %": bottom,
    "last window": lambda run, i: run.confidence(i, run.end(i)),
}


def filter_rows(store: TraceStore) -> list[tuple[str, float, float, float, float]]:
    """Measure, percentage kept, accuracy of kept, of dropped branches, and of the weighted vote.

    Thresholds are those of all branches of a question. Accuracies of branches are means over
    questions, so that easy questions do not count more.
    """
    episodes = list(runs(store, 1))
    rows = []
    for name, measure in MEASURES.items():
        for share in KEPT:
            kept, dropped, voted = [], [], []
            for run, gold in episodes:
                scores = [measure(run, i) for i in range(len(run.branches))]
                threshold = percentile(scores, 100 - share)
                right = np.array([branch.final == gold for branch in run.branches])
                above = np.array(scores) >= threshold
                kept.append(right[above].mean())
                dropped.append(right[~above].mean() if (~above).any() else np.nan)
                voted.append(weighted_answer(run, scores, above.tolist()) == gold)
            rows.append(
                (name, share, *(float(np.nanmean(part)) for part in (kept, dropped, voted)))
            )
    return rows  # type: ignore[return-value]


def weighted_answer(run: Run, scores: Sequence[float], above: Sequence[bool]) -> str | None:
    pairs = zip(run.branches, scores, above, strict=True)
    finals = ((branch.final, score) for branch, score, is_kept in pairs if is_kept)
    return leader((None if answer in run.nulls else answer, score) for answer, score in finals)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(title=title, title_justify="left", box=None)
    for k, heading in enumerate(headings):
        made.add_column(heading, justify="right" if k else "left")
    for row in rows:
        made.add_row(*row)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--env", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    console = Console(width=100)
    for env, store in registry.open_stores(*given.env).items():
        rows = [
            [name, *(f"{100 * value:.1f}" for value in values)]
            for name, values in mars_rows(store, given.seeds).items()
        ]
        headings = ("MARS, % of episodes", "full vote", "tokens saved", "accuracy")
        console.print(table(f"{env}, {given.seeds} seeds", headings, rows))
        if store.tables.confidence_sums is not None:
            rows = [
                [f"{name}, {share:g} %", *(f"{100 * value:.1f}" for value in values)]
                for name, share, *values in filter_rows(store)
            ]
            headings = ("DeepConf, accuracy %", "kept", "dropped", "vote")
            console.print(table("", headings, rows))


if __name__ == "__main__":
    main()
