"""``autotts collect``: create an environment from a model and questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from autotts_gym import api
from autotts_gym.cli.collection_display import CollectionDisplay
from autotts_gym.cli.console import errors, exit_on_interrupt, print_dim, print_line
from autotts_gym.cli.options import Api, Headers, ServerApi, parse_engine_arguments

if TYPE_CHECKING:
    from autotts_gym.traces.store import TraceStore


#: Options of sampling, which ``--probe`` does not do.
_SAMPLING: Final = (
    *("questions", "branches", "max_tokens", "temperature", "top_p", "top_k", "seed"),
    *("benchmark", "split", "id_field", "question_field", "answer_field", "options_field"),
    *("texts", "model_name", "extend", "generation_confidence", "server_api"),
)


def collect(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", help="Name of the environment.")],
    questions: Annotated[
        str | None,
        typer.Option(
            help="A JSONL, JSON, CSV or Parquet file, or the name of a Hugging Face dataset."
        ),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="ENV",
            help="Probe the recorded texts of this environment, such as an imported one, instead "
            "of sampling traces.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or name of the model for vLLM; with --base-url, its name on the server."
        ),
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="An OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead of vLLM "
            "in this process. Repeat to spread requests over several servers of the same model.",
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(
            help="Name of the model on the card; by default the last part of the model's name."
        ),
    ] = None,
    branches: Annotated[int, typer.Option(help="N, traces for each question.")] = 128,
    interval: Annotated[int, typer.Option(help="Δ, tokens between two probes.")] = 500,
    max_tokens: Annotated[int, typer.Option(help="Maximum tokens of a trace.")] = 40_960,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling: probability mass.")] = 1.0,
    top_k: Annotated[
        int, typer.Option(help="Sample from the most probable tokens; 0 for all.")
    ] = 0,
    seed: Annotated[
        int | None,
        typer.Option(help="Random seed. Seeds every trace separately, which slows vLLM down."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Prompt and probe templates: qwen3, deepseek-r1, chat, answer, answer-examples, "
            "choice, tinylm, or a YAML file; by default chosen by the model's name."
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Name of the question set on the card; by default the file's name."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of a Hugging Face dataset.")] = None,
    id_field: Annotated[str, typer.Option(help="Field with the question's id.")] = "id",
    question_field: Annotated[
        str, typer.Option(help="Field with the question's text.")
    ] = "question",
    answer_field: Annotated[str, typer.Option(help="Field with the gold answer.")] = "answer",
    options_field: Annotated[
        str, typer.Option(help="Field with the options of multiple choice.")
    ] = "options",
    merge: Annotated[bool, typer.Option("--merge", hidden=True)] = False,
    texts: Annotated[
        bool, typer.Option("--texts", help="Store the texts of the traces in the environment.")
    ] = False,
    extend: Annotated[
        str | None,
        typer.Option(
            metavar="ENV",
            help="An environment to extend: the new one has its questions and branches, and those "
            "that --questions and --branches add. Everything else must be the same.",
        ),
    ] = None,
    generation_confidence: Annotated[
        bool,
        typer.Option(
            help="Store how sure the model was of the tokens of every interval, by the "
            "log-probabilities of the 20 likeliest tokens, or as many as the server gives."
        ),
    ] = True,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="Maximum concurrent traces; by default 256 on a server, 1024 in this process."
        ),
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds for which a failing request is retried.")
    ] = 600.0,
    stall: Annotated[
        float, typer.Option(help="Seconds without a response after which a request fails.")
    ] = 120.0,
    server_api: Api = ServerApi.tokens,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="API key for the servers.")
    ] = None,
    header: Headers = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="NAME=VALUE",
            help="An argument of vLLM's engine in this process, such as max_model_len=8192; "
            "repeatable.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Parent folder; your environment folder by default.")
    ] = None,
) -> None:
    """Sample reasoning traces from a model, probe them at every interval, and save them.

    With --probe, only probe the texts of an environment. Finished traces are kept. If the command
    is interrupted, run it again to continue; nothing is generated twice.
    """
    from autotts_gym.collection.pipeline import work_folder
    from autotts_gym.inference.http_headers import parse_headers
    from autotts_gym.traces import registry

    _check_task(context, questions, probe)
    if base_url and engine:
        raise ValueError("--engine is for vLLM in this process; it cannot be used with a server")
    if not base_url and model is None:
        raise ValueError("give --model to run vLLM in this process, or --base-url for a server")
    if merge:
        errors.print("--merge is deprecated and has no effect: equal answers are always merged")
    work = work_folder((to or registry.user_folder()) / name)
    try:
        with exit_on_interrupt(), CollectionDisplay(errors) as show:
            shared: dict[str, Any] = {
                "model": model,
                "base_url": base_url,
                "interval": interval,
                "protocol": protocol,
                "concurrency": concurrency,
                "patience": patience,
                "stall": stall,
                "api_key": api_key,
                "headers": parse_headers(header or ()),
                "engine": parse_engine_arguments(engine),
                "to": to,
                "progress": show.collected,
                "merge_progress": show.merged,
            }
            if questions is None:
                store = api.add_probes(str(probe), name, **shared)
            else:
                store = api.collect(
                    questions,
                    name,
                    model_name=model_name,
                    branches=branches,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    top_k=top_k,
                    seed=seed,
                    benchmark=benchmark,
                    split=split,
                    id_field=id_field,
                    question_field=question_field,
                    answer_field=answer_field,
                    options_field=options_field,
                    texts=texts,
                    extend=extend,
                    generation_confidence=generation_confidence,
                    api=server_api.value,
                    warn=show.warn,
                    **shared,
                )
    except OSError:
        if work.exists():
            errors.print(
                f"finished work is kept in {work}; run the same command to continue",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        raise
    (_print_summary if probe is None else _print_probed)(name, store)
    print_dim(f"the sampled data in {work} is no longer needed")


def _check_task(context: typer.Context, questions: str | None, probe: str | None) -> None:
    """Check that either questions or an environment is given, and no option is without effect."""
    if (questions is None) == (probe is None):
        raise ValueError(
            "give --questions to sample traces, or --probe to probe the texts of an environment"
        )
    if probe is None:
        return
    unused = [
        parameter.opts[0]
        for parameter in context.command.params
        if (source := context.get_parameter_source(str(parameter.name))) is not None
        and source.name != "DEFAULT"
        and parameter.name in _SAMPLING
    ]
    if unused:
        raise ValueError(f"{', '.join(unused)}: without effect, as --probe samples nothing")


def _print_probed(name: str, store: TraceStore) -> None:
    card, facts = store.card, store.card.details["probed"]
    print_line(
        f"probed [bold]{escape(name)}[/]: {card.questions} questions, {card.branches:,} branches, "
        f"{card.probes:,} probes, Δ = {card.interval} tokens, {facts['probe_tokens']:,} tokens of "
        f"probes, {facts['seconds']:,.0f} s"
    )


def _print_summary(name: str, store: TraceStore) -> None:
    card, facts = store.card, store.card.details["collected"]
    print_line(
        f"collected [bold]{escape(name)}[/]: {card.questions} questions, {card.branches:,} "
        f"branches, {facts['tokens']:,} tokens of traces, {facts['probe_tokens']:,} tokens of "
        f"probes, {facts['seconds']:,.0f} s"
    )
    flags = {"cut": "cut at the token limit", "empty": "empty", "unanswered": "without an answer"}
    flagged = [f"{facts[key]:,} {words}" for key, words in flags.items() if facts[key]]
    if flagged:
        print_dim(f"flagged branches: {', '.join(flagged)}")
