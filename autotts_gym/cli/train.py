"""``autotts train``: train a policy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

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

if TYPE_CHECKING:
    from autotts_gym.learning.ppo import Progress, Training
    from autotts_gym.learning.sb3 import Sb3Training
    from autotts_gym.learning.validation import ValidationScore


class Algorithm(StrEnum):
    """The algorithms of ``autotts train``."""

    autotts_ppo = "autotts-ppo"
    sb3_ppo = "sb3-ppo"
    sb3_maskable_ppo = "sb3-maskable-ppo"
    sb3_a2c = "sb3-a2c"
    sb3_dqn = "sb3-dqn"


#: Deprecated names of the algorithms.
_OLD_ALGORITHMS: Final = {
    "cleanrl-ppo": Algorithm.autotts_ppo,
    "ppo": Algorithm.sb3_ppo,
    "maskable-ppo": Algorithm.sb3_maskable_ppo,
    "a2c": Algorithm.sb3_a2c,
    "dqn": Algorithm.sb3_dqn,
}


def _parse_algorithm(name: str) -> Algorithm:
    if name in _OLD_ALGORITHMS:
        algorithm = _OLD_ALGORITHMS[name]
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
        from autotts_gym.learning import ppo
        from autotts_gym.learning.validation import Validation
    stores = open_environments(env)
    torch.set_num_threads(threads)
    config = ppo.Config(
        decisions=decisions,
        seed=seed,
        shape=Shape(network.value, max_branches, encoder, hidden, atomic),
        num_envs=num_envs,
        horizon=num_steps,
        learning_rate=learning_rate,
        entropy=ent_coef,
    )
    rows = None if questions is None else parse_integers(questions)
    if early and (algorithm is not Algorithm.autotts_ppo or validation == "none"):
        raise ValueError("--early needs autotts-ppo and validation questions")
    validator = None
    if validation != "none":
        validation_rows = rows if validation is None else parse_integers(validation)
        # Fewer seeds for single actions, whose episodes are long.
        seeds = 1 if atomic else 4
        validator = Validation(stores, validation_rows, ppo.terms_of(config.shape), seeds)
    unit = "actions" if atomic else "macro-actions"
    training: Training | Sb3Training
    if algorithm is Algorithm.autotts_ppo:
        training = ppo.Training(stores, rows, config, out, validator, early=early)
    else:
        from autotts_gym.learning.sb3 import Sb3Training

        name = algorithm.value.removeprefix("sb3-")
        training = Sb3Training(name, stores, rows, config, out, validator)
    if (out / WEIGHTS).exists() and not training.done:
        raise ValueError(f"{out} already contains a policy: give another --out, or remove it")
    if training.done:
        print_dim(f"continuing from {training.decisions:,} {unit}")
    with exit_on_interrupt():
        _run(training, out / "logs" if logs else None, unit)
    training.export(out, {"command": current_command(out)})
    # The checkpoint goes last: until then, the same command can write the policy again.
    training.forget()
    card = training.card()
    print_line(
        f"trained [bold]{escape(out.name)}[/]: {card['parameters']:,} parameters, "
        f"{card['decisions']:,} {unit} in {card['wall_seconds']:,.0f} s; saved in "
        f"{escape(str(out))}"
    )


def _run(training: Training | Sb3Training, logs: Path | None, unit: str) -> None:
    """Train with a progress bar, or with lines where there is no terminal."""
    writer: Any = None
    if logs is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(logs), purge_step=training.decisions)
    with progress_bar() as progress:
        task = progress.add_task("training", total=1000)
        lines = ProgressLines(progress)

        def update(at: Progress) -> None:
            facts = (
                f"return {at.reward:.3f}, accuracy {at.accuracy:.1%}, cost {at.cost:.3f} C, "
                f"{at.rate:,.0f}/s"
            )
            progress.update(task, description=facts, completed=round(1000 * at.share))
            metrics = {k: v for k, v in vars(at).items() if k not in ("decisions", "standing")}
            if at.standing is not None:
                score = at.standing
                line = f"{at.decisions:,} {unit}: {_describe(score)}"
                progress.console.print(line, highlight=False, soft_wrap=True)
                metrics |= {"trial/return": score.reward, "trial/share of CMC": score.share}
            for name, value in metrics.items():
                if writer is not None and value == value:  # not NaN
                    writer.add_scalar(name, value, at.decisions)
            lines.print(f"{at.share:.0%}, {at.decisions:,} {unit}, {facts}")

        training.run(update)
    if writer is not None:
        writer.close()


def _describe(score: ValidationScore) -> str:
    text = f"validation return {score.reward:.4f}"
    if not score.reached:
        return f"{text}, less accurate than CMC in every comparison"
    comparisons = sum(len(shares) for shares in score.shares.values())
    return (
        f"{text}, as accurate as CMC for {score.share:.0%} of its tokens "
        f"(in {round(score.reached * comparisons)} of {comparisons} comparisons)"
    )
