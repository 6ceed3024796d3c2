"""The published protocol and the published table of AutoTTS (arXiv 2605.08083).

The protocol plays every controller on every (model, benchmark) pair over seeded branch orders, with
the same order for all questions of a seed. Self-consistency, ASC and ESC are billed by generated
tokens, the probing controllers by started intervals in full. The data are in
``published_protocol.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal


@dataclass(frozen=True)
class PublishedRow:
    """A row of the published table.

    Attributes:
        label: its label in the table.
        agent, beta: the controller that reproduces it, and its β.
        billing: how the publication bills it.
    """

    label: str
    agent: str
    beta: float | None
    billing: Literal["tokens", "interval"]


@dataclass(frozen=True)
class PublishedFigures:
    """A cell of the published table.

    Attributes:
        accuracy: percent.
        tokens: total tokens, thousands.
        sequential: sequential tokens, thousands; None if not published. The publication counts the
            longest branch (for ESC the sum over windows, for ASC the total), not the clock of this
            package.
    """

    accuracy: float
    tokens: float
    sequential: float | None = None


def _data() -> dict[str, Any]:
    file = resources.files("autotts_gym.evaluation") / "published_protocol.toml"
    return tomllib.loads(file.read_text("utf-8"))


_DATA: Final = _data()

#: Rows of the published table, and CMC at β = 0.
ROWS: Final = tuple(
    PublishedRow(row["label"], row["agent"], row.get("beta"), row["billing"])
    for row in _DATA["rows"]
)

#: The protocol: controllers, values of β, branch orders, width, and billing by controller.
AGENTS: Final = tuple(dict.fromkeys(row.agent for row in ROWS))
BETAS: Final = tuple(row.beta for row in ROWS if row.beta is not None)
SEEDS: Final[str] = _DATA["seeds"]
WIDTH: Final[int] = _DATA["max_branches"]
BILLING: Final[Mapping[str, Literal["tokens", "interval"]]] = {
    row.agent: row.billing for row in ROWS
}

#: label -> model -> published figures.
PUBLISHED: Final = {
    row["label"]: {
        model: PublishedFigures(*figures)
        for model, figures in zip(_DATA["models"], row["figures"], strict=True)
    }
    for row in _DATA["rows"]
    if "figures" in row
}

#: (label, model) of published figures that the stated settings do not reproduce -> reason.
NOT_REPRODUCED: Final = {
    (entry["label"], entry["model"]): str(entry["reason"]) for entry in _DATA["not_reproduced"]
}


def published_figures(label: str, details: Mapping[str, Any]) -> PublishedFigures | None:
    """Return the published figures of a row on an environment, if there are any.

    Args:
        label: label of the row.
        details: details of the environment's card; imported traces have ``model`` and
            ``benchmark``.
    """
    if str(details.get("benchmark", "")).lower() != _DATA["benchmark"]:
        return None
    return PUBLISHED.get(label, {}).get(str(details.get("model", "")))
