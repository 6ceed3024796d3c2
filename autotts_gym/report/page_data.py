"""The data of a report's page, as one JSON object; ``web/types.d.ts`` describes it.

All statistics come from :class:`~autotts_gym.evaluation.analysis.Analysis`; the page looks them up,
sorts and draws. Numbers that do not exist are null.
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
from autotts_gym.evaluation.both_costs import compare_both_costs
from autotts_gym.evaluation.oracle_bounds import ceiling, pass_at
from autotts_gym.evaluation.plots import COLOURS
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.gym_envs.rendering import PALETTE
from autotts_gym.mdp import actions
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.report.note_panels import note_panels
from autotts_gym.report.recordings import Recordings
from autotts_gym.report.schedules import BETAS, Schedule
from autotts_gym.report.sources import Sources
from autotts_gym.traces.store import TraceStore

COSTS: Final[tuple[Cost, ...]] = ("tokens", "sequential_tokens")

#: Most characters of an answer on the page; models write arbitrarily long answers.
_ANSWER_LENGTH: Final = 80

#: Indices of agents, rows and environments on the page, by name or row.
Indices = Mapping[str, Mapping[Any, int]]


def page_data(
    results: Results,
    sources: Sources,
    analysis: Analysis,
    recordings: Recordings,
    schedules: Mapping[str, Schedule],
    problems: Sequence[str],
) -> dict[str, Any]:
    """Return everything that the page needs.

    Args:
        results: the results of a benchmark.
        sources: its stores, for the bounds.
        analysis: of the results.
        recordings: episodes for the viewer.
        schedules: by agent.
        problems: what is missing on the page, one sentence each.
    """
    bounds = {env: _bounds(store, results.config) for env, store in sources.stores.items()}
    indices: Indices = {
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
                "color": COLOURS[k % len(COLOURS)],
                "marker": k + k // len(COLOURS),
            }
            for k, agent in enumerate(results.agents)
        ],
        "environments": [
            {name: value for name, value in asdict(env).items() if name != "path"}
            | {"details": _short_details(env.details)}
            for env in results.environments
        ],
        "rows": [
            {"agent": indices["agents"][row.agent], "beta": row.beta, "name": str(row)}
            for row in analysis.rows
        ],
        "scopes": [
            _scope(results, analysis, scope, indices, schedules)
            | {"bounds": bounds_of(scope, bounds)}
            for scope in analysis.scopes
            if analysis.rows_in(scope)
        ],
        "schedules": {
            indices["agents"][agent]: asdict(schedule) for agent, schedule in schedules.items()
        },
        "betas": BETAS,
        "questions": {
            indices["environments"][env.name]: _questions(
                [run for run in results.runs if run.env == env.name], indices["rows"]
            )
            for env in results.environments
            if any(run.env == env.name for run in results.runs)
        },
        **_episodes(results, recordings, indices),
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
        "config": asdict(results.config),
        "replicates": REPLICATES,
        "failed": sum(len(run.failures) for run in results.runs),
        "incomplete": [
            f"{Row(row.agent, row.beta)} on {row.env}: {row.message}" for row in results.incomplete
        ],
    }


def _short_details(details: Mapping[str, Any]) -> dict[str, str]:
    """Return the scalar details of a card, such as the model and the benchmark."""
    return {name: str(value) for name, value in details.items() if isinstance(value, str | int)}


def _episodes(results: Results, recordings: Recordings, indices: Indices) -> dict[str, Any]:
    """Return the data of the episode viewer."""
    return {
        "episodes": [
            asdict(episode)
            | {
                "row": indices["rows"][_row(results.runs[episode.run])],
                "env": indices["environments"][results.runs[episode.run].env],
            }
            for episode in recordings.episodes
        ],
        "texts": {indices["environments"][env]: texts for env, texts in recordings.texts.items()},
        "note_panels": {
            indices["agents"][agent]: [asdict(panel) for panel in note_panels(ranges)]
            for agent, ranges in recordings.note_ranges.items()
        },
        "actions": _action_table(results.config.max_branches),
        # The colors of rendered images.
        "answer_colors": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in PALETTE],
        "episodes_selected": recordings.wanted,
        "size_limited": recordings.limited,
    }


def _action_table(max_branches: int) -> list[tuple[str, int]]:
    """Return the name and the branch (-1 for none) of every action id."""
    decoded = [actions.decode(k, max_branches) for k in range(actions.count(max_branches))]
    return [(name, -1 if branch is None else branch) for name, branch in decoded]


# --- scopes -------------------------------------------------------------------------------------


def _scope(
    results: Results,
    analysis: Analysis,
    scope: Scope,
    indices: Indices,
    schedules: Mapping[str, Schedule],
) -> dict[str, Any]:
    rows = analysis.rows_in(scope)
    tradeoffs = {point.row: point for point in analysis.tradeoffs(scope)}
    inside = [run for run in results.runs if run.env in scope.environments]
    return {
        "name": scope.name,
        "split": scope.split,
        "average": scope.is_average,
        "environments": [indices["environments"][env] for env in scope.environments],
        "synthetic": any(run.synthetic for run in inside),
        "missing": [str(row) for row in analysis.missing(scope)],
        "rows": [
            {metric: _interval(analysis.estimate(scope, row, metric)) for metric in METRICS}
            | {
                "row": indices["rows"][row],
                "episodes": sum(len(r.episodes["seed"]) for r in inside if _row(r) == row),
                "failed": sum(len(r.failures) for r in inside if _row(r) == row),
                "undominated": tradeoffs[row].undominated,
                "undominated_share": _rounded(tradeoffs[row].share),
            }
            for row in rows
        ],
        # pairs[a][b]: accuracy difference, token ratio and sequential ratio of a relative to b.
        "pairs": [
            [
                _interval(analysis.difference(scope, a, b, "correct"))
                + _interval(analysis.ratio(scope, a, b, "tokens"))
                + _interval(analysis.ratio(scope, a, b, "sequential_tokens"))
                for b in rows
            ]
            for a in rows
        ],
        "within": [
            {
                "agent": indices["agents"][found.agent],
                "row": indices["rows"][found.row],
                "tokens": _interval(found.tokens.cost) + _interval(found.tokens.cost_ratio),
                "sequential_tokens": _interval(found.latency.cost)
                + _interval(found.latency.cost_ratio),
            }
            for found in compare_both_costs(analysis, scope, rows)
        ],
        "positions": {
            indices["agents"][agent]: positions(analysis, scope, agent)
            for agent in schedules
            if analysis.rows_in(scope, agent)
        },
    }


def positions(analysis: Analysis, scope: Scope, agent: str) -> list[list[float | None] | None]:
    """Return (accuracy, tokens, sequential tokens) of an agent at each β of ``BETAS``.

    Exact for a β that was played. Between two such β, the accuracy is interpolated linearly in β,
    and so are the logarithms of the tokens. None outside the range that was played.
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
        [_rounded(x) for x in exact.get(beta, [accuracy[k], *(cost[k] for cost in costs)])]
        if played[0] <= beta <= played[-1]
        else None
        for k, beta in enumerate(BETAS)
    ]


def _bounds(store: TraceStore, config: EpisodeConfig) -> dict[str, float]:
    """Return bounds on the accuracy of any controller or vote on a store, by name."""
    k = config.max_branches
    shares = ceiling(store)
    return {
        f"pass@{k}": pass_at(store, [k])[k],
        "plurality of all branches": shares.plurality,
        "gold answer ever revealed": 1 - shares.never_revealed,
    }


def bounds_of(
    scope: Scope, bounds: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, float | None]]:
    """Return the bounds of a scope, means over its environments; empty if one has no bounds."""
    if not all(env in bounds for env in scope.environments):
        return []
    inside = [bounds[env] for env in scope.environments]
    return [
        (name, _rounded(float(np.mean([values[name] for values in inside])))) for name in inside[0]
    ]


def _interval(estimate: Estimate) -> list[float | None]:
    return [_rounded(x) for x in (estimate.value, estimate.low, estimate.high)]


def _rounded(value: float) -> float | None:
    """Round to six significant digits; None for a value that is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


# --- questions ----------------------------------------------------------------------------------


def _questions(runs: Sequence[Run], rows: Mapping[Row, int]) -> dict[str, Any]:
    """Return, by row: correct seeds, mean tokens and the main incorrect answer of each question."""
    questions = np.unique(runs[0].episodes["question"])
    seeds = np.unique(runs[0].episodes["seed"])
    shape = len(seeds), len(questions)
    table = {}
    for run in runs:
        correct = np.reshape(run.episodes["correct"], shape)
        answers = np.reshape(np.asarray(run.episodes["answer"], object), shape)
        table[rows[_row(run)]] = {
            "correct": correct.sum(axis=0).tolist(),
            "tokens": [
                round(x) for x in np.reshape(run.episodes["tokens"], shape).mean(axis=0).tolist()
            ],
            "wrong": [
                [
                    [answer[:_ANSWER_LENGTH], count]
                    for answer, count in Counter(given).most_common(1)
                ]
                for given in (answers[~correct[:, q], q].tolist() for q in range(len(questions)))
            ],
        }
    return {"numbers": questions.tolist(), "seeds": len(seeds), "rows": table}
