"""What a report's page shows, as one object for JSON.

Every figure comes from :class:`~autotts_gym.evaluation.analysis.Analysis`; the page itself only
looks them up, sorts and draws. Numbers that do not exist are null.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from autotts_gym.evaluation.analysis import Analysis, Cost, Row, Scope
from autotts_gym.evaluation.bootstrap import METRICS, REPLICATES, Estimate
from autotts_gym.evaluation.oracle_bounds import ceiling, pass_at
from autotts_gym.evaluation.plots import COLOURS
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.gym_envs.rendering import PALETTE
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.report.recordings import Recordings
from autotts_gym.report.schedules import BETAS, Schedule
from autotts_gym.report.sources import Sources
from autotts_gym.traces.store import TraceStore

COSTS: Final[tuple[Cost, ...]] = ("tokens", "sequential_tokens")

#: Characters of an answer that are shown; models write anything.
_LONGEST: Final = 80


def page_data(
    results: Results,
    sources: Sources,
    analysis: Analysis,
    recordings: Recordings,
    schedules: Mapping[str, Schedule],
    problems: Sequence[str],
) -> dict[str, Any]:
    """All that the page needs.

    Args:
        schedules: by agent.
        problems: what is missing on the page, a sentence each.
    """
    bounds = {env: _bounds(store, results.config) for env, store in sources.stores.items()}
    names: dict[str, dict[Any, int]] = {
        "rows": {row: k for k, row in enumerate(analysis.rows)},
        "agents": {agent.name: k for k, agent in enumerate(results.agents)},
        "environments": {env.name: k for k, env in enumerate(results.environments)},
    }
    return {
        "run": _run(results),
        "agents": [
            {
                "name": agent.name,
                "billing": agent.billing,
                "colour": COLOURS[k % len(COLOURS)],
                "look": k + k // len(COLOURS),
            }
            for k, agent in enumerate(results.agents)
        ],
        "environments": [
            {name: value for name, value in asdict(env).items() if name != "path"}
            | {"details": _described(env.details)}
            for env in results.environments
        ],
        "rows": [
            {"agent": names["agents"][row.agent], "beta": row.beta, "name": str(row)}
            for row in analysis.rows
        ],
        "scopes": [
            _scope(results, analysis, scope, names, schedules)
            | {"bounds": bounds_of(scope, bounds)}
            for scope in analysis.scopes
            if analysis.rows_in(scope)
        ],
        "schedules": {
            names["agents"][agent]: asdict(schedule) for agent, schedule in schedules.items()
        },
        "betas": BETAS,
        "questions": {
            names["environments"][env.name]: _questions(
                [run for run in results.runs if run.env == env.name], names["rows"]
            )
            for env in results.environments
            if any(run.env == env.name for run in results.runs)
        },
        "episodes": [
            asdict(episode)
            | {
                "row": names["rows"][_row(results.runs[episode.run])],
                "env": names["environments"][results.runs[episode.run].env],
            }
            for episode in recordings.episodes
        ],
        "texts": {names["environments"][env]: texts for env, texts in recordings.texts.items()},
        # As the pictures of an episode have them.
        "answer_colours": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in PALETTE],
        "wanted": recordings.wanted,
        "limited": recordings.limited,
        "problems": list(problems),
    }


def _row(run: Run) -> Row:
    return Row(run.agent, run.beta)


def _run(results: Results) -> dict[str, Any]:
    return {
        "version": results.version,
        "protocol": results.protocol,
        "order": results.order,
        "seeds": results.seeds,
        "terms": asdict(results.config),
        "replicates": REPLICATES,
        "failed": sum(len(run.failures) for run in results.runs),
        "incomplete": [
            f"{Row(row.agent, row.beta)} on {row.env}: {row.message}" for row in results.incomplete
        ],
    }


def _described(details: Mapping[str, Any]) -> dict[str, str]:
    """What a card says in a word or two: the model and the benchmark, but no table of figures."""
    return {name: str(value) for name, value in details.items() if isinstance(value, str | int)}


# --- scopes -------------------------------------------------------------------------------------


def _scope(
    results: Results,
    analysis: Analysis,
    scope: Scope,
    names: Mapping[str, Mapping[Any, int]],
    schedules: Mapping[str, Schedule],
) -> dict[str, Any]:
    rows = analysis.rows_in(scope)
    inside = [run for run in results.runs if run.env in scope.environments]
    return {
        "name": scope.name,
        "split": scope.split,
        "average": scope.is_average,
        "environments": [names["environments"][env] for env in scope.environments],
        "synthetic": any(run.synthetic for run in inside),
        "missing": [str(row) for row in analysis.missing(scope)],
        "rows": [
            {metric: _interval(analysis.estimate(scope, row, metric)) for metric in METRICS}
            | {
                "row": names["rows"][row],
                "episodes": sum(len(r.episodes["seed"]) for r in inside if _row(r) == row),
                "failed": sum(len(r.failures) for r in inside if _row(r) == row),
            }
            for row in rows
        ],
        # pairs[a][b]: accuracy difference, token ratio and sequential ratio of a against b.
        "pairs": [
            [
                _interval(analysis.difference(scope, a, b, "correct"))
                + _interval(analysis.ratio(scope, a, b, "tokens"))
                + _interval(analysis.ratio(scope, a, b, "sequential_tokens"))
                for b in rows
            ]
            for a in rows
        ],
        "frontier": {
            cost: [
                names["rows"][point.row]
                for point in analysis.frontier(scope, cost)
                if point.on_frontier
            ]
            for cost in COSTS
        },
        "landing": {
            names["agents"][agent]: landing(analysis, scope, agent)
            for agent in schedules
            if analysis.rows_in(scope, agent)
        },
    }


def landing(analysis: Analysis, scope: Scope, agent: str) -> list[list[float | None] | None]:
    """Where an agent's β of ``BETAS`` lie, as (accuracy, tokens, sequential tokens).

    Exact at a β that was played; between two, linear in β, tokens by their logarithm; None outside
    of those that were played.
    """
    sweep = sorted(
        (row.beta, row) for row in analysis.rows_in(scope, agent) if row.beta is not None
    )
    played = [beta for beta, _ in sweep]
    means = [analysis.means(scope, row).value for _, row in sweep]
    accuracy = np.interp(BETAS, played, [value["correct"] for value in means])
    costs = [
        np.exp(np.interp(BETAS, played, [math.log(max(value[cost], 1.0)) for value in means]))
        for cost in COSTS
    ]
    exact = {
        beta: [value["correct"], *(value[cost] for cost in COSTS)]
        for beta, value in zip(played, means, strict=True)
    }
    return [
        [_short(x) for x in exact.get(beta, [accuracy[k], *(cost[k] for cost in costs)])]
        if played[0] <= beta <= played[-1]
        else None
        for k, beta in enumerate(BETAS)
    ]


def _bounds(store: TraceStore, terms: EpisodeConfig) -> dict[str, float]:
    """What no controller, or no vote, gets past on a store; by what the page calls it."""
    k = terms.max_branches
    of = ceiling(store)
    return {
        f"pass@{k}": pass_at(store, [k])[k],
        "plurality of all branches": of.plurality,
        "right answer ever shown": 1 - of.never_shown,
    }


def bounds_of(
    scope: Scope, bounds: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, float | None]]:
    """The bounds of a scope, means over its environments; none where one of them has none."""
    if not all(env in bounds for env in scope.environments):
        return []
    inside = [bounds[env] for env in scope.environments]
    return [(name, _short(float(np.mean([of[name] for of in inside])))) for name in inside[0]]


def _interval(estimate: Estimate) -> list[float | None]:
    return [_short(x) for x in (estimate.value, estimate.low, estimate.high)]


def _short(value: float) -> float | None:
    """Six digits are more than anyone reads; None where there is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


# --- questions ----------------------------------------------------------------------------------


def _questions(runs: Sequence[Run], rows: Mapping[Row, int]) -> dict[str, Any]:
    """Every question of an environment by row: seeds right, mean tokens, main wrong answer."""
    questions = np.unique(runs[0].episodes["question"])
    seeds = np.unique(runs[0].episodes["seed"])
    shape = len(seeds), len(questions)
    table = {}
    for run in runs:
        right = np.reshape(run.episodes["correct"], shape)
        answers = np.reshape(np.asarray(run.episodes["answer"], object), shape)
        table[rows[_row(run)]] = {
            "right": right.sum(axis=0).tolist(),
            "tokens": [
                round(x) for x in np.reshape(run.episodes["tokens"], shape).mean(axis=0).tolist()
            ],
            "wrong": [
                [[answer[:_LONGEST], count] for answer, count in Counter(wrong).most_common(1)]
                for wrong in (answers[~right[:, q], q].tolist() for q in range(len(questions)))
            ],
        }
    return {"numbers": questions.tolist(), "seeds": len(seeds), "rows": table}
