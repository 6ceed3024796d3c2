"""Arrival times of questions: a Poisson process, or a file of times."""

from __future__ import annotations

import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.utils.bounded_files import read_bytes

#: Most questions of a simulation.
MAX_QUESTIONS: Final = 100_000_000
#: Largest file of times, bytes.
_MAX_FILE: Final = 1 << 30


def poisson_arrivals(
    rate: float, questions: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Arrival times of a Poisson process.

    Args:
        rate: mean number of questions per second.
        questions: number of arrivals.
        generator: source of the random numbers. The same numbers are drawn for every rate, so that
            loads are compared on the same questions.

    Returns:
        float64[questions], seconds, ascending.

    Raises:
        ValueError: the rate is not above 0, or the number of questions is out of range.
    """
    if not 0 < rate < np.inf:
        raise ValueError(f"a rate must be above 0 questions per second, got {rate!r}")
    if not 1 <= questions <= MAX_QUESTIONS:
        raise ValueError(f"questions must be from 1 to {MAX_QUESTIONS:,}, got {questions}")
    return np.cumsum(generator.standard_exponential(questions)) / rate


def read_arrivals(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Read arrival times from a text file with one number per line, seconds.

    Empty lines and lines that start with ``#`` are skipped. The times need not be sorted, and may
    be Unix times: the first arrival is time 0.

    Returns:
        float64[n], seconds since the first arrival, ascending.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not a number, or there is none; the message names the line.
    """
    name = os.fspath(path)
    times: list[float] = []
    for number, line in enumerate(read_bytes(path, _MAX_FILE).splitlines(), 1):
        word = line.strip()
        if not word or word.startswith(b"#"):
            continue
        try:
            time = float(word)
        except ValueError:
            time = np.nan
        if not np.isfinite(time):
            shown = word[:40].decode("utf-8", "replace")
            raise ValueError(f"{name}: line {number}: {shown!r} is not a time in seconds")
        times.append(time)
    if not times:
        raise ValueError(f"{name}: no arrival times; give one on each line, in seconds")
    return check_arrivals(np.array(times))


def check_arrivals(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sort arrival times; the first becomes time 0.

    Args:
        times: float64[n], seconds.

    Raises:
        ValueError: the array is empty, too long or not flat, or a time is not finite.
    """
    if times.ndim != 1 or not 1 <= len(times) <= MAX_QUESTIONS:
        raise ValueError(
            f"arrivals must be a list of 1 to {MAX_QUESTIONS:,} times, got the shape {times.shape}"
        )
    if not np.isfinite(times).all():
        raise ValueError("arrivals must be finite times in seconds")
    sorted_times = np.sort(times)
    return np.asarray(sorted_times - sorted_times[0], np.float64)
