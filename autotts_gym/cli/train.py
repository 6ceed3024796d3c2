"""``autotts train``: train a policy."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from autotts_gym.cli.console import (
    ProgressLines,
    exit_on_interrupt,
    print_dim,
    print_error,
    print_line,
    progress_bar,
    requires_extra,
)
from autotts_gym.cli.options import (
    Environments,
    current_command,
    open_environments,
    parse_integers,
)
from autotts_gym.learning.algorithms import DEPRECATED_NAMES, Algorithm

if TYPE_CHECKING:
    from autotts_gym.learning.base_trainer import Trainer
    from autotts_gym.learning.progress import Progress
    from autotts_gym.learning.training_config import TrainingConfig
    from autotts_gym.learning.validation import Validation, ValidationScore
    from autotts_gym.traces.store import TraceStore


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
    max_branches: Annotated[int, typer.Option(min=1, help="N, maximum width of an episode.")] = 64,
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
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
    logs: Annotated[bool, typer.Option(help="Write TensorBoard logs to OUT/logs.")] = True,
) -> None:
    """Train a policy for all β at once, on macro-actions or on single actions.

    If the command is interrupted, run it again to continue from the last checkpoint; the resulting
    policy is the same. The policy is played like any agent: autotts benchmark OUT.
    """
    with requires_extra("training", "torch", "rl"):
        import torch

        from autotts_gym.controllers.policy_network import WEIGHTS, Shape
        from autotts_gym.learning.training_config import TrainingConfig
    stores = open_environments(env)
    torch.set_num_threads(threads)
    config = TrainingConfig(
        total_timesteps=decisions,
        seed=seed,
        shape=Shape(network.value, max_branches, encoder, hidden, atomic),
        num_envs=num_envs,
        num_steps=num_steps,
        learning_rate=learning_rate,
        ent_coef=ent_coef,
    )
    rows = None if questions is None else parse_integers(questions)
    if early and (algorithm is not Algorithm.autotts_ppo or validation == "none"):
        raise ValueError("--early needs autotts-ppo and validation questions")
    episodes = None
    if validation != "none":
        validation_rows = rows if validation is None else parse_integers(validation)
        episodes = _validation(stores, validation_rows, config)
    unit = "actions" if atomic else "macro-actions"
    trainer = _trainer(algorithm, stores, rows, config, out, episodes, early)
    if (out / WEIGHTS).exists() and not trainer.num_timesteps:
        raise ValueError(f"{out} already contains a policy: give another --out, or remove it")
    if trainer.num_timesteps:
        print_dim(f"continuing from {trainer.num_timesteps:,} {unit}")
    with exit_on_interrupt():
        _run(trainer, out / "logs" if logs else None, unit)
    trainer.export(out, {"command": current_command(out)})
    # The checkpoint goes last: until then, the same command can write the policy again.
    trainer.delete_checkpoint()
    card = trainer.card()
    print_line(
        f"trained [bold]{escape(out.name)}[/]: {card['parameters']:,} parameters, "
        f"{card['decisions']:,} {unit} in {card['wall_seconds']:,.0f} s; saved in "
        f"{escape(str(out))}"
    )


def _validation(
    stores: Mapping[str, TraceStore], rows: list[int] | None, config: TrainingConfig
) -> Validation:
    """The validation episodes of a training."""
    from autotts_gym.learning.training_config import episode_config_of
    from autotts_gym.learning.validation import Validation

    # Fewer seeds for single actions, whose episodes are long.
    seeds = 1 if config.shape.atomic else 4
    return Validation(stores, rows, episode_config_of(config.shape), seeds)


def _trainer(
    algorithm: Algorithm,
    stores: Mapping[str, TraceStore],
    rows: list[int] | None,
    config: TrainingConfig,
    out: Path,
    validation: Validation | None,
    keep_best: bool,
) -> Trainer:
    """The trainer of an algorithm."""
    if algorithm is Algorithm.autotts_ppo:
        from autotts_gym.learning.ppo import PPOTrainer

        return PPOTrainer(stores, rows, config, out, validation, keep_best=keep_best)
    from autotts_gym.learning.sb3_trainer import Sb3Trainer

    return Sb3Trainer(algorithm.value, stores, rows, config, out, validation)


def _run(trainer: Trainer, logs: Path | None, unit: str) -> None:
    """Train with a progress bar, or with lines where there is no terminal."""
    writer: Any = None
    if logs is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(logs), purge_step=trainer.num_timesteps)
    with progress_bar() as bar:
        task = bar.add_task("training", total=1000)
        lines = ProgressLines(bar)

        def update(progress: Progress) -> None:
            metrics = (
                f"return {progress.mean_return:.3f}, accuracy {progress.accuracy:.1%}, "
                f"cost {progress.cost:.3f} C, {progress.timesteps_per_second:,.0f}/s"
            )
            bar.update(task, description=metrics, completed=round(1000 * progress.fraction))
            if progress.validation is not None:
                line = f"{progress.timesteps:,} {unit}: {_describe(progress.validation)}"
                bar.console.print(line, highlight=False, soft_wrap=True)
            if writer is not None:
                for name, value in progress.scalars().items():
                    writer.add_scalar(name, value, progress.timesteps)
            lines.print(f"{progress.fraction:.0%}, {progress.timesteps:,} {unit}, {metrics}")

        trainer.run(update)
    if writer is not None:
        writer.close()


def _describe(score: ValidationScore) -> str:
    text = f"validation return {score.mean_return:.4f}"
    if not score.matched_fraction:
        return f"{text}, less accurate than CMC in every comparison"
    comparisons = sum(len(shares) for shares in score.token_shares.values())
    return (
        f"{text}, as accurate as CMC for {score.mean_token_share:.0%} of its tokens "
        f"(in {round(score.matched_fraction * comparisons)} of {comparisons} comparisons)"
    )
