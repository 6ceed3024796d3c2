"""``autotts new``: write a controller template."""

from __future__ import annotations

from typing import Annotated

import typer

from autotts_gym.cli.console import print_text


def new(
    name: Annotated[
        str, typer.Argument(help="Name of the controller, or path of its file.", metavar="NAME")
    ],
    without_beta: Annotated[
        bool, typer.Option("--without-beta", help="A controller without the parameter β.")
    ] = False,
    published: Annotated[
        bool,
        typer.Option(
            "--published", help="A class with solve(question), like the published programs."
        ),
    ] = False,
) -> None:
    """Write a commented controller that runs as is and that you can modify."""
    from autotts_gym.controllers.scaffold import Template, write

    if without_beta and published:
        raise ValueError("give --without-beta or --published, not both")
    template = Template.with_beta
    if without_beta:
        template = Template.without_beta
    if published:
        template = Template.published
    path = write(name, template)
    print_text(f"wrote {path}; to try it:")
    for command in ("play", "benchmark"):
        print_text(f"  autotts {command} {path}")
