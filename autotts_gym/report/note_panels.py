"""Panels of the plot of an agent's notes, by the scale of the noted numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

#: Series whose scale is below this share of the largest scale are in a panel of their own.
_SMALL: Final = 0.25


@dataclass
class NoteRange:
    """The values of one name over all recorded episodes of an agent.

    Attributes:
        count: number of finite values.
        total: sum of their absolute values.
        negative: whether a value is negative.
        is_level: whether it was noted at most once per episode, like a threshold.
    """

    count: int = 0
    total: float = 0.0
    negative: bool = False
    is_level: bool = True

    @property
    def scale(self) -> float:
        """Mean absolute value; 0 without values."""
        return self.total / self.count if self.count else 0.0


@dataclass
class NoteRanges:
    """The ranges of an agent's notes.

    Attributes:
        by_name: in the order in which the names were first noted.
    """

    by_name: dict[str, NoteRange] = field(default_factory=dict)

    def add(self, notes: Iterable[tuple[int, str, float]]) -> None:
        """Add the notes of one episode, as (actions so far, name, value)."""
        noted: set[str] = set()
        for _, name, value in notes:
            extent = self.by_name.setdefault(name, NoteRange())
            if math.isfinite(value):
                extent.count += 1
                extent.total += abs(value)
                extent.negative = extent.negative or value < 0
            extent.is_level = extent.is_level and name not in noted
            noted.add(name)


@dataclass(frozen=True)
class NotePanel:
    """A panel of the plot.

    Attributes:
        names: of the notes in the panel.
        signed: whether a series has negative values; levels are then drawn at both signs.
    """

    names: list[str]
    signed: bool


def note_panels(ranges: NoteRanges) -> list[NotePanel]:
    """Divide an agent's notes into one or two panels.

    Series with negative values, and series that are much smaller than the largest one, are in the
    second panel. A level is in the panel whose series are closest to it in scale.

    Returns:
        The panels that are not empty.
    """
    series = {name: extent for name, extent in ranges.by_name.items() if not extent.is_level}
    largest = max((extent.scale for extent in series.values()), default=0.0)
    small = {
        name
        for name, extent in series.items()
        if extent.negative or extent.scale < _SMALL * largest
    }
    panels = [
        NotePanel([name for name in series if name not in small], False),
        NotePanel(
            [name for name in series if name in small],
            any(extent.negative for extent in series.values()),
        ),
    ]
    scales = [max((series[name].scale for name in panel.names), default=0.0) for panel in panels]
    for name, extent in ranges.by_name.items():
        if extent.is_level:
            panels[_closest(extent.scale, scales)].names.append(name)
    return [panel for panel in panels if panel.names]


def _closest(scale: float, scales: list[float]) -> int:
    """Return the index of the closest scale by ratio; the scale of an empty panel is 0."""

    def distance(k: int) -> float:
        if not scales[k] or not scale:
            return math.inf
        return abs(math.log(scale / scales[k]))

    return min(range(len(scales)), key=distance)
