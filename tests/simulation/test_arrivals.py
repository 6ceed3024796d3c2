"""Arrival times: Poisson processes and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from autotts_gym.simulation.arrivals import check_arrivals, poisson_arrivals, read_arrivals


def test_gaps_are_exponential() -> None:
    times = poisson_arrivals(2.0, 20_000, np.random.default_rng(0))
    gaps = np.diff(times)
    assert stats.kstest(gaps, "expon", args=(0, 0.5)).pvalue > 0.01


def test_rates_share_their_random_numbers() -> None:
    slow, fast = (poisson_arrivals(rate, 100, np.random.default_rng(7)) for rate in (1.0, 4.0))
    assert slow == pytest.approx(4 * fast)


@pytest.mark.parametrize(
    ("rate", "questions", "message"),
    [
        (0.0, 5, "above 0 questions per second, got 0"),
        (float("inf"), 5, "above 0 questions per second, got inf"),
        (float("nan"), 5, "above 0 questions per second, got nan"),
        (1.0, 0, "questions must be from 1 to 100,000,000, got 0"),
    ],
)
def test_invalid_processes(rate: float, questions: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        poisson_arrivals(rate, questions, np.random.default_rng(0))


def test_a_file_of_times(tmp_path: Path) -> None:
    path = tmp_path / "times.txt"
    path.write_text("# logged\n1700000003.5\n\n1700000001\n 1700000002.25 \r\n")
    assert read_arrivals(path).tolist() == [0.0, 1.25, 2.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no arrival times"),
        ("# nothing\n", "no arrival times"),
        ("1\n2 3\n", "line 2: '2 3' is not a time in seconds"),
        ("1\nnan\n", "line 2: 'nan' is not a time"),
        ("1e999\n", "line 1: '1e999' is not a time"),
        ("12:30\n", "line 1: '12:30' is not a time"),
    ],
)
def test_faults_of_a_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "times.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"times\.txt: {message}"):
        read_arrivals(path)


@pytest.mark.parametrize("times", [np.empty(0), np.zeros((2, 2)), np.array([0.0, np.inf])])
def test_invalid_arrays(times: np.ndarray) -> None:
    with pytest.raises(ValueError, match="arrivals must be"):
        check_arrivals(times)
