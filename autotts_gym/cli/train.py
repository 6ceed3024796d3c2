"""``autotts train``: train a policy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import (
    exit_on_interrupt,
    print_dim,
    print_error,
    print_line,
    requires_extra,
)
from autotts_gym.cli.options import (
    Environments,
    current_command,
    open_environments,
    parse_integers,
    parse_numbers,
)
from autotts_gym.cli.training_display import TrainingDisplay
from autotts_gym.learning.algorithms import DEPRECATED_NAMES, Algorithm


def _parse_algorithm(name: str) -> Algorithm:
    if name in DEPRECATED_NAMES:
        algorithm = DEPRECATED_NAMES[name]
        print_error("autotts", f"{name} is now called {algorithm.value}", "yellow")
        return algorithm
    try:
        return Algorithm(name)
    except ValueError:
        names = ", ".join(algorithm.value for algorithm in Algorithm)
        raise typer.BadParameter(f"{name!r} is not one of {names}") from None


def _parse_range(text: str) -> tuple[float, float]:
    """A range such as ``0,1``, or a number, which is a range of itself."""
    numbers = parse_numbers(text)
    if len(numbers) > 2 or numbers != sorted(numbers) or not 0 <= numbers[0] <= numbers[-1] <= 1:
        raise typer.BadParameter(
            f"{text!r} is not a range LOW,HIGH with 0 <= LOW <= HIGH <= 1, such as 0,1"
        )
    return numbers[0], numbers[-1]


class Network(StrEnum):
    """The networks of ``autotts train``."""

    equivariant = "equivariant"
    mlp = "mlp"


def train(
    algorithm: Annotated[
        Algorithm,
        typer.Argument(
            parser=_parse_algorithm,
            metavar="ALGORITHM",
            help="autotts-ppo is the implementation in this package; the others are those of "
            "stable-baselines3 and sb3-contrib.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Output folder for the policy, its card and checkpoints.")
    ],
    env: Environments = None,
    questions: Annotated[
        str | None,
        typer.Option(help="Numbers of the questions to train on, such as 0-23; all by default."),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            "--validation",
            "--trial",
            help="Numbers of the questions on which the policy is compared with CMC during "
            "training, or none; by default those of --questions.",
        ),
    ] = None,
    early: Annotated[
        bool, typer.Option(help="Keep the policy with the best validation score, not the last.")
    ] = False,
    decisions: Annotated[
        int,
        typer.Option(min=1, help="Macro-actions to train on; with --atomic, single actions."),
    ] = 4_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    network: Annotated[Network, typer.Option(help="Architecture of the policy network.")] = (
        Network.equivariant
    ),
    encoder: Annotated[int, typer.Option(min=1, help="Units of the branch encoder.")] = 32,
    hidden: Annotated[int, typer.Option(min=1, help="Units of the hidden layers.")] = 64,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Train on the single actions of AutoTTS-v0.")
    ] = False,
    max_branches: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="N, maximum width of an episode; by default 64, or the fewest branches "
            "of a question.",
        ),
    ] = None,
    num_envs: Annotated[int, typer.Option(min=1, help="Number of parallel episodes.")] = 512,
    num_steps: Annotated[
        int,
        typer.Option(
            "--num-steps", "--horizon", min=1, help="Steps of each episode between two updates."
        ),
    ] = 64,
    learning_rate: Annotated[
        float, typer.Option(help="Initial learning rate; it decays linearly to a tenth.")
    ] = 1e-3,
    ent_coef: Annotated[
        float,
        typer.Option("--ent-coef", "--entropy", help="Initial coefficient of the entropy bonus."),
    ] = 0.01,
    latency_weight: Annotated[
        str,
        typer.Option(
            metavar="LOW,HIGH",
            help="Range of w, the weight of sequential tokens in the cost, from 0 to 1: each "
            "episode draws one, and the policy reads it. 0: tokens are the only cost.",
        ),
    ] = "0",
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
    logs: Annotated[bool, typer.Option(help="Write TensorBoard logs to OUT/logs.")] = True,
) -> None:
    """Train a policy for all β at once, on macro-actions or on single actions.

    If the command is interrupted, run it again to continue from the last checkpoint; the resulting
    policy is the same. The policy is played like any agent: autotts benchmark OUT.
    """
    with requires_extra("training", "torch", "rl"):
        import torch

        from autotts_gym.controllers.policy_network import Shape
        from autotts_gym.learning.trainer_factory import create_trainer
        from autotts_gym.learning.training_config import TrainingConfig
        from autotts_gym.traces.branch_width import default_width
    if early and (algorithm is not Algorithm.autotts_ppo or validation == "none"):
        raise ValueError("--early needs autotts-ppo and validation questions")
    torch.set_num_threads(threads)
    rows = None if questions is None else parse_integers(questions)
    stores = open_environments(env)
    if max_branches is None:
        max_branches = default_width(stores.values())
    trainer = create_trainer(
        algorithm.value,
        stores,
        rows,
        TrainingConfig(
            total_timesteps=decisions,
            seed=seed,
            shape=Shape(network.value, max_branches, encoder, hidden, atomic),
            num_envs=num_envs,
            num_steps=num_steps,
            learning_rate=learning_rate,
            ent_coef=ent_coef,
            latency_weight=_parse_range(latency_weight),
        ),
        out,
        validate=validation != "none",
        validation_rows=rows if validation in (None, "none") else parse_integers(validation),
        keep_best=early,
    )
    unit = "actions" if atomic else "macro-actions"
    if trainer.planned_timesteps != decisions:
        print_dim(
            f"training on {trainer.planned_timesteps:,} {unit}, not {decisions:,}: updates are of "
            f"{num_envs:,} × {num_steps:,} (--num-envs, --num-steps)"
        )
    if trainer.num_timesteps:
        print_dim(f"continuing from {trainer.num_timesteps:,} {unit}")
    with (
        exit_on_interrupt(),
        TrainingDisplay(unit, out / "logs" if logs else None, trainer.num_timesteps) as show,
    ):
        trainer.run(show.update)
    trainer.finish(current_command(out))
    card = trainer.card()
    print_line(
        f"trained [bold]{escape(out.name)}[/]: {card['parameters']:,} parameters, "
        f"{card['decisions']:,} {unit} in {card['wall_seconds']:,.0f} s; saved in "
        f"{escape(str(out))}"
    )
