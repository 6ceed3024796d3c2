"""``autotts model``: model files for vLLM."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import ProgressLines, print_line, progress_bar, requires_extra

app = typer.Typer(
    help="Model files: conversion to folders that vLLM loads.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class Dtype(StrEnum):
    """Types of converted weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@app.callback()
def model() -> None:
    """Model files: conversion to folders that vLLM loads."""


@app.command("from-gguf")
def from_gguf(
    file: Annotated[Path, typer.Argument(help="The GGUF file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    dtype: Annotated[
        Dtype, typer.Option(help="Type of the weights; float32 keeps the file's values exactly.")
    ] = Dtype.float32,
    name: Annotated[
        str | None, typer.Option(help="Name of the model; by default that of the file's header.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(help="Licence of the model; by default that of the file's header."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Where the model comes from; by default what the file's header says."),
    ] = None,
) -> None:
    """Convert a GGUF file to a folder that vLLM and transformers load.

    Models of the architectures llama, qwen2 and qwen3 with byte-level tokenizers are supported.
    Quantized weights are unpacked. source.json in the folder records the name, the licence and the
    SHA-256 of the file; collections copy it to the card of the environment.
    """
    with requires_extra("conversion", "gguf, torch and transformers", "gguf"):
        import gguf  # noqa: F401
        import safetensors.torch  # noqa: F401
        import transformers  # noqa: F401
    from autotts_gym.model_files.gguf_conversion import convert_gguf

    with progress_bar() as progress:
        task = progress.add_task("converting", total=None)
        lines = ProgressLines(progress)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            lines.print(f"converting: {done}/{total} weights")

        source = convert_gguf(
            file, out, dtype=dtype.value, name=name, licence=licence, url=url, progress=update
        )
    licence_text = f"licence {source['licence']}" if source["licence"] else "licence unknown"
    print_line(
        f"converted [bold]{escape(source['name'])}[/] ({escape(licence_text)}) to "
        f"{escape(str(out))}: {escape(source['architecture'])}, {dtype.value}, sha256 of the file "
        f"{source['sha256']}"
    )
