"""``autotts grade``: grade answers, or texts of a model, against gold answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autotts_gym.cli.console import print_line
from autotts_gym.cli.options import parse_extractors


def grade(
    file: Annotated[
        Path, typer.Argument(help="A JSONL file with rows of {gold, answer} or {gold, text}.")
    ],
    extractors: Annotated[
        str | None,
        typer.Option(
            help="How answers are found in texts, in order: boxed, answer, number, choice, "
            "separated by commas, or one regex:PATTERN."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Find answers as this model protocol does; a name or a file."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write each row with its answer and grade as JSONL."),
    ] = None,
) -> None:
    """Grade rollouts with the equality that collection, voting and benchmarks use.

    A row that cannot be graded is named by its line, and the exit status is 1.
    """
    from autotts_gym.answers.rollout_files import GradingSummary, grade_row, read_rows
    from autotts_gym.utils.files import write_text

    chosen = _chosen_extractors(extractors, protocol)
    summary = GradingSummary()
    graded = []
    for number, row in read_rows(file):
        try:
            graded.append(grade_row(row, chosen, summary))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from None
    if not graded:
        raise ValueError(f"{file}: no rows; a row is a JSON object with gold, and answer or text")
    if out is not None:
        write_text(out, "".join(json.dumps(row) + "\n" for row in graded))
    print_line(
        f"{summary.equal:,} of {summary.rows:,} answers equal the gold answer "
        f"({summary.accuracy:.1%})"
    )
    for name, count in sorted(summary.null.items()):
        print_line(f"{count:,} of {summary.rows:,} texts: {_REASONS.get(name, name)}")


_REASONS = {
    "No": "no answer found",
    "ERR": "a box that is never closed",
    "": "empty",
}


def _chosen_extractors(extractors: str | None, protocol: str | None) -> list[str] | None:
    if extractors is not None and protocol is not None:
        raise ValueError("pass --extractors or --protocol, not both")
    if protocol is not None:
        from autotts_gym.inference.protocol import find_protocol

        return find_protocol(protocol, "").extractors
    return parse_extractors(extractors)
