"""Loading of Hugging Face datasets as rows."""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

from autotts_gym.traces.store import TraceError

#: Optional prefix of a dataset's name.
HUB_PREFIX: Final = "hf:"

_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")


def is_hub_name(name: str) -> bool:
    """Whether a name has the form ``org/name`` or ``org/name:configuration``."""
    return _NAME.fullmatch(name) is not None


def load_rows(name: str, split: str | None) -> list[dict[str, Any]]:
    """Load the rows of a dataset.

    Args:
        name: ``org/name`` or ``org/name:configuration``.
        split: name of a split; optional if the dataset has only one.

    Raises:
        TraceError: the package ``datasets`` is missing, the dataset cannot be loaded, or it has
            several splits and none is given.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError:
        raise TraceError(
            f"dataset {name}: reading from Hugging Face needs the package datasets: "
            "pip install datasets; or download the question file and give its path"
        ) from None
    path, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(path, configuration or None, split=split)
    except Exception as error:  # many types, from several libraries
        kind = type(error).__name__
        raise TraceError(
            f"dataset {name}: cannot be loaded from Hugging Face: {kind}: {error} "
            "(without a network, download the question file and give its path)"
        ) from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            raise TraceError(f"dataset {name}: has several splits, choose one: {', '.join(loaded)}")
        (loaded,) = loaded.values()
    return [dict(row) for row in loaded]
