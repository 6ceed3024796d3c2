"""A tiny language model that reasons step by step, trained from scratch in minutes on one core.

Its architecture is Qwen3, so vLLM and transformers serve it as they serve a large one; its task is
chains of arithmetic, and its teacher errs on purpose (``autotts_gym.tinylm.teacher``). Three sizes
come along, trained. Training needs the extra ``tinylm``; the questions, the vocabulary and the
path of a model need nothing.
"""

from __future__ import annotations

from pathlib import Path

from autotts_gym.tinylm.task import SETS, Question, questions
from autotts_gym.tinylm.tiny_model import SIZES

__all__ = ["SETS", "SIZES", "Question", "model_path", "questions"]


def model_path(size: str) -> Path:
    """The folder of a trained model that comes along, for vLLM or transformers.

    Args:
        size: ``small``, ``medium`` or ``large``.

    Raises:
        ValueError: there is no such size; the message lists those there are.
    """
    if size not in SIZES:
        raise ValueError(f"there is no tiny model {size!r}; there are {', '.join(SIZES)}")
    return Path(__file__).parent / "models" / size
