"""``autotts train``: learned controllers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from autotts_gym.cli.console import (
    Lines,
    command_of,
    console,
    errors,
    integers,
    print_dim,
    progress_bar,
    stores_of,
)

if TYPE_CHECKING:
    from autotts_gym.learning.ppo import Progress, Training
    from autotts_gym.learning.sb3 import Sb3Training
    from autotts_gym.learning.validation import ValidationScore


class Algorithm(StrEnum):
    """The algorithms of ``autotts train``."""

    ppo = "ppo"
    maskable_ppo = "maskable-ppo"
    cleanrl_ppo = "cleanrl-ppo"
    a2c = "a2c"
    dqn = "dqn"


class Network(StrEnum):
    """The networks of ``autotts train``."""

    equivariant = "equivariant"
    mlp = "mlp"


def train(
    algorithm: Annotated[
        Algorithm,
        typer.Argument(
            help="cleanrl-ppo is this package's own; the others are those of stable-baselines3 "
            "and sb3-contrib."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the policy, its card and checkpoints.")],
    env: Annotated[
        list[str] | None, typer.Option("--env", help="A name or a path; repeat for several.")
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(help="Rows of the questions to train on, as 0-23; default all."),
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(
            help="Rows of the questions to try the policy on against CMC during the training, or "
            "none; default those of --questions."
        ),
    ] = None,
    early: Annotated[
        bool, typer.Option(help="Keep the policy that did best in a trial, not the last one.")
    ] = False,
    decisions: Annotated[int, typer.Option(min=1, help="Decisions to train on.")] = 4_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, episodes and decisions.")] = 0,
    network: Annotated[Network, typer.Option(help="How the policy reads branches.")] = (
        Network.equivariant
    ),
    encoder: Annotated[int, typer.Option(min=1, help="Units that read a branch.")] = 32,
    hidden: Annotated[int, typer.Option(min=1, help="Units that decide.")] = 64,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Play AutoTTS-v0's single actions, not decisions.")
    ] = False,
    max_branches: Annotated[int, typer.Option(min=1, help="N, the widest it can get.")] = 64,
    num_envs: Annotated[int, typer.Option(min=1, help="Episodes side by side.")] = 512,
    horizon: Annotated[int, typer.Option(min=1, help="Decisions between updates.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="At first; it falls to a tenth.")] = 1e-3,
    entropy: Annotated[float, typer.Option(help="Weight of the entropy bonus at first.")] = 0.01,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    logs: Annotated[bool, typer.Option(help="Write TensorBoard logs, in OUT/logs.")] = True,
) -> None:
    """Train a policy that plays by decisions, or by single actions, for every β at once.

    Interrupted or killed, the same command goes on from the last checkpoint, and ends with the
    same policy. It then plays like any controller: autotts benchmark OUT.
    """
    try:
        import torch

        from autotts_gym.controllers.policy_network import WEIGHTS, Shape
        from autotts_gym.learning import ppo
        from autotts_gym.learning.validation import Validation
    except ImportError as problem:
        raise ValueError(
            f"training needs torch ({problem}): pip install 'autotts-gym[rl]'"
        ) from None
    stores = stores_of(env)
    torch.set_num_threads(threads)
    config = ppo.Config(
        decisions=decisions,
        seed=seed,
        shape=Shape(network.value, max_branches, encoder, hidden, atomic),
        num_envs=num_envs,
        horizon=horizon,
        learning_rate=learning_rate,
        entropy=entropy,
    )
    rows = None if questions is None else integers(questions)
    if early and (algorithm is not Algorithm.cleanrl_ppo or trial == "none"):
        raise ValueError("--early needs cleanrl-ppo, and trials")
    tried = None
    if trial != "none":
        asked = rows if trial is None else integers(trial)
        # Episodes of single actions are long.
        seeds = 1 if atomic else 4
        tried = Validation(stores, asked, ppo.terms_of(config.shape), seeds)
    training: Training | Sb3Training
    if algorithm is Algorithm.cleanrl_ppo:
        training = ppo.Training(stores, rows, config, out, tried, early=early)
    else:
        from autotts_gym.learning.sb3 import Sb3Training

        training = Sb3Training(algorithm.value, stores, rows, config, out, tried)
    if (out / WEIGHTS).exists() and not training.done:
        raise ValueError(f"{out} already holds a policy: give another --out, or remove it")
    if training.done:
        print_dim(f"going on from {training.decisions:,} decisions")
    try:
        _run(training, out / "logs" if logs else None)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from the last checkpoint")
        raise typer.Exit(130) from None
    training.export(out, {"command": command_of(out)})
    # Last: killed before, the same command writes the policy again.
    training.forget()
    card = training.card()
    console.print(
        f"trained [bold]{escape(out.name)}[/]: {card['parameters']:,} parameters, "
        f"{card['decisions']:,} decisions in {card['wall_seconds']:,.0f} s, at {escape(str(out))}",
        highlight=False,
        soft_wrap=True,
    )


def _run(training: Training | Sb3Training, logs: Path | None) -> None:
    """Train to the end, with a bar or, where there is no terminal, a line now and then."""
    writer: Any = None
    if logs is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(logs), purge_step=training.decisions)
    with progress_bar() as progress:
        task = progress.add_task("training", total=1000)
        lines = Lines(progress)

        def report(at: Progress) -> None:
            facts = (
                f"return {at.reward:.3f}, accuracy {at.accuracy:.1%}, cost {at.cost:.3f} C, "
                f"{at.rate:,.0f}/s"
            )
            progress.update(task, description=facts, completed=round(1000 * at.share))
            figures = {k: v for k, v in vars(at).items() if k not in ("decisions", "standing")}
            if at.standing is not None:
                tried = at.standing
                progress.console.print(_described(at, tried), highlight=False, soft_wrap=True)
                figures |= {"trial/return": tried.reward, "trial/share of CMC": tried.share}
            for name, value in figures.items():
                if writer is not None and value == value:
                    writer.add_scalar(name, value, at.decisions)
            lines.say(f"{at.share:.0%}, {at.decisions:,} decisions, {facts}")

        training.run(report)
    if writer is not None:
        writer.close()


def _described(at: Progress, tried: ValidationScore) -> str:
    found = f"{at.decisions:,} decisions: return {tried.reward:.4f} in trials"
    if not tried.reached:
        return f"{found}, nowhere as accurate as CMC"
    times = sum(len(shares) for shares in tried.shares.values())
    return (
        f"{found}, as accurate as CMC for {tried.share:.0%} of its tokens "
        f"({round(tried.reached * times)} times of {times})"
    )
