"""The published protocol, and the published table.

AutoTTS (arXiv 2605.08083) plays every controller on every (model, benchmark) pair over seeded
branch orders, the same order for all questions of a seed, and bills self-consistency, ASC and ESC
by what was generated, but the probing controllers by every started interval in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True)
class Entry:
    """A row of the published table.

    Attributes:
        label: what the table calls it.
        agent, beta: who plays it here.
        billing: how it is billed there.
    """

    label: str
    agent: str
    beta: float | None
    billing: Literal["tokens", "interval"]


#: The published rows, and CMC at β = 0 besides.
ENTRIES: Final = (
    Entry("SC@64", "self_consistency", None, "tokens"),
    Entry("ASC", "asc", None, "tokens"),
    Entry("ESC", "esc", None, "tokens"),
    Entry("Parallel-Probe", "parallel_probe", None, "interval"),
    Entry("CMC β=0", "cmc", 0.0, "interval"),
    Entry("CMC β=0.5", "cmc", 0.5, "interval"),
    Entry("CMC β=1", "cmc", 1.0, "interval"),
)

AGENTS: Final = tuple(dict.fromkeys(entry.agent for entry in ENTRIES))
BETAS: Final = tuple(entry.beta for entry in ENTRIES if entry.beta is not None)
SEEDS: Final = "0-99"

#: Branches that a controller could open there.
WIDTH: Final = 64

BILLING: Final[Mapping[str, Literal["tokens", "interval"]]] = {e.agent: e.billing for e in ENTRIES}


@dataclass(frozen=True)
class Figures:
    """A published cell: accuracy in percent, total and sequential tokens in thousands.

    Published sequential tokens count the longest branch (for ESC the sum over windows, for ASC the
    total), not the clock of this package; None where there are none.
    """

    accuracy: float
    tokens: float
    sequential: float | None = None


_MODELS: Final = ("Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B")


def _row(*cells: tuple[float, ...]) -> dict[str, Figures]:
    return {model: Figures(*cell) for model, cell in zip(_MODELS, cells, strict=True)}


#: label -> model -> figures on AIME24, the search set of the publication.
PUBLISHED: Final = {
    "SC@64": _row(
        (21.4, 1008.6, 32.7), (72.5, 1025.8, 31.4), (80.0, 886.8, 29.3), (80.4, 910.8, 30.1)
    ),
    "ASC": _row(
        (21.4, 805.5, 805.5), (72.3, 482.6, 482.6), (80.1, 175.7, 175.7), (80.4, 226.0, 226.0)
    ),
    "ESC": _row(
        (21.4, 986.7, 192.9), (72.5, 909.2, 170.4), (80.0, 528.9, 98.9), (80.4, 459.4, 84.7)
    ),
    "Parallel-Probe": _row(
        (21.8, 773.8, 20.8), (68.1, 748.5, 20.5), (79.7, 688.9, 19.2), (81.5, 730.8, 20.3)
    ),
    "CMC β=0.5": _row((19.2, 283.6), (68.5, 276.3), (82.0, 236.7), (84.3, 255.3)),
    "CMC β=1": _row((20.9, 542.2), (70.4, 499.1), (83.5, 424.9), (85.8, 467.4)),
}
_BENCHMARK: Final = "aime24"

#: (label, model) of published cells that their stated settings do not reproduce, and why.
UNLIKE: Final = {
    ("ASC", "Qwen3-4B"): "published with at most 40 samples instead of 64",
    ("Parallel-Probe", "Qwen3-1.7B"): "does not reproduce under its stated settings",
}


def published(label: str, details: Mapping[str, Any]) -> Figures | None:
    """The published cell of a row on an environment, by what its card says.

    Args:
        label: of the row.
        details: the card's; an import has ``model`` and ``benchmark``.
    """
    if str(details.get("benchmark", "")).lower() != _BENCHMARK:
        return None
    return PUBLISHED.get(label, {}).get(str(details.get("model", "")))
