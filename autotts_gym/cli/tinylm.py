"""``autotts tinylm``: train the tiny models, and create their environments."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.collection_display import CollectionDisplay
from autotts_gym.cli.console import (
    ProgressLines,
    errors,
    exit_on_interrupt,
    print_dim,
    print_line,
    progress_bar,
    requires_extra,
)
from autotts_gym.tinylm.qwen3_model import SIZES

if TYPE_CHECKING:
    from autotts_gym.tinylm.trainer import Trainer, TrainingProgress


app = typer.Typer(
    help="Tiny language models that reason step by step: training, questions, environments.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class Size(StrEnum):
    """Sizes of the tiny models."""

    small = "small"
    medium = "medium"
    large = "large"


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Output folder for the model and the checkpoint.")],
    size: Annotated[Size, typer.Option(help="Size of the network.")] = Size.medium,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens to train on; by default depends on the size.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Minutes to train, instead; the weights then depend on the machine."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
) -> None:
    """Train a tiny model from scratch; vLLM and transformers can load the output folder.

    If the command is interrupted, run it again to continue from the last checkpoint.
    """
    with requires_extra("training", "torch and transformers", "tinylm"):
        import torch
        import transformers  # noqa: F401
    from autotts_gym.tinylm.trainer import CARD, Trainer
    from autotts_gym.tinylm.training_samples import Recipe

    if tokens is not None and minutes is not None:
        raise typer.BadParameter("give --tokens or --minutes, not both")
    preset = SIZES[size.value]
    recipe = Recipe(
        preset.shape, preset.teacher, tokens or preset.tokens, minutes=minutes, seed=seed
    )
    torch.set_num_threads(threads)
    trainer = Trainer(recipe, out)
    if (out / CARD).exists() and not trainer.step:
        raise ValueError(f"{out} already contains a model: give another --out, or remove it")
    if trainer.step:
        print_dim(f"continuing from step {trainer.step:,}, {trainer.tokens:,} tokens")
    length = f"--minutes {minutes:g}" if minutes is not None else f"--tokens {recipe.tokens}"
    command = f"autotts tinylm train --size {size.value} --out DIR {length} --seed {seed}"
    with exit_on_interrupt():
        _run(trainer, size.value)
        trainer.export(out, {"size": size.value, "command": command})
    # The checkpoint goes last: until then, the same command can write the model again.
    trainer.checkpoint.unlink()
    card = trainer.card()
    print_line(
        f"trained [bold]{size.value}[/]: {card['parameters']:,} parameters, "
        f"{card['tokens']:,} tokens in {card['wall_seconds']:,.0f} s, loss {card['loss']}; "
        f"saved in {escape(str(out))}"
    )


def _run(trainer: Trainer, name: str) -> None:
    """Train with a progress bar, or with lines where there is no terminal."""
    with progress_bar() as progress:
        task = progress.add_task(f"training {name}", total=1000)
        lines = ProgressLines(progress)

        def update(at: TrainingProgress) -> None:
            facts = f"{at.tokens:,} tokens, loss {at.loss:.3f}, {at.tokens_per_second:,.0f}/s"
            progress.update(
                task, description=f"{name}: {facts}", completed=round(1000 * at.fraction_done)
            )
            left = f"{at.seconds_left / 60:.1f} min left"
            lines.print(f"{name}: {at.fraction_done:.0%}, {facts}, {left}")

        trainer.train(update)


@app.command("questions")
def questions_(
    name: Annotated[str, typer.Argument(help="chain, or the held-out set chain-hard.")],
    out: Annotated[Path, typer.Option(help="The JSON Lines file to write.")],
) -> None:
    """Write a set of questions as JSON Lines with the keys id, question and answer."""
    from autotts_gym.tinylm.question_sets import questions

    rows = questions(name)
    lines = "".join(json.dumps(question._asdict()) + "\n" for question in rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(lines, encoding="utf-8")
    print_line(f"wrote {len(rows)} questions to {escape(str(out))}")


@app.command()
def envs(
    to: Annotated[Path, typer.Option(help="Output folder for SIZE/chain and SIZE/chain-hard.")],
    models: Annotated[
        Path | None,
        typer.Option(help="Folder with one model for each size; the bundled models by default."),
    ] = None,
    size: Annotated[
        list[Size] | None, typer.Option("--size", help="Sizes; repeat for several. All by default.")
    ] = None,
) -> None:
    """Serve the tiny models with vLLM, and collect the bundled environments from them.

    If the command is interrupted, run it again to continue.
    """
    from autotts_gym.tinylm import model_path
    from autotts_gym.tinylm.bundled_envs import collect_bundled_envs

    sizes = [each.value for each in size or Size]
    with exit_on_interrupt(), CollectionDisplay(errors) as show:
        names = collect_bundled_envs(
            models or model_path("small").parent, to, sizes, progress=show.named
        )
    if names:
        print_line(f"collected {', '.join(names)} in {escape(str(to))}")
    else:
        print_line(f"nothing to collect: {escape(str(to))} already has all of them")


@app.command()
def path(size: Annotated[Size, typer.Argument(help="Size of the model.")]) -> None:
    """Print the folder of a bundled model, for example for vllm serve."""
    from autotts_gym.tinylm import model_path

    typer.echo(model_path(size.value))
