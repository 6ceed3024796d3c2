"""Environments of pretrained models: conversion, questions, collection with vLLM.

Usage::

    pip install reasoning-gym==0.1.25
    python recipes/pretrained_envs.py --weights FOLDER --to build/envs

``FOLDER`` holds the GGUF files of the models below; they are found by their SHA-256. The converted
models and the questions go to ``build/``. Everything that is finished is kept: run the same command
again to continue. ``--model`` and ``--set`` select a part.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from question_sets import QUESTION_SETS, write

from autotts_gym import api
from autotts_gym.cli.collection_display import CollectionDisplay
from autotts_gym.cli.console import errors
from autotts_gym.model_files.gguf_conversion import convert_gguf
from autotts_gym.traces import splits
from autotts_gym.utils.files import write_text

_RECIPES: Final = Path(__file__).parent

#: Arguments of vLLM's engine on a CPU. float32 because probes are re-computed to 1e-3; blocks of 32
#: tokens because a probe computes again what does not fill a block.
ENGINE: Final[dict[str, Any]] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1024,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    # vLLM 0.32 on a CPU crashes on a prompt that is read in two steps.
    "enable_chunked_prefill": False,
    "block_size": 32,
}

#: Environment variables of vLLM on a CPU, unless they are set already.
SETTINGS: Final = {
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "3600",  # by default, a busy machine ends the engine
    "HF_HUB_OFFLINE": "1",
}


class Size(NamedTuple):
    """Number of questions of a set, and of branches of a question."""

    questions: int
    branches: int


@dataclass(frozen=True)
class PretrainedModel:
    """A model, its files, and how its traces are collected.

    Attributes:
        title, licence, url: for the card.
        sha256: of the GGUF file.
        sets: the search set and the held-out set.
        size: questions and branches that are collected.
        options: further arguments of :func:`autotts_gym.collect`.
    """

    title: str
    licence: str
    url: str
    sha256: str
    sets: tuple[str, str]
    size: Size
    options: dict[str, Any] = field(default_factory=dict)


#: Models by name, in the order in which they are collected.
MODELS: Final = {
    "qwen2.5-coder-0.5b": PretrainedModel(
        title="Qwen2.5-Coder-0.5B-Instruct",
        licence="Apache-2.0",
        url="https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        sets=("problems", "numbers"),
        size=Size(questions=30, branches=32),
        options={
            "protocol": _RECIPES / "step-by-step.yaml",
            "interval": 16,
            "max_tokens": 512,
            "temperature": 0.7,
        },
    ),
    "smollm2-135m": PretrainedModel(
        title="SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        url="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        sets=("tables", "small-numbers"),
        size=Size(questions=60, branches=64),
        options={
            "protocol": _RECIPES / "step-by-step.yaml",
            "interval": 8,
            "max_tokens": 256,
            "temperature": 0.7,
        },
    ),
}


def find_weights(folder: Path, sha256: str) -> Path:
    """Return the GGUF file with a digest.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in sorted(folder.rglob("*.gguf")):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return path
    raise FileNotFoundError(f"{folder}: no .gguf file with the SHA-256 {sha256}")


def prepare_model(name: str, weights: Path, build: Path) -> Path:
    """Return the folder of a converted model; converts it if it is missing."""
    model, folder = MODELS[name], build / "models" / name
    if not folder.exists():
        file = find_weights(weights, model.sha256)
        convert_gguf(file, folder, name=model.title, licence=model.licence, url=model.url)
    return folder


def collect_env(
    name: str, question_set: str, size: Size, folder: Path, build: Path, target: Path
) -> None:
    """Collect an environment, or continue to.

    Args:
        name: the model.
        question_set: the question set.
        size: questions and branches.
        folder: the converted model.
        build: folder of the questions' files.
        target: parent folder of the environments.
    """
    questions = build / "questions" / f"{question_set}.jsonl"
    write(QUESTION_SETS[question_set], questions, size.questions)
    with CollectionDisplay(errors) as show:
        api.collect(
            questions,
            question_set,
            model=str(folder),
            model_name=name,
            branches=size.branches,
            texts=True,
            engine=ENGINE,
            # Little more than vLLM's batch: a trace is probed while its blocks are in the cache.
            concurrency=ENGINE["max_num_seqs"] * 3 // 2,
            to=target / name,
            progress=lambda state: show.named(f"{name}/{question_set}", state),
            **MODELS[name].options,
        )


def main() -> None:
    """Collect the environments that the command line selects."""
    parser = argparse.ArgumentParser(description="Collect the environments of pretrained models.")
    parser.add_argument("--weights", type=Path, required=True, help="Folder of the GGUF files.")
    parser.add_argument("--to", type=Path, default=Path("build/envs"))
    parser.add_argument("--build", type=Path, default=Path("build"), help="Models and questions.")
    parser.add_argument("--model", action="append", choices=MODELS, help="By default all.")
    parser.add_argument("--set", action="append", choices=QUESTION_SETS, help="By default all.")
    parser.add_argument("--questions", type=int, help="Questions of a set, the first ones.")
    parser.add_argument("--branches", type=int, help="Traces of a question.")
    arguments = parser.parse_args()
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    for name in arguments.model or MODELS:
        model = MODELS[name]
        chosen = [each for each in model.sets if each in (arguments.set or QUESTION_SETS)]
        missing = [each for each in chosen if not (arguments.to / name / each).exists()]
        if missing:
            folder = prepare_model(name, arguments.weights, arguments.build)
            size = Size(
                arguments.questions or model.size.questions,
                arguments.branches or model.size.branches,
            )
            for question_set in missing:
                collect_env(name, question_set, size, folder, arguments.build, arguments.to)
        search, held_out = model.sets
        write_text(arguments.to / name / splits.SET, splits.dump([search], [held_out]))


if __name__ == "__main__":
    main()
