"""``autotts new``: a controller to start from."""

from __future__ import annotations

from typing import Annotated

import typer

from autotts_gym.cli.console import console


def new(
    name: Annotated[
        str, typer.Argument(help="The controller's name, or the path of its file.", metavar="NAME")
    ],
    without_beta: Annotated[
        bool, typer.Option("--without-beta", help="A controller without the knob β.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="A class with solve(question), as published.")
    ] = False,
) -> None:
    """Write a commented controller that runs as it is, to change as you like."""
    from autotts_gym.controllers.scaffold import Template, write

    if without_beta and published:
        raise ValueError("give one of --without-beta and --published")
    template = Template.with_beta
    if without_beta:
        template = Template.without_beta
    if published:
        template = Template.published
    path = write(name, template)
    console.print(f"wrote {path}; try", markup=False, highlight=False, soft_wrap=True)
    for command in ("play", "benchmark"):
        console.print(f"  autotts {command} {path}", markup=False, highlight=False, soft_wrap=True)
