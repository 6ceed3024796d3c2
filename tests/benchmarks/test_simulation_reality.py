"""The comparison of a simulation with a real server, on a few questions."""

from __future__ import annotations

import importlib
import json
import shlex
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
    options = "--questions 5 --blocks 2 --rates 2 --width 4 --seconds 3 --max-sequences 4"
    out = tmp_path / "out.json"
    module.main([*shlex.split(options), "--base-url", vllm_url, "--out", str(out)])
    results = json.loads(out.read_text())
    (run,) = results["runs"]
    assert len(results["curves"]) == 3  # before, between and after the blocks
    assert len(run["blocks"]) == 2
    assert run["failed"] == []
    for figures in (run["live"], run["simulated"]):
        assert 0 < figures["p50, s"] <= figures["p95, s"] <= figures["p99, s"]
        assert 0 < figures["generated tokens"] <= figures["tokens"]
    assert "5 questions" in capsys.readouterr().out
