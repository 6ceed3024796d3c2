"""Statistics of the published traces: aggregates to compare with if the files are not available."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from autotts_gym.traces.statistics import Statistics

_FILE: Final = Path(__file__).with_name("published_aime24.json")


def _load(path: Path) -> Mapping[str, Statistics]:
    figures: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return MappingProxyType(
        {
            model: Statistics(**{name: _value(value) for name, value in values.items()})
            for model, values in figures.items()
        }
    )


def _value(value: Any) -> Any:
    """A figure; NaN for what the traces lack."""
    if value is None:
        return math.nan
    return tuple(value) if isinstance(value, list) else value


#: Results of :func:`autotts_gym.traces.statistics.describe`, rounded, for the traces published with
#: arXiv 2605.08083: four Qwen3 models on AIME24 (30 questions, 128 branches each, Δ = 500), by
#: model.
PUBLISHED_AIME24: Final = _load(_FILE)
