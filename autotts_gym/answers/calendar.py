"""Times of the day, durations such as ``2:30``, and dates."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from autotts_gym.answers.characters import unify_characters
from autotts_gym.answers.values import Day, Time

_CLOCK: Final = re.compile(
    r"([0-9]{1,3}):([0-5][0-9])(?::([0-5][0-9]))?\s*(?:([ap])\.?\s?m\b\.?|h(?:ours)?|o'clock)?",
    re.IGNORECASE,
)
_HOUR: Final = re.compile(r"([0-9]{1,2})\s*(?:([ap])\.?\s?m\b\.?|o'clock)", re.IGNORECASE)
_ISO: Final = re.compile(r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})")
_NUMERIC: Final = re.compile(r"([0-9]{1,2})([/.])([0-9]{1,2})\2([0-9]{4})")
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            *("january jan", "february feb", "march mar", "april apr", "may", "june jun"),
            *("july jul", "august aug", "september sep sept", "october oct", "november nov"),
            "december dec",
        ),
        1,
    )
    for name in names.split()
}
_MONTH: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAY: Final = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?"
_WRITTEN: Final = (
    re.compile(
        rf"{_WEEKDAY}(?P<month>{_MONTH})\.?\s+(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?,?\s+"
        r"(?P<year>[0-9]{4})",
        re.IGNORECASE,
    ),
    re.compile(
        rf"{_WEEKDAY}(?:the\s+)?(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+"
        rf"(?P<month>{_MONTH})\.?,?\s+(?P<year>[0-9]{{4}})",
        re.IGNORECASE,
    ),
)
_FORMATTING: Final = re.compile(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}")


def _plain(text: str) -> str:
    text = _FORMATTING.sub(r"\1", unify_characters(text))
    text = re.sub(r"\\[,;! ]|[$~]|\{(?=:\})|(?<=:)\}|\\[()\[\]]", " ", text)
    return re.sub(r"\s+", " ", text).strip().rstrip(".,;") if text.strip() else ""


def read_time(text: str) -> Time | None:
    """Read a time or a duration; None if the text is something else."""
    plain = _plain(text)
    if len(plain) > 20 or not plain[:1].isdigit():
        return None
    plain = re.sub(r"\s*:\s*", ":", plain)
    clock = _CLOCK.fullmatch(plain)
    if clock:
        hours, minutes, seconds, half = clock.groups()
        if half and not 1 <= int(hours) <= 12:
            return None
        return _time(int(hours), int(minutes), int(seconds or 0), half)
    hour = _HOUR.fullmatch(plain)
    if hour and 1 <= int(hour[1]) <= 12:
        return _time(int(hour[1]), 0, 0, hour[2])
    return None


def _time(hours: int, minutes: int, seconds: int, half: str | None) -> Time:
    if half:
        hours = hours % 12 + (12 if half.lower() == "p" else 0)
    return Time(3600 * hours + 60 * minutes + seconds, half.lower() if half else "")


def read_date(text: str) -> Day | None:
    """Read a date; None if the text is something else."""
    plain = _plain(text)
    if len(plain) > 40 or not any(char.isdigit() for char in plain):
        return None
    iso = _ISO.fullmatch(plain)
    if iso:
        return _day(int(iso[1]), int(iso[2]), int(iso[3]))
    numeric = _NUMERIC.fullmatch(plain)
    if numeric:
        first, second, year = int(numeric[1]), int(numeric[3]), int(numeric[4])
        if first > 12:
            return _day(year, second, first)
        return _day(year, first, second)
    for pattern in _WRITTEN:
        match = pattern.fullmatch(plain)
        if match:
            return _day(int(match["year"]), _MONTHS[match["month"].lower()], int(match["day"]))
    return None


def _day(year: int, month: int, day: int) -> Day | None:
    try:
        return Day(date(year, month, day))
    except ValueError:
        return None
