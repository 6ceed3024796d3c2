"""``autotts collect``: an environment from a model and questions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from autotts_gym.cli.console import console, errors, print_dim

if TYPE_CHECKING:
    from autotts_gym.collection.collector import CollectionProgress
    from autotts_gym.inference.engine import Engine

#: Seconds between two lines of progress where there is no terminal.
_QUIET = 30.0


def collect(
    questions: Annotated[
        str,
        typer.Option(help="A JSONL, JSON, CSV or Parquet file, or a Hugging Face data set's name."),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the environment.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or name of the model that vLLM runs; with --base-url, its name there."
        ),
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="An OpenAI-compatible server, as http://127.0.0.1:8000/v1, in place of running "
            "the model here. Repeat for several of the same model: requests spread over them.",
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(help="What the card calls the model; the last part of its name by default."),
    ] = None,
    branches: Annotated[int, typer.Option(help="N, traces a question.")] = 128,
    interval: Annotated[int, typer.Option(help="Δ, tokens between two probes.")] = 500,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a trace.")] = 40_960,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Probability mass that is drawn from.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Likeliest tokens drawn from; 0 for all.")] = 0,
    seed: Annotated[
        int | None,
        typer.Option(help="Gives every trace a seed of its own, which takes vLLM some time."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="How the model is asked and probed: a name (qwen3, deepseek-r1, chat, choice, "
            "tinylm) or a YAML file; by the model's name by default."
        ),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="What the questions are called; the file's name by default.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of a Hugging Face data set.")] = None,
    id_field: Annotated[str, typer.Option(help="Field of the question's id.")] = "id",
    question_field: Annotated[str, typer.Option(help="Field of its text.")] = "question",
    answer_field: Annotated[str, typer.Option(help="Field of the right answer.")] = "answer",
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Bring mathematically equal answers into one form."),
    ] = False,
    texts: Annotated[
        bool, typer.Option("--texts", help="Keep the traces' texts in the environment.")
    ] = False,
    concurrency: Annotated[
        int | None,
        typer.Option(help="Most traces under way at once; default 256, and 1024 in this process."),
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds over which a failing request is tried again.")
    ] = 600.0,
    stall: Annotated[
        float, typer.Option(help="Seconds without a sign of life after which a request failed.")
    ] = 120.0,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="Sent to servers.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="NAME=VALUE",
            help="An argument of vLLM's engine, as max_model_len=8192, where it runs here; "
            "repeatable.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write below, instead of your own.")
    ] = None,
) -> None:
    """Collect reasoning traces from a model, probe them at every interval, and freeze them.

    Every finished trace is kept: interrupted, the same call goes on where it was, and nothing is
    paid twice.
    """
    from autotts_gym.collection.pipeline import collect_store, work_folder
    from autotts_gym.collection.plan import CollectionPlan
    from autotts_gym.collection.question_files import read_questions
    from autotts_gym.inference.engine import Sampling
    from autotts_gym.traces import registry

    registry.check_name(name)
    asked = read_questions(
        questions,
        id_field=id_field,
        question_field=question_field,
        answer_field=answer_field,
        split=split,
    )
    plan = CollectionPlan(branches, interval, max_tokens, Sampling(temperature, top_p, top_k), seed)
    target = (to or registry.user_folder()) / name
    made = _engine(model, base_url or [], api_key, stall, patience, concurrency, engine or [])
    try:
        with Show(errors) as show:
            store = collect_store(
                made,
                asked,
                plan,
                target,
                protocol=protocol,
                model=model_name or "",
                benchmark=benchmark or Path(questions).stem,
                merge=merge,
                texts=texts,
                concurrency=concurrency,
                progress=show.collected,
                merge_progress=show.merged,
            )
    except KeyboardInterrupt:
        errors.print(
            "interrupted: what was finished is kept, the same call goes on from there",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    except OSError:
        errors.print(
            f"what was finished is kept in {work_folder(target)}; the same call goes on",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise
    card, facts = store.card, store.card.details["collected"]
    console.print(
        f"collected [bold]{name}[/]: {card.questions} questions, {card.branches:,} branches, "
        f"{facts['tokens']:,} tokens and {facts['probe_tokens']:,} of probes, "
        f"{facts['seconds']:,.0f} s",
        highlight=False,
    )
    odd = [f"{facts[key]:,} {key}" for key in ("cut", "empty", "unanswered") if facts[key]]
    if odd:
        print_dim(f"of the branches, {', '.join(odd)}: kept, and flagged")
    print_dim(f"what was sampled stays in {work_folder(target)}, which nothing needs any more")


def _engine(
    model: str | None,
    base_urls: list[str],
    api_key: str | None,
    stall: float,
    patience: float,
    concurrency: int | None,
    arguments: list[str],
) -> Engine:
    from autotts_gym.inference.http_engine import ServerEngine
    from autotts_gym.inference.vllm_engine import LocalEngine

    if base_urls:
        if arguments:
            raise ValueError("--engine is for vLLM that runs here; a server has its own arguments")
        return ServerEngine(
            base_urls,
            model,
            api_key=api_key,
            stall=stall,
            patience=patience,
            # Traces, and probes of others.
            concurrency=max(
                2 * (ServerEngine.concurrency if concurrency is None else concurrency), 1
            ),
        )
    if model is None:
        raise ValueError("give --model (vLLM runs it here) or --base-url (a server does)")
    return LocalEngine(model, **engine_arguments(arguments))


def engine_arguments(assignments: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as arguments, values as in YAML; raises ``ValueError``."""
    found = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"{assignment!r}: give an argument as max_model_len=8192")
        try:
            found[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{assignment!r}: the value is no YAML: {error}") from None
    return found


class Show:
    """Progress: a bar on a terminal, a line now and then where there is none."""

    def __init__(self, to: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            console=to,
            transient=True,
            disable=not to.is_terminal,
        )
        self._console = to
        self._task = self._bar.add_task("starting", total=None, what="")
        self._told = time.monotonic()

    def __enter__(self) -> Show:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def collected(self, state: CollectionProgress) -> None:
        self.named("collecting", state)

    def named(self, name: str, state: CollectionProgress) -> None:
        what = _words(state)
        self._bar.update(
            self._task,
            description=name,
            completed=state.probed,
            total=state.total,
            what=what,
        )
        now = time.monotonic()
        if not self._console.is_terminal and now - self._told >= _QUIET:
            self._told = now
            self._console.print(f"{name}: {what}", highlight=False, soft_wrap=True)

    def merged(self, done: int, total: int) -> None:
        self._bar.update(
            self._task, description="merging equal answers", completed=done, total=total, what=""
        )


def _words(state: CollectionProgress) -> str:
    done = state.probed - state.resumed
    parts = [f"{state.probed:,}/{state.total:,} traces", f"{state.tokens:,} tokens"]
    if state.seconds > 0 and done:
        parts.append(f"{state.tokens / state.seconds:,.0f} tokens/s")
        parts.append(f"{done / state.seconds:,.1f} traces/s")
        parts.append(f"{_time(state.seconds_left)} left")
    return ", ".join(parts)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
