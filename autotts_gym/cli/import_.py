"""``autotts import``: convert published traces, and rollouts of other programs, to environments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import print_dim, print_line, progress_bar
from autotts_gym.cli.options import parse_extractors

if TYPE_CHECKING:
    from autotts_gym.traces.store import TraceStore


def import_(
    source: Annotated[
        list[Path],
        typer.Argument(
            help="Files of one format; or a folder of published MODEL/BENCHMARK.json files."
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the environment, or of the group.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="published, lm-eval, batch, verifiers (also of prime-rl), inspect, completions "
            "(a table) or mars; by default recognised by the content.",
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Environments of a published group that belong to the search split, such as "
            "'*/aime24'; the others are held out. Repeatable.",
        ),
    ] = None,
    extractors: Annotated[
        str | None,
        typer.Option(
            help="How answers are found in texts, in order: boxed, answer, number, choice, "
            "separated by commas, or one regex:PATTERN. By default boxed,answer,number, or choice "
            "if all gold answers are letters."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Find answers as this model protocol does; a name or a file."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|NAME",
            help="Tokenizer of the model, for files that record no numbers of tokens.",
        ),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Questions with gold answers, for batch outputs (found by custom_id) and mars "
            "(by qid).",
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The requests of batch outputs, for their questions."),
    ] = None,
    id_field: Annotated[str, typer.Option(help="Column of the question's id.")] = "id",
    question_field: Annotated[
        str, typer.Option(help="Column of the question's text.")
    ] = "question",
    answer_field: Annotated[str, typer.Option(help="Column of the gold answer.")] = "answer",
    completion_field: Annotated[
        str, typer.Option(help="Column of a completion, or of all of a question as a list.")
    ] = "completions",
    tokens_field: Annotated[
        str, typer.Option(help="Column of the number of tokens, one for each completion.")
    ] = "tokens",
    interval: Annotated[
        int | None, typer.Option(help="Δ of the probes of mars, tokens; 2048 by default.")
    ] = None,
    texts: Annotated[bool, typer.Option(help="Store the texts of the completions.")] = True,
    model_name: Annotated[
        str | None, typer.Option(help="Name of the model on the card; by default as recorded.")
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Name of the questions on the card; by default the file's name."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Parent folder; your environment folder by default.")
    ] = None,
) -> None:
    """Import published traces, or rollouts of another program, as environments.

    Rollouts without probes become branches of one interval, which controllers read whole;
    autotts collect --probe adds probes.
    """
    from autotts_gym.imports.file_formats import FORMATS, PUBLISHED, recognise
    from autotts_gym.imports.question_groups import with_file

    if format is not None and format not in FORMATS:
        raise ValueError(f"--format {format!r}: expected one of {', '.join(FORMATS)}")
    kind = format or with_file(source[0], recognise)
    if kind == PUBLISHED:
        _import_published(source, name, to, search)
        return
    if search:
        raise ValueError("--search is for a folder of published traces")
    from autotts_gym.imports.rollout_import import import_rollouts

    with progress_bar() as progress:
        task = progress.add_task("comparing answers", total=None)
        store = import_rollouts(
            source,
            name,
            format=kind,
            extractors=parse_extractors(extractors),
            protocol=protocol,
            tokenizer=tokenizer,
            questions=questions,
            requests=requests,
            id_field=id_field,
            question_field=question_field,
            answer_field=answer_field,
            completion_field=completion_field,
            tokens_field=tokens_field,
            interval=interval,
            texts=texts,
            model_name=model_name,
            benchmark=benchmark,
            to=to,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print_import(name, store)


def _import_published(
    source: list[Path], name: str, to: Path | None, search: list[str] | None
) -> None:
    from autotts_gym.traces.published_import import import_published

    if len(source) > 1:
        raise ValueError("give one published file, or a folder of several")
    with progress_bar() as progress:
        task = progress.add_task("importing", total=None)

        def report(file: str, done: int, total: int) -> None:
            progress.update(task, description=file, completed=done, total=total)

        stores = import_published(source[0], name, to, progress=report, search=search or ())
    for environment, store in stores.items():
        card = store.card
        print_line(
            f"imported [bold]{escape(environment)}[/]: {card.questions} questions, "
            f"{card.branches} branches, Δ = {card.interval} tokens"
        )


def _print_import(name: str, store: TraceStore) -> None:
    from autotts_gym.traces.statistics import describe

    card, facts = store.card, store.card.details["imported"]
    probes = f"Δ = {card.interval} tokens" if card.probes else "no probes"
    print_line(
        f"imported [bold]{escape(name)}[/] ({facts['format']}): {card.questions} questions, "
        f"{card.branches:,} branches, {int(store.tables.tokens.sum()):,} tokens, {probes}"
    )
    golds = sum(bool(gold) for gold in store.tables.golds)
    if golds < card.questions:
        print_line(f"[yellow]{card.questions - golds} questions have no gold answer[/]")
    found = facts.get("protocol") or ", ".join(facts.get("extractors", ()))
    by = f"; answers found by {found}" if found else ""
    print_line(f"accuracy of a branch {describe(store).accuracy:.1%}{escape(by)}")
    flags = {"cut": "cut at a maximum length", "empty": "empty", "unanswered": "without an answer"}
    flagged = [f"{facts[key]:,} {words}" for key, words in flags.items() if facts[key]]
    if flagged:
        print_dim(f"branches: {', '.join(flagged)}")
    if "scores" in facts:
        agree = facts["scores_that_agree"]
        print_dim(f"the file's own scores agree on {agree:,} of {facts['scores']:,} completions")
    for reason, count in facts["left_out"].items():
        print_dim(f"left out: {count:,} {reason}")
