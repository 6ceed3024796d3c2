"""``autotts solve``: answer a question with a controller on a running model."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from autotts_gym.cli.console import console, print_dim, print_error, print_line
from autotts_gym.cli.options import Api, Headers, LatencyWeight, ServerApi, parse_engine_arguments

if TYPE_CHECKING:
    from autotts_gym.deployment.solver import Solution
    from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv

#: Minimum seconds between two drawings of a running episode.
_REFRESH: Final = 0.2

#: Most answers whose votes are printed.
_MAX_VOTES: Final = 5


def solve(
    question: Annotated[str, typer.Argument(help="The question.")],
    agent: Annotated[str, typer.Option(help="Name of a bundled agent, or path of a file.")] = "cmc",
    beta: Annotated[float, typer.Option(help="β: 0 spends least, 1 most.")] = 0.5,
    latency_weight: LatencyWeight = 0.0,
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="A vLLM server, such as http://127.0.0.1:8000/v1; repeatable.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of the model on the server; without --base-url, the model for vLLM in this "
            "process."
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="A collected environment. Its card gives protocol, interval, sampling and the "
            "cost of self-consistency."
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Prompt and probe templates: a name or a YAML file.")
    ] = None,
    interval: Annotated[
        int | None, typer.Option(help="Δ, tokens between two probes; 500 by default.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Maximum tokens of a branch.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    max_branches: Annotated[int, typer.Option(help="N, maximum width of the episode.")] = 64,
    budget: Annotated[
        int | None, typer.Option(help="B, maximum tokens of the episode; unlimited by default.")
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds without a response after which the episode ends.")
    ] = 120.0,
    seed: Annotated[int | None, typer.Option(help="Random seed of the sampling.")] = None,
    gold: Annotated[str | None, typer.Option(help="The gold answer, if it is known.")] = None,
    server_api: Api = ServerApi.tokens,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="API key for the server.")
    ] = None,
    header: Headers = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which the best answer so far is printed; no limit by default."
        ),
    ] = None,
    generation_confidence: Annotated[
        bool, typer.Option(help="Ask the model for the log-probabilities of its likeliest tokens.")
    ] = True,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="NAME=VALUE",
            help="An argument of vLLM's engine in this process, such as max_model_len=8192; "
            "repeatable.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else.")
    ] = False,
) -> None:
    """Answer a question, and show what it cost.

    On a terminal, the running episode is shown: branches, answers, votes. If the model fails during
    the episode, the best answer so far is printed, and the exit status is 1; after Ctrl-C, it is
    130.
    """
    from autotts_gym.deployment import solver
    from autotts_gym.inference.http_headers import parse_headers

    arguments: dict[str, Any] = {
        "base_url": base_url or None,
        "model": model,
        "reference": reference,
        "protocol": protocol,
        "interval": interval,
        "max_tokens": max_tokens,
        "sampling": None if temperature is None else {"temperature": temperature},
        "max_branches": max_branches,
        "budget": budget,
        "patience": patience,
        "api": server_api.value,
        "api_key": api_key,
        "headers": parse_headers(header or ()),
        "deadline": deadline,
        "generation_confidence": generation_confidence,
        "engine": parse_engine_arguments(engine),
        "beta": beta,
        "latency_weight": latency_weight,
        "gold": gold,
        "seed": seed,
    }
    status = 0
    try:
        if as_json or not console.is_terminal:
            solution = solver.solve(question, agent, **arguments)
        else:
            with _LiveView() as view:
                solution = solver.solve(
                    question, agent, render_mode="ansi", watch=view.update, **arguments
                )
        status = int(bool(solution.error))
    except solver.SolveInterrupted as interrupt:
        solution, status = interrupt.solution, 130
    if as_json:
        text = json.dumps(solution.facts(), ensure_ascii=False)
        # JSON escapes only some of the characters that control a terminal.
        print(text if text.isprintable() else json.dumps(solution.facts()))
    else:
        _print_solution(solution, question)
    if status:
        raise typer.Exit(status)


class _LiveView:
    """The running episode as text, refreshed in place."""

    def __init__(self) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next = 0.0

    def __enter__(self) -> _LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, env: AutoTTSLiveEnv) -> None:
        """Draw the episode, unless it was drawn recently."""
        from autotts_gym.gym_envs.rendering import render_ansi

        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REFRESH
        lines = render_ansi(env.scene(), console.width).split("\n")
        # Without the rows of unopened branches, which would move the vote off the screen.
        shown = [*lines[: 4 + max(env.opened, 8)], lines[-1]]
        shown.append(f"{env.generated:,} tokens generated")
        self._live.update(Text.from_ansi("\n".join(shown)), refresh=True)


def _print_solution(solution: Solution, question: str) -> None:
    verdict = {True: " [green]correct[/]", False: " [red]incorrect[/]", None: ""}[solution.correct]
    console.print(f"[dim]{escape(question)}[/]", highlight=False)
    console.print(f"[bold]{escape(solution.answer) or 'no answer'}[/]{verdict}", highlight=False)
    counts = list(solution.votes.items())
    votes = ", ".join(f"{answer or 'none'} × {n}" for answer, n in counts[:_MAX_VOTES])
    more = f" and {len(counts) - _MAX_VOTES} more" if len(counts) > _MAX_VOTES else ""
    print_line(
        f"{solution.branches} branches, {solution.probes} probes; votes: "
        f"{escape(votes) or 'none'}{more}"
    )
    if solution.timed_out:
        print_dim("the deadline has passed: this is the best answer at that time")
    console.print(_cost_table(solution))
    if solution.error:
        print_error("autotts", solution.error)


def _cost_table(solution: Solution) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "tokens", "sequential", "seconds"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row(
        "billed",
        f"{solution.tokens:,}",
        f"{solution.sequential_tokens:,}",
        f"{solution.wall_seconds:.1f}",
    )
    table.add_row("generated", f"{solution.generated_tokens:,}")
    table.add_row("probes", f"{solution.probe_tokens:,}")
    if solution.self_consistency_tokens is not None:
        seconds = solution.self_consistency_seconds
        table.add_row(
            "self-consistency",
            f"{solution.self_consistency_tokens:,}",
            "",
            "" if seconds is None else f"about {seconds:.1f}",
            style="dim",
        )
        share = solution.tokens / solution.self_consistency_tokens
        table.add_row("billed / self-consistency", f"{share:.0%}", style="dim")
    return table
