"""Counting the tokens of completions with a tokenizer that the user names."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from autotts_gym.traces.store import TraceError


def load_counter(tokenizer: str) -> Callable[[str, bool], int]:
    """Load a tokenizer; returns a function that counts the tokens of a completion.

    Its arguments are the text, and whether the completion was cut at a maximum length. One that
    was not ends with a token that the text does not show, and that is counted.

    Args:
        tokenizer: folder, or name on the Hugging Face hub, of a tokenizer or of its model.

    Raises:
        TraceError: transformers is missing, or there is no such tokenizer.
    """
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise TraceError(
            f"counting tokens needs the package transformers ({error}): pip install transformers"
        ) from None
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    except Exception as error:  # many types, from several libraries
        raise TraceError(f"tokenizer {tokenizer!r}: cannot be loaded: {error}") from error

    def count(text: str, cut: bool) -> int:
        return len(loaded.encode(text, add_special_tokens=False)) + (not cut)

    return count
