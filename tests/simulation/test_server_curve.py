"""Curves: files, their validation, and interpolation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.simulation.server_curve import ServerCurve

CURVE = {"concurrency": [1, 4, 8], "tokens_per_second": [60.0, 50.0, 30.0], "max_sequences": 16}


def test_a_saved_curve_is_read_back(tmp_path: Path) -> None:
    curve = ServerCurve.create(
        **CURVE,
        request={"seconds": 0.01, "tokens": 2},
        probe={"tokens": 20},
        text_seconds=0.001,
        details={"model": "mine"},
    )
    curve.save(tmp_path / "curve.json")
    assert ServerCurve.load(tmp_path / "curve.json") == curve


def test_a_short_file_has_defaults(tmp_path: Path) -> None:
    (tmp_path / "curve.json").write_text('{"concurrency": [1], "tokens_per_second": [60]}')
    curve = ServerCurve.load(tmp_path / "curve.json")
    assert (curve.max_sequences, curve.request.tokens, curve.text_seconds) == (256, 0, 0)


def test_the_total_is_interpolated() -> None:
    rates = ServerCurve.create(**CURVE).rates()
    assert rates[[0, 1, 4, 8]].tolist() == [0, 60, 50, 30]
    assert rates[6] * 6 == pytest.approx((4 * 50 + 8 * 30) / 2)
    assert rates[16] * 16 == pytest.approx(8 * 30)  # constant beyond the last
    assert len(rates) == 17


def test_below_the_first_number_each_has_its_rate() -> None:
    rates = ServerCurve.create(concurrency=[4], tokens_per_second=[25.0], max_sequences=8).rates()
    assert rates[1:5].tolist() == [25.0] * 4


def test_the_largest_total() -> None:
    """A server may become slower in total when it has many sequences."""
    curve = ServerCurve.create(concurrency=[1, 4, 8], tokens_per_second=[60.0, 50.0, 20.0])
    assert curve.max_tokens_per_second == 200


@given(
    rates=st.lists(st.floats(0.1, 1e6), min_size=1, max_size=6),
    gaps=st.lists(st.integers(1, 40), min_size=6, max_size=6),
    sequences=st.integers(1, 300),
)
def test_every_rate_is_between_measured_ones(
    rates: list[float], gaps: list[int], sequences: int
) -> None:
    concurrency = np.cumsum(gaps)[: len(rates)].tolist()
    curve = ServerCurve.create(
        concurrency=concurrency, tokens_per_second=rates, max_sequences=sequences
    )
    totals = np.array(concurrency) * np.array(rates)
    found = curve.rates()[1:] * np.arange(1, sequences + 1)
    assert (found > 0).all()
    assert found.max() <= totals.max() * (1 + 1e-9)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concurrency": [1, 4]}, "concurrency has 2 numbers and tokens_per_second 3"),
        ({"concurrency": [1, 4, 4]}, "must ascend, got 4 after 4"),
        ({"concurrency": [0, 4, 8]}, r">= 1.*concurrency\[0\]"),
        ({"tokens_per_second": [1, 0, 1]}, r"> 0.*tokens_per_second\[1\]"),
        ({"tokens_per_second": [1, "x", 1]}, r"float.*tokens_per_second\[1\]"),
        ({"max_sequences": 0}, ">= 1.*max_sequences"),
        ({"probe": {"seconds": -1}}, r">= 0.*probe\.seconds"),
        ({"speed": 3}, "unknown field `speed`"),
    ],
)
def test_faults_of_a_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(CURVE | change))
    with pytest.raises(ValueError, match=f"curve.json: not a server curve: .*{message}"):
        ServerCurve.load(path)
    with pytest.raises(ValueError, match=f"server curve: .*{message}"):
        ServerCurve.create(**(CURVE | change))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"x": NaN}'])
def test_a_file_that_is_no_curve(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "curve.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"curve\.json: not a server curve"):
        ServerCurve.load(tmp_path / "curve.json")


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ServerCurve.load(tmp_path / "none.json")
