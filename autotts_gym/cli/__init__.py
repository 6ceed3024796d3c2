"""The ``autotts`` command: a module for each group of commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

import autotts_gym
from autotts_gym.cli.benchmark import benchmark
from autotts_gym.cli.collect import collect
from autotts_gym.cli.console import console, errors
from autotts_gym.cli.discover import discover, judge
from autotts_gym.cli.environments import describe, envs, import_, synth
from autotts_gym.cli.new import new
from autotts_gym.cli.play import play
from autotts_gym.cli.report import report
from autotts_gym.cli.solve import solve
from autotts_gym.cli.tinylm import app as tinylm
from autotts_gym.cli.train import train

app = typer.Typer(
    help="Test-time scaling as a Gymnasium environment.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("import")(import_)
for command in (
    envs,
    describe,
    synth,
    collect,
    benchmark,
    report,
    play,
    solve,
    new,
    train,
    discover,
    judge,
):
    app.command()(command)
app.add_typer(tinylm, name="tinylm")


def _version(value: bool) -> None:
    if value:
        console.print(f"autotts_gym {autotts_gym.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Test-time scaling as a Gymnasium environment."""


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run the command; what the user did wrong is told in a line, without a traceback."""
    try:
        return app(args=arguments)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ValueError as error:  # AgentError and TraceError are such
        what = str(error)
    what = escape(" ".join(what.split()))
    errors.print(f"[red]autotts:[/] {what}", highlight=False, soft_wrap=True)
    sys.exit(1)
