"""``autotts tinylm``: training the tiny models, and their questions."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import Lines, console, errors, print_dim, progress_bar
from autotts_gym.tinylm.qwen3_model import SIZES

if TYPE_CHECKING:
    from autotts_gym.tinylm.trainer import Trainer, TrainingProgress


app = typer.Typer(
    help="Tiny language models that reason step by step: train one, write its questions.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class Size(StrEnum):
    """The sizes that can be named."""

    small = "small"
    medium = "medium"
    large = "large"


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the model, and meanwhile the checkpoint.")],
    size: Annotated[Size, typer.Option(help="Of the network.")] = Size.medium,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="How long to train; its size says if not given.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="How long to train, instead; weights then depend on the machine."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same model.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train a tiny model from scratch, into a folder that vLLM and transformers load.

    Interrupted or killed, it goes on where it was when the same command is given again.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as problem:
        raise ValueError(
            f"training needs torch and transformers ({problem}): pip install 'autotts-gym[tinylm]'"
        ) from None
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
        raise ValueError(f"{out} already holds a trained model: give another --out, or remove it")
    if trainer.step:
        print_dim(f"going on from step {trainer.step:,}, {trainer.tokens:,} tokens")
    length = f"--minutes {minutes:g}" if minutes is not None else f"--tokens {recipe.tokens}"
    command = f"autotts tinylm train --size {size.value} --out DIR {length} --seed {seed}"
    try:
        _run(trainer, size.value)
        trainer.export(out, {"size": size.value, "command": command})
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from the last checkpoint")
        raise typer.Exit(130) from None
    # Last: killed before, the same command writes the model again.
    trainer.checkpoint.unlink()
    card = trainer.card()
    console.print(
        f"trained [bold]{size.value}[/]: {card['parameters']:,} parameters, "
        f"{card['tokens']:,} tokens in {card['wall_seconds']:,.0f} s, loss {card['loss']}, "
        f"at {escape(str(out))}",
        highlight=False,
        soft_wrap=True,
    )


def _run(trainer: Trainer, name: str) -> None:
    """Train to the end, with a bar or, where there is no terminal, a line now and then."""
    with progress_bar() as progress:
        task = progress.add_task(f"training {name}", total=1000)
        lines = Lines(progress)

        def report(at: TrainingProgress) -> None:
            facts = f"{at.tokens:,} tokens, loss {at.loss:.3f}, {at.tokens_per_second:,.0f}/s"
            progress.update(
                task, description=f"{name}: {facts}", completed=round(1000 * at.fraction_done)
            )
            left = f"{at.seconds_left / 60:.1f} min left"
            lines.say(f"{name}: {at.fraction_done:.0%}, {facts}, {left}")

        trainer.train(report)


@app.command("questions")
def questions_(
    name: Annotated[str, typer.Argument(help="chain, or chain-hard, which is held out from it.")],
    out: Annotated[Path, typer.Option(help="File to write, a JSON object on each line.")],
) -> None:
    """Write a set of questions as JSON lines, with the keys id, question and answer."""
    from autotts_gym.tinylm.question_sets import questions

    found = questions(name)
    lines = "".join(json.dumps(question._asdict()) + "\n" for question in found)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(lines, encoding="utf-8")
    where = escape(str(out))
    console.print(f"wrote {len(found)} questions to {where}", highlight=False, soft_wrap=True)


@app.command()
def envs(
    to: Annotated[Path, typer.Option(help="Folder for SIZE/chain and SIZE/chain-hard.")],
    models: Annotated[
        Path | None, typer.Option(help="Folder with a model a size; those that come along.")
    ] = None,
    size: Annotated[
        list[Size] | None, typer.Option("--size", help="Repeat for several; all by default.")
    ] = None,
) -> None:
    """Serve the tiny models with vLLM, and collect the environments that come along from them.

    Interrupted or killed, the same call goes on where it was.
    """
    from autotts_gym.cli.collect import Show
    from autotts_gym.tinylm import model_path
    from autotts_gym.tinylm.bundled_envs import collect_bundled_envs

    sizes = [each.value for each in size or Size]
    try:
        with Show(errors) as show:
            made = collect_bundled_envs(
                models or model_path("small").parent, to, sizes, progress=show.named
            )
    except KeyboardInterrupt:
        errors.print("interrupted: what was finished is kept, the same call goes on from there")
        raise typer.Exit(130) from None
    where = escape(str(to))
    console.print(
        f"made {', '.join(made) or 'nothing: all are there'}, in {where}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def path(size: Annotated[Size, typer.Argument(help="Of the model.")]) -> None:
    """Print the folder of a trained model that comes along, as for vllm serve."""
    from autotts_gym.tinylm import model_path

    typer.echo(model_path(size.value))
