"""The card of a trace store: what ``card.yaml`` contains."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from reprlib import repr as _short  # keeps values in messages short
from typing import Any, Final

import numpy as np
import yaml

from autotts_gym.traces.exceptions import TraceError

#: Version of the store format.
FORMAT: Final = 1
#: File name of the card.
CARD: Final = "card.yaml"

_MAX_INTERVAL: Final = int(np.iinfo(np.int32).max)
_YAML_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Card:
    """Description of a store.

    Attributes:
        interval: Δ, tokens between two probes.
        questions, branches, probes: total counts.
        depth: intervals of the deepest branch, max n + 1.
        mean_tokens: mean tokens of a branch; every question has the same weight.
        fingerprint: sha256 of everything that affects an episode.
        synthetic: whether the traces were generated rather than sampled from a model.
        format: version of the store format.
        details: additional entries (model, sampling, source, licence, ...).
    """

    interval: int
    questions: int
    branches: int
    probes: int
    depth: int
    mean_tokens: float
    fingerprint: str
    synthetic: bool = False
    format: int = FORMAT
    details: dict[str, Any] = field(default_factory=dict)

    def dump(self) -> str:
        """Return the card as YAML."""
        entries = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "details"}
        return yaml.safe_dump(entries | self.details, sort_keys=False, allow_unicode=True)

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card.

        Raises:
            TraceError: the file is missing or is not a card of this format.
        """
        try:
            entries = yaml.load(path.read_text("utf-8"), _YAML_LOADER)
        except FileNotFoundError:
            raise TraceError(f"{path.parent}: no {CARD}, so this is not a trace store") from None
        except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: such as month 13
            raise TraceError(f"{path}: cannot be read as YAML: {error}") from error
        if not isinstance(entries, dict):
            raise TraceError(f"{path}: must be a mapping, not {type(entries).__name__}")
        if entries.get("format") != FORMAT:
            found = entries.get("format")
            raise TraceError(f"{path}: store format {found!r}; this version reads format {FORMAT}")
        own = {f.name for f in fields(cls)} - {"details"}
        details = {key: value for key, value in entries.items() if key not in own}
        try:
            return cls(**{k: v for k, v in entries.items() if k in own}, details=details)
        except TypeError as error:
            raise TraceError(f"{path}: {error}") from error


def check_interval(interval: object) -> None:
    """Raise ``TraceError`` unless ``interval`` is a valid Δ: a positive int below 2**31."""
    if type(interval) is not int or not 0 < interval <= _MAX_INTERVAL:
        shown = _short(interval)
        raise TraceError(f"the interval must be a positive integer (tokens), got {shown}")
