"""What OpenEvolve is given: files that it can run, and verdicts as its numbers."""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from proposals import CURVE

from autotts_gym.discovery import telling
from autotts_gym.discovery.checks import check
from autotts_gym.discovery.openevolve import REJECTED, export, metrics, result
from autotts_gym.discovery.proposing import Verdict


def test_what_is_exported_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def evaluate(source: str, **options: Any) -> Verdict:
        asked.append((source, options))
        return Verdict(0.5, curve=CURVE, diagnosis="It waits.")

    module = types.ModuleType("autotts_gym.discovery.evaluating")
    module.evaluate = evaluate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    paths = export(tmp_path / "made", envs=["tinylm/small/chain"], questions=range(3), seeds=2)
    initial, evaluator, config = paths
    assert check(initial.read_text("utf-8")) == ""
    found = runpy.run_path(str(evaluator))["evaluate"](str(initial))
    numbers = found if isinstance(found, dict) else found.metrics
    assert numbers == {
        "combined_score": 0.5,
        "accepted": 1.0,
        "accuracy": pytest.approx(0.75),
        "tokens_of_all": pytest.approx(0.2333, abs=1e-3),
    }
    ((source, options),) = asked
    assert source == initial.read_text("utf-8")
    envs = ["tinylm/small/chain"]
    assert options == {"envs": envs, "questions": [0, 1, 2], "seeds": 2, "untrusted": True}
    settings = yaml.safe_load(config.read_text("utf-8"))
    assert settings["prompt"]["system_message"] == telling.task()


def test_what_is_rejected_is_worth_less_than_anything() -> None:
    for verdict in (Verdict(0.9, "no knob"), Verdict(float("-inf")), Verdict(float("nan"))):
        assert metrics(verdict) == {"combined_score": REJECTED, "accepted": 0.0}
    assert REJECTED < -1


def test_feedback_is_an_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenEvolve's own class where it is installed; its form stands in for it here."""
    module = types.ModuleType("openevolve.evaluation_result")
    module.EvaluationResult = types.SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openevolve", types.ModuleType("openevolve"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = result(Verdict(0.5, "β spans nothing", diagnosis="It waits."))
    assert found.metrics["accepted"] == 0.0
    assert "Rejected: β spans nothing" in found.artifacts["feedback"]
    assert "It waits." in found.artifacts["feedback"]


def test_no_environment(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one environment"):
        export(tmp_path, envs=[])
