"""``autotts synth``: generate an environment of synthetic traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import console, print_line


def synth(
    name: Annotated[str, typer.Option("--name", help="Name of the environment.")],
    questions: Annotated[int, typer.Option(help="Number of questions.")] = 60,
    branches: Annotated[int, typer.Option(help="Branches for each question.")] = 128,
    interval: Annotated[int, typer.Option(help="Δ, tokens between two probes.")] = 500,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A parameter of the synthetic model; repeatable."
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Parent folder; your environment folder by default.")
    ] = None,
) -> None:
    """Generate an environment of synthetic traces, and compare it with published traces.

    The parameters are those of autotts_gym.traces.synthetic_traces.SyntheticModel. Their defaults
    are fitted to the published Qwen3-4B traces on AIME24.
    """
    from autotts_gym.traces import registry
    from autotts_gym.traces.published_statistics import PUBLISHED_AIME24
    from autotts_gym.traces.statistics import compare, describe
    from autotts_gym.traces.store import TraceError
    from autotts_gym.traces.synthetic_traces import SyntheticModel, generate

    registry.check_name(name)
    parameters: dict[str, float] = {}
    for assignment in set_ or []:
        key, _, value = assignment.partition("=")
        if key not in SyntheticModel.__dataclass_fields__:
            raise TraceError(
                f"--set: there is no parameter {key!r}; the parameters are "
                f"{', '.join(SyntheticModel.__dataclass_fields__)}"
            )
        try:
            parameters[key] = float(value)
        except ValueError:
            raise TraceError(f"{assignment!r}: give a number, such as {key}=0.5") from None
    store = generate(SyntheticModel(**parameters), questions, branches, seed, interval)
    saved = store.save((to or registry.user_folder()) / name)
    where = escape(str(saved.path))
    print_line(f"generated [bold]{escape(name)}[/] ([yellow]synthetic[/]) in {where}")
    console.print(compare(describe(store), PUBLISHED_AIME24["Qwen3-4B"], (name, "Qwen3-4B")))
