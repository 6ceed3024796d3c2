"""Out-of-fold comparison: searches on parts of the questions and models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotts_gym.traces.synthetic_traces import generate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "out_of_fold.py"


@pytest.mark.slow
def test_searches_and_tables(tmp_path: Path) -> None:
    for k in range(2):
        generate(questions=16, branches=64, seed=k).save(tmp_path / "envs" / f"made-{k}")
    command = [sys.executable, str(SCRIPT), "--env", "made-0", "--env", "made-1"]
    command += ["--folds", "2", "--orders", "2", "--out", str(tmp_path / "out")]
    command += ["--by", "regression", "--rounds", "1", "--attempts", "4", "--seeds", "2"]
    command += ["--latency", "0", "--latency-weight", "0.5"]
    environment = os.environ | {"AUTOTTS_ENVS": str(tmp_path / "envs"), "COLUMNS": "150"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    played = "2 orders, billed by tokens, latency weight 0.5"
    assert f"2 folds of the questions, {played}, within CMC's tokens" in done.stdout
    assert f"each model left out, {played}, any latency" in done.stdout
    runs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("run.json")}
    assert runs["questions_0"]["questions"] == list(range(1, 16, 2))
    assert runs["questions_1"]["questions"] == list(range(0, 16, 2))
    assert list(runs["without_made-0"]["data"]) == ["made-1"]
