"""``autotts play``: play one episode and show it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from autotts_gym.cli.console import console, print_dim, print_line
from autotts_gym.cli.options import Billing, LatencyWeight

if TYPE_CHECKING:
    from PIL.Image import Image


def play(
    agent: Annotated[str, typer.Argument(help="Name of a bundled agent, or path of a file.")],
    env: Annotated[
        str | None, typer.Option("--env", help="Name or path of an environment.")
    ] = None,
    question: Annotated[
        int | None, typer.Option(help="Number of the question; random by default.")
    ] = None,
    beta: Annotated[float, typer.Option(help="β of the episode.")] = 0.5,
    latency_weight: LatencyWeight = 0.0,
    seed: Annotated[
        int, typer.Option(help="Random seed of the branch order, and of the question.")
    ] = 0,
    max_branches: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="N, maximum width of the episode; by default 64, or the smallest number of "
            "branches of a question.",
        ),
    ] = None,
    billing: Annotated[
        Billing,
        typer.Option(help="Charge generated tokens, or every started interval in full."),
    ] = Billing.tokens,
    image: Annotated[
        Path | None,
        typer.Option(help="Write the final state (.png), or the whole episode (.gif)."),
    ] = None,
) -> None:
    """Play one episode through reset and step, and show its final state."""
    import gymnasium as gym
    from PIL.Image import fromarray

    from autotts_gym.controllers.errors import AgentError
    from autotts_gym.controllers.loader import load
    from autotts_gym.gym_envs.wrappers import FrameRecorder
    from autotts_gym.traces import registry

    if image is not None and image.suffix not in (".png", ".gif"):
        raise ValueError(f"--image must end in .png or .gif, got {image.name!r}")
    loaded = load(agent)
    options: dict[str, Any] = {} if question is None else {"question": question}

    def play_episode(render_mode: str, every: int = 0) -> tuple[FrameRecorder, dict[str, Any]]:
        made = gym.make(
            "AutoTTS-v0",
            env=env or registry.DEFAULT,
            beta=beta,
            latency_weight=latency_weight,
            billing=billing.value,
            max_branches=max_branches,
            render_mode=render_mode,
        )
        recorder = FrameRecorder(made, every)
        recorder.reset(seed=seed, options=options)  # errors in the options are not the agent's
        try:
            return recorder, loaded.play(recorder, seed=seed, **options)
        except Exception as error:
            raise AgentError(f"{loaded.path}: {type(error).__name__}: {error}") from error

    recorder, info = play_episode("ansi")
    console.print(Text.from_ansi(str(recorder.render())), no_wrap=True, crop=False, soft_wrap=True)
    print_line(
        f"{info['steps']:,} actions, {info['tokens']:,} total tokens, "
        f"{info['sequential_tokens']:,} sequential tokens"
    )
    if image is None:
        return
    # The same seed repeats the episode; this time it is recorded, as about 100 frames.
    every = 0 if image.suffix == ".png" else max(1, info["steps"] // 100)
    recorder, _ = play_episode("rgb_array", every)
    _save_image([fromarray(frame) for frame in [*recorder.frames, recorder.render()]], image)
    print_dim(f"wrote {image}")


def _save_image(frames: list[Image], path: Path) -> None:
    """Save the last frame as .png, or all of them as .gif."""
    if path.suffix == ".png":
        frames[-1].save(path, optimize=True)
    else:
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=80, optimize=True)
