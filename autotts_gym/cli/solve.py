"""``autotts solve``: a question answered by a controller on a running model."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from autotts_gym.cli.collect import engine_arguments
from autotts_gym.cli.console import console, errors

if TYPE_CHECKING:
    from autotts_gym.deployment.solver import Solution
    from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv

#: Seconds between two looks at a running episode; what is drawn costs time.
_REFRESH = 0.2


def solve(
    question: Annotated[str, typer.Argument(help="What is asked.")],
    agent: Annotated[str, typer.Option(help="A name in agents/, or a path.")] = "cmc",
    beta: Annotated[float, typer.Option(help="β: 0 spends least, 1 most.")] = 0.5,
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="An OpenAI-compatible server of vLLM, as http://127.0.0.1:8000/v1; repeatable.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model's name on the server; without one, what vLLM runs here."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="A collected environment: protocol, interval, sampling and the cost of "
            "self-consistency are taken from its card."
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="How the model is asked and probed; a name or a file.")
    ] = None,
    interval: Annotated[int | None, typer.Option(help="Δ, tokens; default 500.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of a branch.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the branches.")] = None,
    max_branches: Annotated[int, typer.Option(help="N, the widest it can get.")] = 64,
    budget: Annotated[int | None, typer.Option(help="B, tokens; default none.")] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds without a sign of life after which it is given up.")
    ] = 120.0,
    seed: Annotated[int | None, typer.Option(help="Of the branches' draws.")] = None,
    gold: Annotated[str | None, typer.Option(help="The right answer, where it is known.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="Sent to the server.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", metavar="NAME=VALUE", help="As for collect; repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, and nothing else.")
    ] = False,
) -> None:
    """Answer a question, and show what it cost.

    On a terminal the episode is shown as it goes: branches, what they answer, the vote. The exit
    code is 1 where the model failed on the way; the best answer by then is printed all the same.
    """
    from autotts_gym.deployment import solver as live

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
        "api_key": api_key,
        "engine": engine_arguments(engine or []),
        "beta": beta,
        "gold": gold,
        "seed": seed,
    }
    if as_json or not console.is_terminal:
        found = live.solve(question, agent, **arguments)
    else:
        with _View() as view:
            found = live.solve(question, agent, render_mode="ansi", watch=view.watch, **arguments)
    if as_json:
        print(json.dumps(found.facts(), ensure_ascii=False))
    else:
        _show(found, question)
    if found.error:
        raise typer.Exit(1)


class _View:
    """The episode as it goes, drawn from time to time."""

    def __init__(self) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next = 0.0

    def __enter__(self) -> _View:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def watch(self, env: AutoTTSLiveEnv) -> None:
        from autotts_gym.gym_envs.rendering import render_ansi

        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REFRESH
        lines = render_ansi(env.scene(), console.width).split("\n")
        # Branches that are not open yet would push the vote off the screen.
        shown = [*lines[: 4 + max(env.opened, 8)], lines[-1]]
        shown.append(f"{env.generated:,} tokens generated")
        self._live.update(Text.from_ansi("\n".join(shown)), refresh=True)


def _show(found: Solution, question: str) -> None:
    verdict = {True: " [green]right[/]", False: " [red]wrong[/]", None: ""}[found.correct]
    console.print(f"[dim]{escape(question)}[/]", highlight=False)
    console.print(f"[bold]{escape(found.answer) or 'no answer'}[/]{verdict}", highlight=False)
    votes = ", ".join(f"{answer or 'none'} × {n}" for answer, n in list(found.votes.items())[:5])
    more = len(found.votes) - 5
    console.print(
        f"{found.branches} branches, {found.probes} probes; votes: {escape(votes) or 'none'}"
        + (f" and {more} more" if more > 0 else ""),
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("", "tokens", "in sequence", "seconds"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row(
        "billed", f"{found.tokens:,}", f"{found.sequential_tokens:,}", f"{found.wall_seconds:.1f}"
    )
    table.add_row("generated", f"{found.generated_tokens:,}")
    table.add_row("of probes", f"{found.probe_tokens:,}")
    if found.self_consistency_tokens is not None:
        seconds = found.self_consistency_seconds
        table.add_row(
            "self-consistency",
            f"{found.self_consistency_tokens:,}",
            "",
            "" if seconds is None else f"about {seconds:.1f}",
            style="dim",
        )
        share = found.tokens / found.self_consistency_tokens
        table.add_row("", f"{share:.0%} of it", style="dim")
    console.print(table)
    if found.error:
        errors.print(f"[red]autotts:[/] {escape(found.error)}", highlight=False, soft_wrap=True)
