"""Tiny Qwen3 language models that reason step by step, and their arithmetic task.

The models are trained from scratch in minutes on one CPU core. Their architecture is Qwen3, so vLLM
and transformers load them like a large model. The task is chains of arithmetic
(:mod:`autotts_gym.tinylm.arithmetic_chain`). A teacher that makes deliberate mistakes writes the
training traces (:mod:`autotts_gym.tinylm.teacher`). Three trained sizes are bundled.

Training needs the extra ``tinylm``. The questions, the vocabulary and the paths of the bundled
models need no extra.
"""

from __future__ import annotations

from pathlib import Path

from autotts_gym.tinylm.question_sets import QUESTION_SETS, ChainQuestion, questions
from autotts_gym.tinylm.qwen3_model import SIZES

__all__ = ["QUESTION_SETS", "SIZES", "ChainQuestion", "model_path", "questions"]


def model_path(size: str) -> Path:
    """Return the folder of a bundled model, for vLLM or transformers.

    Args:
        size: ``small``, ``medium`` or ``large``.

    Raises:
        ValueError: the size does not exist; the message lists the sizes.
    """
    if size not in SIZES:
        raise ValueError(f"unknown tiny model {size!r}; the sizes are {', '.join(SIZES)}")
    return Path(__file__).parent / "models" / size
