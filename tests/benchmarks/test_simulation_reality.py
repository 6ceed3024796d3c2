"""The comparison of a simulation with a real server, on a few questions."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_a_few_questions(
    vllm_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """How close the times are depends on what else the machine does; the figures are there."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("simulation_reality")
    options = [
        "--questions",
        "5",
        "--rates",
        "2",
        "--width",
        "4",
        "--seconds",
        "3",
        "--max-sequences",
        "4",
    ]
    module.main([*options, "--base-url", vllm_url, "--out", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    (run,) = results["runs"]
    assert list(results["curves"]) == ["before", "after"] == list(run["simulated"])
    assert run["failed"] == []
    for figures in (run["live"], *run["simulated"].values()):
        assert 0 < figures["p50, s"] <= figures["p95, s"] <= figures["p99, s"]
        assert 0 < figures["generated tokens"] <= figures["tokens"]
    assert "5 questions" in capsys.readouterr().out
