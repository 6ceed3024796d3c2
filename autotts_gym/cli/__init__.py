"""The ``autotts`` command line. ``cli/NAME.py`` implements ``autotts NAME``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import autotts_gym
from autotts_gym.cli.benchmark import benchmark
from autotts_gym.cli.collect import collect
from autotts_gym.cli.console import print_error, print_line, substitute_characters
from autotts_gym.cli.describe import describe
from autotts_gym.cli.discover import discover
from autotts_gym.cli.envs import envs
from autotts_gym.cli.grade import grade
from autotts_gym.cli.import_ import import_
from autotts_gym.cli.judge import judge
from autotts_gym.cli.leaderboard import leaderboard
from autotts_gym.cli.model import app as model
from autotts_gym.cli.new import new
from autotts_gym.cli.play import play
from autotts_gym.cli.record import record
from autotts_gym.cli.regrade import regrade
from autotts_gym.cli.report import report
from autotts_gym.cli.serve import serve
from autotts_gym.cli.simulate import simulate
from autotts_gym.cli.solve import solve
from autotts_gym.cli.synth import synth
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
    grade,
    regrade,
    benchmark,
    report,
    leaderboard,
    play,
    simulate,
    solve,
    serve,
    new,
    train,
    record,
    discover,
    judge,
):
    app.command()(command)
app.add_typer(model, name="model")
app.add_typer(tinylm, name="tinylm")


def _version(value: bool) -> None:
    if value:
        print_line(f"autotts_gym {autotts_gym.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Test-time scaling as a Gymnasium environment."""


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run a command. Errors of the user are printed as one line, without a traceback."""
    substitute_characters()
    try:
        return app(args=arguments)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ValueError as error:  # includes AgentError and TraceError
        message = str(error)
    print_error("autotts", " ".join(message.split()))
    sys.exit(1)
