"""``autotts record``: write episodes of controllers as a Minari data set."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import print_dim, print_error, print_line, requires_extra
from autotts_gym.cli.options import Billing, parse_integers, parse_numbers


class ObservationKind(StrEnum):
    """The observations of ``AutoTTS-v0``."""

    compact = "compact"
    full = "full"
    flat = "flat"


def record(
    agents: Annotated[
        list[str], typer.Argument(metavar="AGENT...", help="Names of agents, or paths of files.")
    ],
    name: Annotated[
        str, typer.Option(help="Name of the data set, such as autotts/cmc-v0; it must be new.")
    ],
    env: Annotated[
        str | None, typer.Option("--env", help="Name or path of an environment.")
    ] = None,
    beta: Annotated[str, typer.Option(help="Values of β, such as 0,0.5,1.")] = "0.5",
    seeds: Annotated[str, typer.Option(help="Seeds of the branch orders, such as 0-9.")] = "0",
    questions: Annotated[
        str | None, typer.Option(help="Numbers of the questions, such as 0-23; all by default.")
    ] = None,
    observation: Annotated[
        ObservationKind, typer.Option(help="Observations to store; flat is one array.")
    ] = ObservationKind.compact,
    max_branches: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="N, maximum width of an episode; by default 64, or the fewest branches "
            "of a question.",
        ),
    ] = None,
    billing: Annotated[
        Billing,
        typer.Option(help="Charge generated tokens, or every started interval in full."),
    ] = Billing.tokens,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of Minari's data sets; by default MINARI_DATASETS_PATH."),
    ] = None,
) -> None:
    """Write episodes of agents as a Minari data set, for offline reinforcement learning.

    Agents run in this process, not in a sandbox. Every agent plays every question once per seed
    and β; minari.load_dataset(NAME) loads the steps.
    """
    with requires_extra("recording", "minari", "offline"):
        import minari  # noqa: F401

    from autotts_gym.controllers.loader import load
    from autotts_gym.learning.episode_dataset import record_episodes
    from autotts_gym.traces import registry

    if folder is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(folder.resolve())
    written = record_episodes(
        [load(agent) for agent in agents],
        env or registry.DEFAULT,
        name,
        betas=parse_numbers(beta),
        seeds=parse_integers(seeds),
        questions=None if questions is None else parse_integers(questions),
        observation=observation.value,
        max_branches=max_branches,
        billing=billing.value,
    )
    for failure in written.failures[:3]:
        print_error("autotts", f"not recorded: {failure}", "yellow")
    if len(written.failures) > 3:
        print_dim(f"and {len(written.failures) - 3:,} more failures")
    print_line(
        f"recorded [bold]{escape(name)}[/]: {written.episodes:,} episodes, {written.steps:,} steps"
    )
