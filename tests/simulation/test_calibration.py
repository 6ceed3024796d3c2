"""Calibration: the fit recovers the costs of requests, and a real server is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_gateway import wait_until
from scripted_server import ScriptedServer, protocol_file

from autotts_gym.inference.engine import EngineError
from autotts_gym.live.connection import connect
from autotts_gym.simulation import calibration
from autotts_gym.simulation.calibration import fit_curve, measure_curve

CONCURRENCY = [1, 2, 4, 8, 16]
RATES = np.array([60.0, 58.0, 50.0, 40.0, 25.0])


def times(
    request: tuple[float, float], probe: tuple[float, float], noise: float
) -> tuple[list[Any], list[Any]]:
    """Times of requests of 16 and 64 tokens, and of probes, by concurrency."""
    generator = np.random.default_rng(0)

    def noisy(seconds: np.ndarray) -> np.ndarray:
        return seconds * generator.normal(1, noise, len(seconds)).clip(0.5)

    requests, probes = [], []
    for rate in RATES:
        tokens = generator.choice([16, 64, 30], 400).astype(float)
        requests.append(np.array([tokens, noisy(request[0] + (tokens + request[1]) / rate)]))
        probes.append(noisy(np.full(400, probe[0] + probe[1] / rate)))
    return requests, probes


@pytest.mark.parametrize("request_cost", [(0.0, 0.0), (0.2, 0.0), (0.05, 8.0)])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_fit_recovers_the_costs(request_cost: tuple[float, float], noise: float) -> None:
    probe_cost = 0.03, 12.0
    fitted = fit_curve(CONCURRENCY, *times(request_cost, probe_cost, noise))
    close = {"rel": 0.02 + 2 * noise, "abs": 0.001 + 2 * noise}
    assert fitted["tokens_per_second"] == pytest.approx(RATES, rel=0.01 + 2 * noise)
    for name, (seconds, tokens) in {"request": request_cost, "probe": probe_cost}.items():
        # A latency and a work can replace each other; their sum at a middle rate cannot.
        found = fitted[name]["seconds"] + fitted[name]["tokens"] / 45
        assert found == pytest.approx(seconds + tokens / 45, **close)
        if noise == 0:
            assert fitted[name]["tokens"] == pytest.approx(tokens, abs=0.01)


def test_requests_of_one_length_are_refused() -> None:
    same = np.array([[16.0, 16.0], [0.3, 0.31]])
    with pytest.raises(EngineError, match="all requests with 1 in progress had 16 tokens"):
        fit_curve([1], [same], [np.array([0.1])])


@pytest.mark.parametrize(
    ("largest", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_numbers_of_workers(largest: int, counts: list[int]) -> None:
    assert calibration._worker_counts(largest) == counts


def test_requests_in_progress_are_counted(tmp_path: Path) -> None:
    """Otherwise, short and fast requests would be counted most."""
    workers, seconds = 8, 0.02
    with (
        ScriptedServer(pace=0.05) as server,
        connect(server.url, protocol=protocol_file(tmp_path), interval=16, max_tokens=500) as live,
    ):
        prober = live.run(live.prober())
        prompts = [live.run(prober.prompt("plain 1"))]
        level = live.run(calibration._measure(live, prober, prompts, workers, seconds))
        assert wait_until(lambda: server.under_way == 0)
        assert server.left <= workers  # those that came after them
    assert level.pending == 0
    assert set(level.tokens) >= {16, 64}
    of_both = [level.tokens.count(16), level.tokens.count(64)]
    assert abs(of_both[0] - of_both[1]) <= workers
    # A long request has a first part, and one part for 16 tokens each.
    long = np.array(level.seconds)[np.array(level.tokens) == 64]
    assert long.min() >= 5 * 0.05


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_a_real_server_is_measured(vllm_url: str) -> None:
    shown: list[tuple[int, int]] = []
    with connect(vllm_url, reference="tinylm/medium/chain") as live:
        curve = measure_curve(
            live,
            ["a=30;b+6;c*2;d*5;e-3?", "a=12;b+9;c*3?"],
            max_sequences=4,
            seconds=3.0,
            context=40,
            progress=lambda *numbers: shown.append(numbers),
        )
        with pytest.raises(ValueError, match="at least one question"):
            measure_curve(live, [])
        with pytest.raises(ValueError, match="seconds must be above 0"):
            measure_curve(live, ["a=1?"], seconds=0)
        with pytest.raises(ValueError, match="context must be at least 0"):
            measure_curve(live, ["a=1?"], context=-1)
        with pytest.raises(ValueError, match="max_sequences must be an integer of at least 1"):
            measure_curve(live, ["a=1?"], max_sequences=0)
    upwards = [(1, 4), (2, 4), (4, 4)]
    assert shown == [*upwards, *reversed(upwards), *upwards]
    assert curve.concurrency == (1, 2, 4)
    assert curve.max_sequences == 4
    assert curve.details["model"].endswith("medium")
    assert all(count >= 12 for count in curve.details["requests"])
    assert curve.text_seconds > 0
    assert curve.probe.seconds + curve.probe.tokens > 0
