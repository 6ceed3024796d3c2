"""The figures of a leaderboard: as data of the HTML page, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import autotts_gym
from autotts_gym.evaluation.analysis import Row, Scope
from autotts_gym.evaluation.bootstrap import REPLICATES, Estimate
from autotts_gym.leaderboard.boards import REFERENCE, SPLITS, Board
from autotts_gym.leaderboard.builder import Leaderboard, VerifiedEntry
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent

#: Episode columns that the page shows.
_METRICS = ("correct", "tokens", "sequential_tokens", "probes")
#: Titles of the splits.
_TITLES = {"search": "Search sets", "held-out": "Held-out sets", "": "Sets without a split"}
#: Digits of a fingerprint or digest in Markdown.
_SHORT = 12


def leaderboard_data(leaderboard: Leaderboard, boards: list[Board]) -> dict[str, Any]:
    """The data of the page, as one JSON object; ``web/types.d.ts`` describes it."""
    return {
        "version": autotts_gym.__version__,
        "sample": leaderboard.sample,
        "sample_seed": leaderboard.sample_seed,
        "replicates": REPLICATES,
        "boards": [
            {
                "setting": str(board.setting),
                "parts": [
                    {"title": _TITLES[split], **_part(board, scopes)}
                    for split, scopes in _parts(board)
                ],
            }
            for board in boards
        ],
        "environments": _environments(boards),
        "controllers": _controllers(leaderboard, boards),
        "folders": [_folder(entry) for entry in leaderboard.entries],
        "refused": list(leaderboard.refused.items()),
    }


def _parts(board: Board) -> Iterator[tuple[str, list[Scope]]]:
    """The splits of a board that have environments, each with its scopes."""
    for split in SPLITS:
        if scopes := board.scopes(split):
            yield split, scopes


def _part(board: Board, scopes: list[Scope]) -> dict[str, Any]:
    rows = [row for row in board.analysis.rows if any(_is_in(board, row, s) for s in scopes)]
    return {
        "columns": [
            {"name": _column_name(scope), "synthetic": _is_synthetic(board, scope)}
            for scope in scopes
        ],
        "rows": [
            {
                "name": str(row),
                "main": board.is_main(row),
                "failed": sum(
                    board.failed.get((row, env), 0)
                    for scope in scopes
                    if not scope.is_average
                    for env in scope.environments
                ),
                "cells": [
                    _cell(board, row, scope) if _is_in(board, row, scope) else None
                    for scope in scopes
                ],
            }
            for row in rows
        ],
    }


def _is_in(board: Board, row: Row, scope: Scope) -> bool:
    return row in board.analysis.rows_in(scope)


def _is_synthetic(board: Board, scope: Scope) -> bool:
    return any(board.environments[env].synthetic for env in scope.environments)


def _column_name(scope: Scope) -> str:
    return f"mean of {len(scope.environments)}" if scope.is_average else scope.name


def _cell(board: Board, row: Row, scope: Scope) -> dict[str, Any]:
    """The figures of a row in a scope; differences only if the reference was played there."""
    analysis = board.analysis
    cell = {metric: _interval(analysis.estimate(scope, row, metric)) for metric in _METRICS}
    if row != REFERENCE and _is_in(board, REFERENCE, scope):
        cell["difference"] = _interval(analysis.difference(scope, row, REFERENCE, "correct"))
        cell["ratio"] = _interval(analysis.ratio(scope, row, REFERENCE, "tokens"))
    return cell


def _interval(estimate: Estimate) -> list[float | None]:
    """Value and ends, rounded to 6 digits; None where there is no number."""
    ends = estimate.value, estimate.low, estimate.high
    return [float(f"{x:.6g}") if math.isfinite(x) else None for x in ends]


def _environments(boards: list[Board]) -> list[dict[str, Any]]:
    known = {env.fingerprint: env for board in boards for env in board.environments.values()}
    return [
        {
            "name": env.name,
            "split": env.split,
            "synthetic": env.synthetic,
            "model": str(env.details.get("model", "")),
            "questions": env.questions,
            "branches": env.branches,
            "fingerprint": env.fingerprint,
            "benchmark": env.benchmark,
        }
        for env in known.values()
    ]


def _controllers(leaderboard: Leaderboard, boards: list[Board]) -> list[dict[str, Any]]:
    players = {
        agent.digest: entry.sources.agents[agent.name]
        for entry in leaderboard.entries
        for agent in entry.entry.results.agents
    }
    by_digest: dict[str, dict[str, Any]] = {}
    for board in boards:
        for name, agent in board.agents.items():
            is_sandboxed = isinstance(players[agent.digest], UntrustedAgent)
            row = by_digest.setdefault(
                agent.digest,
                {
                    "name": name,
                    "digest": agent.digest,
                    "replayed": "in the sandbox" if is_sandboxed else "as bundled or installed",
                    "folders": [],
                },
            )
            new = [folder for folder in board.sources[name] if folder not in row["folders"]]
            row["folders"].extend(new)
    return list(by_digest.values())


def _folder(verified: VerifiedEntry) -> dict[str, Any]:
    entry = verified.entry
    return {
        "name": entry.name,
        "version": entry.results.version,
        "protocol": entry.results.protocol,
        "runs": len(entry.results.runs),
        "episodes": verified.episodes,
        "replayed": verified.replayed,
        "digest": entry.digest,
    }


# --- Markdown -----------------------------------------------------------------------------------


def leaderboard_markdown(leaderboard: Leaderboard, boards: list[Board]) -> str:
    """The main rows as Markdown tables: accuracy in percent, and tokens in thousands."""
    blocks = []
    for board in boards:
        for split, scopes in _parts(board):
            blocks.append(f"**{_TITLES[split]}**, {board.setting}")
            blocks.append(_markdown_part(board, scopes))
    environments = [
        [
            _code(env["name"]),
            env["split"] or "–",
            str(env["questions"]),
            str(env["branches"]),
            _code(env["fingerprint"][:_SHORT]),
        ]
        for env in _environments(boards)
    ]
    folders = [
        [
            _code(row["name"]),
            row["version"],
            f"{row['episodes']:,}",
            f"{row['replayed']:,}",
            _code(row["digest"][:_SHORT]),
        ]
        for row in map(_folder, leaderboard.entries)
    ]
    heads = ["environment", "split", "questions", "recorded branches", "fingerprint"]
    blocks.append(_markdown_table(heads, environments))
    heads = ["results folder", "version", "episodes", "replayed", "sha256 of the episodes"]
    blocks.append(_markdown_table(heads, folders))
    return "\n\n".join(blocks) + "\n"


def _markdown_part(board: Board, scopes: list[Scope]) -> str:
    """One table, rows by falling accuracy in the first column."""
    analysis = board.analysis
    rows = [row for row in analysis.rows if board.is_main(row) and _is_in(board, row, scopes[0])]
    rows.sort(key=lambda row: -analysis.means(scopes[0], row).value["correct"])
    lines = []
    for row in rows:
        cells = [_code(str(row))]
        for scope in scopes:
            if not _is_in(board, row, scope):
                cells.append("–")
                continue
            means = analysis.means(scope, row).value
            cells.append(f"{100 * means['correct']:.1f} / {means['tokens'] / 1000:.1f}k")
        lines.append(cells)
    heads = ["accuracy % / tokens", *map(_column_name, scopes)]
    return _markdown_table(heads, lines)


def _markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    """A name as code; names are chosen by others, so it cannot end the code or the cell."""
    return f"`{''.join('_' if c in '`|' or not c.isprintable() else c for c in text)}`"
