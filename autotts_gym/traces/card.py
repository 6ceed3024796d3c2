"""The card of a trace store: what ``card.yaml`` contains."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from reprlib import repr as _short  # keeps values in messages short
from typing import Any, Final

import numpy as np

from autotts_gym.traces.exceptions import TraceError
from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.bounded_files import read_text

#: Version of the store format.
FORMAT: Final = 2
#: Formats that this version reads; format 1 has no raw answers.
READABLE_FORMATS: Final = (1, 2)
#: File name of the card.
CARD: Final = "card.yaml"

_MAX_INTERVAL: Final = int(np.iinfo(np.int32).max)
_FINGERPRINT: Final = re.compile("[0-9a-f]{64}")
#: Largest values of the counts. Stores of this size still fit in memory.
_MAX_COUNTS: Final = {
    "interval": _MAX_INTERVAL,
    "questions": 1 << 24,
    "branches": 1 << 26,
    "probes": 1 << 30,
    "depth": int(np.iinfo(np.int32).max),
}


@dataclass(frozen=True)
class Card:
    """Description of a store.

    Attributes:
        interval: Δ, tokens between two probes.
        questions, branches, probes: total counts.
        depth: intervals of the deepest branch, max n + 1.
        mean_tokens: mean tokens of a branch; every question has the same weight.
        fingerprint: sha256 of everything that affects an episode.
        longest_of, longest_tokens: expected tokens of the longest of ``longest_of`` branches of a
            question, mean over the questions; None in older stores. See
            :meth:`~autotts_gym.traces.store.TraceStore.longest_tokens`.
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
    longest_of: int | None = None
    longest_tokens: float | None = None
    synthetic: bool = False
    format: int = FORMAT
    details: dict[str, Any] = field(default_factory=dict)

    def dump(self) -> str:
        """Return the card as YAML."""
        entries = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "details"}
        known = {name: value for name, value in entries.items() if value is not None}
        return bounded_yaml.dump(known | self.details)

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card.

        Raises:
            TraceError: the file is missing or is not a card of this format.
        """
        try:
            entries = bounded_yaml.load(read_text(path))
        except FileNotFoundError:
            raise TraceError(f"{path.parent}: no {CARD}, so this is not a trace store") from None
        except (OSError, ValueError) as error:
            raise TraceError(f"{path}: cannot be read as YAML: {error}") from error
        if not isinstance(entries, dict):
            raise TraceError(f"{path}: must be a mapping, not {type(entries).__name__}")
        found = entries.get("format")
        if isinstance(found, bool) or found not in READABLE_FORMATS:
            readable = " and ".join(map(str, READABLE_FORMATS))
            raise TraceError(f"{path}: store format {_short(found)}; this version reads {readable}")
        own = {f.name for f in fields(cls)} - {"details"}
        details = {key: value for key, value in entries.items() if key not in own}
        try:
            card = cls(**{k: v for k, v in entries.items() if k in own}, details=details)
            card.check()
        except (TypeError, TraceError) as error:
            raise TraceError(f"{path}: {error}") from error
        return card

    def check(self) -> None:
        """Check the type and the range of every entry.

        Raises:
            TraceError: names the entry, its value and what is valid.
        """
        for name, maximum in _MAX_COUNTS.items():
            value, least = getattr(self, name), 0 if name == "probes" else 1
            if type(value) is not int or not least <= value <= maximum:
                raise TraceError(
                    f"{name} must be an integer from {least} to {maximum}, got {_short(value)}"
                )
        _check_positive("mean_tokens", self.mean_tokens)
        if self.longest_of is not None or self.longest_tokens is not None:
            if type(self.longest_of) is not int or self.longest_of < 1:
                raise TraceError(
                    f"longest_of must be an integer of at least 1, got {_short(self.longest_of)}"
                )
            _check_positive("longest_tokens", self.longest_tokens)
        if not isinstance(self.fingerprint, str) or not _FINGERPRINT.fullmatch(self.fingerprint):
            raise TraceError(f"fingerprint must be a sha256 in hex, got {_short(self.fingerprint)}")
        if not isinstance(self.synthetic, bool):
            raise TraceError(f"synthetic must be true or false, got {_short(self.synthetic)}")
        if not all(isinstance(key, str) for key in self.details):
            raise TraceError("its keys must be strings")


def _check_positive(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not (math.isfinite(value) and value > 0):
        raise TraceError(f"{name} must be a number above 0, got {_short(value)}")


def check_interval(interval: object) -> None:
    """Raise ``TraceError`` unless ``interval`` is a valid Δ: a positive int below 2**31."""
    if type(interval) is not int or not 0 < interval <= _MAX_INTERVAL:
        shown = _short(interval)
        raise TraceError(f"the interval must be a positive integer (tokens), got {shown}")
