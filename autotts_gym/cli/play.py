"""``autotts play``: one episode, seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from autotts_gym.cli.console import Billing, console, print_dim


def play(
    agent: Annotated[str, typer.Argument(help="A name in agents/, or a path.")],
    env: Annotated[str | None, typer.Option("--env", help="A name or a path.")] = None,
    question: Annotated[int | None, typer.Option(help="Its row; drawn by default.")] = None,
    beta: Annotated[float, typer.Option(help="β of this episode.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Draws the branch order, and the question.")] = 0,
    billing: Annotated[Billing, typer.Option(help="As for the benchmark.")] = Billing.tokens,
    image: Annotated[
        Path | None, typer.Option(help="Write how it ended (.png) or how it went (.gif).")
    ] = None,
) -> None:
    """Play one episode through reset and step, and show how it ended."""
    import gymnasium as gym
    from PIL import Image

    from autotts_gym.controllers.errors import AgentError
    from autotts_gym.controllers.loader import load
    from autotts_gym.gym_envs.wrappers import Film
    from autotts_gym.traces import registry

    if image is not None and image.suffix not in (".png", ".gif"):
        raise ValueError(f"--image must end in .png or .gif, got {image.name!r}")
    loaded = load(agent)
    options: dict[str, Any] = {} if question is None else {"question": question}

    def episode(render_mode: str, every: int = 0) -> tuple[Film, dict[str, Any]]:
        made = gym.make(
            "AutoTTS-v0",
            env=env or registry.DEFAULT,
            beta=beta,
            billing=billing.value,
            render_mode=render_mode,
        )
        film = Film(made, every)
        film.reset(seed=seed, options=options)  # what is wrong with the options is no agent's fault
        try:
            return film, loaded.play(film, seed=seed, **options)
        except Exception as error:
            raise AgentError(f"{loaded.path}: {type(error).__name__}: {error}") from error

    film, info = episode("ansi")
    console.print(Text.from_ansi(str(film.render())), no_wrap=True, crop=False, soft_wrap=True)
    console.print(
        f"{info['steps']:,} actions, {info['tokens']:,} tokens, {info['sequential_tokens']:,} of "
        f"them in sequence",
        highlight=False,
    )
    if image is None:
        return
    # The same seed plays the same episode: the second time it is filmed, in about 100 frames.
    film, _ = episode("rgb_array", 0 if image.suffix == ".png" else max(1, info["steps"] // 100))
    frames = [Image.fromarray(frame) for frame in [*film.frames, film.render()]]
    if image.suffix == ".png":
        frames[-1].save(image, optimize=True)
    else:
        frames[0].save(image, save_all=True, append_images=frames[1:], duration=80, optimize=True)
    print_dim(f"wrote {image}")
